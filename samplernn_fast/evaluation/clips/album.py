"""Files of rejected clips: they are moved into a folder beside the others, with a table of the reasons."""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from samplernn_fast import files
from samplernn_fast.errors import AudioError, one_line
from samplernn_fast.untrusted import INDEX_BYTES, Unreadable, read_bytes

REJECTED = "rejected"
"""The folder of rejected clips, beside those that are kept."""
REASONS_FILE = "reasons.csv"
"""The table in that folder: the name of each file, and why it is there."""
_HEADER = ["file", "reason"]


def check_album(folder: Path) -> None:
    """Raises AudioError where clips cannot be sorted out of this folder, because something else has the names."""
    rejected = folder / REJECTED
    if os.path.lexists(rejected) and not rejected.is_dir():
        raise AudioError(f"{rejected}: the folder cannot be made: something else has its name")
    _table(rejected / REASONS_FILE)


def sort_out(rejected: Mapping[Path, str]) -> list[Path]:
    """Moves files into the folder `rejected` beside each, and adds them with their reasons to its table.

    A name that is taken there becomes name-2 and so on. A table that exists keeps its rows. It is written first, so
    that no file is there without its reason. Returns the new paths. Raises AudioError where something cannot be
    written; no file is lost then.
    """
    moved: dict[Path, Path] = {}
    try:
        for folder in {path.parent / REJECTED for path in rejected}:
            folder.mkdir(exist_ok=True)
            targets = {path: _free(folder / path.name) for path in rejected if path.parent == folder.parent}
            rows = [[one_line(target.name), one_line(rejected[path])] for path, target in targets.items()]
            files.write_text(folder / REASONS_FILE, _text([_HEADER, *_table(folder / REASONS_FILE), *rows]))
            for path, target in targets.items():
                os.rename(path, target)
            moved |= targets
    except OSError as error:
        raise AudioError(f"{error.filename or REJECTED}: cannot be written: {error.strerror or error}") from None
    return [moved[path] for path in rejected]


def _free(path: Path) -> Path:
    number, found = 1, path
    while os.path.lexists(found):
        number += 1
        found = path.with_stem(f"{path.stem}-{number}")
    return found


def _table(path: Path) -> list[list[str]]:
    """The rows of a table without its header; none where there is no file. Raises AudioError for another file."""
    if not os.path.lexists(path):
        return []
    try:
        rows = list(csv.reader(io.StringIO(read_bytes(path, INDEX_BYTES).decode("utf-8"), newline="")))
    except (Unreadable, UnicodeDecodeError, csv.Error) as error:
        raise AudioError(f"{path}: is no table of rejected clips: {error}") from None
    if not rows or rows[0] != _HEADER:
        raise AudioError(f"{path}: is no table of rejected clips; move it away")
    return rows[1:]


def _text(rows: list[list[str]]) -> str:
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue()
