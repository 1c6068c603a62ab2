"""Inception score, modified inception score, AM score and Fréchet distance, of what a classifier says about clips.

The same four as in published tables of spoken digits: Z. Kong et al., "DiffWave", ICLR 2021, and K. Goel et al.,
"It's Raw! Audio Generation with State-Space Models", ICML 2022, whose numbers are of another classifier and therefore
do not compare with ours. Expectations here are over all clips and all pairs of clips; nothing is drawn.
"""

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def inception_score(log_probabilities: npt.ArrayLike) -> float:
    """exp of the mean KL(p(y|x) || p(y)): 1 where all clips are judged alike, at most the number of classes.

    High where each clip is surely of one class, and all classes come equally often. log_probabilities: (N, classes),
    the natural logarithms of p(y|x). Source: T. Salimans et al., "Improved techniques for training GANs", 2016.
    """
    logs = np.asarray(log_probabilities, np.float64)
    probabilities = np.exp(logs)
    mean = probabilities.mean(axis=0)
    return _exp_of(entropy(mean) - _mean_entropy(logs, probabilities))


def modified_inception_score(log_probabilities: npt.ArrayLike) -> float:
    """exp of the mean KL(p(y|x) || p(y|x')) over all ordered pairs of clips; infinity where that is too large to tell.

    High where clips are sure of their class and differ from one another. log_probabilities as in `inception_score`.
    Source: S. Gurumurthy et al., "DeLiGAN", 2017, over all pairs as in DiffWave.
    """
    logs = np.asarray(log_probabilities, np.float64)
    probabilities = np.exp(logs)
    # KL is linear in log p(y|x'), so the mean over pairs needs the mean of these logarithms alone. A class that no clip
    # can be of adds nothing, and 0 times its infinite logarithm would be no number.
    mean = probabilities.mean(axis=0)
    possible = mean > 0
    crossed = -float(mean[possible] @ logs[:, possible].mean(axis=0))
    return _exp_of(crossed - _mean_entropy(logs, probabilities))


def am_score(log_probabilities: npt.ArrayLike, data_log_probabilities: npt.ArrayLike) -> float:
    """KL(mean of p(y|x) over the data || the same over the clips) + the mean entropy of p(y|x) over the clips, in nats.

    Low where classes are as frequent as in the data and each clip is surely of one; infinity where a class of the data
    never comes. Both arguments as in `inception_score`. Source: Z. Zhou et al., "Activation maximization generative
    adversarial nets", 2018.
    """
    logs = np.asarray(log_probabilities, np.float64)
    clips, data = np.exp(logs).mean(axis=0), np.exp(np.asarray(data_log_probabilities, np.float64)).mean(axis=0)
    present = data > 0
    with np.errstate(divide="ignore"):
        divergence = float(data[present] @ (np.log(data[present]) - np.log(clips[present])))
    return divergence + _mean_entropy(logs, np.exp(logs))


def frechet_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """The Fréchet distance of two sets of features (N, F) and (M, F), each taken for a normal distribution.

    |m - n|^2 + Tr(C + D - 2 (C D)^(1/2)) of means m, n and covariances C, D. It is 0 for equal sets, but for rounding,
    and grows when clips are few: two halves of one data set have some distance too. Source: M. Heusel et al., "GANs
    trained by a two time-scale update rule converge to a local Nash equilibrium", 2017 (FID).
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    difference = one.mean(axis=0) - other.mean(axis=0)
    covariances = np.atleast_2d(np.cov(one, rowvar=False)), np.atleast_2d(np.cov(other, rowvar=False))
    # The eigenvalues of C D are those of the symmetric C^(1/2) D C^(1/2), which rounding cannot make complex.
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    both = np.linalg.eigvalsh(root @ covariances[1] @ root)
    traces = np.trace(covariances[0]) + np.trace(covariances[1])
    return float(difference @ difference + traces - 2 * np.sqrt(np.maximum(both, 0)).sum())


def entropy(probabilities: FloatArray) -> float:
    """The entropy of one distribution in nats; a class of probability 0 adds nothing."""
    present = probabilities[probabilities > 0]
    return float(-(present @ np.log(present)))


def _exp_of(divergence: float) -> float:
    """exp of a divergence, which rounding may make a little less than 0; infinity where it is too large for a float."""
    return math.inf if divergence > 700 else math.exp(divergence)


def _mean_entropy(logs: FloatArray, probabilities: FloatArray) -> float:
    """The mean entropy of the distributions of all clips, in nats."""
    return float(-(probabilities * np.where(probabilities > 0, logs, 0.0)).sum(axis=1).mean())
