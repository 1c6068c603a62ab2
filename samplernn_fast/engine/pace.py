"""How many samples are made at a time, between two looks at the world outside."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 0.25
"""Wall time of a block, about: a key press and a progress bar wait for two of them at most, and what a block costs
beside its samples (the first launch, copies, Python) is a small part of it on any machine."""
FIRST = 256
"""Samples of a block while nothing is known about the speed, about."""


class Pace:
    """The size of blocks by the speed of the last one. It is another on every machine and in every run, so no level
    may depend on it."""

    def __init__(self, unit: int) -> None:
        """unit: samples of a top frame; blocks are whole ones."""
        self._unit = unit
        self._speeds: dict[int, float] = {}

    def samples(self, streams: int) -> int:
        """Of the next block of so many streams: what takes `SECONDS`, at least one top frame."""
        speed = self._speeds.get(streams)
        wanted = FIRST if speed is None else speed * SECONDS
        return max(1, int(wanted) // self._unit) * self._unit

    @contextmanager
    def timed(self, streams: int, samples: int) -> Iterator[None]:
        """What goes on inside makes a block; its time decides about the next one."""
        began = time.perf_counter()
        yield
        self._speeds[streams] = samples / max(time.perf_counter() - began, 1e-6)
