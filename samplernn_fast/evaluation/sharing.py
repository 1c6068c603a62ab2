"""One process's share of an evaluation, and the result of all shares, which is that of one process, bit for bit.

A unit is a group of `batch_size` recordings, read side by side as `evaluate` reads them: a JSON file with the sums of
each recording.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from samplernn_fast._version import __version__
from samplernn_fast.data.batches import whole_recordings
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import manifest_sha256
from samplernn_fast.errors import DataError
from samplernn_fast.evaluation.likelihood import EvalResult, Stopped, Sums, sums_of
from samplernn_fast.jobs.ledger import INSIDE, Ledger, Plan, job_folder
from samplernn_fast.jobs.shards import Shard
from samplernn_fast.jobs.status import check_complete, status_of
from samplernn_fast.models.base import AudioModel
from samplernn_fast.untrusted import INDEX_BYTES, Fields, Unreadable, read_json

COMMAND = "evaluate"
"""The command in the plan of such a job."""
_LARGEST = 1e30


@dataclass(frozen=True)
class Share:
    """A share of an evaluation. The settings are those of `evaluate`."""

    ledger: Ledger
    shard: Shard
    model: AudioModel
    data: AudioData
    split: str
    settings: dict[str, Any]

    def left(self, report: Callable[[str], object]) -> list[int]:
        """The groups of this shard that are still to be read. report: is called with a line about each wrong file."""
        units = self.ledger.plan.units
        wanted = set(self.ledger.to_make(self.shard.share(units), report))
        return [group for group in self.shard.numbers(len(units)) if units[group] in wanted]

    def samples(self, groups: list[int]) -> int:
        """How many samples these groups have."""
        lengths = torch.as_tensor(self.data.recordings(self.split).lengths).sort(descending=True).values
        rows = self.settings["batch_size"]
        return sum(int(lengths[group * rows : (group + 1) * rows].sum()) for group in groups)

    def read(self, groups: list[int], progress: Callable[[int], object], should_stop: Callable[[], bool]) -> int:
        """Reads groups, and returns how many became units before should_stop said so. Errors as in `evaluate`."""
        for done, group in enumerate(groups):
            try:
                sums = sums_of(
                    self.model,
                    self.data,
                    self.split,
                    groups=(group,),
                    progress=progress,
                    should_stop=should_stop,
                    **self.settings,
                )
            except Stopped:
                return done
            name = self.ledger.plan.units[group]
            with self.ledger.making() as folder:
                (folder / name).write_text(self._text(sums))
                self.ledger.adopt(name, folder / name)
        return len(groups)

    def _text(self, sums: Sums) -> str:
        """The content of a unit."""
        read, recordings = sums.counts.nonzero()[:, 0].tolist(), self.data.recordings(self.split)
        values = {"recordings": read, "paths": [recordings[number].path for number in read]}
        values |= {"counts": sums.counts[read].tolist(), "sums": sums.measures[:, read].tolist()}
        return json.dumps(values) + "\n"


def share_of(
    model: AudioModel, data: AudioData, split: str, out: Path, shard: Shard, settings: dict[str, Any]
) -> Share:
    """The share of an evaluation whose result is going to be the file `out`.

    settings: batch_size, backend, dtype and device of `evaluate`. Raises ConfigError and DataError as `Ledger.begin`.
    """
    from samplernn_fast.models.checkpoint import arrays_of

    # What does not fit is refused before the job is begun.
    whole_recordings(data, model.config, split, settings["batch_size"], model.config.top_frame, only=())
    total = len(data.recordings(split))
    units = tuple(f"group-{number:05d}.json" for number in range(-(-total // settings["batch_size"])))
    plan = {
        "made_by": f"samplernn_fast {__version__}",
        "model_sha256": arrays_of(model).sha256,
        "data_sha256": manifest_sha256(data.folder),
        "split": split,
        "out": out.name,
        **settings,
        "recordings": total,
    }
    ledger = Ledger.begin(job_folder(out), Plan(COMMAND, plan, units, INSIDE))
    return Share(ledger, shard, model, data, split, settings)


def put_together(ledger: Ledger, out: Path) -> EvalResult:
    """The result of a job all of whose units are there, which becomes the file `out` as well.

    Raises DataError where a unit is missing or wrong.
    """
    check_complete(status_of(ledger))
    plan, paths = Fields(dict(ledger.plan.settings), "the plan"), dict[int, str]()
    try:
        recordings = plan.integer("recordings", 1, 2**40)
        sums = _sums([ledger.path(name) for name in ledger.plan.units], recordings, paths)
    except Unreadable as error:
        raise DataError(f"{ledger.folder}: {error}") from None
    result = sums.result(paths.__getitem__)
    ledger.write_manifest()
    result.write(out, overwrite=True)
    return result


def _sums(units: list[Path], recordings: int, paths: dict[int, str]) -> Sums:
    """The sums of all units, and in `paths` the path of each recording. Raises Unreadable for a unit that is not as
    this module writes it."""
    counts, measures = torch.zeros(recordings, dtype=torch.int64), None
    for unit in units:
        fields = Fields(read_json(unit, INDEX_BYTES), unit.name)
        names, rows = fields.texts("paths", recordings), fields.value("sums")
        numbers = fields.integers("recordings", len(names), 0, recordings - 1)
        if not isinstance(rows, list) or len(rows) not in (1, 2):
            raise Unreadable(f"{unit.name} has no sums of one or two measures")
        parts = [Fields({"sums": row}, unit.name).numbers("sums", len(names), -_LARGEST, _LARGEST) for row in rows]
        if measures is None:
            measures = torch.zeros(len(rows), recordings, dtype=torch.float64)
        if len(rows) != len(measures):
            raise Unreadable(f"{unit.name} has other measures than the units before it")
        measures[:, numbers] = torch.tensor(parts, dtype=torch.float64)
        counts[numbers] = torch.tensor(fields.integers("counts", len(names), 1, 2**50))
        paths.update(zip(numbers, names, strict=True))
    if measures is None:
        raise Unreadable("the job has no units")
    return Sums(measures, counts)
