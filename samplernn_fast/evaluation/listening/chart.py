"""The bar charts of a listening test, as Figures 3 and 4 of the paper: a small one for each pair of systems."""

import math
from pathlib import Path
from typing import Any

from samplernn_fast import files
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.evaluation.listening.tally import PairCount, Tally

_COLUMNS = 3  # charts beside each other
_WIDTH, _HEIGHT = 2.6, 2.8  # Inches of one chart.
_COLOURS = ("#2f5d8a", "#b9bec4", "#c4713b")  # One system, no preference, the other one.


def load_matplotlib() -> Any:
    """matplotlib's class Figure. Raises ConfigError where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("bar charts need matplotlib; pip install matplotlib (extra `plot`)") from None
    return Figure


def draw(tally: Tally, path: Path) -> None:
    """Writes the bar charts as a PNG file. Raises ConfigError without matplotlib, DataError where it cannot write."""
    figure = figure_of(tally)
    try:
        files.write_figure(path, figure)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None


def figure_of(tally: Tally) -> Any:
    """The bar charts as a figure of matplotlib. Raises ConfigError without matplotlib."""
    columns = min(_COLUMNS, len(tally.pairs))
    rows = math.ceil(len(tally.pairs) / columns)
    figure = load_matplotlib()(figsize=(_WIDTH * columns + 0.4, _HEIGHT * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for at, place in enumerate(axes.flat):
        if at < len(tally.pairs):
            _draw_pair(place, tally.pairs[at])
        else:
            place.set_visible(False)
    for row in axes:
        row[0].set_ylabel("preferred, % of answers")
    return figure


def _draw_pair(place: Any, pair: PairCount) -> None:
    """One chart: three bars in percent with their intervals."""
    shares = [share if pair.total else None for share in pair.shares()]
    heights = [100 * share.value if share else 0 for share in shares]
    below = [100 * (share.value - share.low) if share else 0 for share in shares]
    above = [100 * (share.high - share.value) if share else 0 for share in shares]
    labels = [_short(pair.one), "no pref.", _short(pair.other)]
    place.bar(range(3), heights, color=_COLOURS, width=0.7)
    place.errorbar(range(3), heights, yerr=[below, above], fmt="none", ecolor="#333333", elinewidth=1, capsize=3)
    place.set_xticks(range(3), labels, fontsize=8)
    place.set_ylim(0, 100)
    place.set_title(f"{pair.total} answers", fontsize=8)
    place.spines[["top", "right"]].set_visible(False)


def _short(name: str) -> str:
    return name if len(name) <= 12 else name[:11] + "…"
