"""TensorFlow 2 checkpoints without TensorFlow: PREFIX.index names the tensors, PREFIX.data-NNNNN-of-MMMMM holds them.

The index is a sorted table in LevelDB's format (blocks of prefix-compressed keys, a footer with a magic number). Its
values are protocol buffers (tensor_bundle.proto): the header under the empty key, an entry for every tensor.
"""

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samplernn_fast.errors import CheckpointError

MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_NUMPY = {1: "<f4", 2: "<f8", 19: "<f2", 3: "<i4", 9: "<i8"}  # TensorFlow's DataType numbers
_BFLOAT16 = 14


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    sliced: bool


def read_bundle(prefix: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """The wanted tensors by full name. Raises CheckpointError for a missing, truncated or damaged file."""
    index = prefix.with_name(prefix.name + ".index")
    try:
        data = index.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{index}: cannot be read ({error.strerror})") from None
    try:
        shards, entries = _read_index(data)
    except (IndexError, ValueError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise CheckpointError(f"{index}: not a TensorFlow checkpoint, truncated or damaged ({error})") from None
    return {name: _read_tensor(prefix, name, entry, shards) for name, entry in entries.items() if wanted(name)}


def _read_tensor(prefix: Path, name: str, entry: Entry, shards: int) -> np.ndarray:
    file = prefix.with_name(f"{prefix.name}.data-{entry.shard:05d}-of-{shards:05d}")
    if entry.sliced or (entry.dtype not in _NUMPY and entry.dtype != _BFLOAT16):
        kind = "cut into slices" if entry.sliced else f"of TensorFlow's type {entry.dtype}"
        raise CheckpointError(f"{file}: tensor {name} is {kind}, which is not read")
    dtype = np.dtype(_NUMPY.get(entry.dtype, "<u2"))
    if math.prod(entry.shape) * dtype.itemsize != entry.size:
        raise CheckpointError(f"{file}: tensor {name} of shape {entry.shape} cannot have {entry.size} bytes")
    try:
        with open(file, "rb") as opened:
            opened.seek(entry.offset)
            data = opened.read(entry.size)
    except (OSError, OverflowError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from None
    if len(data) != entry.size:
        raise CheckpointError(f"{file}: truncated: tensor {name} needs {entry.size} bytes, found {len(data)}")
    values = np.frombuffer(data, dtype).reshape(entry.shape)
    if entry.dtype == _BFLOAT16:  # the upper half of a float32
        return (values.astype("<u4") << 16).view("<f4")
    return values.copy()


def _read_index(data: bytes) -> tuple[int, dict[str, Entry]]:
    """The number of data files and every entry; ValueError or IndexError where the bytes make no sense."""
    footer = data[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("its last bytes are not a table's")
    at = 0
    for _ in range(2):  # where the meta-index lies, which says nothing here
        _, at = _varint(footer, at)
    index_offset, at = _varint(footer, at)
    index_size, at = _varint(footer, at)
    shards, entries = 1, {}
    for _, handle in _block(data, index_offset, index_size):
        offset, at = _varint(handle, 0)
        size, _ = _varint(handle, at)
        for key, value in _block(data, offset, size):
            if key:
                entries[key.decode()] = _entry(value)
                continue
            header = dict(_fields(value))
            shards = int(header.get(1, 1))
            if header.get(2, 0) != 0:
                raise ValueError("written on a big-endian machine")
    return shards, entries


def _entry(message: bytes) -> Entry:
    """BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 7 slices."""
    numbers, shape, sliced = {1: 0, 3: 0, 4: 0, 5: 0}, [], False
    for field, value in _fields(message):
        if field == 2 and isinstance(value, bytes):  # TensorShapeProto: repeated 2 dim, whose 1 is the size
            sizes = [dict(_fields(dim)) for number, dim in _fields(value) if number == 2 and isinstance(dim, bytes)]
            shape = [int(size.get(1, 0)) for size in sizes]
        elif field == 7:
            sliced = True
        elif field in numbers:
            numbers[field] = int(value)
    return Entry(numbers[1], tuple(shape), numbers[3], numbers[4], numbers[5], sliced)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of one block; a key leaves out what it shares with the key before it."""
    if offset + size >= len(data):
        raise IndexError("a block lies behind the end")
    if data[offset + size] != 0:  # the byte behind a block names its compression
        raise ValueError("its blocks are compressed, which TensorFlow does not do")
    block = data[offset : offset + size]
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    end, at, key = size - 4 - 4 * restarts, 0, b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        if at + unshared + length > end:
            raise IndexError("an entry reaches behind its block")
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of 7 bits, lowest first, and where it ends."""
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
    """(field number, value) of a protocol buffer: numbers as int, everything else as bytes."""
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
