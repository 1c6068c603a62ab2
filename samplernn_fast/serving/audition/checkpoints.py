"""The checkpoints of run folders: which files are rows of a grid, read once, and again where a file is another."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from samplernn_fast.errors import CheckpointError
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.places import MODEL_FILE, MODELS_FOLDER, is_no_path, kept_models, model_file, short_name
from samplernn_fast.models.stored.arrays import read_file
from samplernn_fast.stores.addresses import address_of

_Stamp = tuple[int, int, int] | None
"""A file's size, time of change and number; None where it is not there."""
AGAIN_SECONDS = 30.0
"""So long after a file could not be read it is tried again, even if it is the same."""


@dataclass(frozen=True)
class Checkpoint:
    """A row of the grid."""

    file: Path
    source: str
    """This was named: it is the run folder's own name, or that of the file."""
    names: tuple[str, ...]
    """Its run calls it so: "step 2500", "model.safetensors"; several where it lies there twice."""
    label: str
    """A name for files, such as album-step2500."""
    model: str
    """`generate` plays this: the whole path, or the name of a bundled model."""
    bits: float | None = None
    """Bits per sample of its validation, where its file's name tells."""
    sha256: str = ""
    """The model's identity; empty where it cannot be read."""
    config: AudioConfig | None = None
    problem: str = ""
    """Why it cannot be played; empty where it can."""
    gone: bool = False
    """It is true where the run keeps it no more, and it is a row for the sake of clips that were made before."""
    step: int | None = None
    """After which update of its run it was kept, where its file's name tells."""


class Checkpoints:
    """The rows for run folders, .safetensors files and bundled models, in their order; within a run by step.

    A file that cannot be read is a row that says so. A model that lies in several files is one row.
    """

    def __init__(self, places: Sequence[str]) -> None:
        """Reads all of them. Raises CheckpointError where one of the places is none, or no file can be played."""
        self._places = tuple(dict.fromkeys(places))
        self._elsewhere: dict[str, list[Checkpoint]] = {}
        self._read: dict[Path, tuple[_Stamp, Checkpoint]] = {}
        self._tried = time.monotonic()
        self._seen = [one for place in self._places for one in self._listed(place)]
        self.rows = self._rows(self._seen)

    def look(self) -> bool:
        """Compares names, sizes and times of the files; where they are others than before, reads those that changed,
        and returns whether `rows` are others now. What could not be read is tried again, because the file need not
        change for that. A place that is none any more has no rows. Raises as the constructor where nothing can be
        played any more; `rows` are then those from before."""
        seen = []
        for place in self._places:
            with suppress(CheckpointError, OSError):
                seen += self._listed(place)
        again = time.monotonic() - self._tried >= AGAIN_SECONDS and any(row.problem for row in self.rows)
        if seen == self._seen and not again:
            return False
        if again:
            self._tried = time.monotonic()
            self._read = {file: known for file, known in self._read.items() if not known[1].problem}
        rows = self._rows(seen)
        before, self.rows, self._seen = self.rows, rows, seen
        return rows != before

    def _listed(self, place: str) -> list[tuple[Checkpoint, _Stamp]]:
        """The checkpoints of a place, none of which is read, with the stamps of their files."""
        if is_no_path(place) or address_of(place) is not None:  # asked for once: nobody trains into these
            if place not in self._elsewhere:
                self._elsewhere[place] = _named(place)
            return [(found, None) for found in self._elsewhere[place]]
        return [(found, _stamp(found.file)) for found in _named(place)]

    def _rows(self, seen: Sequence[tuple[Checkpoint, _Stamp]]) -> list[Checkpoint]:
        rows: dict[str, Checkpoint] = {}
        for found in self._identified(seen):
            same = found.sha256 or str(found.file)
            known = rows.get(same)
            if known is None:
                rows[same] = found
            elif known.source == found.source:
                rows[same] = replace(known, names=(*known.names, *found.names))
        if all(row.problem for row in rows.values()):
            raise CheckpointError(next((row.problem for row in rows.values()), "no run folder is named"))
        return list(rows.values())

    def _identified(self, seen: Sequence[tuple[Checkpoint, _Stamp]]) -> Iterator[Checkpoint]:
        """Yields what was seen, with the identities. A stamp is older than what is read, so a file that changes
        meanwhile is read once more, and what was half a file is no problem for ever."""
        files = {found.file for found, _ in seen}
        self._read = {file: known for file, known in self._read.items() if file in files}
        for found, stamp in seen:
            known_stamp, known = self._read.get(found.file, (None, None))
            if known is None or known_stamp != stamp:
                known = _read(found)
                self._read[found.file] = stamp, known
            yield replace(found, sha256=known.sha256, config=known.config, problem=known.problem)


def _stamp(file: Path) -> _Stamp:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


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
        found.append(Checkpoint(file, source, (name,), label, str(file.resolve()), bits, step=step))
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
