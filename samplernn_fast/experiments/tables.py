"""Tables 1 to 4 of the paper: which systems each compares, by what, and the paper's own numbers.

`reproduce` trains what is missing of a table and returns its rows; `report` and `figure` write them down.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samplernn_fast import files, terminal
from samplernn_fast.backends.devices import resolve_device
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.experiments.entries import Entry, Score, finish
from samplernn_fast.experiments.places import check_names, check_out, data_name
from samplernn_fast.experiments.plan import Budget, Plan, with_costs
from samplernn_fast.experiments.probe import Cost
from samplernn_fast.experiments.systems import LABELS, Scale, Variant


@dataclass(frozen=True)
class Table:
    """What a table of the paper compares."""

    title: str
    rows: tuple[Variant, ...]
    unit: str = "bits"
    """ "bits" per sample, or "nats" of the normalised signal."""
    splits: tuple[str, ...] = ("test",)
    """What is shown, the first one large and a second one in parentheses."""
    columns: tuple[str, ...] = ()
    """The data sets of the paper that it has numbers for."""
    paper: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a row -> the paper's number for each of `columns`, as it is printed there."""
    equal_audio: bool = False
    """Whether all rows read equally much audio, instead of training equally long."""
    note: str = ""
    """What must be known to compare with the paper."""

    def label(self, row: Variant) -> str:
        """What a row is called."""
        return LABELS[row.preset] if row.seq_len is None else f"{row.seq_len}"


_LENGTHS = (32, 64, 128, 256, 512, 1024)
_REFERENCE = 512  # the paper's length of subsequences, whose row has the whole budget
_BLIZZARD = ("Blizzard",)

TABLES = {
    "table1": Table(
        "Table 1: test NLL in bits per sample",
        tuple(map(Variant, ("rnn", "wavenet", "paper-2tier", "paper-3tier"))),
        columns=("Blizzard", "Onomatopoeia", "Music"),
        paper={
            "rnn": ("1.434", "2.034", "1.410"),
            "wavenet": ("1.480", "2.285", "1.464"),
            "paper-2tier": ("1.392", "2.026", "1.076"),
            "paper-3tier": ("1.387", "1.990", "1.159"),
        },
    ),
    "table2": Table(
        "Table 2: average test NLL of real-valued models, in nats of the normalised signal",
        tuple(map(Variant, ("rnn-gmm", "samplernn-gmm"))),
        unit="nats",
        columns=_BLIZZARD,
        paper={"rnn-gmm": ("-2.415",), "samplernn-gmm": ("-2.782",)},
        note="A difference of loudness or of silence between data sets moves nats of a density by whole units.",
    ),
    "table3": Table(
        "Table 3: the length of subsequences, validation NLL in bits per sample",
        tuple(Variant("paper-3tier", length) for length in _LENGTHS),
        splits=("valid",),
        columns=_BLIZZARD,
        paper={
            f"paper-3tier-seq{length}": (bits,)
            for length, bits in zip(_LENGTHS, ("1.575", "1.468", "1.412", "1.391", "1.364"), strict=False)
        },
        equal_audio=True,
        note="The paper does not say which of its models Table 3 is of; here it is the 3-tier one. It has no 1,024.",
    ),
    "table4": Table(
        "Table 4: test (validation) NLL in bits per sample",
        tuple(map(Variant, ("paper-2tier", "no-embedding-onehot", "no-embedding-real", "multi-softmax"))),
        splits=("test", "valid"),
        columns=_BLIZZARD,
        paper={
            "paper-2tier": ("1.392 (1.369)",),
            "no-embedding-onehot": ("1.566 (1.539)",),
            "no-embedding-real": ("1.566 (1.539)",),
            "multi-softmax": ("1.685 (1.656)",),
        },
        note='The paper has one row "Without Embedding", which can be read in two ways; both are trained here.',
    ),
    "systems": Table(
        "All systems of the paper: test NLL in bits per sample",
        tuple(map(Variant, LABELS)),
        note=(
            "The densities of mixtures are integrated over the 256 linear levels. The hybrids stand in the paper's"
            " appendix A, without numbers."
        ),
    ),
}
"""Name -> table. "systems" has what Tables 1, 2 and 4 and appendix A compare, on one scale."""


