"""The first-level instruction cache of one scheduler, and how lines of code come into it.

A warp that goes on to a line that is not there waits for it, and the lines behind it are fetched one after another, as
far as a few lines beyond the one in use. So straight code that issues quickly and jumps to code that was not used
lately wait for instructions. The sizes follow from what Nsight Compute counted on an H200 (docs/predictions.md).
"""

import collections

_LINE = 128
_LINES = 96
"""The cache holds so many lines."""
_AHEAD = 4
"""A warp fetches so many lines beyond the one in use."""


class _Stream:
    """The lines that a warp fetches ahead: from `next` on, up to `end`, from the cycle `since` on."""

    def __init__(self) -> None:
        self.next = self.end = self.since = 0


class InstructionCache:
    """Which lines of code are in the cache, or on their way, and when they are there."""

    def __init__(self, latency: int, each: int) -> None:
        """latency: cycles from the request of a line until it is there. each: cycles between two requests."""
        self._latency, self._each = latency, each
        self._there: collections.OrderedDict[int, int] = collections.OrderedDict()  # the one that was used last, last
        self._free = 0  # when the next line may be requested
        self._streams: dict[int, _Stream] = collections.defaultdict(_Stream)

    def ready(self, warp: int, address: int, time: int) -> int:
        """The cycle when a warp has the instruction at an address that it asks for at `time`."""
        line, stream = address // _LINE, self._streams[warp]
        while stream.next < stream.end and (stream.since <= time or stream.next <= line < stream.end):
            self._go_on(stream)
        if line not in self._there:
            stream.next, stream.end, stream.since = line, line + 1, time
            self._go_on(stream)
        if stream.next - _AHEAD <= line + 1 <= stream.next:
            if stream.next == stream.end:
                stream.since = max(stream.since, time)
            stream.end = max(stream.end, line + 1 + _AHEAD)
        self._there.move_to_end(line)
        return self._there[line]

    def _go_on(self, stream: _Stream) -> None:
        """Requests a warp's next line, if that is not there."""
        if stream.next not in self._there:
            begin = max(stream.since, self._free)
            self._there[stream.next] = begin + self._latency
            self._free = stream.since = begin + self._each
            if len(self._there) > _LINES:
                self._there.popitem(last=False)
        stream.next += 1
