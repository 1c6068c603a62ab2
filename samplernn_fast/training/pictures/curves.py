"""The curve of a run: bits per sample over its steps, as a picture and as a line of text."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from samplernn_fast import files
from samplernn_fast.errors import ConfigError

_BARS = "▁▂▃▄▅▆▇█"
_POINTS = 2000  # more points than a picture has columns are averaged
_COLOURS = {"train": "#2f5d8a", "valid": "#c4713b"}


class Curve(NamedTuple):
    """Bits per sample that were measured now and then."""

    steps: list[int]
    bits: list[float]


def curves_of(rows: Sequence[Mapping[str, str]]) -> dict[str, Curve]:
    """The curves "train" and "valid" of the rows of a log.csv; numbers that are not finite are left out."""
    found = {name: Curve([], []) for name in _COLOURS}
    for row in rows:
        for name, curve in found.items():
            bits = float(row[f"{name}_bits"] or "nan")
            if math.isfinite(bits):
                curve.steps.append(int(row["step"]))
                curve.bits.append(bits)
    return found


def thinned(curve: Curve, most: int) -> Curve:
    """At most so many points; each is the mean of neighbours that lie in it."""
    count = len(curve.bits)
    if count <= most:
        return curve
    edges = [count * place // most for place in range(most + 1)]
    groups = [slice(*pair) for pair in itertools.pairwise(edges)]
    bits = [sum(curve.bits[group]) / (group.stop - group.start) for group in groups]
    return Curve([curve.steps[group.stop - 1] for group in groups], bits)


def sparkline(curve: Curve, width: int = 40) -> str:
    """A curve as a line of text, of at most `width` characters, from its highest point to its lowest one; "" for none.

    Before the first tenth of a run the bits fall by more than in all that follows, so the line's top is the highest
    point behind that, and what is higher is at the top.
    """
    bits = thinned(curve, width).bits
    if not bits:
        return ""
    low, high = min(bits), max(bits[len(bits) // 10 :])
    span = high - low or 1.0
    return "".join(_BARS[min(len(_BARS) - 1, int((one - low) / span * len(_BARS)))] for one in bits)


def load_figure() -> Any:
    """matplotlib's class Figure. Raises ConfigError where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("a picture needs matplotlib; pip install matplotlib (extra `plot`)") from None
    return Figure


def draw(curves: Mapping[str, Curve], path: Path, title: str = "") -> None:
    """Writes the curves as a PNG file. Raises ConfigError without matplotlib, OSError where it cannot be written."""
    figure = load_figure()(figsize=(6.4, 4.0), layout="constrained")
    axis = figure.subplots()
    for name, curve in curves.items():
        if curve.bits:
            few = thinned(curve, _POINTS)
            marker = "o" if name == "valid" else None
            axis.plot(few.steps, few.bits, color=_COLOURS[name], marker=marker, markersize=3, linewidth=1.2, label=name)
    shown = [one for curve in curves.values() for one in curve.bits[len(curve.bits) // 10 :]]
    if shown:
        room = 0.05 * (max(shown) - min(shown)) or 0.1
        axis.set_ylim(min(shown) - room, max(shown) + room)  # the first steps would flatten all the others
        axis.legend(frameon=False)
    axis.set_xlabel("step")
    axis.set_ylabel("bits per sample")
    axis.set_title(title.replace("$", r"\$"), fontsize=9)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    files.write_figure(path, figure)
