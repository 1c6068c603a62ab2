"""Reads TensorFlow 2 checkpoints without TensorFlow: PREFIX.index names the tensors, PREFIX.data-* hold them.

The index is a sorted table in LevelDB's format: blocks of keys, of which each leaves out what it shares with the key
before, and a footer with a magic number. Its values are protocol buffers (tensor_bundle.proto): the header under the
empty key, and an entry for every tensor. Every length and place is compared with the file before it is believed.
"""

import math
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samplernn_fast.errors import CheckpointError
from samplernn_fast.untrusted import CHECKPOINT_BYTES, INDEX_BYTES, Unreadable, open_file, read_bytes

MAGIC = 0xDB4775248B80FB57
"""The last 8 bytes of an index, little-endian."""
_FOOTER_BYTES = 48
_NUMPY = {1: "<f4", 2: "<f8", 19: "<f2", 3: "<i4", 9: "<i8"}  # TensorFlow's DataType -> NumPy's
_BFLOAT16 = 14  # TensorFlow's DataType, which NumPy does not have
_MOST_ENTRIES = 20_000  # An index has at most so many, training state included.
_MOST_KEY = 400  # bytes of a name; each key may repeat the one before, so long ones would multiply
_MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class Entry:
    """Where the bytes of one tensor are."""

    dtype: int
    """TensorFlow's DataType."""
    shape: tuple[int, ...]
    shard: int
    """The number of its data file."""
    offset: int
    """Its first byte in that file."""
    size: int
    """How many bytes it has."""
    sliced: bool
    """True where it is stored in several slices, which is not read."""


def index_file(path: Path) -> Path:
    """The .index file that belongs to a prefix or one of its files."""
    prefix = path.with_name(re.sub(r"\.index$|\.data-\d+-of-\d+$", "", path.name))
    return prefix.with_name(prefix.name + ".index")


