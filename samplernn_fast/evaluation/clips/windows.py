"""Windows of a sound that comes block by block, and the longest run of windows that have something in common."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class Windows:
    """Cuts a sound into windows of one length, whose starts lie a fixed step apart, in whatever blocks it comes."""

    def __init__(self, size: int, step: int) -> None:
        """size, step: in samples; a step is at most a size."""
        self.size, self.step = size, step
        self.rest: FloatArray = np.zeros(0)
        """The samples from the start of the next window on."""

    def add(self, samples: FloatArray) -> FloatArray:
        """The windows (n, size) that the next samples (T,) complete."""
        joined = np.concatenate((self.rest, samples))
        count = max(0, (len(joined) - self.size) // self.step + 1)
        self.rest = joined[count * self.step :].copy()  # a view would keep the whole block in memory
        if not count:
            return np.zeros((0, self.size))
        return np.lib.stride_tricks.sliding_window_view(joined, self.size)[:: self.step]


class LongestRun:
    """How many windows in a row have something in common, at most."""

    def __init__(self) -> None:
        self.longest = 0
        self._current = 0

    def add(self, windows: Iterable[bool | None]) -> None:
        """windows: for each whether it has it; None neither counts nor ends the run."""
        for has in windows:
            if has is not None:
                self._current = self._current + 1 if has else 0
                self.longest = max(self.longest, self._current)


def levels(windows: FloatArray) -> FloatArray:
    """The RMS of each window (n, size) around its own mean, (n,): a constant makes no sound, however large it is."""
    return np.asarray(windows.std(axis=1))


def amplitude(db: float) -> float:
    """The amplitude of a level in dB of full scale."""
    return float(10 ** (db / 20))
