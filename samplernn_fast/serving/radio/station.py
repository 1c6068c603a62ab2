"""`Station`: the sound of a radio, block by block: parts one after another, cross-faded, levelled and limited."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from samplernn_fast.audio.resampling import load_soxr
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import AudioError, CheckpointError, ConfigError
from samplernn_fast.files import replacing
from samplernn_fast.models.stored.header import STATE_KIND, metadata, opened
from samplernn_fast.serving.radio.levelling import Limiter, fades
from samplernn_fast.serving.radio.part import CHANGE_FADE, FAULT_FADE, Part
from samplernn_fast.serving.radio.program import Program, RadioSettings

_BLOCK_SECONDS, _SHORTEST, _LONGEST = 0.25, 0.2, 0.26  # of a block: what is wished, and what may be


class Moment(NamedTuple):
    """What makes a radio go on from a sample. Nothing in it changes while the radio plays on."""

    position: int
    numbers: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Station:
    """Plays models one after another. What it plays depends on the models, their order and the settings alone."""

    def __init__(self, engines: Mapping[str, Engine], settings: RadioSettings) -> None:
        """engines: by the names that a log gives them. Raises ConfigError where they cannot play together.

        The rate is the highest of theirs; those of another rate need soxr.
        """
        self.names, self.engines = list(engines), list(engines.values())
        rates = [engine.config.sample_rate for engine in self.engines]
        for name, rate in zip(self.names, rates, strict=True):
            if not rate:
                raise ConfigError(f"{name}: this model has no sample rate yet: train it, or give its config one")
        self.settings, self.rate = settings, max(rates)
        self.program = Program(settings, len(rates))
        self._sizes = _block_sizes(rates)
        self.block = max(self._sizes)
        """The samples of a block."""
        if min(rates) != self.rate:
            load_soxr("models of different sample rates")
        self.position = 0
        """How many samples were given."""
        self._mixed = 0  # blocks
        self._limiter = Limiter(self.rate)
        self._events: list[dict[str, Any]] = []
        self._old: Part | None = None
        self._fade = CHANGE_FADE
        self._part = self._begin(0, "start")

    def step(self) -> np.ndarray:
        """The next block of sound, (n,) float32 in [-0.891, 0.891]. What goes wrong in an engine passes through."""
        given = None
        while given is None:
            given = self._limiter.add(self._mix().astype(np.float32))
        self.position += self.block
        return given

    def take_events(self) -> list[dict[str, Any]]:
        """What was decided since this was called last, for a log."""
        events, self._events = self._events, []
        return events

    @property
    def playing(self) -> tuple[str, int]:
        """The name and the seed of the model that plays, or that fades in."""
        return self.names[self._part.plan.model], self._part.plan.seed

    @property
    def can_save(self) -> bool:
        """Whether `save` and `moment` may be called now, which is not while one part fades into another."""
        return self._old is None and self._mixed - self._part.start >= self._fade

    def _begin(self, number: int, because: str) -> Part:
        plan = self.program.plan(number)
        at = self._mixed * self.block
        event = {"is": "part", "at": at, "number": number, "model": self.names[plan.model], "seed": plan.seed}
        self._events.append(event | {"because": because})
        return self._part_of(number, self._mixed)

    def _part_of(self, number: int, start: int) -> Part:
        plan = self.program.plan(number)
        return Part(plan, self.engines[plan.model], start, (self._sizes[plan.model], self.block), self.rate)

    def _mix(self) -> np.ndarray:
        """The next block before it is limited."""
        place = self._mixed - self._part.start
        self._part.make(place, self.program)
        if place == self._part.end:
            self._old, fault = self._part, self._part.fault
            self._fade = CHANGE_FADE if fault is None else FAULT_FADE
            self._part = self._begin(self._old.plan.number + 1, "change" if fault is None else fault.kind)
            place = 0
            self._part.make(place, self.program)
        sound = self._part.sound(place, self.settings.loudness)
        if place < self._fade:
            rising, falling = fades(place * self.block, self.block, self._fade * self.block)
            sound = sound * rising
            if self._old is not None:
                sound += self._old.sound(self._mixed - self._old.start, self.settings.loudness) * falling
        if place + 1 >= self._fade:
            self._old = None
        self._mixed += 1
        return sound

    def moment(self) -> Moment:
        """What makes the same radio go on from here, for `save`."""
        numbers, arrays = self._part.saved()
        numbers |= {"position": self.position, "mixed": self._mixed, "fade": self._fade}
        numbers |= {"number": self._part.plan.number, "start": self._part.start}
        return Moment(self.position, numbers, arrays | {"held": self._limiter.held})

    def save(self, path: Path, moment: Moment | None = None, **told: Any) -> None:
        """Writes what makes the same radio go on from here, or from a moment before.

        told: for JSON, what else the header says. Raises AudioError where it cannot be written.
        """
        moment = moment or self.moment()
        try:
            with replacing(path) as temporary:
                header = metadata(STATE_KIND, {"info": {"radio": moment.numbers, **told}})
                save_file(moment.arrays, temporary, metadata=header)
        except (OSError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise AudioError(f"{path}: cannot be written: {reason}") from None

    def load(self, path: Path) -> None:
        """Goes on where `save` was called, in a station of the same models and settings.

        Raises CheckpointError where the file is damaged or does not fit; the station is of no use then.
        """
        with opened(path, (STATE_KIND,), "np") as (content, header):
            arrays = {name: content.get_tensor(name) for name in content.keys()}
            numbers = header["info"]["radio"]
        try:
            self.position, self._mixed = int(numbers["position"]), int(numbers["mixed"])
            self._fade, self._old, self._events = int(numbers["fade"]), None, []
            held = np.asarray(arrays.pop("held"), np.float32)
            if held.shape != (2 * self._limiter.reach + self.block,):
                raise CheckpointError("it was saved at another rate")
            self._limiter.held = held
            self._part = self._part_of(int(numbers["number"]), int(numbers["start"]))
            self._part.restore(numbers, arrays, self.program)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: does not hold the state of this radio ({error!r})") from None
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None


def _block_sizes(rates: list[int]) -> list[int]:
    """The samples of a block at each rate, which last equally long. Raises ConfigError where there is no such time."""
    unit = math.gcd(*rates)
    units = max(1, round(_BLOCK_SECONDS * unit))
    if not _SHORTEST <= units / unit <= _LONGEST:
        shown = ", ".join(f"{rate} Hz" for rate in sorted(set(rates)))
        raise ConfigError(f"models of {shown} cannot take turns: no part of a second is whole samples of all")
    return [units * rate // unit for rate in rates]
