"""The range of a setting, written beside its type: `Annotated[int, Range(1, 64)]` in a config class or a command.

A config class calls `check_fields` in its `__post_init__`, a command is checked by `commands.flags`, and both messages
come from here. So a number that cannot work is refused before anything is read or written.
"""

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Any

from samplernn_fast.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`. None is always allowed where the type allows it; NaN never is."""

    low: float
    high: float = math.inf
    above: bool = False
    """Whether `low` itself is refused."""
    unit: str = ""
    """What is counted, for messages: "Hz", "seconds"."""

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.above:
            return f"above {self.low:g}" + (f" and at most {self.high:g}" if self.high < math.inf else "") + unit
        return (f"{self.low} to {self.high}" if self.high < math.inf else f"at least {self.low}") + unit

    def check(self, name: str, value: Any) -> None:
        """Raises ConfigError, which says what `name` must be, where `value` is not in the range.

        Of a tuple or list, every number is checked. Infinity is refused by every range.
        """
        values = value if isinstance(value, (tuple, list)) else (value,)
        for one in values:
            if isinstance(one, (int, float)) and not isinstance(one, bool) and not self._holds(one):
                raise ConfigError(f"{name} must be {self}, got {_short(one)}")

    def _holds(self, number: float) -> bool:
        if isinstance(number, float) and not math.isfinite(number):
            return False
        return (self.low < number if self.above else self.low <= number) and number <= self.high


def of_annotation(annotation: Any) -> Range | None:
    """The Range in an `Annotated` type; None where there is none."""
    return next((part for part in getattr(annotation, "__metadata__", ()) if isinstance(part, Range)), None)


def check_fields(config: Any) -> None:
    """Checks every field of a dataclass whose type carries a Range. Raises ConfigError for the first that is outside.

    The class must not postpone its annotations (`from __future__ import annotations`).
    """
    for field in dataclasses.fields(config):
        found = of_annotation(field.type)
        if found is not None:
            found.check(field.name, getattr(config, field.name))


def check_arguments(function: Any, arguments: typing.Mapping[str, Any], spell: typing.Callable[[str], str]) -> None:
    """Checks the arguments of a call whose types carry a Range. spell: how a message writes an argument's name."""
    hints = typing.get_type_hints(function, include_extras=True)
    for name, value in arguments.items():
        found = of_annotation(hints.get(name))
        if found is not None:
            found.check(spell(name), value)


def _short(number: float) -> str:
    """A number for a message; one of hundreds of digits is cut."""
    if isinstance(number, int) and abs(number) >= 10**30:
        return f"a number of {int(math.log10(abs(number))) + 1} digits"
    return repr(number)
