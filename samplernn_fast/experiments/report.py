"""A table of the paper as Markdown, as CSV and as a figure: our numbers beside the paper's."""

import csv
import functools
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samplernn_fast import files, terminal
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import SampleRNNError
from samplernn_fast.evaluation.intervals import LEAST_RECORDINGS, Interval, bootstrap
from samplernn_fast.experiments.entries import SPLITS, Score
from samplernn_fast.experiments.places import data_name
from samplernn_fast.experiments.plan import Budget
from samplernn_fast.experiments.tables import Row, Table

_MISSING = "—"


@dataclass(frozen=True)
class Shown:
    """What of an experiment is written down."""

    name: str
    """The table, as the command line calls it; files are named after it."""
    table: Table
    rows: Sequence[Row]
    data: Sequence[Path]
    budget: Budget
    scale: str
    command: str
    """The command line that made it."""
    seeds: int = 1
    """How many seeds each row is to have."""

    def missing(self) -> str:
        """What is still to be made, in words; empty where the table is finished."""
        names = [data_name(folder) for folder in self.data]
        total = len(self.rows) * len(names) * self.seeds
        there = sum(len(row.scores.get(name, [])) for row in self.rows for name in names)
        if there == total:
            return ""
        return f"{total - there} of {total} entries are still to be made; the same command without shards makes them."


def write(shown: Shown, out: Path) -> list[Path]:
    """Writes NAME.md and NAME.csv, and NAME.png where matplotlib is installed. Returns the files."""
    text, sheet, picture = (out / f"{shown.name}{suffix}" for suffix in (".md", ".csv", ".png"))
    files.write_text(text, markdown(shown))
    files.write_text(sheet, as_csv(shown))
    try:
        from samplernn_fast.experiments.figure import draw_table
    except ImportError:
        return [text, sheet]
    draw_table(shown, picture)
    return [text, sheet, picture]


def of_row(table: Table, scores: Sequence[Score], split: str) -> Interval:
    """The mean of all seeds on a split, in the table's unit, with its interval over recordings."""
    return _interval(tuple(_means(table, scores, split).tolist()), tuple(scores[0].splits[split]["samples"]))


def _means(table: Table, scores: Sequence[Score], split: str) -> npt.NDArray[np.float64]:
    """The mean of all seeds for each recording of a split, in the table's unit."""
    parts = [score.splits[split] for score in scores]
    if any(table.unit not in part for part in parts):
        raise SampleRNNError(f"the scores have no {table.unit}, which the table shows; remove them to score again")
    means: npt.NDArray[np.float64] = np.mean([part[table.unit] for part in parts], axis=0)
    return means


@functools.lru_cache(maxsize=1024)
def _interval(values: tuple[float, ...], samples: tuple[float, ...]) -> Interval:
    """`bootstrap`, which the table, the order, the sheet and the figure ask for the same things."""
    return bootstrap(values, samples)


def _brackets(found: Interval) -> str:
    """An interval behind its number; nothing where there are too few recordings for one."""
    return "" if math.isnan(found.low) else f" [{found.low:.3f}, {found.high:.3f}]"


def markdown(shown: Shown) -> str:
    """The whole page."""
    table = shown.table
    parts = [f"# {table.title}", _about(shown), results(shown), *_orders(shown), _details(shown), _commands(shown)]
    return "\n\n".join(parts) + "\n"


def _about(shown: Shown) -> str:
    """What must be known before the numbers are read."""
    table = shown.table
    equal = f"Every system has {shown.budget}"
    if table.equal_audio:
        equal = f"Every row reads as much audio as that of 512 samples does in {shown.budget}"
    unfinished = [f"**{shown.missing()}**"] if shown.missing() else []
    lines = [
        *unfinished,
        f"**{equal}**, at the {shown.scale} scale. Lower is better. {table.note}".rstrip(),
        f"In brackets: 95 % of a bootstrap over recordings, where there are {LEAST_RECORDINGS} or more of them. Where"
        " several seeds were trained, their mean is shown.",
        "",
        *map(_of_data, shown.data),
        f"\nMade by `{shown.command}`.",
    ]
    return "\n".join(lines)


def _of_data(folder: Path) -> str:
    """A line about a data folder."""
    data, parts = AudioData.open(folder), []
    for split in ("train", *SPLITS):
        found = data.recordings(split)
        length = terminal.audio_length(sum(one.length for one in found) / data.sample_rate)
        parts.append(f"{split} {length} ({terminal.counted(len(found), 'recording')})")
    return f"- {data_name(folder)}: {data.sample_rate} Hz, {', '.join(parts)}."


def results(shown: Shown) -> str:
    """The table itself, in Markdown."""
    table, names = shown.table, [data_name(folder) for folder in shown.data]
    head = ["samples" if table.equal_audio else "system", *names, *(f"paper: {name}" for name in table.columns)]
    costs = ["update: memory", "update: samples/s"] if table.equal_audio else []
    lines = []
    for row in shown.rows:
        ours = [_figure(table, row.scores.get(name, [])) for name in names]
        theirs = table.paper.get(row.variant.name, (_MISSING,) * len(table.columns))
        lines.append([table.label(row.variant), *ours, *theirs, *(_cost(row) if costs else [])])
    return grid([*head, *costs], lines)


def _figure(table: Table, scores: Sequence[Score]) -> str:
    """The number of a row, with its interval, and the second split's in parentheses."""
    if not scores:
        return _MISSING
    first = of_row(table, scores, table.splits[0])
    second = ""
    if len(table.splits) > 1 and all(table.splits[1] in score.splits for score in scores):
        second = f" ({of_row(table, scores, table.splits[1]).value:.3f})"
    return f"{first.value:.3f}{second}{_brackets(first)}"


