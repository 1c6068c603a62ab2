"""`Instrument`: a model's stream with a volume, notes and pauses, whose changes are written down as a score."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import ConfigError
from samplernn_fast.serving.live.settings import RESET, Settings
from samplernn_fast.serving.live.slot import Change, Slot, advance, grain_of
from samplernn_fast.serving.playing.parameters import MODEL_SETTINGS, check_changes, parameter, table
from samplernn_fast.serving.playing.score import MOST_CHANGES, Start, check_score

_FADE_SECONDS = 0.005  # within which the volume moves, so that no step is heard
_MOST_WAITING = 64  # changes that wait for a grain of their own; more are made together


class Instrument:
    """One stream. `make` gives its sound, and everything else is called between two calls of `make`.

    The same start and the same changes at the same positions make the same samples, however they are cut into blocks.
    """

    def __init__(
        self, engine: Engine, start: Start, prompt: np.ndarray | None = None, score: Sequence[Change] = ()
    ) -> None:
        """prompt: levels (T,) that the model has heard before. score: what changes by itself.

        Raises ConfigError for a start or a score that cannot be.
        """
        self.config, self.grain = engine.config, grain_of(engine.config)
        start.check(self.config)
        self.start, self.parameters = start, table(self.config)
        self.position = 0
        """Samples since the beginning, of silence too."""
        self.settings: dict[str, Any] = {
            "temperature": start.temperature,
            "top_k": start.top_k,
            "top_p": start.top_p,
            "frozen": False,
            "volume": start.volume,
            "gate": start.gate,
            "paused": False,
            "seed": start.seed,
        }
        """What holds, changes that were asked for included."""
        self.changes: list[Change] = []
        """The score so far."""
        self.recorded_until: int | None = None
        """The position from which on the score misses changes, because it has as many as a score may have."""
        settings = Settings(start.temperature, start.top_k, start.top_p)
        self._engine, self._slot = engine, Slot(engine, start.seed, settings, prompt)
        self._ahead = deque(check_score(score, self.config))
        self._asked: deque[dict[str, Any]] = deque()
        self._volume, self._gate, self._paused = start.volume, start.gate, False
        self._fader = Fader(start.volume * start.gate, max(1, round(_FADE_SECONDS * self.config.sample_rate)))

    def set(self, name: str, value: Any = None) -> None:
        """Gives a parameter a value, as `Parameter.change` takes it, from the next sample that is not made yet.

        Raises ConfigError, and changes nothing, where that cannot be.
        """
        self.change(parameter(self.parameters, name).change(value))

    def move(self, name: str, steps: int) -> None:
        """Moves a parameter by some steps of a key, or turns a switch over. Raises ConfigError as `set`."""
        one = parameter(self.parameters, name)
        now = self.settings.get(one.setting)
        self.set(name, not now if one.kind == "switch" else one.moved(now, steps))

    def change(self, changes: dict[str, Any]) -> None:
        """Changes settings from the next sample on that is not made yet; those that hold already are left out.

        Raises ConfigError, and changes nothing, where that cannot be.
        """
        check_changes(changes, self.config)
        again = (RESET, "seed")
        new = {name: value for name, value in changes.items() if name in again or self.settings[name] != value}
        if not new:
            return
        self.settings |= {name: value for name, value in new.items() if name != RESET}
        # A note that ends before it could be heard still sounds for a grain.
        together = self._asked and not ("gate" in new and "gate" in self._asked[-1])
        if together or len(self._asked) >= _MOST_WAITING:
            self._asked[-1].update(new)
        else:
            self._asked.append(new)

    def make(self, n: int) -> np.ndarray:
        """The next n samples (n,) float32 in [-1, 1]. n: a multiple of the grain.

        Raises the error of a model that cannot go on.
        """
        parts, end = [np.empty(0, np.float32)], self.position + n
        while self.position < end:
            self._take_changes()
            stops = [end, *(at for at, _ in list(self._ahead)[:1])]
            if self._asked:
                stops.append(self.position + self.grain)
            parts.append(self._sound(min(stops) - self.position))
        return np.concatenate(parts)

    def _take_changes(self) -> None:
        """Makes the changes that are due at this position, and writes them down."""
        while self._ahead and self._ahead[0][0] <= self.position:
            changes = self._ahead.popleft()[1]
            self.settings |= {name: value for name, value in changes.items() if name != RESET}
            self._take(changes)
        if self._asked:
            self._take(self._asked.popleft())

    def _take(self, changes: dict[str, Any]) -> None:
        if len(self.changes) < MOST_CHANGES:
            self.changes.append((self.position, changes))
        elif self.recorded_until is None:
            self.recorded_until = self.position
        of_model = {name: value for name, value in changes.items() if name in MODEL_SETTINGS}
        if "seed" in changes:
            self._slot.state.seed = changes["seed"]
            of_model[RESET] = True
        if of_model:
            self._slot.ask(0, of_model)
        self._volume = changes.get("volume", self._volume)
        self._gate = changes.get("gate", self._gate)
        self._paused = changes.get("paused", self._paused)
        self._fader.move_to(0.0 if self._paused else self._volume * self._gate)

    def _sound(self, n: int) -> np.ndarray:
        """The next samples (n,), or fewer; the model rests where a pause has faded out."""
        if self._paused and not self._fader.left:
            self.position += n
            return np.zeros(n, np.float32)
        if self._paused:
            n = min(n, -(-self._fader.left // self.grain) * self.grain)
        (made,) = advance(self._engine, [self._slot], n)
        self._slot.take_reports()
        if self._slot.error is not None:
            raise self._slot.error
        self.position += n
        return self._fader.shape(made)


class Fader:
    """A gain that moves to another one along a line, so that no step is heard. Blocks may be cut anywhere."""

    def __init__(self, gain: float, length: int) -> None:
        """length: the samples of the line."""
        self._length = length
        self._from, self._to, self._now, self._at = gain, gain, gain, length

    @property
    def left(self) -> int:
        """The samples until the gain has arrived."""
        return self._length - self._at

    def move_to(self, gain: float) -> None:
        """Begins to move at the next sample."""
        if gain != self._to:
            self._from, self._to, self._at = self._now, gain, 0

    def shape(self, samples: np.ndarray) -> np.ndarray:
        """The samples (n,) float32 with their gain; the same array where that is 1."""
        if not self.left and self._to == 1:
            return samples
        places = np.arange(self._at + 1, self._at + 1 + len(samples))
        line = self._from + (self._to - self._from) * (places / self._length)
        gains = np.where(places >= self._length, self._to, line)
        self._at = min(self._length, self._at + len(samples))
        self._now = float(gains[-1])
        return samples * gains.astype(np.float32)


def check_block(block: int | None, config: Any, seconds: float) -> int:
    """The samples that are made at a time; None takes about so many seconds. Raises ConfigError where a block is no
    multiple of the grain."""
    grain = grain_of(config)
    if block is None:
        return max(1, round(seconds * config.sample_rate / grain)) * grain
    if block % grain:
        raise ConfigError(f"block must be a multiple of {grain} samples for this model, got {block}")
    return block
