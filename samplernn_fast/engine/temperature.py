"""Temperatures: one number, one a stream, or a curve over time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from samplernn_fast.errors import ConfigError
from samplernn_fast.reference import draw

Schedule = Sequence[tuple[float, float]]
Temperature = float | Sequence[float] | Callable[[float], float]


@dataclass(frozen=True)
class TemperatureCurve:
    """A temperature over time, as `schedule` makes it; its text is what the flag `--temperature` takes."""

    points: tuple[tuple[float, float], ...]
    """(seconds, temperature), in the order of time."""

    def __call__(self, seconds: float) -> float:
        times, values = zip(*self.points, strict=True)
        return float(np.interp(seconds, times, values))

    def __str__(self) -> str:
        return ",".join(f"{time!r}:{value!r}" for time, value in self.points)


def schedule(points: Schedule) -> TemperatureCurve:
    """A temperature over time: straight lines between (seconds, temperature) points, constant before and after them.

    Raises ConfigError where there are none, or one has no finite time or a temperature that is out of range.
    """
    if not points or any(not math.isfinite(time) for time, _ in points):
        raise ConfigError(f"a temperature schedule needs (seconds, temperature) points, got {points!r}")
    ordered = sorted(points, key=lambda point: point[0])
    return TemperatureCurve(tuple((float(time), draw.check_temperature(value)) for time, value in ordered))
