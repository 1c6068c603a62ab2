"""An entry of a table: one training of one system on one data folder with one seed, and its score.

The run folder of an entry resumes exactly. Its score is a JSON file beside it, which is written when both splits were
scored, so an entry that has one is finished.
"""

import dataclasses
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from samplernn_fast import files, terminal
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import manifest_sha256
from samplernn_fast.errors import ConfigError, DataError, Interrupted
from samplernn_fast.evaluation.likelihood import EvalResult, evaluate
from samplernn_fast.experiments.places import run_folder
from samplernn_fast.experiments.systems import Scale, Variant, command, settings
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.checkpoint import load_model
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.trainer import train
from samplernn_fast.untrusted import Fields, Unreadable, read_json

SPLITS = ("valid", "test")
"""The splits that are scored, in the order of the work."""
_MOST = 10**15  # No figure of a score is larger.


@dataclass(frozen=True)
class Entry:
    """What is trained, for how long, and where it lies."""

    variant: Variant
    data: Path
    seed: int
    updates: int
    out: Path
    """The folder of all experiments."""

    @property
    def run(self) -> Path:
        """The run folder."""
        return run_folder(self.out, self.data, self.variant.name, self.seed)

    @property
    def file(self) -> Path:
        """The file of its score."""
        return self.run.with_suffix(".json")

    def config(self, scale: Scale, device: str = "auto") -> TrainConfig:
        """The settings of the run."""
        return settings(self.variant, scale, self.data, self.run, updates=self.updates, seed=self.seed, device=device)


@dataclass(frozen=True)
class Score:
    """What became of an entry."""

    seed: int
    updates: int
    seconds: float
    """How long the training took, validations included."""
    parameters: int
    samples_per_update: int
    audio_seconds: float
    """How much audio the updates read, the same audio counted again at each epoch."""
    command: str
    """The command line that trains the same."""
    data_sha256: str
    """The hash of the data folder's manifest."""
    splits: dict[str, dict[str, list[float]]]
    """Each split's name -> the "samples" and mean "bits" of its recordings, and of a mixture the "nats"."""

    @classmethod
    def read(cls, entry: Entry) -> "Score | None":
        """The score of an entry that is finished, else None.

        Raises DataError where the file is damaged or of other data, and ConfigError where it is of another budget.
        """
        if not entry.file.exists():
            return None
        try:
            score = cls._from(Fields(read_json(entry.file), "it"))
        except Unreadable as error:
            raise DataError(f"{entry.file}: damaged: {error}; remove it to score the run again") from None
        if score.data_sha256 != manifest_sha256(entry.data):
            raise DataError(f"{entry.file}: is of other data than {entry.data} is now; choose another folder")
        if score.updates != entry.updates:
            raise ConfigError(
                f"{entry.file}: the run had {score.updates} updates, this budget gives {entry.updates}; choose another"
                " folder, or the budget from before"
            )
        return score

    @classmethod
    def _from(cls, values: Fields) -> "Score":
        """A score of a file. Raises Unreadable for anything that `finish` does not write."""
        splits = values.fields("splits")
        return cls(
            seed=values.integer("seed", 0, 2**63 - 1),
            updates=values.integer("updates", 1, _MOST),
            seconds=values.number("seconds", 0, _MOST),
            parameters=values.integer("parameters", 1, _MOST),
            samples_per_update=values.integer("samples_per_update", 1, _MOST),
            audio_seconds=values.number("audio_seconds", 0, _MOST),
            command=values.text("command"),
            data_sha256=values.text("data_sha256"),
            splits={split: _split(splits.fields(split)) for split in SPLITS if splits.has(split)},
        )


def _split(values: Fields) -> dict[str, list[float]]:
    """The figures of one split, a number for each recording. Raises Unreadable."""
    samples = values.value("samples")
    count = len(samples) if isinstance(samples, list) else 0
    if not count:
        raise Unreadable("a split has no recordings")
    parts: dict[str, list[float]] = {"samples": list(values.integers("samples", count, 1, _MOST))}
    parts["bits"] = values.numbers("bits", count, -_MOST, _MOST)
    return parts | ({"nats": values.numbers("nats", count, -_MOST, _MOST)} if values.has("nats") else {})


def finish(entry: Entry, scale: Scale, device: str) -> Score:
    """Trains an entry to its end, goes on with it, or reads what is known of it. Raises Interrupted for a signal."""
    known = Score.read(entry)
    if known is not None:
        return known
    config = entry.config(scale, device)
    ended = train(config)
    if ended.stopped == "signal":
        raise Interrupted("the run is saved; the same command goes on from here", ended.signal)
    model = load_model(config.out)
    data = AudioData.open(config.data)
    splits = {split: _parts(_score(model, data, split, device)) for split in SPLITS if data.recordings(split)}
    score = Score(
        seed=entry.seed,
        updates=ended.steps,
        seconds=ended.seconds,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        samples_per_update=config.batch_size * config.seq_len,
        audio_seconds=ended.steps * config.batch_size * config.seq_len / data.sample_rate,
        command=shlex.join(command(config, entry.variant.preset)),
        data_sha256=manifest_sha256(entry.data),
        splits=splits,
    )
    files.write_text(entry.file, json.dumps(dataclasses.asdict(score), indent=1) + "\n")
    return score


def _score(model: AudioModel, data: AudioData, split: str, device: str) -> EvalResult:
    total = sum(recording.length for recording in data.recordings(split))
    with terminal.Bar(total, " sample", title=f"scoring {split}", prefixes=True) as bar:
        return evaluate(model, data, split, device=device, progress=bar.advance)


def _parts(result: EvalResult) -> dict[str, list[float]]:
    """What of a split's score is kept: samples and means of each recording."""
    parts: dict[str, list[float]] = {
        "samples": [one.n_samples for one in result.per_file],
        "bits": [one.nll_bits for one in result.per_file],
    }
    nats = [one.nll_nats for one in result.per_file if one.nll_nats is not None]
    return parts | ({"nats": nats} if nats else {})
