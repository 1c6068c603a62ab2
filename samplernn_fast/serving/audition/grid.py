"""What is auditioned: checkpoints, temperatures and seeds, and the clip of each combination."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import CheckpointError, ConfigError, DataError
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.places import MODEL_FILE, MODELS_FOLDER, is_no_path, kept_models, model_file, short_name
from samplernn_fast.models.stored.arrays import read_file
from samplernn_fast.ranges import Range
from samplernn_fast.reference import limits
from samplernn_fast.stores.addresses import address_of

MOST_CLIPS = 2000
"""So many clips a page can show, and somebody hear in a day."""
SECONDS = Range(0.1, 60, unit="seconds")
"""How long a clip may be."""
SEEDS = Range(1, 100)
"""How many seeds there may be; they count from 0."""
FOLDER = "auditions"


@dataclass(frozen=True)
class Making:
    """How clips are made."""

    temperatures: tuple[float, ...] = (0.8, 0.9, 1.0)
    seeds: int = 4
    """So many, from 0 on."""
    seconds: float = 4.0
    device: str = "auto"
    backend: str = "auto"
    dtype: str = "auto"
    num_threads: int | None = None

    def __post_init__(self) -> None:
        """Checks all that is not checked where it is used. Raises ConfigError."""
        SEEDS.check("seeds", self.seeds, whole=True)
        SECONDS.check("seconds", self.seconds)
        if not self.temperatures:
            raise ConfigError("temperatures must be one or several numbers, got none")
        distinct = tuple(dict.fromkeys(limits.check_temperature(one) for one in self.temperatures))
        object.__setattr__(self, "temperatures", distinct)

    def engine(self, model: Path) -> Engine:
        """An engine that makes clips of a model. Raises as `Engine`."""
        return Engine(model, self.backend, self.dtype, self.device, self.num_threads)


@dataclass(frozen=True)
class Checkpoint:
    """A row of the grid."""

    file: Path
    source: str
    """What was named: the run folder's own name, or that of the file."""
    names: tuple[str, ...]
    """What it is called in its run: "step 2500", "model.safetensors"; several where it lies there twice."""
    label: str
    """A name for files, such as album-step2500."""
    model: str
    """What `generate` plays: the whole path, or the name of a bundled model."""
    bits: float | None = None
    """Bits per sample of its validation, where its file's name tells."""
    sha256: str = ""
    """The model's identity; empty where it cannot be read."""
    config: AudioConfig | None = None
    problem: str = ""
    """Why it cannot be played; empty where it can."""


@dataclass(frozen=True)
class Cell:
    """One clip of the grid."""

    row: int
    """Of its checkpoint."""
    temperature: float
    seed: int
    clip: str
    """The name of its file."""


class Grid:
    """Checkpoints by temperatures by seeds. Cells are numbered row by row, all seeds of a temperature together."""

    def __init__(self, checkpoints: Sequence[Checkpoint], making: Making) -> None:
        """Raises ConfigError for more cells than `MOST_CLIPS`."""
        self.checkpoints, self.making = tuple(checkpoints), making
        count = len(checkpoints) * len(making.temperatures) * making.seeds
        if count > MOST_CLIPS:
            raise ConfigError(
                f"{len(checkpoints)} checkpoints, {len(making.temperatures)} temperatures and {making.seeds} seeds are"
                f" {count} clips, and a page shows {MOST_CLIPS}; take fewer of them"
            )
        self.cells = [
            Cell(row, temperature, seed, clip_name(checkpoint.sha256, temperature, seed, making))
            for row, checkpoint in enumerate(checkpoints)
            for temperature in making.temperatures
            for seed in range(making.seeds)
        ]

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """The name of each clip's file -> the number of its cell."""
        return {cell.clip: number for number, cell in enumerate(self.cells)}


def clip_name(sha256: str, temperature: float, seed: int, making: Making) -> str:
    """The name of a clip's file: all that its samples depend on."""
    modes = "".join(f"-{one}" for one in (making.backend, making.dtype) if one != "auto")
    return f"{sha256[:16]}-t{number(temperature)}-seed{seed}-{number(making.seconds)}s{modes}.wav"


def number(value: float) -> str:
    """A number with all its digits, and no more: 0.9, 1, 0.001."""
    return repr(float(value)).removesuffix(".0")


def checkpoints_of(places: Sequence[str]) -> list[Checkpoint]:
    """The rows for run folders, .safetensors files and bundled models, in their order; within a run by step.

    A file that cannot be read is a row that says so. A model that lies in several files is one row. Raises
    CheckpointError where one of the places is none, or none of the files can be played.
    """
    rows: dict[str, Checkpoint] = {}
    for place in dict.fromkeys(places):
        for found in map(_read, _named(place)):
            same = found.sha256 or str(found.file)
            known = rows.get(same)
            if known is None:
                rows[same] = found
            elif known.source == found.source:
                rows[same] = replace(known, names=(*known.names, *found.names))
    if all(row.problem for row in rows.values()):
        raise CheckpointError(next((row.problem for row in rows.values()), "no run folder is named"))
    return list(rows.values())


def _named(place: str) -> list[Checkpoint]:
    """The checkpoints of a place, none of which is read yet. Raises CheckpointError where there is none."""
    run, source = Path(place), short_name(place)
    if is_no_path(place) or not run.is_dir():
        file = model_file(place)
        model = place if is_no_path(place) else str(file.resolve())
        name = place if is_no_path(place) else file.name
        return [Checkpoint(file, source, (name,), source, model)]
    known = {one.path: one for one in kept_models(run)}
    files = sorted((run / MODELS_FOLDER).glob("step-*.safetensors"))
    found = []
    for file in sorted(files, key=lambda one: (one not in known, known[one].step if one in known else 0)):
        step, bits = (known[file].step, known[file].bits) if file in known else (None, None)
        name = file.name if step is None else f"step {step}"
        label = f"{source}-{file.stem if step is None else f'step{step}'}"
        found.append(Checkpoint(file, source, (name,), label, str(file.resolve()), bits))
    if (run / MODEL_FILE).exists() or not found:
        file = model_file(place)
        found.append(Checkpoint(file, source, (file.name,), source, str(file.resolve())))
    return found


def _read(found: Checkpoint) -> Checkpoint:
    """A checkpoint with its identity, or with the reason why it has none."""
    try:
        model, _ = read_file(found.file)
    except CheckpointError as error:
        return replace(found, problem=str(error))
    problem = "" if model.config.sample_rate else f"{found.file}: this model has no sample rate yet"
    return replace(found, sha256=model.sha256, config=model.config, problem=problem)


def default_folder(place: str) -> Path:
    """Where the clips of an audition lie that names no folder: in `auditions` beside its first run, and here where that
    is bundled, of the Hub or at an address."""
    if is_no_path(place) or address_of(place) is not None:
        return Path(FOLDER)
    beside = Path(place).resolve().parent
    if beside.name == MODELS_FOLDER:  # a file that a run keeps
        beside = beside.parent.parent
    return beside / FOLDER


def open_folder(folder: Path) -> None:
    """Makes the folder of clips. Raises DataError where it cannot be had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be made: {error.strerror or error}") from None
