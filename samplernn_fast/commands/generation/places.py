"""Where `generate` writes: the names of files that nobody named, and the folders that take audio."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from samplernn_fast.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from samplernn_fast.audio.takes import Names


def stem_of(model: str, seed: int, texts: tuple[str, ...], top_k: int | None, top_p: float | None) -> str:
    """The name of files that nobody named, which is that of the whole where a share is made."""
    from samplernn_fast.audio import takes
    from samplernn_fast.engine import temperature
    from samplernn_fast.models.places import short_name

    values = [temperature.parse(text) for text in texts]
    heats = [heat for one in values for heat in ([one] if isinstance(one, float) else one.temperatures)]
    return takes.stem(short_name(model), seed, heats, top_k, top_p)


def names_of(output: str | None, stem: str, num_samples: int) -> "Names":
    """What the files of all pieces are called. A folder stands for files in it of the name `stem`, with a number behind
    it where that is taken."""
    from samplernn_fast.audio.takes import Names

    if output is not None and not _is_folder(output):
        return Names(Path(output), range(num_samples))
    return Names(Path(output or ".") / f"{stem}.wav", range(num_samples), numbered=True)


def _is_folder(output: str) -> bool:
    """Whether a name stands for a folder: it ends in /, is one already, or has no suffix, or a number for a suffix."""
    path = Path(output)
    return output.endswith("/") or path.is_dir() or not path.suffix or path.suffix[1:].isdigit()


def check_folder(folder: Path) -> None:
    """Raises AudioError where a file stands in the way of a folder that is to be made, ConfigError for a data folder.

    `prepare` replaces no data folder that holds something else, so nobody's audio may get into one. A run folder takes
    audio: none of its own files has such a name, and beside its model audio is easy to find.
    """
    from samplernn_fast.data.manifest import MANIFEST_FILE

    if (folder / MANIFEST_FILE).exists():
        raise ConfigError(f"output must not be in a data folder, and {folder} is one; choose another folder")
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise AudioError(f"{there}: the folder cannot be made: something else has its name")


def make_folder(folder: Path) -> None:
    """Makes a folder that may be missing. Raises AudioError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(f"{folder}: the folder cannot be made: {error.strerror}") from None
