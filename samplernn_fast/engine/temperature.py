"""Temperatures: one number, one a stream, or a curve over time. No torch, so that a command can check one at once."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from samplernn_fast.errors import ConfigError
from samplernn_fast.reference import limits

Schedule = Sequence[tuple[float, float]]
Temperature = float | str | Sequence[float] | Callable[[float], float]
_LOWEST = 1e-3  # the lowest temperature above 0; a curve that goes down to 0 stays at it until it is there


@dataclass(frozen=True)
class TemperatureCurve:
    """A temperature over time, as `schedule` makes it; its text is what the flag `--temperature` takes."""

    points: tuple[tuple[float, float], ...]
    """(seconds, temperature), in the order of time."""

    def __call__(self, seconds: float) -> float:
        return float(self.values(np.asarray([seconds]))[0])

    def values(self, seconds: np.ndarray) -> np.ndarray:
        """The temperatures at many times: float64 of the same shape."""
        times, values = zip(*self.points, strict=True)
        curve = np.interp(seconds, times, values)
        return np.where((curve > 0) & (curve < _LOWEST), _LOWEST, curve)

    @property
    def temperatures(self) -> list[float]:
        """Those of its points, between which all others lie."""
        return [value for _, value in self.points]

    def __str__(self) -> str:
        return ",".join(f"{time!r}:{value!r}" for time, value in self.points)


def schedule(points: Schedule) -> TemperatureCurve:
    """A temperature over time: straight lines between (seconds, temperature) points, constant before and after them.

    Raises ConfigError where there are none, or one has no finite time or a temperature that is out of range.
    """
    if not points or any(not math.isfinite(time) for time, _ in points):
        raise ConfigError(f"a temperature schedule needs (seconds, temperature) points, got {points!r}")
    ordered = sorted(points, key=lambda point: point[0])
    return TemperatureCurve(tuple((float(time), limits.check_temperature(value)) for time, value in ordered))


def parse(text: str) -> float | TemperatureCurve:
    """What a text says: one number, as "0.9", or a curve, as "0:0.7,10:1.1". Raises ConfigError."""
    try:
        if ":" not in text:
            return limits.check_temperature(float(text))
        pairs = [pair.split(":") for pair in text.split(",")]
        points = [(float(time), float(value)) for time, value in pairs]
    except ConfigError:
        raise
    except ValueError:
        raise ConfigError(
            f"temperature must be a number, or a curve of seconds:temperature such as 0:0.7,10:1.1, got {text!r}"
        ) from None
    return schedule(points)
