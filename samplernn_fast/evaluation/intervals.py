"""Intervals of 95 %: of a mean over recordings by the bootstrap, and of a share by Wilson's score.

Sources: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979; E. B. Wilson,
"Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
"""How often an interval is to hold what is true."""
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
"""How many standard deviations of a normal distribution such an interval reaches to each side."""
LEAST_RECORDINGS = 10
"""The fewest recordings that have an interval."""
_DRAWS, _AT_ONCE = 4000, 250  # The bootstrap draws so often, so many draws at once.
_PERCENTILES = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(values: npt.ArrayLike, samples: Sequence[float], seed: int = 0) -> Interval:
    """The mean of `values` of recordings, weighted by their `samples`, and how far it moves with other recordings.

    A draw takes as many recordings as there are, with replacement, and weighs each by its samples. Fewer recordings
    than `LEAST_RECORDINGS` have no interval (NaN): one that is drawn from three and called 95 % holds the truth only 76
    times of a hundred.
    """
    sizes, count, draw = np.asarray(samples, np.float64), len(samples), np.random.default_rng(seed)
    mean = float(np.average(np.asarray(values), weights=sizes))
    if count < LEAST_RECORDINGS:
        return Interval(mean, math.nan, math.nan)
    products, means = sizes * np.asarray(values, np.float64), []
    for _ in range(_DRAWS // _AT_ONCE):  # in blocks, so that thousands of recordings take little memory
        drawn = draw.multinomial(count, [1 / count] * count, size=_AT_ONCE)
        means.append(drawn @ products / (drawn @ sizes))
    low, high = np.percentile(np.concatenate(means), _PERCENTILES)
    return Interval(mean, float(low), float(high))


def wilson(count: int, total: int) -> Interval:
    """The share `count` / `total` with Wilson's score interval; NaN, 0 and 1 where `total` is 0."""
    if not total:
        return Interval(math.nan, 0.0, 1.0)
    share, squared = count / total, Z**2 / total
    centre = (share + squared / 2) / (1 + squared)
    half = Z / (1 + squared) * math.sqrt(share * (1 - share) / total + squared / (4 * total))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))