@dataclass(frozen=True)
class Row:
    """A row of a table that was made, as far as it is finished."""

    variant: Variant
    scores: dict[str, list[Score]]
    """Name of a data folder -> the scores of the seeds that are finished."""
    cost: Cost | None
    """What an update costs; None where nothing asked for it."""


def reproduce(
    table: Table,
    data: Sequence[Path],
    out: Path,
    budget: Budget,
    *,
    scale: Scale = "small",
    seeds: Sequence[int] = (0,),
    device: str = "auto",
    shard: tuple[int, int] = (0, 1),
) -> list[Row]:
    """Trains and scores every entry of a table that is not finished, and returns the rows in the table's order.

    The same call goes on after a crash, and with a table that shares systems it uses their runs. What another process
    is training is left to it. shard: (i, n) takes every n-th entry from the i-th on, so that several processes or
    machines share the work in one folder; rows have what is finished when they are read. Raises Interrupted when a
    signal stopped it, ConfigError and DataError where settings and data do not fit.
    """
    check_names(data)
    check_out(out)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be different ones, got {' '.join(map(str, seeds))}")
    for folder in data:
        if not AudioData.open(folder).recordings(table.splits[0]):
            raise DataError(f"{folder}: no recordings in the split {table.splits[0]}, which the table shows")
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan.read(out, scale, resolve_device(device).partition(":")[0])
    reference = Variant("paper-3tier", _REFERENCE)
    if budget.minutes is not None or table.equal_audio:
        converts = [reference] if table.equal_audio and budget.minutes is not None else []
        timed = {one.name: one for one in (*table.rows, *converts)}
        why = "whose speed and memory the table shows" if table.equal_audio else "by which minutes become updates"
        plan = with_costs(plan, list(timed.values()), data[0], device, why)
    else:
        plan.write()
    updates = {
        row.name: _equal_audio(budget, plan.costs.get(reference.name), row)
        if table.equal_audio
        else budget.count(plan.costs.get(row.name))
        for row in table.rows
    }
    entries = [Entry(row, one, seed, updates[row.name], out) for one in data for row in table.rows for seed in seeds]
    for entry in entries:
        known = Score.read(entry)  # refuses a folder of other data or another budget before anything is trained
        if known is not None and table.splits[0] not in known.splits:
            raise DataError(f"{entry.file}: damaged: no split {table.splits[0]}; remove it to score the run again")
    first, count = shard
    mine = entries[first::count]
    for number, entry in enumerate(mine):
        terminal.say(
            f"entry {number + 1} of {len(mine)}: {entry.variant.name} on {data_name(entry.data)}, seed {entry.seed}"
        )
        if _is_busy(entry.run):
            terminal.say(f"{entry.run} is being trained in by another process, and is left to it")
        else:
            finish(entry, scale, device)
    return _rows(table, entries, plan)


def _is_busy(folder: Path) -> bool:
    """Whether another process trains in a run folder."""
    if not folder.is_dir():
        return False
    try:
        with files.held(folder):
            return False
    except BlockingIOError:
        return True


def _equal_audio(budget: Budget, reference: Cost | None, row: Variant) -> int:
    """The updates of a row that read as much audio as the reference does within the budget."""
    assert row.seq_len is not None
    return max(1, round(budget.count(reference) * _REFERENCE / row.seq_len))


def _rows(table: Table, entries: Sequence[Entry], plan: Plan) -> list[Row]:
    """What is finished of every row."""
    rows = []
    for variant in table.rows:
        scores: dict[str, list[Score]] = {}
        for entry in entries:
            if entry.variant == variant and (score := Score.read(entry)) is not None:
                scores.setdefault(data_name(entry.data), []).append(score)
        rows.append(Row(variant, scores, plan.costs.get(variant.name)))
    return rows
