"""The figures of the experiments, by matplotlib, which the extra `plot` installs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from samplernn_fast import files
from samplernn_fast.evaluation.intervals import Interval
from samplernn_fast.experiments.memory import Remembered
from samplernn_fast.experiments.places import data_name
from samplernn_fast.experiments.report import Shown, of_row
from samplernn_fast.experiments.systems import Variant
from samplernn_fast.experiments.waveforms import Column


def draw_table(shown: Shown, path: Path) -> None:
    """Draws the numbers of a table with their intervals, and the paper's in panels of their own.

    A panel for each data set: a curve where rows are lengths, else a point for each system.
    """
    table = shown.table
    panels = [_ours(shown, data_name(folder)) for folder in shown.data]
    panels += [_theirs(shown, column) for column in range(len(table.columns))]
    figure = Figure(figsize=(3.0 + 3.2 * len(panels), 1.8 + 0.34 * len(shown.rows)))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        numbers = [one.value for one in panel.found]
        errors = [[one.value - one.low for one in panel.found], [one.high - one.value for one in panel.found]]
        if table.equal_audio:
            lengths = [row.seq_len for row in panel.rows]
            axis.errorbar(lengths, numbers, errors, marker="o", capsize=3)
            axis.set_xscale("log", base=2)
            axis.set_xticks(lengths, [str(length) for length in lengths])
            axis.set_xlabel("subsequence, samples")
            axis.set_ylabel(table.unit)
        else:
            places = [shown.table.rows.index(row) for row in panel.rows]
            axis.errorbar(numbers, places, xerr=errors, fmt="o", capsize=3)
            labels = map(table.label, shown.table.rows) if axis is axes[0] else [""] * len(shown.table.rows)
            axis.set_yticks(range(len(shown.table.rows)), list(labels))
            axis.set_ylim(len(shown.table.rows) - 0.5, -0.5)
            axis.set_xlabel(f"{table.unit}, {table.splits[0]}")
        axis.set_title(panel.title)
        axis.grid(alpha=0.3)
    save(figure, path)


@dataclass(frozen=True)
class _Panel:
    title: str
    rows: list[Variant]
    found: list[Interval]


def _ours(shown: Shown, name: str) -> _Panel:
    """What was found on a data folder."""
    rows = [row for row in shown.rows if row.scores.get(name)]
    found = [of_row(shown.table, row.scores[name], shown.table.splits[0]) for row in rows]
    return _Panel(name, [row.variant for row in rows], found)


def _theirs(shown: Shown, column: int) -> _Panel:
    """The paper's numbers of a column, which have no intervals."""
    rows = [one for one in shown.table.rows if one.name in shown.table.paper]
    numbers = [float(shown.table.paper[one.name][column].split()[0]) for one in rows]
    return _Panel(f"paper: {shown.table.columns[column]}", rows, [Interval(one, one, one) for one in numbers])


def draw_memory(found: Sequence[Remembered], path: Path) -> None:
    """Draws the share of clips that keep their voice over the length of the silence, a curve for each model."""
    figure = Figure(figsize=(6.4, 4.0))
    axis = figure.subplots()
    for number, model in enumerate(dict.fromkeys(one.model for one in found)):
        points = [one for one in found if one.model == model and one.voiced]
        silences, kept = [one.silence for one in points], [one.kept for one in points]
        errors = [[one.value - one.low for one in kept], [one.high - one.value for one in kept]]
        colour = f"C{number}"
        axis.errorbar(silences, [one.value for one in kept], errors, marker="o", capsize=3, color=colour, label=model)
        axis.plot(silences, [one.chance for one in points], "--", color=colour, label=f"{model}, by chance")
    axis.set_xlabel("silence, s")
    axis.set_ylabel("share that keeps the voice")
    lengths = [one.silence for one in found]
    room = 0.05 * max(max(lengths) - min(lengths), 1)
    axis.set_xlim(min(lengths) - room, max(lengths) + room)
    axis.set_ylim(0, 1.02)
    axis.grid(alpha=0.3)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    save(figure, path)


def draw_waveforms(columns: Sequence[Column], path: Path) -> None:
    """Draws Figure 2: a column for each data set, rows of two seconds, then the same rows of 100 milliseconds."""
    count = max(len(column.rows) for column in columns)
    figure = Figure(figsize=(1.0 + 4.2 * len(columns), 1.3 * 2 * count))
    axes = figure.subplots(2 * count, len(columns), squeeze=False)
    for place, column in enumerate(columns):
        for number, row in enumerate(column.rows):
            for axis, shown, unit in (
                (axes[number][place], row.samples, "2 s"),
                (axes[count + number][place], row.closer(column.sample_rate), "100 ms"),
            ):
                axis.plot(shown, linewidth=0.4 if unit == "2 s" else 0.8, color="C0" if number else "black")
                axis.set_ylabel(f"{row.title}\n{unit}", fontsize=8)
                peak = float(abs(shown).max(initial=0))
                axis.text(0.99, 0.92, f"peak {peak:.2g}", fontsize=6, ha="right", va="top", transform=axis.transAxes)
                axis.set(xticks=[], yticks=[], xlim=(0, len(shown)), ylim=(-1, 1) if unit == "2 s" else None)
        axes[0][place].set_title(column.title)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    figure.tight_layout()
    files.write_figure(path, figure)
