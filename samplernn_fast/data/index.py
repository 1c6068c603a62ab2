"""Recordings as columns, and manifest.index: what a large manifest says of them, in a form that opens at once.

A manifest of a million recordings is 220 MB of JSON, which takes ten seconds and gigabytes to read. Beside a large one
lies an index with the same content as arrays, and with the manifest's hash: an index of another manifest is passed
over. Opening reads the lengths and splits alone; names, hashes and parts are read where they are asked for.
"""

import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from samplernn_fast.data.manifest import (
    LONGEST,
    MANIFEST_FILE,
    SPLITS,
    Manifest,
    Part,
    Recording,
    manifest_sha256,
    printable,
)
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.files import write_in_pieces
from samplernn_fast.untrusted import INDEX_BYTES, Fields, Unreadable, open_file, parse_json

INDEX_FILE = "manifest.index"
LEAST_INDEXED = 20_000
"""The fewest recordings that get an index. A manifest of as many is read in 0.2 s without one."""
_MAGIC = b"samplernn index1"
_HASH_BYTES = 32  # of a SHA-256
_ONCE = 1 << 16  # recordings whose names or hashes are read, or written, at once
_COLUMNS = {
    "lengths": "<i8",
    "splits": "u1",
    "sha256": "u1",
    "path_ends": "<i8",  # the byte behind each name in `paths`
    "paths": "u1",
    "part_ends": "<i8",  # the number behind the last part of each recording
    "part_places": "<i8",  # three numbers a part: offset, start, length
    "part_path_ends": "<i8",
    "part_paths": "u1",
}

IntArray = npt.NDArray[np.int64]


