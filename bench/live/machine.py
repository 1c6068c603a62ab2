"""How late any process wakes beside a server and its clients: one that only sleeps notes it."""

import time
from collections.abc import Callable

_SLEEP = 0.002  # seconds
_LATE = 0.004  # seconds behind which a wake is noted


def late_wakes(seconds: float, wait: Callable[[], object]) -> list[float]:
    """Returns by how many seconds each late wake was late. `wait` returns when the measurement begins."""
    wait()
    late, ends = [], time.perf_counter() + seconds
    while (asleep := time.perf_counter()) < ends:
        time.sleep(_SLEEP)
        delay = time.perf_counter() - asleep - _SLEEP
        if delay > _LATE:
            late.append(delay)
    return late
