"""Which clips of a batch are the best, and why the others are not.

Clips without a fault come first, and among them those whose bits per sample are nearest to what is usual: the median
of real recordings where these are given, else of the batch. Neither end of the likelihood is good: the least likely
clips hiss, the likeliest are silent or hum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from samplernn_fast.errors import ConfigError
from samplernn_fast.evaluation.clips.judging import JudgedClip

RULES = ("usual", "band")
"""How likelihood decides. "usual": the nearer to the median, the better, and what lies far from all others is rejected.
"band": the 40% least likely and the 5% most likely of the batch are rejected besides, which Goel et al. found to help
("It's Raw! Audio Generation with State-Space Models", ICML 2022, appendix C.3.1; the README of its code, note 1)."""
FEWEST = 8
"""So many clips are needed to say what is usual among them."""
OUTLIER = 3.5
"""A clip is unlike the others where its bits lie so many deviations from the median, by the median absolute deviation
scaled to that of a normal distribution (Iglewicz & Hoaglin 1993)."""
_SCALE = 1.4826  # times the median absolute deviation is the standard deviation of normal numbers
_LEAST_DEVIATION = 0.02  # bits; clips that are nearly the same are no outliers among each other
_LEAST_LIKELY, _MOST_LIKELY = 0.40, 0.05


@dataclass(frozen=True)
class Usual:
    """What bits per sample are usual."""

    median: float
    deviation: float
    """The distance from the median that most clips keep; infinite where there are too few to tell."""

    @classmethod
    def of(cls, bits: Sequence[float]) -> "Usual":
        """The usual bits of these clips, of which there must be one at least."""
        median = float(np.median(bits))
        spread = _SCALE * float(np.median(np.abs(np.array(bits) - median)))
        return cls(median, max(spread, _LEAST_DEVIATION) if len(bits) >= FEWEST else math.inf)

    def fault(self, bits: float) -> dict[str, str]:
        """The fault of a clip with so many bits, as `detectors.faults` gives them: "unlikely", "too likely" or none."""
        if abs(bits - self.median) <= OUTLIER * self.deviation:
            return {}
        return {"unlikely" if bits > self.median else "too likely": f"{bits:.2f} bits, {self.median:.2f} are usual"}


@dataclass(frozen=True)
class Place:
    """A clip's place in the ranking."""

    index: int
    """Which clip it is."""
    clip: JudgedClip
    faults: dict[str, str] = field(default_factory=dict)
    """Everything that speaks against it, by name and in words."""

    @property
    def reason(self) -> str:
        """All faults in one line."""
        return "; ".join(f"{name}: {words}" for name, words in self.faults.items())


def rank_clips(clips: Sequence[JudgedClip], *, rule: str = "usual", like: Sequence[float] = ()) -> list[Place]:
    """Ranks clips, best first: those with the fewest faults, then by their distance from the usual bits.

    rule: one of `RULES`. like: the bits of real recordings, which say what is usual in place of the clips. Clips
    without bits are ranked by their faults alone. Raises ConfigError for an unknown rule.
    """
    if rule not in RULES:
        raise ConfigError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    faults = [clip.faults for clip in clips]
    bits = np.array([math.nan if clip.bits is None else clip.bits for clip in clips])
    known = np.flatnonzero(np.isfinite(bits))
    if not len(known):
        return sorted(_places(clips, faults), key=lambda place: len(place.faults))
    sound = [bits[index] for index in known if not faults[index]]
    usual = Usual.of(like or sound or bits[known].tolist())
    for index in known:
        faults[index] |= usual.fault(float(bits[index]))
    if rule == "band":
        _reject_ends(faults, known[np.argsort(-bits[known], kind="stable")])
    distance = np.nan_to_num(np.abs(bits - usual.median), nan=math.inf)
    return sorted(_places(clips, faults), key=lambda place: (len(place.faults), distance[place.index]))


def _places(clips: Sequence[JudgedClip], faults: Sequence[dict[str, str]]) -> list[Place]:
    return [Place(index, clip, found) for index, (clip, found) in enumerate(zip(clips, faults, strict=True))]


def _reject_ends(faults: Sequence[dict[str, str]], order: np.ndarray) -> None:
    """Notes which clips are among the least and the most likely; order: their indices, the least likely first."""
    least, most = (round(share * len(order)) for share in (_LEAST_LIKELY, _MOST_LIKELY))
    for index in order[:least]:
        faults[index].setdefault("unlikely", f"among the {_LEAST_LIKELY:.0%} least likely")
    for index in order[len(order) - most :]:
        faults[index].setdefault("too likely", f"among the {_MOST_LIKELY:.0%} most likely")
