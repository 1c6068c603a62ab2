"""Parts: the units of a shared `prepare`. A part has what was decoded of some files, and why others were dropped.

A part's file has the float32 samples of its recordings, one after another, then JSON that says which is where, filled
up with spaces to whole samples, then the number of bytes of that JSON in eight bytes. Samples are float32 because the
one gain of a data set is known only when every part is there.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplernn_fast.data.decoding import FLOAT, Decoded, Scratch, Take
from samplernn_fast.errors import DataError
from samplernn_fast.untrusted import INDEX_BYTES, Fields, Unreadable, open_file, parse_json

MOST_FILES, MOST_BYTES = 64, 1 << 30
"""The most files, and bytes of them, that a part has, unless one file alone has more. A process that is killed loses
what it has decoded of one part, and a million small files make some 16,000 parts."""
_LENGTH_BYTES = 8
_COPIED_AT_ONCE = 1 << 18  # samples
_MOST = 2**60


@dataclass(frozen=True, slots=True)
class Source:
    """An audio file as it was found: changed files are told by these."""

    name: str
    bytes: int
    changed: int
    """When it was changed, in nanoseconds since 1970."""

    @classmethod
    def at(cls, name: str, path: Path) -> "Source":
        """A file as it is now. One that cannot be looked at has no bytes: `prepare` drops it with the reason."""
        try:
            found = os.stat(path)
        except OSError:
            return cls(name, 0, 0)
        return cls(name, found.st_size, found.st_mtime_ns)


def divide(sources: Sequence[Source]) -> list[Sequence[Source]]:
    """Divides files into parts, in their order. It depends on them alone, and not on the number of processes."""
    parts, first, total = [], 0, 0
    for number, source in enumerate(sources):
        if number > first and (number - first >= MOST_FILES or total + source.bytes > MOST_BYTES):
            parts.append(sources[first:number])
            first, total = number, 0
        total += source.bytes
    return [*parts, sources[first:]]


def write_part(path: Path, sources: Sequence[Source], decoded: Decoded) -> None:
    """Writes a part's file. sources: all its files, in order. Raises OSError."""
    takes, dropped = {take.name: take for take in decoded[0]}, dict(decoded[1])
    rows: list[dict[str, Any]] = []
    with Scratch() as scratch, open(path, "wb") as file:
        for source in sources:
            row: dict[str, Any] = {"name": source.name, "bytes": source.bytes, "changed": source.changed}
            if source.name in dropped:
                rows.append(row | {"dropped": dropped[source.name]})
                continue
            take = takes[source.name]
            for first in range(take.start, take.stop, _COPIED_AT_ONCE):
                file.write(scratch.read(take.scratch, first, min(first + _COPIED_AT_ONCE, take.stop)).data)
            rows.append(row | {"length": take.stop - take.start, "peak": take.peak, "lost": take.lost})
        text = json.dumps({"files": rows}).encode()
        text += b" " * (-len(text) % FLOAT.itemsize)
        file.write(text + len(text).to_bytes(_LENGTH_BYTES, "little"))


def read_part(path: Path) -> tuple[list[Source], Decoded]:
    """What a part's file says: its sources, and what was decoded of them, whose samples lie in that file.

    Raises DataError where it is damaged.
    """
    try:
        with open_file(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LENGTH_BYTES))
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            end = size - _LENGTH_BYTES - length
            if end < 0 or length > INDEX_BYTES:
                raise Unreadable("ends in no description of what it holds")
            file.seek(end)
            return _described(path, parse_json(file.read(length).decode(errors="replace")), end)
    except Unreadable as error:
        raise DataError(f"{path}: no part of a data set: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _described(path: Path, values: Any, end: int) -> tuple[list[Source], Decoded]:
    """The sources and the decoded recordings of a part with `end` bytes of samples. Raises Unreadable."""
    sources, takes, dropped, position = [], list[Take](), list[tuple[str, str]](), 0
    for row in _rows(values):
        name = row.text("name")
        sources.append(Source(name, row.integer("bytes", 0, _MOST), row.integer("changed", -_MOST * 8, _MOST * 8)))
        if row.has("dropped"):
            dropped.append((name, row.text("dropped")))
            continue
        stop = position + row.integer("length", 1, _MOST)
        takes.append(Take(name, path, position, stop, row.number("peak", 0, 1e38), row.number("lost", -1e9, 1e9)))
        position = stop
    if position * FLOAT.itemsize != end:
        raise Unreadable("its samples are more or fewer than it says")
    return sources, (takes, dropped)


def _rows(values: Any) -> Iterator[Fields]:
    rows = Fields(values, "the description").value("files")
    if not isinstance(rows, list):
        raise Unreadable("files of the description must be a list")
    for row in rows:
        yield Fields(row, "a file")


def changed_file(there: Mapping[str, Source], here: Mapping[str, Source]) -> str | None:
    """What differs first between two lists of files, in words; None where nothing does."""
    for name in sorted(there.keys() | here.keys()):
        if name not in here:
            return f"{name} is gone"
        if name not in there:
            return f"{name} is new"
        if there[name] != here[name]:
            return f"{name} was changed"
    return None