def _cost(row: Row) -> list[str]:
    """Memory and speed of an update."""
    if row.cost is None:
        return [_MISSING, _MISSING]
    scores = next(iter(row.scores.values()), [])
    memory = _MISSING if row.cost.memory_bytes is None else f"{row.cost.memory_bytes / 1e6:.0f} MB"
    if not scores:
        return [memory, _MISSING]
    read = scores[0].samples_per_update
    return [memory, f"{read / row.cost.seconds:,.0f}"]


def _orders(shown: Shown) -> list[str]:
    """The order of the rows here, from best to worst, beside the paper's; nothing until all rows are finished."""
    table, lines = shown.table, []
    for folder in shown.data:
        name = data_name(folder)
        if len(shown.rows) > 1 and all(row.scores.get(name) for row in shown.rows):
            lines.append(f"- {name}: {', '.join(_ranked(table, shown.rows, name))}.")
    if not lines:
        return []
    for column, name in enumerate(table.columns):
        rated = [row.variant for row in shown.rows if row.variant.name in table.paper]
        rated.sort(key=lambda one: float(table.paper[one.name][column].split()[0]))
        lines.append(f"- paper, {name}: {', '.join(map(table.label, rated))}.")
    about = "Behind each row: how much worse than the best it is, and on how many of the recordings.\n\n"
    return ["## From best to worst\n\n" + about + "\n".join(lines)]


def _ranked(table: Table, rows: Sequence[Row], name: str) -> list[str]:
    """The rows on one data folder, the best first, with the differences to it and their intervals.

    A difference is taken recording by recording, so it is surer than two numbers whose intervals overlap.
    """
    split = table.splits[0]
    order = sorted(rows, key=lambda row: of_row(table, row.scores[name], split).value)
    best, words = order[0].scores[name], [table.label(order[0].variant)]
    for row in order[1:]:
        values = _means(table, row.scores[name], split) - _means(table, best, split)
        found = _interval(tuple(values.tolist()), tuple(best[0].splits[split]["samples"]))
        worse = f"on {np.count_nonzero(values > 0)} of {len(values)}"
        words.append(f"{table.label(row.variant)} (+{found.value:.3f}{_brackets(found)}, {worse})")
    return words


def _details(shown: Shown) -> str:
    head = ["system", "data", "parameters", "updates", "audio seen", "training", "seeds"]
    lines = []
    for row in shown.rows:
        for name, scores in row.scores.items():
            one = scores[0]
            seen, took = (
                terminal.audio_length(one.audio_seconds),
                f"{np.mean([each.seconds for each in scores]) / 60:.1f} min",
            )
            numbers = [f"{one.parameters:,}", f"{one.updates:,}", seen, took, str(len(scores))]
            lines.append([shown.table.label(row.variant), name, *numbers])
    return "## What was trained\n\n" + grid(head, lines) if lines else "Nothing is finished yet."


def _commands(shown: Shown) -> str:
    lines = [score.command for row in shown.rows for scores in row.scores.values() for score in scores]
    return "## Commands\n\n```text\n" + "\n".join(lines) + "\n```" if lines else ""


def as_csv(shown: Shown) -> str:
    """One line for each split of each seed of each entry, with the paper's numbers in columns of their own."""
    stream, table = io.StringIO(), shown.table
    fields = ["table", "system", "data", "seed", "split", "unit", "nll", "low", "high", "recordings", "parameters"]
    fields += ["updates", "audio_hours", "train_seconds", "update_seconds", "update_memory_bytes"]
    fields += [*(f"paper_{name.lower()}" for name in table.columns), "command"]
    sheet = csv.DictWriter(stream, fields, lineterminator="\n")
    sheet.writeheader()
    for row in shown.rows:
        for name, scores in row.scores.items():
            for score in scores:
                sheet.writerows(_csv_lines(shown, row, name, score))
    return stream.getvalue()


def _csv_lines(shown: Shown, row: Row, name: str, score: Score) -> list[dict[str, Any]]:
    """The lines of one entry: one for each unit that each split was scored in."""
    table, lines = shown.table, []
    known: dict[str, Any] = {"table": shown.name, "system": row.variant.name, "data": name, "seed": score.seed}
    known |= {"parameters": score.parameters, "updates": score.updates, "audio_hours": score.audio_seconds / 3600}
    known |= {"train_seconds": score.seconds, "command": score.command}
    if row.cost is not None:
        known |= {"update_seconds": row.cost.seconds, "update_memory_bytes": row.cost.memory_bytes}
    for split, parts in score.splits.items():
        for unit in ("bits", "nats"):
            if unit in parts:
                found = _interval(tuple(parts[unit]), tuple(parts["samples"]))
                figures: dict[str, Any] = {"nll": found.value, "recordings": len(parts[unit])}
                if not math.isnan(found.low):
                    figures |= {"low": found.low, "high": found.high}
                theirs = _theirs(table, row, split) if unit == table.unit else {}
                lines.append(known | {"split": split, "unit": unit} | figures | theirs)
    return lines


def _theirs(table: Table, row: Row, split: str) -> dict[str, str]:
    """The paper's numbers of a row for a split, which are printed as "test (validation)" where a table has both."""
    if split not in table.splits or row.variant.name not in table.paper:
        return {}
    numbers = [one.rstrip(")").split(" (") for one in table.paper[row.variant.name]]
    place = table.splits.index(split)
    return {f"paper_{column.lower()}": one[place] for column, one in zip(table.columns, numbers, strict=True)}


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
