"""How many samples an engine makes at a time, before it looks for ctrl-C and moves the progress bar on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 0.25
"""The wall time that a slice of audio should take. A key press and a progress bar wait for two slices at most, and what
a slice costs beside its samples (the first launch, copies, Python) is a small part of it on any machine."""
FIRST, MANY = 256, 64
"""The samples of a slice while nothing is known about the speed; fewer where there are more than `MANY` streams, which
would take so much longer that ctrl-C would wait for seconds."""


class Pace:
    """Chooses the size of a slice by the speed of the last one. The speed differs in every run, so no level may depend
    on a slice's size."""

    def __init__(self, unit: int) -> None:
        """unit: the samples of a top frame; a slice is made of whole ones."""
        self._unit = unit
        self._speeds: dict[int, float] = {}

    def samples(self, streams: int) -> int:
        """The samples of the next slice of so many streams: what takes `SECONDS`, at least one top frame."""
        speed = self._speeds.get(streams)
        wanted = FIRST * MANY / max(MANY, streams) if speed is None else speed * SECONDS
        return max(1, int(wanted) // self._unit) * self._unit

    @contextmanager
    def timed(self, streams: int, samples: int) -> Iterator[None]:
        """Times the block that makes a slice; its time decides the size of the next one."""
        began = time.perf_counter()
        yield
        self._speeds[streams] = samples / max(time.perf_counter() - began, 1e-6)
