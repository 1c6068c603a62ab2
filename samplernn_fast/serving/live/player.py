"""`Player`: the thread that makes the sound of one model, for all listeners of it together.

Nothing is made before somebody wants it, so a listener decides how far ahead of the ears the player works. Whoever
wants something at the same moment shares one call of the engine.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import SampleRNNError
from samplernn_fast.serving import priority
from samplernn_fast.serving.live.metrics import Metrics
from samplernn_fast.serving.live.slot import Report, Slot, advance, grain_of
from samplernn_fast.serving.priority import RealTime

_CALL_SECONDS = 0.02  # of sound at most in one call, behind which whoever wants something has a turn


class Block(NamedTuple):
    """Sound of one slot."""

    position: int
    """Of the first sample, since the stream began."""
    obeys: int
    """The number of the last change that all of these samples obey."""
    samples: np.ndarray
    """(n,) float32."""


class Failed(NamedTuple):
    """A slot that makes no more sound."""

    error: SampleRNNError


Delivery = Block | Report | Failed


@dataclass(eq=False)
class Seat:
    """A slot that is played, and for whom."""

    slot: Slot
    block: int
    """The samples that are made at a time, a multiple of the grain."""
    deliver: Callable[[Delivery], None]
    """Is called in the player's thread, so it only hands on."""
    until: int = 0
    """The position up to which samples are wanted."""
    keep: int | None = None
    """The position from which on samples may be made again, None where that is not wanted."""
    end: int = 0
    """The position at which the block ends that was begun last."""

    @property
    def due(self) -> bool:
        """It says whether a block is wanted, the rest of one that was begun, or other samples than were made."""
        begun, wanted = self.slot.position < self.end, self.until - self.slot.position >= self.block
        return self.slot.error is None and (begun or wanted or self.slot.must_rewind)

    def begin(self) -> None:
        """Begins a block where the last one has ended."""
        if self.slot.position >= self.end:
            self.end = self.slot.position + self.block
            if self.keep is not None:
                self.slot.keep(self.keep)

    def rewind(self) -> None:
        """Goes back where that must be; the block that was begun is given up."""
        if self.slot.error is None and self.slot.rewind():
            self.end = self.slot.position


class Player(threading.Thread):
    """Plays one model. `open`, `want`, `ask` and `close` may be called from any thread."""

    def __init__(self, name: str, engine: Engine, metrics: Metrics, realtime_priority: bool = False) -> None:
        super().__init__(name=f"player of {name}", daemon=True)
        self.model, self.engine, self.metrics = name, engine, metrics
        self.realtime_priority = realtime_priority
        self.grain = grain_of(engine.config)
        self._most = max(1, round(_CALL_SECONDS * engine.config.sample_rate / self.grain)) * self.grain
        self._seats: list[Seat] = []
        self._changed = threading.Condition()
        self._over = False
        metrics.count_slots(name, lambda: len(self._seats))

    def open(self, slot: Slot, block: int, deliver: Callable[[Delivery], None]) -> Seat:
        """Begins to play a slot. Nothing is made until `want`. block: samples, rounded up to the grain."""
        seat = Seat(slot, -(-max(1, block) // self.grain) * self.grain, deliver)
        with self._changed:
            self._seats = [*self._seats, seat]
        return seat

    def want(self, seat: Seat, until: int, keep: int | None = None) -> None:
        """Lets the player make a seat's samples before a position. It never takes back what was wanted before.

        keep: the position from which on samples may be made again; None leaves that as it is.
        """
        with self._changed:
            seat.until = max(seat.until, until)
            seat.keep = seat.keep if keep is None else keep
            self._changed.notify()

    def ask(
        self, seat: Seat, number: int, changes: dict[str, Any], since: int | None = None, until: int | None = None
    ) -> None:
        """Changes a seat's settings, as `Slot.ask` does. until: the position before which samples are wanted then, also
        where more were wanted before; None leaves that as it is.
        """
        with self._changed:
            seat.slot.ask(number, changes, since)
            seat.until = seat.until if until is None else until
            self._changed.notify()

    def close(self, seat: Seat) -> None:
        """Ends a seat; nothing is delivered to it any more, but for a block that is being made now."""
        with self._changed:
            self._seats = [other for other in self._seats if other is not seat]

    @property
    def seats(self) -> int:
        """How many slots are played."""
        return len(self._seats)

    def end(self) -> None:
        """Ends the thread, behind the block that is being made."""
        with self._changed:
            self._over = True
            self._changed.notify()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Makes what is due until `end`."""
        with RealTime(priority.MAKING, self.realtime_priority) as realtime:
            while True:
                began = time.monotonic()
                with self._changed:
                    self._changed.wait_for(lambda: self._over or any(seat.due for seat in self._seats))
                    if self._over:
                        return
                    for seat in self._seats:
                        seat.rewind()
                    due = [seat for seat in self._seats if seat.due]
                realtime.watch(time.monotonic() - began)
                if due:
                    self._make(due)

    def _make(self, due: list[Seat]) -> None:
        """Makes the next samples of some seats, up to the nearest end of a block; the other blocks go on later."""
        for seat in due:
            seat.begin()
        size = min(self._most, *(seat.end - seat.slot.position for seat in due))
        before = [(seat.slot, seat.slot.position, seat.slot.obeys) for seat in due]
        began = time.perf_counter()
        made = advance(self.engine, [seat.slot for seat in due], size)
        self.metrics.made(self.model, len(due), size, time.perf_counter() - began, self.engine.config.sample_rate)
        for seat, (slot, position, obeys), samples in zip(due, before, made, strict=True):
            for report in slot.take_reports():
                seat.deliver(report)
                if report.at <= position:
                    obeys = report.number
            if len(samples):
                seat.deliver(Block(position, obeys, samples))
            if slot.error is not None:
                seat.deliver(Failed(slot.error))
