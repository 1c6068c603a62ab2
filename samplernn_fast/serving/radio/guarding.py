"""Faults that stand for long: a model that fell silent, or is trapped in a loop, in noise, at full scale, off the
middle, or in clicks.

The detectors are those of `evaluation.clips`. Here they listen to a window of the last seconds, again and again, and
say where a fault began. What they say depends on those last seconds alone, so a guard that heard them stands where one
stands that heard all.
"""

from collections import deque
from typing import NamedTuple

import numpy as np

from samplernn_fast.evaluation.clips.detectors import faults
from samplernn_fast.evaluation.clips.loops import SIMILAR, similarity
from samplernn_fast.evaluation.clips.measures import measure_clip
from samplernn_fast.evaluation.clips.windows import amplitude

WINDOW, _HOP = 4, 2  # blocks: of the window that is measured, and from one to the next
_WINDOWS = {"silence": 6}  # A rest of three seconds belongs to music; other faults stand in three windows, two seconds.
_USUAL_WINDOWS = 3
_LOOP_WINDOW, _NEAREST, _FARTHEST = 2, 2, 6  # blocks: as in `evaluation.clips.loops`
_LOOP_WINDOWS, _LEAST_ALIKE = 8, 6  # so many in a row are looked at; of these, some may be rests
_QUIET = amplitude(-50)  # quieter windows tell nothing about loops
_LOOP_SPAN = _LOOP_WINDOW + _FARTHEST + _LOOP_WINDOWS - 1
LATEST = max(_LOOP_SPAN, WINDOW + _HOP * (max(_WINDOWS.values()) - 1)) - WINDOW
"""A fault is known at most so many blocks after the one at which it is to be left."""
MEMORY = LATEST + WINDOW + _HOP
"""What a guard says depends on so many blocks and no more."""


class Fault(NamedTuple):
    """A fault that stands."""

    kind: str
    """As in `evaluation.clips.detectors`."""
    leave: int
    """The block at which something else should take over: a second after the first block that has the fault."""


class Guard:
    """Listens to one sound, block by block of about a quarter of a second."""

    def __init__(self, sample_rate: int, heard: int = 0) -> None:
        """heard: how many blocks came before the first one that it is given."""
        self._rate, self._count = sample_rate, heard
        self._blocks: deque[np.ndarray] = deque(maxlen=_LOOP_WINDOW + _FARTHEST)
        self._found: deque[frozenset[str]] = deque(maxlen=max(_WINDOWS.values()))
        self._alike: deque[bool | None] = deque(maxlen=_LOOP_WINDOWS)

    def add(self, block: np.ndarray) -> Fault | None:
        """Goes on with the next samples (n,). Returns a fault that stands now."""
        self._blocks.append(block.astype(np.float64))
        self._count += 1
        if len(self._blocks) == self._blocks.maxlen:
            self._alike.append(self._is_alike(len(block)))
        if self._count % _HOP == 0 and len(self._blocks) >= WINDOW:
            window = np.concatenate(list(self._blocks)[-WINDOW:])
            self._found.append(frozenset(faults(measure_clip(window, self._rate))))
        return self._standing()

    def _standing(self) -> Fault | None:
        if (
            len(self._alike) == _LOOP_WINDOWS
            and False not in self._alike
            and sum(map(bool, self._alike)) >= _LEAST_ALIKE
        ):
            return Fault("loop", self._count - _LOOP_SPAN + WINDOW)
        if self._count % _HOP or not self._found:
            return None
        for kind in sorted(self._found[-1]):
            windows = _WINDOWS.get(kind, _USUAL_WINDOWS)
            newest = list(self._found)[-windows:]
            if len(newest) == windows and all(kind in found for found in newest):
                return Fault(kind, self._count - _HOP * (windows - 1))
        return None

    def _is_alike(self, samples: int) -> bool | None:
        """Whether half a second comes again at once; None for one that is too quiet to tell."""
        sound = np.concatenate(list(self._blocks))
        size, nearest, farthest = (blocks * samples for blocks in (_LOOP_WINDOW, _NEAREST, _FARTHEST))
        if sound[:size].std() <= _QUIET:
            return None
        return similarity(sound, size, nearest, farthest) >= SIMILAR
