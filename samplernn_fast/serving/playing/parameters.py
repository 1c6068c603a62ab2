"""The parameters of the instrument: one table for keys, MIDI and OSC alike.

A parameter has a name, a range, and a setting of the instrument that it changes. Changes are mappings of settings to
values, as in the score of a `Slot`, whose settings are `temperature`, `top_k`, `top_p`, `frozen` and `reset`; the
instrument has `volume`, `gate`, `paused` and `seed` besides.
"""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from samplernn_fast.errors import ConfigError, did_you_mean, quoted
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.ranges import Range
from samplernn_fast.reference import limits
from samplernn_fast.serving.live.settings import RESET, Settings

Kind = Literal["number", "whole", "switch", "trigger", "seed"]
Curve = Literal["linear", "exponential"]

AMPLITUDE = Range(0, 1)
"""Of the volume, and of the gate, which is how loud a note is."""
MODEL_SETTINGS = ("temperature", "top_k", "top_p", "frozen", RESET)
"""What a `Slot` changes."""
SOUND_SETTINGS = ("volume", "gate", "paused", "seed")
"""What the instrument changes besides."""


@dataclass(frozen=True)
class Parameter:
    """What a player can move."""

    name: str
    """As in an OSC address and a MIDI map."""
    kind: Kind
    setting: str
    """The setting of the instrument that it changes."""
    effect: str
    """What it does, and to what it is applied, for the page of keys and for the documentation."""
    low: float = 0
    high: float = 1
    unit: str = ""
    step: float = 0
    """By how much a key moves it; a factor where its steps are ratios."""
    off_at: float | None = None
    """The end of the range at which it does nothing, which is the setting None."""
    ratios: bool = False
    """Whether equal steps are equal ratios."""

    @property
    def range(self) -> Range:
        """The values that it takes."""
        return Range(self.low, self.high, unit=self.unit)

    def change(self, value: Any = None) -> dict[str, Any]:
        """The change of the instrument's settings that a value stands for.

        A number stands for a whole number where it is one, and 0 and 1 for off and on. A trigger takes 1, or nothing;
        a seed is drawn where none is given. Raises ConfigError where the value cannot be.
        """
        if self.kind == "trigger":
            return {self.setting: True} if value is None or self._switch(value) else {}
        if self.kind == "seed":
            seed = limits.random_seed() if value is None else limits.check_seed(self._whole(value))
            return {self.setting: seed}
        if self.kind == "switch":
            return {self.setting: self._switch(value)}
        if value is None and self.off_at is not None:
            return {self.setting: None}
        if self.kind == "whole":
            value = self._whole(value)
        self.range.check(self.name, value, whole=self.kind == "whole")
        found = int(value) if self.kind == "whole" else float(value)
        return {self.setting: None if found == self.off_at else found}

    def at(self, share: float, low: float | None = None, high: float | None = None, curve: Curve = "linear") -> Any:
        """The value at a share (0 to 1) of the way from `low` to `high`, as a controller gives it.

        A switch is on, and a trigger is pulled, from one half on.
        """
        if self.kind in ("switch", "trigger"):
            return share >= 0.5
        first, last = self.low if low is None else low, self.high if high is None else high
        value = first * (last / first) ** share if curve == "exponential" else first + (last - first) * share
        value = min(max(value, min(first, last)), max(first, last))  # the last digits of a power
        return round(value) if self.kind == "whole" else value

    def moved(self, value: float | None, steps: int) -> float | int:
        """The value that is so many steps above (or below 0, below) another one; None is off. It stays in the range."""
        now = self.off_at if value is None else value
        assert now is not None
        if self.ratios:
            wanted = now * self.step**steps
            wanted = max(wanted, now + 1) if steps > 0 else min(wanted, now - 1)
            return int(min(max(round(wanted), self.low), self.high))
        grid = round(now / self.step + steps) * self.step
        return round(min(max(grid, self.low), self.high), 6)

    def _switch(self, value: Any) -> bool:
        if isinstance(value, bool) or (isinstance(value, numbers.Real) and value in (0, 1)):
            return bool(value)
        raise ConfigError(f"{self.name} must be 0 or 1, got {_shown(value)}")

    def _whole(self, value: Any) -> Any:
        """A float that is a whole number as one: many controllers send nothing but floats."""
        return int(value) if isinstance(value, float) and math.isfinite(value) and value.is_integer() else value


def _shown(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else f"{value!r:.40}"


def table(config: AudioConfig) -> dict[str, Parameter]:
    """The parameters of a model of this config, by name. A mixture of Gaussians has no likeliest levels."""
    levels = config.q_levels
    every = [
        Parameter("temperature", "number", "temperature", "how wild the draw of the next sample is", 0.05, 5, "", 0.05),
        Parameter(
            "top_k",
            "whole",
            "top_k",
            "draw from so many of the likeliest levels; the number of all levels is off",
            1,
            levels,
            "levels",
            1.25,
            off_at=levels,
            ratios=True,
        ),
        Parameter(
            "top_p", "number", "top_p", "draw from levels that together have this probability; 1 is off",
            0.05, 1, "", 0.05, off_at=1,
        ),
        Parameter("volume", "number", "volume", "how loud the sound is; it moves within 5 ms", 0, 1, "", 0.05),
        Parameter("freeze", "switch", "frozen", "the model returns to this moment every half second"),
        Parameter("pause", "switch", "paused", "the model rests, and nothing sounds"),
        Parameter("reset", "trigger", RESET, "the model forgets what it played and begins again"),
        Parameter("seed", "seed", "seed", "the model begins again with this seed, or a random one", 0, 2.0**64),
    ]  # fmt: skip
    return {one.name: one for one in every if not (config.mixture and one.name in ("top_k", "top_p"))}


def parameter(known: Mapping[str, Parameter], name: object) -> Parameter:
    """The parameter of a name. Raises ConfigError where there is none."""
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"there is no parameter {quoted(name)} here{did_you_mean(name, known)}")
    return known[name]


def check_changes(changes: Mapping[str, Any], config: AudioConfig) -> None:
    """Raises ConfigError where the instrument cannot make these changes of settings with a model of this config."""
    known = (*MODEL_SETTINGS, *SOUND_SETTINGS)
    for name in changes:
        if name not in known:
            raise ConfigError(f"there is no setting {quoted(name)}{did_you_mean(name, known)}")
    Settings().changed({name: value for name, value in changes.items() if name in MODEL_SETTINGS}, config)
    for name in ("volume", "gate"):
        if name in changes:
            AMPLITUDE.check(name, changes[name])
    if not isinstance(changes.get("paused", False), bool):
        raise ConfigError(f"paused must be true or false, got {_shown(changes['paused'])}")
    if "seed" in changes:
        limits.check_seed(changes["seed"])
