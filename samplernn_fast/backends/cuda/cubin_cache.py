"""Compiled GPU kernels, kept between processes in a folder of the user's.

Several processes may read and write at once: a file appears whole or not at all. A damaged one is as good as none, and
so is a folder that cannot be written: the kernel is then compiled again.
"""

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from samplernn_fast import files
from samplernn_fast.backends import cache

MOST_BYTES = 512 << 20
"""The bytes that all kept kernels may have together. One has 0.2 to 0.4 MB, and the tests and benchmarks of a GPU ask
for a few hundred of them."""
_MAGIC = b"samplernn cubin\n"


def folder() -> Path:
    """Where the kernels are kept. RuntimeError where there is no such place."""
    return cache.folder("cubins")


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
        cache.remove_old(path.parent, ".cubin", MOST_BYTES)


def _path(name: str) -> Path:
    return folder() / f"{name}.cubin"
