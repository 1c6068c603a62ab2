"""The folder of the user's in which backends keep what takes long to make, such as compiled kernels.

Several processes may read and write at once: files appear whole or not at all (`files.replacing`). A damaged file is as
good as none, and so is a folder that cannot be written: what it was to keep is then made again.
"""

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from samplernn_fast import files
from samplernn_fast.files import cache_folder as folder

__all__ = ["Store", "folder", "key", "remove_old"]

_ABANDONED_SECONDS = 3600.0  # the age of a temporary file from which on a killed process must have left it
_MAGIC = b"samplernn kept\n\n"


def key(parts: Iterable[str]) -> str:
    """A name for what is made from `parts`: source texts, options, the compiler. Equal only for equal lists."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


@dataclass(frozen=True)
class Store:
    """Bytes of one kind, kept by name between processes."""

    kind: str
    """The name of their folder."""
    suffix: str
    """The names of the files end in it."""
    most_bytes: int
    """The files together may have so many; those used last stay."""

    def folder(self) -> Path:
        """Where the files are. RuntimeError where there is no such place."""
        return folder(self.kind)

    def read(self, name: str) -> bytes | None:
        """Returns what is kept under `name`, or None if there is nothing that is whole."""
        try:
            path = self._path(name)
            content = path.read_bytes()
            start = len(_MAGIC) + 32
            digest, kept = content[len(_MAGIC) : start], content[start:]
            if content[: len(_MAGIC)] != _MAGIC or not kept or hashlib.sha256(kept).digest() != digest:
                return None
            with suppress(OSError):
                os.utime(path)  # used now: the last to go
            return kept
        except (OSError, RuntimeError):
            return None

    def write(self, name: str, content: bytes) -> None:
        """Keep bytes, at least one. Does nothing where the folder cannot be written."""
        with suppress(OSError, RuntimeError):
            path = self._path(name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_bytes(path, _MAGIC + hashlib.sha256(content).digest() + content)
            remove_old(path.parent, self.suffix, self.most_bytes)

    def _path(self, name: str) -> Path:
        return self.folder() / f"{name}{self.suffix}"


def remove_old(kept: Path, suffix: str, most_bytes: int) -> None:
    """Keeps, of the files with this suffix, those used last that have `most_bytes` together, and removes what killed
    processes left."""
    ages, size = [], 0
    for path in kept.iterdir():
        with suppress(OSError):  # another process may have removed it
            found = path.stat()
            if path.suffix == suffix:
                ages.append((found.st_mtime, path, found.st_size))
            elif path.suffix == ".tmp" and time.time() - found.st_mtime > _ABANDONED_SECONDS:
                path.unlink()
    for _, path, bytes_of_file in sorted(ages, reverse=True):
        size += bytes_of_file
        if size > most_bytes:
            with suppress(OSError):
                path.unlink()
