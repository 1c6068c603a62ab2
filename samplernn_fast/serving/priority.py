"""A real-time priority for threads whose sound must not be late, so that busy programs beside them do not delay it.

A thread with such a priority leaves others only what it does not need. So one that makes sound without rest, because
the model is too slow or a client takes sound faster than it is heard, is ordinary until it rests again.
"""

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from samplernn_fast.errors import ConfigError

MAKING = 3
"""Of 1 to 99, for threads that make sound: before all ordinary programs."""
SENDING = 4
"""For threads that hand sound on: before those that make it, behind the sound servers, which take 5 and more."""
_REST = 0.2  # of the time, which a thread must wait for work to keep its priority
_PERIOD = 0.5  # seconds over which that is measured


def check() -> None:
    """Raises ConfigError where this system or user has no real-time priority."""
    with ThreadPoolExecutor(1) as pool:  # its thread ends with what it took
        pool.submit(RealTime(SENDING).__enter__).result()


class RealTime:
    """Gives the thread that enters it a real-time priority (SCHED_RR of POSIX), until it leaves."""

    def __init__(self, priority: int, wanted: bool = True, inherited: bool = False) -> None:
        """wanted: False leaves the thread as it is. inherited: whether threads that it begins meanwhile get it too."""
        self._priority, self._wanted, self._inherited = priority, wanted, inherited
        self._has = False
        self._before = 0, 0
        self._began = self._rested = 0.0

    def __enter__(self) -> "RealTime":
        """Raises ConfigError where the thread gets none."""
        if not self._wanted:
            return self
        if not hasattr(os, "SCHED_RESET_ON_FORK"):
            raise ConfigError("realtime_priority=True needs Linux; leave it out")
        try:
            self._before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority  # 0 is the calling thread
            self._take()
        except OSError as error:
            if error.errno != errno.EPERM:
                raise ConfigError(
                    f"this system gives no real-time priority ({error.strerror}); leave out realtime_priority=True"
                ) from None
            raise ConfigError(
                f"this user may not take a real-time priority; leave out realtime_priority=True, or allow {SENDING}: by"
                f" the line `@audio - rtprio {SENDING}` in /etc/security/limits.conf for those who log in to the group"
                f" audio, LimitRTPRIO={SENDING} for a service of systemd, the ulimit rtprio={SENDING} for a container"
            ) from None
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._wanted:
            with suppress(OSError):  # where the right to it has changed meanwhile
                self._set(*self._before)

    def watch(self, rested: float) -> None:
        """Takes the priority away or gives it again. The thread calls it behind each wait for work, with its seconds.

        Where the system refuses that, the thread goes on as it is.
        """
        self._rested += rested
        lasted = time.monotonic() - self._began
        if lasted < _PERIOD or not self._wanted:
            return
        rests = self._rested >= _REST * lasted
        with suppress(OSError):
            if self._has and not rests:
                self._set(os.SCHED_OTHER, 0)
                self._has = False
            elif rests and not self._has:
                self._take()
        self._began, self._rested = time.monotonic(), 0.0

    def _take(self) -> None:
        self._set(os.SCHED_RR, self._priority)
        self._has = True

    def _set(self, policy: int, priority: int) -> None:
        # Whoever has the flag may need a right to lose it, so it stays.
        flag = 0 if self._inherited else os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy | flag, os.sched_param(priority))
