"""Intervals of 95 %: of a share by Wilson's score.

Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95
"""How often an interval is to hold what is true."""
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
"""How many standard deviations of a normal distribution such an interval reaches to each side."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(count: int, total: int) -> Interval:
    """The share `count` / `total` with Wilson's score interval; NaN, 0 and 1 where `total` is 0."""
    if not total:
        return Interval(math.nan, 0.0, 1.0)
    share, squared = count / total, Z**2 / total
    centre = (share + squared / 2) / (1 + squared)
    half = Z / (1 + squared) * math.sqrt(share * (1 - share) / total + squared / (4 * total))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))
