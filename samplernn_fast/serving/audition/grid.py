"""What is auditioned: checkpoints, temperatures and seeds, and the clip of each combination."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.models.places import MODELS_FOLDER, is_no_path
from samplernn_fast.ranges import Range
from samplernn_fast.reference import limits
from samplernn_fast.serving.audition.checkpoints import Checkpoint
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
    def name(self) -> str:
        """What tells it from other grids, and from those of a server that was started anew: a hash of all it shows."""
        return hashlib.sha256(repr((self.checkpoints, self.making)).encode()).hexdigest()[:12]

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
