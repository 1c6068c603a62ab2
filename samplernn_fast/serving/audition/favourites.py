"""The clips that somebody likes: kept in a file beside the clips, and written out for other programs."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from samplernn_fast import files
from samplernn_fast.audio import takes
from samplernn_fast.errors import DataError
from samplernn_fast.models.places import is_no_path
from samplernn_fast.reference import limits
from samplernn_fast.serving.audition.grid import Cell, Grid, number
from samplernn_fast.untrusted import INDEX_BYTES, Fields, Unreadable, read_json

FAVOURITES_FILE = "favourites.json"
COMMAND_SECONDS = 60
"""How much sound the commands make."""
_VERSION = 1
_MOST = 100_000
_CLIP = re.compile(r"[0-9a-f]{1,64}-t[\w.+-]+\.wav")
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class Favourite:
    """A clip, and what makes it again."""

    clip: str
    """The name of its file."""
    model: str
    """The model's file, as a whole path, or the name of a bundled model or of one of the Hub."""
    label: str
    """What files of the model may be called."""
    sha256: str
    temperature: float
    seed: int
    seconds: float
    backend: str = "auto"
    dtype: str = "auto"

    @classmethod
    def of(cls, grid: Grid, cell: Cell) -> "Favourite":
        """A cell of a grid as a favourite."""
        row, making = grid.checkpoints[cell.row], grid.making
        made = cell.temperature, cell.seed, making.seconds, making.backend, making.dtype
        return cls(cell.clip, row.model, row.label, row.sha256, *made)


class Favourites:
    """The favourites of a folder of clips, in the order in which they were chosen. Each change is on the disk at
    once."""

    def __init__(self, folder: Path) -> None:
        """Raises DataError where the folder's file cannot be read; the file is left as it is."""
        self._file = folder / FAVOURITES_FILE
        self._by_clip = {one.clip: one for one in read(folder)}

    def __contains__(self, clip: str) -> bool:
        return clip in self._by_clip

    def __iter__(self) -> Iterator[Favourite]:
        return iter(self._by_clip.values())

    def __len__(self) -> int:
        return len(self._by_clip)

    def add(self, favourite: Favourite) -> None:
        """Adds one. Raises DataError where it cannot be kept, and then it is none."""
        if favourite.clip not in self._by_clip:
            self._write(self._by_clip | {favourite.clip: favourite})

    def remove(self, clip: str) -> None:
        """Removes one. Raises as `add`."""
        if clip in self._by_clip:
            self._write({name: one for name, one in self._by_clip.items() if name != clip})

    def _write(self, changed: dict[str, Favourite]) -> None:
        told = {"version": _VERSION, "favourites": [asdict(one) for one in changed.values()]}
        try:
            files.write_text(self._file, json.dumps(told, indent=1) + "\n")
        except OSError as error:
            raise DataError(f"{self._file}: cannot be written: {error.strerror or error}") from None
        self._by_clip = changed


def read(folder: Path) -> list[Favourite]:
    """The favourites in a folder; none where it has no file of them. Raises DataError for one that cannot be read."""
    file = folder / FAVOURITES_FILE
    if not file.exists():
        return []
    try:
        told = Fields(read_json(file, INDEX_BYTES), "its content")
        told.integer("version", _VERSION, _VERSION)
        listed = told.value("favourites")
        if not isinstance(listed, list) or len(listed) > _MOST:
            raise Unreadable(f"favourites must be a list of at most {_MOST}")
        return [_favourite(Fields(one, f"favourite {place}")) for place, one in enumerate(listed, start=1)]
    except Unreadable as error:
        raise DataError(f"{file}: {error}; mend it, or move it away to begin with none") from None


def _favourite(told: Fields) -> Favourite:
    texts = {name: told.text(name) for name in ("clip", "model", "label", "sha256", "backend", "dtype")}
    for name, text in texts.items():
        if not _ONE_LINE.fullmatch(text):
            raise Unreadable(f"{name} must be one line of text")
    if not _CLIP.fullmatch(texts["clip"]):
        raise Unreadable(f"{told.shown('clip')} is no name of a clip")
    return Favourite(
        **texts,
        temperature=told.number("temperature", 0, 1000),
        seed=told.integer("seed", 0, int(limits.SEED.high)),
        seconds=told.number("seconds", 0, 86400),
    )


def playlist(favourites: Iterable[Favourite], folder: Path) -> str:
    """An extended M3U playlist of the clips in a folder, by their whole paths."""
    lines = ["#EXTM3U"]
    for one in favourites:
        path = folder.resolve() / one.clip
        seconds = max(1, round(one.seconds))
        lines.append(f"#EXTINF:{seconds},{one.label}, temperature {number(one.temperature)}, seed {one.seed}")
        lines.append(str(path) if _ONE_LINE.fullmatch(str(path)) else path.as_uri())
    return "\n".join(lines) + "\n"


def commands(favourites: Iterable[Favourite]) -> str:
    """A command for each favourite, one a line, that makes a minute of the same sound."""
    return "".join(f"{shlex.join(_command(one))}\n" for one in favourites)


def _command(one: Favourite) -> list[str]:
    # Two models may have the same label, such as model.safetensors before and behind a night of training.
    name = takes.stem(f"{one.label}-{one.sha256[:8]}", one.seed, [one.temperature]) + ".wav"
    name = f"./{name}" if name.startswith("-") else name
    words = ["samplernn-fast", "generate", one.model, "--seed", str(one.seed), "--temperature", number(one.temperature)]
    words += ["--duration", str(COMMAND_SECONDS)]
    for flag, value in (("--backend", one.backend), ("--dtype", one.dtype)):
        words += [flag, value] if value != "auto" else []
    return [*words, "-o", name]


def gone(favourites: Iterable[Favourite]) -> list[str]:
    """The models of favourites whose files are not there any more, each once."""
    models = dict.fromkeys(one.model for one in favourites if not is_no_path(one.model))
    return [model for model in models if not Path(model).exists()]


EXPORTS = {"playlist": ("favourites.m3u8", "audio/x-mpegurl"), "commands": ("favourites.sh", "text/x-sh")}
"""What favourites can be exported as: the name of the file, and its type."""


def exported(favourites: Iterable[Favourite], folder: Path, form: str) -> str:
    """The text of an export; `form` is one of `EXPORTS`."""
    return playlist(favourites, folder) if form == "playlist" else commands(favourites)
