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
_DRAWS = 4000  # of the bootstrap
_PERCENTILES = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(values: npt.ArrayLike, samples: Sequence[float], seed: int = 0) -> Interval:
    """The mean of `values` of recordings, weighted by their `samples`, and how far it moves with other recordings.

    A draw takes as many recordings as there are, with replacement, and weighs each by its samples. A single recording
    has an interval without width, which says nothing.
    """
    sizes, count = np.asarray(samples, np.float64), len(samples)
    drawn: npt.NDArray[np.int64] = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=_DRAWS)
    weights = drawn * sizes
    means = weights @ np.asarray(values, np.float64) / weights.sum(axis=1)
    low, high = np.percentile(means, _PERCENTILES)
    return Interval(float(np.average(np.asarray(values), weights=sizes)), float(low), float(high))


def wilson(count: int, total: int) -> Interval:
    """The share `count` / `total` with Wilson's score interval; NaN, 0 and 1 where `total` is 0."""
    if not total:
        return Interval(math.nan, 0.0, 1.0)
    share, squared = count / total, Z**2 / total
    centre = (share + squared / 2) / (1 + squared)
    half = Z / (1 + squared) * math.sqrt(share * (1 - share) / total + squared / (4 * total))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))
