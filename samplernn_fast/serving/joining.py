"""Who asks to take part in a listening test: known in memory until the first clip is asked for, and not too many."""

import ipaddress
import time
from collections import Counter, deque
from collections.abc import Callable

from samplernn_fast.evaluation.listening.answers import new_token

JOINS = 50
"""How many listeners may start from one address within an hour; a class that listens together has fewer."""
_HOUR = 3600.0  # seconds
_MOST_KEPT = 10_000  # So many tokens and joins are remembered; beyond that the oldest are forgotten.


class Joins:
    """The tokens of those who have not yet asked for a clip, and how many of them came from which address lately.

    A token costs some bytes of memory and no line on the disk, so whoever only collects tokens takes no place of the
    test. A token that is forgotten is unknown, and its page shows the beginning again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: gives seconds."""
        self._clock = clock
        self._waiting: dict[str, None] = {}
        self._lately: deque[tuple[float, str]] = deque(maxlen=_MOST_KEPT)

    def new(self, address: str) -> str | None:
        """A token for somebody at this address; None where too many came from there within an hour."""
        now, origin = self._clock(), _network(address)
        while self._lately and self._lately[0][0] <= now - _HOUR:
            self._lately.popleft()
        if Counter(where for _, where in self._lately)[origin] >= JOINS:
            return None
        self._lately.append((now, origin))
        while len(self._waiting) >= _MOST_KEPT:
            del self._waiting[next(iter(self._waiting))]
        token = new_token()
        self._waiting[token] = None
        return token

    def waits(self, token: str) -> bool:
        """Whether this is a token of somebody who has not asked for a clip."""
        return token in self._waiting

    def seated(self, token: str) -> None:
        """Forgets a token, whose listener is on the disk now."""
        self._waiting.pop(token, None)


def _network(address: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, because one customer has all that begin so."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((known, 64), strict=False)) if known.version == 6 else str(known)
