"""How late processes wake beside a server and its clients, on each core, and processes that keep the machine busy."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from samplernn_fast.serving import priority
from samplernn_fast.serving.priority import RealTime

_SLEEP = 0.002  # seconds
_LATE = 0.004  # seconds behind which a wake is noted
_NEAR = 0.1  # seconds between a late wake and what it may explain


class Late(NamedTuple):
    """A process that only slept woke late."""

    at: float
    """On the clock of `time.perf_counter`."""
    by: float
    """Seconds."""


class Wakes(NamedTuple):
    """It holds what one or several sleepers noted."""

    began: float
    """The beginning of the measurement, on the same clock."""
    late: list[Late]

    def latest(self, near: float | None = None) -> float:
        """Returns the most seconds by which a wake was late, of all or near a moment; 0 where there was none."""
        return max((one.by for one in self.late if near is None or abs(one.at - near) <= _NEAR), default=0.0)


def cores() -> list[int]:
    """Returns the cores that this process may use, one of them unnamed (-1) where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [-1]


def late_wakes(core: int, seconds: float, realtime_priority: bool, wait: Callable[[], object]) -> Wakes:
    """Sleeps on a core, and returns how late it woke. `wait` returns when the measurement begins."""
    if core >= 0:
        os.sched_setaffinity(0, [core])
    with RealTime(priority.SENDING, realtime_priority):
        wait()
        wakes = Wakes(time.perf_counter(), [])
        ends = wakes.began + seconds
        while (asleep := time.perf_counter()) < ends:
            time.sleep(_SLEEP)
            awake = time.perf_counter()
            if awake - asleep > _SLEEP + _LATE:
                wakes.late.append(Late(awake, awake - asleep - _SLEEP))
        return wakes


def merged(several: Iterable[Wakes]) -> Wakes:
    """Returns what all of some sleepers noted."""
    noted = list(several)
    return Wakes(min(one.began for one in noted), [late for one in noted for late in one.late])


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Lets so many processes of ordinary priority compute for the block."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_compute, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _compute() -> None:
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():  # whoever kills it need not kill this
        for _ in range(100):
            sum(range(100_000))