class Recordings(Sequence[Recording]):
    """Recordings in the order of a data folder: a sequence, whose numbers are columns that need no objects."""

    def __init__(
        self, offsets: IntArray, lengths: IntArray, splits: npt.NDArray[np.uint8], source: "_Source", chosen: IntArray
    ) -> None:
        """offsets, lengths, splits (n,); chosen (n,): the numbers of these recordings in `source`."""
        self.offsets, self.lengths = offsets, lengths
        self._splits, self._source, self._chosen = splits, source, chosen

    @classmethod
    def of(cls, recordings: "Sequence[Recording]") -> "Recordings":
        """Recordings that are objects."""
        if isinstance(recordings, cls):
            return recordings
        return cls(
            np.array([one.offset for one in recordings], np.int64),
            np.array([one.length for one in recordings], np.int64),
            np.array([SPLITS.index(one.split) for one in recordings], np.uint8),
            _Objects(recordings),
            np.arange(len(recordings)),
        )

    def of_split(self, split: str) -> "Recordings":
        """Those of one split."""
        here = self._splits == SPLITS.index(split)
        return Recordings(self.offsets[here], self.lengths[here], self._splits[here], self._source, self._chosen[here])

    def hash_lines(self) -> Iterator[str]:
        """Yields their hashes in order, many in one text with a line break between two."""
        for first in range(0, len(self), _ONCE):
            yield self._source.hash_lines(self._chosen[first : first + _ONCE])

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, number: int) -> Recording: ...
    @overload
    def __getitem__(self, number: slice) -> "Recordings": ...
    def __getitem__(self, number: int | slice) -> "Recording | Recordings":
        if isinstance(number, slice):
            columns = (self.offsets[number], self.lengths[number], self._splits[number])
            return Recordings(*columns, self._source, self._chosen[number])
        if not -len(self) <= number < len(self):
            raise IndexError(f"there are {len(self)} recordings, and no number {number}")
        split = SPLITS[self._splits[number]]
        return self._source.one(int(self._chosen[number]), split, int(self.offsets[number]), int(self.lengths[number]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        return f"Recordings({len(self)})"


class _Objects:
    """Recordings as they are."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._recordings = recordings

    def one(self, number: int, split: str, offset: int, length: int) -> Recording:
        return self._recordings[number]

    def hash_lines(self, numbers: IntArray) -> str:
        return "\n".join(self._recordings[number].sha256 for number in numbers.tolist())


class _File:
    """The columns of an open index, of which a piece is read where it is needed."""

    def __init__(self, path: Path, number: int, places: Mapping[str, tuple[int, int]]) -> None:
        """number: of the open file, which is closed with this object. places: first byte and count of each column."""
        self._path, self._number, self._places = path, number, places
        weakref.finalize(self, os.close, number)

    def column(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """The values of a column from `start` to `stop`. Raises DataError where the file has none there."""
        begin, count = self._places[name]
        stop = count if stop is None else stop
        kind = np.dtype(_COLUMNS[name])
        if not 0 <= start <= stop <= count:
            raise self.damaged(f"{name} has no values {start} to {stop}")
        wanted, content = (stop - start) * kind.itemsize, bytearray()
        try:
            # The system reads at most 2 GiB at once.
            while len(content) < wanted:
                more = os.pread(self._number, wanted - len(content), begin + start * kind.itemsize + len(content))
                if not more:
                    raise self.damaged("it became shorter while it was read")
                content += more
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read: {error.strerror}") from None
        return np.frombuffer(content, kind)

    def one(self, number: int, split: str, offset: int, length: int) -> Recording:
        digest = self.column("sha256", number * _HASH_BYTES, (number + 1) * _HASH_BYTES).tobytes().hex()
        name, parts = self._text("path", number), self._parts(number, length)
        return Recording(name, split, offset, length, digest, parts)

    def hash_lines(self, numbers: IntArray) -> str:
        first, last = int(numbers[0]), int(numbers[-1]) + 1
        found: list[bytes] = []
        # The hashes of a split may lie far apart, so those between them are read in pieces too.
        for start in range(first, last, _ONCE):
            stop = min(start + _ONCE, last)
            here = numbers[(numbers >= start) & (numbers < stop)] - start
            hashes = self.column("sha256", start * _HASH_BYTES, stop * _HASH_BYTES).reshape(-1, _HASH_BYTES)
            found.append(hashes[here].tobytes())
        return b"".join(found).hex("\n", -_HASH_BYTES)

    def _parts(self, number: int, length: int) -> tuple[Part, ...]:
        if not self._places["part_ends"][1]:
            return ()
        first, last = self._between("part_ends", number)
        places = self.column("part_places", 3 * first, 3 * last).reshape(-1, 3).tolist()
        parts = [Part(self._text("part_path", first + n), *places[n]) for n in range(last - first)]
        end = 0
        for part in parts:
            if part.offset < end or part.start < 0 or part.length < 1:
                raise self.damaged(f"the parts of recording {number} do not follow each other")
            end = part.offset + part.length
        if parts and end != length:
            raise self.damaged(f"the parts of recording {number} are not as long as itself")
        return tuple(parts)

    def _text(self, name: str, number: int) -> str:
        first, last = self._between(f"{name}_ends", number)
        return printable(self.column(f"{name}s", first, last).tobytes().decode(errors="replace"))

    def _between(self, name: str, number: int) -> tuple[int, int]:
        """The end before that of a number, and its own."""
        ends = self.column(name, max(0, number - 1), number + 1).tolist()
        return (ends[0] if number else 0), ends[-1]

    def damaged(self, why: str) -> DataError:
        return DataError(f"{self._path}: damaged ({why}); prepare again, or remove it to do without it")


_Source = _Objects | _File


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes manifest.json, and its index where there are many recordings."""
    manifest.write(folder)
    (folder / INDEX_FILE).unlink(missing_ok=True)  # that of an earlier manifest
    if len(manifest.recordings) >= LEAST_INDEXED:
        _write(folder, manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder, from its index where that has one. Raises DataError as `Manifest.read`."""
    return _read(folder) or Manifest.read(folder)


def _write(folder: Path, manifest: Manifest) -> None:
    recordings = manifest.recordings
    has_parts = any(one.parts for one in recordings)
    parts = [part for one in recordings for part in one.parts]
    columns: dict[str, Callable[[], Iterator[bytes]]] = {
        "lengths": lambda: _packed("<i8", (one.length for one in recordings)),
        "splits": lambda: _packed("u1", (SPLITS.index(one.split) for one in recordings)),
        "sha256": lambda: (bytes.fromhex(one.sha256) for one in recordings),
        "path_ends": lambda: _packed("<i8", _ends(len(one.path.encode()) for one in recordings)),
        "paths": lambda: (one.path.encode() for one in recordings),
        "part_ends": lambda: _packed("<i8", _ends(len(one.parts) for one in recordings if has_parts)),
        "part_places": lambda: _packed("<i8", (n for part in parts for n in (part.offset, part.start, part.length))),
        "part_path_ends": lambda: _packed("<i8", _ends(len(part.path.encode()) for part in parts)),
        "part_paths": lambda: (part.path.encode() for part in parts),
    }
    counts = {name: sum(map(len, made())) // np.dtype(_COLUMNS[name]).itemsize for name, made in columns.items()}
    about = {"manifest_sha256": manifest_sha256(folder), "counts": counts, "values": manifest.rest()}
    header = json.dumps(about).encode()

    def pieces() -> Iterator[bytes]:
        yield _MAGIC + len(header).to_bytes(8, "little") + header
        for made in columns.values():
            yield from made()

    write_in_pieces(folder / INDEX_FILE, pieces())


def _ends(lengths: Iterable[int]) -> Iterator[int]:
    end = 0
    for length in lengths:
        end += length
        yield end


def _packed(kind: str, numbers: Iterable[int]) -> Iterator[bytes]:
    """Yields numbers as bytes, many at once."""
    block: list[int] = []
    for number in numbers:
        block.append(number)
        if len(block) == _ONCE:
            yield np.array(block, kind).tobytes()
            block = []
    yield np.array(block, kind).tobytes()


def _read(folder: Path) -> Manifest | None:
    """The manifest as a folder's index has it. None where there is no index, or that of another manifest.

    Raises DataError for one that is damaged.
    """
    path = folder / INDEX_FILE
    if not (folder / MANIFEST_FILE).is_file() or not os.path.lexists(path):
        return None
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(len(_MAGIC)) != _MAGIC:
                raise Unreadable("is no index that this version reads")
            length = int.from_bytes(file.read(8), "little")
            if length > min(size, INDEX_BYTES):
                raise Unreadable("ends before its values do")
            fields = Fields(parse_json(file.read(length).decode(errors="replace")), "the index")
            if manifest_sha256(folder) != fields.text("manifest_sha256"):
                return None
            places = _places(fields.fields("counts"), file.tell(), size)
            columns = _File(path, os.dup(file.fileno()), places)
        return Manifest.from_values(fields.mapping("values"), _recordings(columns))
    except (ValueError, ConfigError) as error:
        raise DataError(f"{path}: damaged ({error}); prepare again, or remove it to do without it") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _recordings(columns: _File) -> Recordings:
    """All recordings of an index. Raises ValueError for one that cannot be."""
    lengths, splits = columns.column("lengths").astype(np.int64), columns.column("splits")
    ends = np.cumsum(lengths)
    if lengths.min() < 1 or lengths.max() > LONGEST or (ends < 1).any() or splits.max() >= len(SPLITS):
        raise ValueError("impossible length or split")
    return Recordings(ends - lengths, lengths, splits, columns, np.arange(len(lengths)))


def _places(counts: Fields, begin: int, size: int) -> dict[str, tuple[int, int]]:
    """Where each column begins, and its count. Raises Unreadable where the file has another size."""
    places = {}
    for name, kind in _COLUMNS.items():
        count = counts.integer(name, 0, size)
        places[name] = begin, count
        begin += count * np.dtype(kind).itemsize
    n, parts = places["lengths"][1], places["part_path_ends"][1]
    whole = {"lengths": n, "splits": n, "sha256": _HASH_BYTES * n, "path_ends": n, "part_places": 3 * parts}
    if not n or any(places[name][1] != count for name, count in whole.items()) or places["part_ends"][1] not in (0, n):
        raise Unreadable("its columns do not fit each other")
    if begin != size:
        raise Unreadable(f"has {size} bytes, and its columns take {begin}")
    return places
