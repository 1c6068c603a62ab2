"""What a search found: a page in Markdown, and plots of bits over each setting."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samplernn_fast import files
from samplernn_fast.training.search.spans import Span
from samplernn_fast.training.search.study import Trial

_SHOWN = 10  # trials of the table


def table(trials: Sequence[Trial]) -> str:
    """The best trials in Markdown, and those that gave no figure."""
    lines = ["| trial | bits per sample | steps | settings |", "| --- | --- | --- | --- |"]
    whole = [trial for trial in trials if trial.bits is not None]
    lines += [
        f"| {trial.number + 1} | {trial.bits:.4f} | {trial.steps} | {' '.join(trial.flags)} |"
        for trial in whole[:_SHOWN]
    ]
    failed = [trial for trial in trials if trial.bits is None]
    lines += ["", *(f"Trial {trial.number + 1}: {trial.reason}" for trial in failed)] if failed else []
    return "\n".join(lines)


def commands(trials: Sequence[Trial], train: Sequence[str], most: int = 3) -> list[str]:
    """The command lines that train the best settings for real. train: what is the same for all of them."""
    best = [trial for trial in trials if trial.bits is not None][:most]
    return [shlex.join([*train, *trial.flags, "--out", f"best-{place + 1}"]) for place, trial in enumerate(best)]


def write(out: Path, trials: Sequence[Trial], spans: Sequence[Span], about: str, lines: Sequence[str]) -> list[Path]:
    """Writes search.md, and search.png where matplotlib is installed; returns the files."""
    text = f"# Search\n\n{about}\n\n{table(trials)}\n\n## To train for real\n\n```text\n" + "\n".join(lines) + "\n```\n"
    files.write_text(out / "search.md", text)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return [out / "search.md"]
    figure = Figure()
    _draw(figure, [trial for trial in trials if trial.bits is not None], spans)
    files.write_figure(out / "search.png", figure)
    return [out / "search.md", out / "search.png"]


def _draw(figure: Any, trials: Sequence[Trial], spans: Sequence[Span]) -> None:
    """A panel for the bits of trial after trial with the best so far, and one for each setting."""
    columns = min(3, len(spans) + 1)
    rows = -(-(len(spans) + 1) // columns)
    figure.set_size_inches(4.2 * columns, 3.2 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    in_turn = sorted((trial.number, trial.bits or 0.0) for trial in trials)
    turns, bits = [number for number, _ in in_turn], [value for _, value in in_turn]
    axes[0].plot(turns, bits, "o")
    axes[0].step(turns, [min(bits[: place + 1]) for place in range(len(bits))], where="post")
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    axes[0].set(xlabel="trial", ylabel="valid bits per sample")
    for axis, span in zip(axes[1:], spans, strict=False):
        if span.log:
            axis.set_xscale("log")
        points = sorted(zip(_numbers([trial.values[span.name] for trial in trials]), range(len(trials)), strict=True))
        axis.plot([value for value, _ in points], [trials[place].bits for _, place in points], "o")
        axis.set_xlabel(span.name)
    for axis in axes[len(spans) + 1 :]:
        axis.set_visible(False)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.tight_layout()


def _numbers(values: Sequence[float | str]) -> Sequence[float] | Sequence[float | str]:
    """Choices as numbers where all are numbers, so that each has its place on an axis; words as they are."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return values
