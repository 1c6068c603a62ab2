"""What a radio plays when: which model with which seed, for how long, and how wild it is. All of it follows from the
radio's seed and its settings; nothing depends on when or how fast it is played."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from samplernn_fast.errors import ConfigError
from samplernn_fast.ranges import Range
from samplernn_fast.reference import limits
from samplernn_fast.reference.randomness import random_words

CHANGE = Range(10, 86400, unit="seconds")
LOUDNESS = Range(-60, -10, unit="LUFS")
_PARTS, _TEMPERATURE, _TOP_P = 0, 1, 2  # the streams of random numbers
_KNOT_SECONDS = 10.0  # A walk takes a step so often, and moves along a straight line between two.
_UNIT = 1 << 20  # the way from one bound to the other, in whole numbers, whose sums are exact in any order
_LONGEST_STEP = _UNIT // 3
_AT_ONCE = 1024  # knots

Bounds = tuple[float, float]


@dataclass(frozen=True)
class RadioSettings:
    """How a radio sounds, whatever its models are."""

    seed: int = 0
    temperature: Bounds = (0.9, 1.05)
    top_p: Bounds | None = None
    """None draws from all levels."""
    change: float = 60.0
    """After so many seconds, on average, another model and another seed take over."""
    loudness: float = -23.0
    """In LUFS."""

    def __post_init__(self) -> None:
        """Raises ConfigError for what cannot be."""
        limits.check_seed(self.seed)
        CHANGE.check("change", self.change)
        LOUDNESS.check("loudness", self.loudness)
        for bound in self.temperature:
            limits.check_temperature(bound)
            if bound == 0:
                raise ConfigError("temperature must be 0.001 or more: a radio at 0 would play one sound for ever")
        for bound in self.top_p or ():
            limits.TOP_P.check("top_p", bound)
        for name, bounds in (("temperature", self.temperature), ("top_p", self.top_p or (0, 1))):
            if bounds[0] > bounds[1]:
                raise ConfigError(f"{name} must be the lower bound and the upper one, got {bounds[0]} {bounds[1]}")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self)
        return found | {name: list(found[name]) for name in ("temperature", "top_p") if found[name] is not None}


class Plan(NamedTuple):
    """What is played from one change to the next."""

    number: int
    model: int
    """Which one of the radio's models."""
    seed: int
    seconds: float


class Program:
    """Decides what is played when."""

    def __init__(self, settings: RadioSettings, models: int) -> None:
        """models: how many there are to choose from."""
        self.settings, self._count = settings, models
        self._models: list[int] = []
        self._temperature = Walk(settings.seed, _TEMPERATURE, settings.temperature)
        self._top_p = None if settings.top_p is None else Walk(settings.seed, _TOP_P, settings.top_p)

    def plan(self, number: int) -> Plan:
        """What is played for the number-th time, from 0; each model is followed by another one."""
        while len(self._models) <= number:
            word = int(self._words(len(self._models))[0])
            before = self._models[-1] if self._models else word % self._count
            step = 1 + word % (self._count - 1) if self._models and self._count > 1 else 0
            self._models.append((before + step) % self._count)
        _, length, low, high = (int(word) for word in self._words(number))
        seconds = self.settings.change * (0.5 + length / 2**32)
        return Plan(number, self._models[number], high << 32 | low, seconds)

    def temperature(self, seconds: float) -> float:
        """The temperature at a time."""
        return self._temperature.at(seconds)

    def top_p(self, seconds: float) -> float | None:
        """The nucleus at a time, None for all levels."""
        return None if self._top_p is None else self._top_p.at(seconds)

    def _words(self, number: int) -> np.ndarray:
        return random_words(self.settings.seed, np.array([_PARTS]), number, 1)[0, 0]


class Walk:
    """A slow random walk between two bounds, which throw it back."""

    def __init__(self, seed: int, stream: int, bounds: Bounds) -> None:
        self._seed, self._stream, (self._low, self._high) = seed, stream, bounds
        self._way = np.zeros(0, np.int64)  # where each knot would be without bounds

    def at(self, seconds: float) -> float:
        """Where it is at a time, 0 or later."""
        knot, between = divmod(seconds / _KNOT_SECONDS, 1)
        first, second = self._knot(int(knot)), self._knot(int(knot) + 1)
        place = (first + (second - first) * between) / _UNIT
        return min(self._high, max(self._low, self._low + (self._high - self._low) * place))

    def _knot(self, number: int) -> int:
        while len(self._way) <= number:
            words = random_words(self._seed, np.array([self._stream]), len(self._way), _AT_ONCE)[0, :, 0]
            steps = words.astype(np.int64) % (2 * _LONGEST_STEP + 1) - _LONGEST_STEP
            if not len(self._way):
                steps[0] = int(words[0]) % _UNIT
            last = self._way[-1] if len(self._way) else 0
            self._way = np.concatenate((self._way, last + np.cumsum(steps)))
        folded = int(self._way[number]) % (2 * _UNIT)
        return min(folded, 2 * _UNIT - folded)
