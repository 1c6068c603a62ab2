"""Clicks: single jumps that the samples around them do not explain."""

import numpy as np
import numpy.typing as npt

from samplernn_fast.evaluation.clips.windows import FloatArray

_SECONDS = 0.016  # on both sides of a sample, how far its surroundings reach
_FACTOR = 20.0  # how many times rougher than its surroundings a click is; hardly a sample of recorded speech is
_FLOOR = 0.02  # the least roughness of a click, as a share of full scale
_WIDTH = 2  # on both sides of a click, how many samples are as rough as the click itself


class ClickCounter:
    """Counts the clicks of a sound that comes block by block.

    The roughness of a sample is its distance from the mean of its two neighbours. A click is at least 20 times as rough
    as the samples within 16 ms around it, itself left out, which follow the loudness and the pitch of the sound.
    """

    def __init__(self, sample_rate: int) -> None:
        self._reach = round(sample_rate * _SECONDS)
        self._rest: FloatArray = np.zeros(0)
        self._lead = 0  # how many of the flags of `_rest` were counted before
        self._in_click = False
        self._count = 0

    def add(self, samples: FloatArray) -> None:
        """Goes on with the next samples (T,). A sample is judged once what surrounds it has come."""
        self._rest = np.concatenate((self._rest, samples))
        ready = len(self._rest) - 2 - self._reach
        if ready > self._lead + self._reach:
            self._take(_clicks(self._rest, self._reach)[self._lead : ready])
            self._rest, self._lead = self._rest[ready - self._reach :].copy(), self._reach

    def count(self) -> int:
        """How many clicks the whole sound has, which ends here."""
        self._take(_clicks(self._rest, self._reach)[self._lead :])
        self._rest, self._lead = np.zeros(0), 0
        return self._count

    def _take(self, clicks: npt.NDArray[np.bool_]) -> None:
        """Counts the beginnings of the clicks in the next flags: neighbours of a click can be as rough."""
        before = np.concatenate(([self._in_click], clicks[:-1]))
        self._count += int(np.count_nonzero(clicks & ~before[: len(clicks)]))
        self._in_click = bool(clicks[-1]) if len(clicks) else self._in_click


def _clicks(samples: FloatArray, reach: int) -> npt.NDArray[np.bool_]:
    """Which of the samples (T,) but the first and the last are part of a click, (T - 2,)."""
    rough = np.abs(samples[1:-1] - (samples[:-2] + samples[2:]) / 2)
    reach = min(reach, (len(rough) - 1) // 2)
    if reach <= _WIDTH:
        return np.zeros(len(rough), np.bool_)
    around = _window_sums(rough**2, reach) - _window_sums(rough**2, _WIDTH)
    expected = np.sqrt(np.maximum(around, 0) / (2 * (reach - _WIDTH)))
    return np.asarray((rough > _FACTOR * expected) & (rough > _FLOOR))


def _window_sums(values: FloatArray, reach: int) -> FloatArray:
    """The sums (T,) over each value and the `reach` values on both sides; the ends are mirrored."""
    sums = np.cumsum(np.pad(values, (reach + 1, reach), mode="reflect"))
    sums -= sums[0]
    return np.asarray(sums[2 * reach + 1 :] - sums[: -2 * reach - 1])
