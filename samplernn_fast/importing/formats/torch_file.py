"""Reads files that `torch.save` wrote: tensors, and settings as plain values. No code in them is run.

A file is a zip archive, or, as torch wrote it before version 1.6, a row of pickles with the storages behind them.
`torch_pickle` says what the pickles may ask for. Here the values are read, of the tensors of the state dict only, and
every number of theirs is compared with what the file has: torch itself would believe it.
"""

import math
import os
import struct
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from samplernn_fast.errors import CheckpointError
from samplernn_fast.importing.formats.pickles import LEGACY_START, Bounded, Held, read_pickle_values, refusing
from samplernn_fast.importing.formats.torch_pickle import StorageRecord, TensorRecord, TorchNames
from samplernn_fast.untrusted import CHECKPOINT_BYTES, Unreadable, open_file

_STATE_KEYS = ("state_dict", "model_state_dict", "model")  # what a file that holds more calls its state dict
_MOST_PICKLE = 1 << 26  # bytes of the pickle in an archive; a tensor takes about 150
_MOST_DIRECTORY = 1 << 21  # bytes of the list of an archive's entries; a storage takes about 100
_MOST_NAME = 200  # characters of a tensor's name
_MOST_DIMENSIONS = 32
_MOST_SETTINGS = 100_000  # values of the hyper-parameters, each counted as often as it is repeated
_MOST_DEPTH = 20  # how deep hyper-parameters stand in each other


def read_torch_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads the tensors of a state dict, and the hyper-parameters of a Lightning checkpoint as plain values, else {}.

    Raises CheckpointError for a damaged file, one that holds something else, or one that asks to run code.
    """
    return _read(path, lambda records, storages: _Tensors(storages).make(records))


def names_in(path: Path) -> list[str]:
    """The names of the tensors of a state dict, which are not read. Raises CheckpointError as `read_torch_file`."""
    return list(_read(path, lambda records, storages: records)[0])


def _read(path: Path, make: Callable[[dict[str, TensorRecord], "_Storages"], Any]) -> tuple[Any, dict[str, Any]]:
    """What `make` makes of the tensors' records and the file, and the hyper-parameters."""
    with refusing(path, "torch file", "tensor"), open_file(path, CHECKPOINT_BYTES) as opened:
        try:
            storages: _Storages = _Archive(opened) if opened.read(4) == b"PK\x03\x04" else _LegacyFile(opened)
            records, parameters = _state_dict(storages.content)
            return make(records, storages), parameters
        except _Other as error:
            raise CheckpointError(f"{path}: {error}") from None


class _Other(Unreadable):
    """A file that is whole and holds something else than a state dict; the text says it all."""


class _Storages(ABC):
    """A file: what its pickle stands for, and the bytes of its storages."""

    content: Any
    size: int
    """The file's bytes."""

    @abstractmethod
    def read(self, record: StorageRecord) -> bytearray:
        """All bytes of a storage."""


class _Archive(_Storages):
    """A zip archive: NAME/data.pkl, and NAME/data/KEY for every storage. torch compresses nothing."""

    def __init__(self, opened: BinaryIO) -> None:
        self.size = os.fstat(opened.fileno()).st_size
        limited = _Limited(opened)
        self._zip = _attempt(lambda: zipfile.ZipFile(limited))  # type: ignore[arg-type, return-value]
        limited.most = self.size
        names = self._zip.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1 or len(set(names)) != len(names):
            raise Unreadable("an archive without one data.pkl, or with two entries of one name")
        self._root = pickles[0].removesuffix("data.pkl")
        if f"{self._root}constants.pkl" in names:
            raise _Other("is a TorchScript program; save the state_dict of the model instead")
        if f"{self._root}byteorder" in names and self._entry(f"{self._root}byteorder", 10) != b"little":
            raise Unreadable("written on a big-endian machine")
        found = self._entry(pickles[0], _MOST_PICKLE)
        torch_names = TorchNames()
        stream = Bounded(BytesIO(found), len(found))
        self.content = read_pickle_values(stream, torch_names.find, torch_names.persistent)

    def read(self, record: StorageRecord) -> bytearray:
        return bytearray(self._entry(f"{self._root}data/{record.key}", self.size))

    def _entry(self, name: str, most: int) -> bytes:
        """The bytes of an entry, which is stored as it is, and of which zipfile compares a checksum."""
        try:
            info = self._zip.getinfo(name)
        except KeyError:
            raise Unreadable(f"it has no entry {name[:60]}") from None
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise Unreadable(f"its entry {name[:60]} is compressed or encrypted, which torch does not do")
        if info.file_size > most:
            raise Unreadable(f"its entry {name[:60]} has {info.file_size} bytes, and at most {most} are read")
        content = _attempt(lambda: self._zip.read(info))
        if len(content) != info.file_size:
            raise Unreadable(f"its entry {name[:60]} is too short")
        return content


