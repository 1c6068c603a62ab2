"""A real-time priority for threads whose sound must not be late, so that busy programs beside them do not delay it.

A thread with such a priority leaves others only what it does not need. So one that computes nearly all of the time,
because a model is too slow or a client takes sound faster than it is heard, is an ordinary one until it rests again.
"""

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor

from samplernn_fast.errors import ConfigError

MAKING = 3
"""Of 1 to 99, for threads that make sound: before all ordinary programs."""
SENDING = 4
"""For threads that hand sound on: before those that make it, behind the sound servers, which take 5 and more."""
_BUSY = 0.8  # of the time that a thread may compute and keep its priority
_PERIOD = 0.5  # seconds over which that is measured


def check() -> None:
    """Raises ConfigError where this system or user has no real-time priority."""
    with ThreadPoolExecutor(1) as pool:  # its thread ends with what it took
        pool.submit(RealTime(SENDING).__enter__).result()


class RealTime:
    """Gives the thread that enters it a real-time priority (SCHED_RR of POSIX), until it leaves."""

    def __init__(self, priority: int, inherited: bool = False) -> None:
        """inherited: whether threads that it begins meanwhile get it too."""
        self._priority, self._inherited = priority, inherited
        self._has = False
        self._before = 0, 0
        self._began = self._computed = 0.0

    def __enter__(self) -> "RealTime":
        """Raises ConfigError where the thread gets none."""
        if not hasattr(os, "SCHED_RESET_ON_FORK"):
            raise ConfigError("realtime_priority=True needs Linux; leave it out")
        self._before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority  # 0 is the calling thread
        try:
            self._take()
        except OSError as error:
            if error.errno != errno.EPERM:
                raise ConfigError(
                    f"this system gives no real-time priority ({error.strerror}); leave out realtime_priority=True"
                ) from None
            raise ConfigError(
                f"this user may not take a real-time priority; leave out realtime_priority=True, or allow {SENDING}: by"
                f" the line `@audio - rtprio {SENDING}` in /etc/security/limits.conf for those who log in to the group"
                f" audio, LimitRTPRIO={SENDING} for a service of systemd, --ulimit rtprio={SENDING} for a container"
            ) from None
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def watch(self) -> None:
        """Is called by the thread between two pieces of work: takes the priority away or gives it again."""
        lasted = time.monotonic() - self._began
        if lasted < _PERIOD:
            return
        is_busy = time.thread_time() - self._computed > _BUSY * lasted
        if is_busy and self._has:
            self._give_back()
        elif not is_busy and not self._has:
            self._take()
        self._begin()

    def _begin(self) -> None:
        self._began, self._computed = time.monotonic(), time.thread_time()

    def _take(self) -> None:
        policy = os.SCHED_RR if self._inherited else os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(self._priority))
        self._has = True

    def _give_back(self) -> None:
        policy, priority = self._before
        # Whoever has the flag may need a right to lose it, and on an ordinary thread it means nothing.
        flag = 0 if self._inherited else os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy | flag, os.sched_param(priority))
        self._has = False