def read_bundle(prefix: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Reads the tensors whose full names are `wanted`, by name.

    Raises CheckpointError for a file that is missing, truncated or damaged.
    """
    index = prefix.with_name(prefix.name + ".index")
    try:
        shards, entries = _read_index(read_bytes(index, INDEX_BYTES))
    except Unreadable as error:
        raise CheckpointError(f"{index}: cannot be read ({error})") from None
    except (IndexError, ValueError, struct.error, TypeError, OverflowError) as error:
        reason = " ".join(str(error)[:200].split())
        raise CheckpointError(f"{index}: not a TensorFlow checkpoint, truncated or damaged ({reason})") from None
    data = _DataFiles(prefix, shards)
    return {name: data.read(name, entry) for name, entry in entries.items() if wanted(name)}


class _DataFiles:
    """The files that hold the tensors. All tensors together may not have more bytes than a file."""

    def __init__(self, prefix: Path, shards: int) -> None:
        self._prefix, self._shards = prefix, shards
        self._left: dict[int, int] = {}  # Number of the file -> how many of its bytes have not been read.

    def read(self, name: str, entry: Entry) -> np.ndarray:
        """One tensor, out of the data file that its entry names; bfloat16 becomes float32."""
        file = self._prefix.with_name(f"{self._prefix.name}.data-{entry.shard:05d}-of-{self._shards:05d}")
        if entry.sliced or (entry.dtype not in _NUMPY and entry.dtype != _BFLOAT16):
            kind = "cut into slices" if entry.sliced else f"of TensorFlow's type {entry.dtype}"
            raise CheckpointError(f"{file}: tensor {name} is {kind}, which is not read")
        dtype = np.dtype(_NUMPY.get(entry.dtype, "<u2"))
        if math.prod(entry.shape) * dtype.itemsize != entry.size or entry.size == 0:
            raise CheckpointError(f"{file}: tensor {name} of shape {entry.shape} cannot have {entry.size} bytes")
        values = np.frombuffer(self._bytes(file, name, entry), dtype).reshape(entry.shape)
        if entry.dtype == _BFLOAT16:  # its bits are the upper half of a float32
            return (values.astype("<u4") << 16).view("<f4")
        return values

    def _bytes(self, file: Path, name: str, entry: Entry) -> bytearray:
        try:
            with open_file(file, CHECKPOINT_BYTES) as opened:
                size = os.fstat(opened.fileno()).st_size
                present = max(0, min(entry.size, size - entry.offset))
                left = self._left.get(entry.shard, size) - entry.size
                if present < entry.size or left < 0:
                    found = f"found {present}" if present < entry.size else "which other tensors have"
                    raise CheckpointError(f"{file}: truncated: tensor {name} needs {entry.size} bytes, {found}")
                self._left[entry.shard] = left
                opened.seek(entry.offset)
                content = bytearray(entry.size)
                if opened.readinto(content) != entry.size:  # type: ignore[attr-defined]
                    raise CheckpointError(f"{file}: it became shorter while it was read")
                return content
        except (Unreadable, OSError) as error:
            raise CheckpointError(f"{file}: cannot be read ({error})") from None


def _read_index(data: bytes) -> tuple[int, dict[str, Entry]]:
    """The number of data files, and every entry by name. Raises ValueError or IndexError for a damaged index."""
    footer = data[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("its last bytes are not a table's")
    at = 0
    for _ in range(2):  # skips offset and size of the meta-index, which is not needed
        _, at = _varint(footer, at)
    index_offset, at = _varint(footer, at)
    index_size, at = _varint(footer, at)
    shards, entries, end = 1, dict[str, Entry](), 0
    for _, handle in _block(data, index_offset, index_size):
        offset, at = _varint(handle, 0)
        size, _ = _varint(handle, at)
        if offset < end:  # else an index of many handles could have one large block read for each
            raise ValueError("its blocks overlap, or are not in order")
        end = offset + size
        for key, value in _block(data, offset, size):
            if key:
                entries[key.decode()] = _entry(value)
                if len(entries) > _MOST_ENTRIES:
                    raise ValueError(f"it has more than {_MOST_ENTRIES} entries")
                continue
            header = dict(_fields(value))
            shards = int(header.get(1, 1))
            if header.get(2, 0) != 0:
                raise ValueError("written on a big-endian machine")
    return shards, entries


def _entry(message: bytes) -> Entry:
    """Reads a BundleEntryProto, whose fields are 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 7 slices."""
    numbers, shape, sliced = {1: 0, 3: 0, 4: 0, 5: 0}, [], False
    for field, value in _fields(message):
        # Field 2 is a TensorShapeProto. Its own field 2, repeated, is a dimension, whose field 1 is the size.
        if field == 2 and isinstance(value, bytes):
            sizes = [dict(_fields(dim)) for number, dim in _fields(value) if number == 2 and isinstance(dim, bytes)]
            shape = [int(size.get(1, 0)) for size in sizes]
            if len(shape) > _MOST_DIMENSIONS:
                raise ValueError(f"a tensor has {len(shape)} dimensions")
        elif field == 7:
            sliced = True
        elif field in numbers:
            numbers[field] = int(value)
    return Entry(numbers[1], tuple(shape), numbers[3], numbers[4], numbers[5], sliced)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields the (key, value) pairs of one block, with whole keys."""
    if offset + size >= len(data):
        raise IndexError("a block lies behind the end")
    if data[offset + size] != 0:  # the byte behind a block says how it is compressed
        raise ValueError("its blocks are compressed, which TensorFlow does not do")
    if size < 4:
        raise IndexError("a block has no end")
    block = data[offset : offset + size]
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    end, at, key = size - 4 - 4 * restarts, 0, b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        if at + unshared + length > end:
            raise IndexError("an entry reaches behind its block")
        if shared > len(key) or shared + unshared > _MOST_KEY:
            raise ValueError(f"a name has more than {_MOST_KEY} bytes, or shares more than there is")
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, stored in groups of 7 bits, lowest first; and the place behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields (field number, value) of a protocol buffer: numbers as int, everything else as bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            number, at = _varint(message, at)
            yield tag >> 3, number
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of wire type {kind}")
        if at + size > len(message):
            raise IndexError("a field reaches behind its message")
        yield tag >> 3, message[at : at + size]
        at += size
