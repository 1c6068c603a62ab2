"""The few formulas of a preference test: the sign test, Holm's correction, and the Bradley-Terry model.

Sources: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979; R. A. Bradley
and M. E. Terry, "Rank analysis of incomplete block designs", Biometrika 39, 1952; R. R. Davidson, "On extending the
Bradley-Terry model to accommodate ties in paired comparison experiments", JASA 65, 1970.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from samplernn_fast.evaluation.intervals import Interval, Z

_PRIOR = 0.5  # wins that each of two compared systems is given, so that one that never loses has a finite strength
_STEPS, _ENOUGH = 200, 1e-10  # of Newton's method; the change of log strengths that is none


def sign_test(wins: int, losses: int) -> float:
    """The two-sided p of the exact binomial test that wins and losses are equally likely; ties take no part."""
    total, tail = wins + losses, 0
    term = 1  # the number of ways to choose k of total, from k = 0 on
    for k in range(min(wins, losses) + 1):
        tail += term
        term = term * (total - k) // (k + 1)
    return min(1.0, 2 * tail / 2**total)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected by Holm for how many there are."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[at] * (len(p_values) - rank)))
        corrected[at] = largest
    return corrected


def bradley_terry(wins: npt.NDArray[np.float64]) -> list[Interval]:
    """The log strengths of S systems with their intervals; their mean is 0.

    wins: (S, S), how often the system of the row was preferred to that of the column. In the model the odds of that
    are exp(strength of the row - strength of the column). Answers without a preference take no part; under Davidson's
    model for ties the others follow the Bradley-Terry model, too. The maximum of the likelihood, where each of two
    systems that were compared has half a win more, is found by Newton's method; the intervals come from the Fisher
    information. Systems that no chain of answers links have infinite intervals.
    """
    compared = wins + wins.T
    padded = wins + _PRIOR * (compared > 0)
    totals = padded + padded.T
    strengths = np.zeros(len(wins))
    for _ in range(_STEPS):
        likely = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
        gradient = (padded - totals * likely).sum(axis=1)
        move = np.linalg.pinv(_information(totals, likely), hermitian=True) @ gradient
        strengths += move / max(1.0, np.abs(move).max())
        if np.abs(move).max() < _ENOUGH:
            break
    information = _information(totals, 1 / (1 + np.exp(strengths[None, :] - strengths[:, None])))
    if not _linked(totals):
        return [Interval(float(one), -math.inf, math.inf) for one in strengths]
    half = Z * np.sqrt(np.diag(np.linalg.pinv(information, hermitian=True)))
    return [Interval(*map(float, row)) for row in zip(strengths, strengths - half, strengths + half, strict=True)]


def _information(totals: npt.NDArray[np.float64], likely: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The Fisher information (S, S) of the log strengths; its rows sum to 0, as a common shift changes nothing."""
    weights = totals * likely * (1 - likely)
    return np.diag(weights.sum(axis=1)) - weights


def _linked(totals: npt.NDArray[np.float64]) -> bool:
    """Whether every system is compared with every other one, directly or by way of others."""
    reached = np.zeros(len(totals), bool)
    reached[0] = True
    for _ in range(len(totals)):
        reached |= (totals[reached] > 0).any(axis=0)
    return bool(reached.all())