class _LegacyFile(_Storages):
    """A row of pickles: magic number, version, the machine, the content, the keys of the storages; then these."""

    def __init__(self, opened: BinaryIO) -> None:
        self._opened, self.size = opened, os.fstat(opened.fileno()).st_size
        opened.seek(0)
        if opened.read(len(LEGACY_START)) != LEGACY_START:
            raise Unreadable("it does not begin as torch's files do")
        names = TorchNames()
        stream = Bounded(opened, self.size - len(LEGACY_START))
        version, machine = (read_pickle_values(stream, names.find) for _ in range(2))
        if version != 1001 or not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise Unreadable("of another version of torch's files, or written on a big-endian machine")
        self.content = read_pickle_values(stream, names.find, names.persistent)
        keys = read_pickle_values(stream, names.find)
        if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
            raise Unreadable("the list of its storages is damaged")
        self._places: dict[str, tuple[int, int]] = {}
        for key in map(str, keys):
            if key not in names.storages or key in self._places:
                raise Unreadable("the list of its storages does not belong to its tensors")
            count = struct.unpack("<q", stream.read(8))[0] * names.storages[key].itemsize
            self._places[key] = (self.size - stream.left, count)
            stream.skip(count)

    def read(self, record: StorageRecord) -> bytearray:
        if record.key not in self._places:
            raise Unreadable("a storage of it is missing")
        place, count = self._places[record.key]
        self._opened.seek(place)
        content = bytearray(count)
        if self._opened.readinto(content) != count:  # type: ignore[attr-defined]
            raise Unreadable("it became shorter while it was read")
        return content


class _Limited:
    """A file of which at most `most` bytes are read at a time: zipfile reads the list of entries at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.most = file, _MOST_DIRECTORY
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        content = self._file.read(count if 0 <= count <= self.most else self.most + 1)
        if len(content) > self.most:
            raise Unreadable(f"the list of its entries has more than {self.most} bytes")
        return content


def _attempt(read: Callable[[], Any]) -> Any:
    """What `read` returns. Raises Unreadable for all that zipfile raises for a damaged archive."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except Unreadable:
        raise
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        ValueError,
        EOFError,
        struct.error,
        OSError,
    ) as error:
        raise Unreadable(" ".join(str(error)[:200].split())[:80] or type(error).__name__) from None


def _state_dict(content: Any) -> tuple[dict[str, TensorRecord], dict[str, Any]]:
    """The records of the tensors by name, and the hyper-parameters beside them."""
    if not isinstance(content, dict):
        raise _Other(f"must hold a state dict, found {type(content).__name__}")
    nested = [key for key in _STATE_KEYS if isinstance(content.get(key), dict)]
    tensors = content[nested[0]] if nested else content
    others = [str(name)[:_MOST_NAME] for name, value in tensors.items() if not isinstance(value, TensorRecord)]
    if others or not tensors:
        raise _Other(f"must hold tensors by name, but {others[0] if others else 'it'} is none")
    if not all(isinstance(name, str) and len(name) <= _MOST_NAME for name in tensors):
        raise _Other(f"the names of its tensors must be text of at most {_MOST_NAME} characters")
    parameters = _Plain().of(content.get("hyper_parameters")) if nested else None
    return tensors, parameters if isinstance(parameters, dict) else {}


class _Tensors:
    """Makes tensors of their records."""

    def __init__(self, storages: _Storages) -> None:
        self._storages = storages
        self._left = 2 * storages.size  # bytes; two tensors may share a storage, but not hundreds
        self._read: dict[str, bytearray] = {}

    def make(self, records: dict[str, TensorRecord]) -> dict[str, Tensor]:
        """All tensors by name. Raises Unreadable, which names the first that does not fit the file."""
        return {name: self._tensor(name, record) for name, record in records.items()}

    def _tensor(self, name: str, record: TensorRecord) -> Tensor:
        storage = record.storage
        if record.other or not isinstance(storage, StorageRecord) or storage.dtype is None:
            kind = record.other or f"of {storage.type if isinstance(storage, StorageRecord) else 'no storage'}"
            raise _Other(f"tensor {name} is {kind}, and only plain tensors of whole or floating-point numbers are read")
        size, stride = record.size, record.stride
        for numbers in (size, stride, (record.offset,)):
            if not isinstance(numbers, tuple) or not all(type(number) is int and number >= 0 for number in numbers):
                raise Unreadable(f"tensor {name} has a size or a place that is no number")
        if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS or 0 in size:
            raise Unreadable(f"tensor {name} has no values, or {len(size)} sizes and {len(stride)} strides")
        if storage.key not in self._read:
            self._read[storage.key] = self._storages.read(storage)
        content, first = self._read[storage.key], record.offset + storage.offset
        last = first + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        count, present = math.prod(size), len(content) // storage.itemsize
        self._left -= count * storage.itemsize
        if first < 0 or last >= present or count > present or self._left < 0:
            raise Unreadable(f"tensor {name} has more values than the file")
        return torch.frombuffer(content, dtype=storage.dtype, count=present).as_strided(size, stride, first)


class _Plain:
    """Makes dicts, lists and values of settings. omegaconf keeps a container's items in _content, a value in _val."""

    def __init__(self) -> None:
        self._left = _MOST_SETTINGS

    def of(self, value: Any, depth: int = 0) -> Any:
        """The plain value, or None for what is none or lies too deep."""
        self._left -= 1
        if self._left < 0:
            raise _Other(f"its hyper_parameters hold more than {_MOST_SETTINGS} values")
        held = value.state if isinstance(value, Held) else None
        if isinstance(held, dict):
            value = held.get("_content", held.get("_val"))
        if depth > _MOST_DEPTH:
            return None
        if isinstance(value, dict):
            return {str(key): self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(item, depth + 1) for item in value]
        return value if isinstance(value, (str, int, float, bool)) else None
