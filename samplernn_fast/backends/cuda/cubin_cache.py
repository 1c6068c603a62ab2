"""Compiled GPU kernels, kept between processes in a folder of the user's.

Several processes may read and write at once: a file appears whole or not at all. A damaged one is as good as none, and
so is a folder that cannot be written: the kernel is then compiled again.
"""

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from samplernn_fast import files

MOST_BYTES = 512 << 20
"""The bytes that all kept kernels may have together. One has 0.2 to 0.4 MB, and the tests and benchmarks of a GPU ask
for a few hundred of them."""
_MAGIC = b"samplernn cubin\n"
_ABANDONED_SECONDS = 3600.0  # the age of a temporary file from which on a killed process must have left it


def folder() -> Path:
    """The folder that SAMPLERNN_FAST_CACHE names, else the user's own for caches. RuntimeError where there is none."""
    if chosen := os.environ.get("SAMPLERNN_FAST_CACHE"):
        return Path(chosen).expanduser() / "cubins"
    try:
        import platformdirs
    except ImportError as error:  # a machine without a network may lack it
        raise RuntimeError(str(error)) from None
    found = platformdirs.user_cache_path("samplernn_fast", appauthor=False) / "cubins"
    return found if found.is_absolute() else Path.home() / ".cache" / "samplernn_fast" / "cubins"


def key(parts: Iterable[str]) -> str:
    """A name for what is made from `parts`: source texts, options, the compiler. Equal only for equal lists."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def read(name: str) -> bytes | None:
    """The cubin kept under `name`, or None if there is none that is whole."""
    try:
        path = _path(name)
        content = path.read_bytes()
        start = len(_MAGIC) + 32
        digest, cubin = content[len(_MAGIC) : start], content[start:]
        if content[: len(_MAGIC)] != _MAGIC or not cubin or hashlib.sha256(cubin).digest() != digest:
            return None
        with suppress(OSError):
            os.utime(path)  # used now: the last to go
        return cubin
    except (OSError, RuntimeError):
        return None


def write(name: str, cubin: bytes) -> None:
    """Keep a cubin, and of all those used last, `MOST_BYTES` together. Does nothing where the folder cannot be
    written."""
    with suppress(OSError, RuntimeError):
        path = _path(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_bytes(path, _MAGIC + hashlib.sha256(cubin).digest() + cubin)
        _remove_old(path.parent)


def _path(name: str) -> Path:
    return folder() / f"{name}.cubin"


def _remove_old(kept: Path) -> None:
    ages, size = [], 0
    for path in kept.iterdir():
        with suppress(OSError):  # another process may have removed it
            found = path.stat()
            if path.suffix == ".cubin":
                ages.append((found.st_mtime, path, found.st_size))
            elif path.suffix == ".tmp" and time.time() - found.st_mtime > _ABANDONED_SECONDS:
                path.unlink()
    for _, path, bytes_of_file in sorted(ages, reverse=True):
        size += bytes_of_file
        if size > MOST_BYTES:
            with suppress(OSError):
                path.unlink()
