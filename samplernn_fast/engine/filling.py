"""How many streams together fill a machine: from which number on more bring hardly anything, by a measurement."""

import os
import time
from dataclasses import dataclass

from samplernn_fast.engine.engine import Engine

_ENOUGH = 0.97  # A smaller number of streams is taken where it has this share of the best speed.
_BUDGET = 4.0  # seconds for the whole measurement
_LONG_ENOUGH = 0.1  # seconds of one number of streams
_WORTH_TRYING = 1.03  # Where doubling brings less than this, twice, larger numbers are not tried.


@dataclass(frozen=True)
class Filling:
    """A number of streams, and what it costs."""

    streams: int
    samples_per_second: float
    """Samples of all streams together."""
    sample_rate: int
    cores: int
    """How many processors this process may use; 0 where a GPU makes the audio."""

    @property
    def hours_an_hour(self) -> float:
        """Hours of audio in an hour."""
        return self.samples_per_second / self.sample_rate

    def text(self) -> str:
        """In one line."""
        per_core = f", {self.hours_an_hour / self.cores:.3g} on each of {self.cores} cores" if self.cores else ""
        return f"batch {self.streams}: {self.hours_an_hour:.3g} hours of audio an hour{per_core}"


def fill(engine: Engine, most: int) -> Filling:
    """Plays 1, 2, 4, ... streams of silence's continuation, at most `most`, for some seconds in all, and takes the
    smallest number that is about as fast as the best one.

    The levels are thrown away. Where the backend is not batch-invariant, another number makes other audio.
    """
    began, speeds, streams, worse = time.perf_counter(), {}, 1, 0
    while streams <= most and worse < 2:
        speeds[streams] = _speed(engine, streams)
        before = max((speed for number, speed in speeds.items() if number < streams), default=0.0)
        worse = worse + 1 if speeds[streams] < _WORTH_TRYING * before else 0
        if time.perf_counter() - began > _BUDGET:
            break
        streams *= 2
    if most not in speeds and streams > most and worse == 0:
        speeds[most] = _speed(engine, most)
    best = max(speeds.values())
    taken = min(number for number, speed in speeds.items() if speed >= _ENOUGH * best)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Filling(taken, speeds[taken], engine.config.sample_rate, cores if engine.device == "cpu" else 0)


def _speed(engine: Engine, streams: int) -> float:
    """Samples a second of so many streams. What is compiled or allocated at first use does not count."""
    state, samples = engine.init_state(streams), engine.config.top_frame
    engine.run(state, samples)
    while True:
        began = time.perf_counter()
        engine.run(state, samples)
        seconds = time.perf_counter() - began
        if seconds >= _LONG_ENOUGH:
            return streams * samples / seconds
        frames = _LONG_ENOUGH / max(seconds, 1e-6) * samples / engine.config.top_frame
        samples = engine.config.top_frame * max(2 * samples // engine.config.top_frame, int(1.2 * frames))
