"""A real-time priority for threads whose sound must not be late, so that busy programs beside them do not delay it."""

import os
from concurrent.futures import ThreadPoolExecutor

from samplernn_fast.errors import ConfigError

_PRIORITY = 4
"""Of 1 to 99: before all ordinary programs, behind the sound servers, which take 5 and more."""


def check() -> None:
    """Raises ConfigError where this system or user has no real-time priority."""
    with ThreadPoolExecutor(1) as pool:  # its thread ends with what it took
        pool.submit(take).result()


def take(inherited: bool = False) -> None:
    """Gives the calling thread a real-time priority (SCHED_RR of POSIX). Raises ConfigError where it gets none.

    inherited: whether threads that it begins from now on get it too.
    """
    if not hasattr(os, "SCHED_RESET_ON_FORK"):
        raise ConfigError("realtime_priority=True needs Linux; leave it out")
    policy = os.SCHED_RR if inherited else os.SCHED_RR | os.SCHED_RESET_ON_FORK
    try:
        os.sched_setscheduler(0, policy, os.sched_param(_PRIORITY))  # 0 is the calling thread
    except OSError as error:
        raise ConfigError(
            f"this user may not take a real-time priority ({error.strerror}); leave out realtime_priority=True, or have"
            f" `- rtprio {_PRIORITY}` set in /etc/security/limits.conf and log in again"
        ) from None
