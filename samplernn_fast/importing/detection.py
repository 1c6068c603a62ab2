"""Tells which project wrote a checkpoint, by its first and last bytes and by the names of its tensors.

No torch but for those names, so that the command can refuse most files before it loads.
"""

import os
import re
import struct
from pathlib import Path

from samplernn_fast.errors import CheckpointError
from samplernn_fast.importing.formats import tf_bundle
from samplernn_fast.importing.formats.pickles import LEGACY_START
from samplernn_fast.untrusted import Unreadable, open_file

FORMATS = ("deepsound", "prism", "s4", "theano")
"""The projects whose checkpoints can be read."""
_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n"
_PICKLES = (b"(", b"}", b"]", b"c", b"\x80")  # how a pickled dict or list, or a call, begins
_FILE_NAMES = re.compile(r".*\.(pt|pth|ckpt|pkl|bin)|(best-)?ep\d+-it\d+.*|[^.]+")


def resolve(path: Path) -> Path:
    """The file that a path stands for. A folder must hold one checkpoint; a prefix of TensorFlow stays as it is."""
    if not os.path.isdir(path):  # unlike Path's, it takes a name that is too long
        return path
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if any(file.suffix == ".index" for file in inside):
        return path
    files = [file for file in inside if file.is_file() and _looks_like_one(file)]
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:4]) or "none"
        raise CheckpointError(f"{path}: must hold one checkpoint, found {names}; name the file you mean")
    return files[0]


def detect(path: Path) -> str:
    """The project that wrote a checkpoint, one of FORMATS. Raises CheckpointError when it is none of them."""
    known = recognize(path)
    if known is not None:
        return known
    from samplernn_fast.importing.formats.torch_file import names_in
    from samplernn_fast.importing.projects import deepsound

    return "deepsound" if deepsound.keeps_h0(names_in(path)) else "s4"


def recognize(path: Path) -> str | None:
    """What `detect` says, where the file's bytes are enough; None for a torch file, whose tensors have to be known."""
    if os.path.isdir(path) or path.name == "checkpoint" or os.path.lexists(tf_bundle.index_file(path)):
        return "prism"
    start, end = _ends(path)
    if len(end) == 8 and struct.unpack("<Q", end)[0] == tf_bundle.MAGIC:
        return "prism"
    if start.startswith((_ZIP, LEGACY_START)):
        return None
    if start.startswith(_HDF5):
        raise CheckpointError(f"{path}: an HDF5 file; give PRiSM's TensorFlow checkpoint (.index and .data files)")
    if b"samplernn_fast" in start:
        raise CheckpointError(f"{path}: is a model of samplernn_fast already; use it as it is")
    if start.startswith(_PICKLES):
        return "theano"
    raise CheckpointError(
        f"{path}: no checkpoint of {', '.join(FORMATS)} (truncated, or of another project); name its format if it is"
    )


def _ends(path: Path) -> tuple[bytes, bytes]:
    """The first 4096 and the last 8 bytes of a file. Raises CheckpointError when it cannot be read."""
    try:
        with open_file(path) as opened:
            start = opened.read(4096)
            opened.seek(max(0, opened.seek(0, 2) - 8))
            return start, opened.read(8)
    except (Unreadable, OSError) as error:
        missing = not os.path.lexists(path)
        raise CheckpointError(f"{path}: {'no such checkpoint' if missing else f'cannot be read ({error})'}") from None


def _looks_like_one(file: Path) -> bool:
    """Whether a file's name and first bytes are those of a checkpoint in one file."""
    if file.name == "args.pkl" or not _FILE_NAMES.fullmatch(file.name):
        return False
    return _ends(file)[0].startswith((_ZIP, LEGACY_START, *_PICKLES))
