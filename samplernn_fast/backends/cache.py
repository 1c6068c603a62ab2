"""The folder of the user's in which backends keep what takes long to make, such as compiled kernels.

Several processes may read and write at once: files appear whole or not at all (`files.replacing`).
"""

import time
from contextlib import suppress
from pathlib import Path

from samplernn_fast.files import cache_folder as folder

__all__ = ["folder", "remove_old"]

_ABANDONED_SECONDS = 3600.0  # the age of a temporary file from which on a killed process must have left it


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
