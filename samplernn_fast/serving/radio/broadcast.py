"""Plays a station into an outlet, for ever or for a while, and goes on where it was stopped."""

import time
from collections.abc import Callable

from samplernn_fast.errors import CheckpointError
from samplernn_fast.serving.radio.log import Log, Place
from samplernn_fast.serving.radio.outlets import Outlet
from samplernn_fast.serving.radio.station import Moment, Station

_AHEAD_SECONDS = 5.0  # so far may the sound be ahead of the clock, because a change takes a moment
_LATE_SECONDS = 5.0  # a clock that is more behind begins anew, so that a machine that slept does not hurry


class Clock:
    """Lets sound out no faster than it is heard."""

    def __init__(
        self, rate: int, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._rate, self._now, self._sleep = rate, now, sleep
        self._began: float | None = None

    def wait(self, position: int) -> None:
        """Returns when the sample at this position may be sent, a few seconds before it is due."""
        heard, now = position / self._rate - _AHEAD_SECONDS, self._now()
        if self._began is None or now - (self._began + heard) > _LATE_SECONDS + _AHEAD_SECONDS:
            self._began = now - position / self._rate
        wait = self._began + heard - now
        if wait > 0:
            self._sleep(wait)


class Broadcast:
    """A station, where its sound goes, and its log, if it has one."""

    def __init__(
        self,
        station: Callable[[], Station],
        outlet: Outlet,
        log: Log | None,
        state_seconds: float,
        until: float | None = None,
    ) -> None:
        """station: makes one that stands at its beginning. state_seconds: how often a state is saved. until: the second
        at which the radio is to end; one that was stopped later goes on from before that, to end there.

        Goes on from the newest state that is whole, and for which the outlet has what is needed.
        """
        self.outlet, self.log, self._state_seconds = outlet, log, state_seconds
        self.station = self._resumed(station, until)
        self._last_state = self.station.position
        self._moment: tuple[Moment, Place] | None = None
        outlet.go_on(self.station.position)

    def _resumed(self, station: Callable[[], Station], until: float | None) -> Station:
        log = self.log
        if log is None:
            return station()
        for number, position, file in log.places(None if until is None else round(until * station().rate)):
            found = station()
            try:
                if not self.outlet.reaches(position):
                    continue
                found.load(file)
            except CheckpointError:
                continue  # an earlier one makes the same sound
            log.go_on(number)
            return found
        log.go_on(0)
        return station()

    def play(
        self,
        duration: float | None,
        clock: Clock | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        show: Callable[[], None] = lambda: None,
    ) -> bool:
        """Plays until so many seconds of the radio are out, counted from its beginning; None is for ever.

        show: is called after each block.
        Returns whether it came to that end. Where it is stopped, or nobody reads its sound any more, or ctrl-C is
        pressed again, it keeps its place first, so that it goes on from there.
        """
        try:
            if self._play(duration, clock, should_stop, show):
                return True
        except BrokenPipeError:
            self._keep_place()
            if not should_stop():  # ctrl-C ends a whole pipeline
                raise
        except KeyboardInterrupt:
            self._keep_place()
            raise
        else:
            self._keep_place()
        return False

    def _play(
        self,
        duration: float | None,
        clock: Clock | None,
        should_stop: Callable[[], bool],
        show: Callable[[], None],
    ) -> bool:
        station, outlet = self.station, self.outlet
        last = None if duration is None else round(duration * station.rate)
        while last is None or station.position < last:
            if self.log is not None and station.can_save:
                self._moment = station.moment(), self.log.place()
            if clock is not None:
                clock.wait(station.position)
            if should_stop():
                return False
            before = station.position
            samples = station.step()
            told = outlet.write(samples if last is None else samples[: last - before])
            show()
            if last is not None and station.position > last:
                break
            self._write_down(*station.take_events(), *told)
            self._save_where_due()
        self._write_down(*outlet.end())
        return True

    def _write_down(self, *entries: dict[str, object]) -> None:
        if self.log is not None:
            self.log.add(*entries)

    def _save_where_due(self) -> None:
        station, log, interval = self.station, self.log, round(self._state_seconds * self.station.rate)
        due = station.position // interval > self._last_state // interval
        if log is None or not due or not station.can_save:
            return
        file = log.state_file(station.position)
        self.outlet.sync()
        station.save(file)
        log.add({"is": "state", "at": station.position, "file": file.name}, lasting=True)
        self._last_state = station.position
        self.outlet.forget(station.position)
        log.forget_stop()

    def _keep_place(self) -> None:
        """Saves the newest moment at which no part faded into another, which is a second old at most."""
        if self.log is None or self._moment is None:
            return
        moment, place = self._moment
        if moment.position <= self._last_state:
            return
        self.outlet.sync()
        self.log.add(lasting=True)
        self.station.save(self.log.stopped_file, moment, log=list(place))
