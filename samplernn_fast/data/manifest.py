"""manifest.json: what a data folder says of its samples. A folder comes from anywhere, so every value is checked."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from samplernn_fast.data.settings import ChunkSeconds, Gain, SampleRate
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.files import write_in_pieces
from samplernn_fast.ranges import of_annotation
from samplernn_fast.untrusted import INDEX_BYTES, Unreadable, read_json

FORMAT = "samplernn_fast data"
FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
SPLITS = ("train", "valid", "test")
LONGEST = 2**50
"""The most samples of a recording."""


@dataclass(frozen=True, slots=True)  # there may be millions
class Part:
    """A piece of an input file inside an entry that is not one whole input file."""

    path: str
    """The input file's name, as `Recording.path`."""
    offset: int
    """Where it begins in the entry, in samples. Silence stands between two parts that do not touch."""
    start: int
    """Where it begins in the input file, in samples at the folder's rate."""
    length: int
    """How many samples it has."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One entry of a data folder: one input file, or a medley of several that were joined."""

    path: str
    """The input file's name relative to the input folder, with forward slashes; a medley's own name."""
    split: str
    """train, valid or test."""
    offset: int
    """The number of its first sample in audio.i16."""
    length: int
    """How many samples it has at the folder's rate."""
    sha256: str
    """The hash of its bytes in audio.i16, equal for recordings that sound exactly the same."""
    parts: tuple[Part, ...] = ()
    """What it is made of, where it is not one whole input file."""


@dataclass(frozen=True)
class Manifest:
    """manifest.json: everything about a data folder but the samples."""

    sample_rate: int
    gain: float
    chunk_seconds: float
    recordings: Sequence[Recording]
    split_info: dict[str, Any] = field(default_factory=dict)
    dropped: tuple[tuple[str, str], ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes manifest.json into `folder`, whole or not at all.

        The parts of entries stand under a key of their own, which versions that know none pass over.
        """
        write_in_pieces(folder / MANIFEST_FILE, (piece.encode() for piece in self._pieces()))

    def rest(self) -> dict[str, Any]:
        """All values but the recordings, for JSON."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "recordings"}

    def _pieces(self) -> Iterator[str]:
        """Yields the text of manifest.json in pieces, so that not all of it is in memory at once."""
        values: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
        values |= {one.name: getattr(self, one.name) for one in fields(self)}
        values["recordings"] = tuple(self.recordings)  # The encoder takes tuples and lists alone for lists.
        parts = {entry.path: entry.parts for entry in self.recordings if entry.parts}
        if parts:
            values["parts"] = parts
        yield from json.JSONEncoder(indent=1, default=_for_json).iterencode(values)
        yield "\n"

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Reads a folder's manifest. Raises DataError when it is missing, damaged, or of another format or version."""
        path = folder / MANIFEST_FILE
        if not os.path.lexists(path):
            raise DataError(f"{folder}: no data folder (no {MANIFEST_FILE}); make one with prepare")
        try:
            values = read_json(path, INDEX_BYTES)
        except Unreadable as error:
            raise DataError(f"{path}: damaged, or cannot be read: {error}; prepare the data again") from None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise DataError(f"{path}: not a manifest of {FORMAT}; make a data folder with prepare")
        if values.get("format_version") != FORMAT_VERSION:
            got = _short(values.get("format_version"))
            raise DataError(f"{path}: format version {got}, this program reads {FORMAT_VERSION}; prepare again")
        try:
            return cls.from_values(values)
        except (ValueError, ConfigError) as error:
            raise DataError(f"{path}: damaged ({error}); prepare again") from None

    @classmethod
    def from_values(cls, values: dict[str, Any], recordings: Sequence[Recording] = ()) -> "Manifest":
        """The manifest that JSON values stand for. Raises ValueError, or ConfigError for a number out of its range.

        recordings: those of an index, in place of the values'.
        """
        for name, declared in (("sample_rate", SampleRate), ("gain", Gain), ("chunk_seconds", ChunkSeconds)):
            number = _typed(values, name, (int,) if declared is SampleRate else (int, float))
            of_annotation(declared).check(name, number)  # type: ignore[union-attr]  # all three have a Range
        dropped = _typed(values, "dropped", (list,))
        if not all(isinstance(pair, list) and len(pair) == 2 and _are(str, pair) for pair in dropped):
            raise ValueError("dropped must be pairs of a name and a reason")
        return cls(
            sample_rate=values["sample_rate"],
            gain=values["gain"],
            chunk_seconds=values["chunk_seconds"],
            recordings=recordings
            or _recordings(_typed(values, "recordings", (list,)), _parts(values.get("parts", {}))),
            split_info=_typed(values, "split_info", (dict,)),
            dropped=tuple((name, reason) for name, reason in dropped),
            versions=_typed(values, "versions", (dict,)),
        )


def manifest_sha256(folder: Path) -> str:
    """The hash of a data folder's manifest, which has the hashes of its recordings."""
    with open(folder / MANIFEST_FILE, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _for_json(value: object) -> dict[str, Any]:
    """An entry or a part as JSON has it. An entry's parts stand elsewhere."""
    if isinstance(value, Recording):
        return {one.name: getattr(value, one.name) for one in fields(value) if one.name != "parts"}
    return asdict(value)  # type: ignore[call-overload,no-any-return]  # there is nothing but entries and parts


def printable(name: str) -> str:
    """A file's name without line breaks, control characters and bytes that are no text, which become escapes."""
    unsafe = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
    return re.sub(unsafe, lambda found: found[0].encode("unicode_escape", "backslashreplace").decode(), name)


def _recordings(entries: list[Any], parts: Mapping[str, tuple[Part, ...]]) -> tuple[Recording, ...]:
    """The entries of a manifest, which follow each other in audio.i16 without a gap. Raises ValueError."""
    recordings, end = [], 0
    for entry in entries:
        _check_keys("a recording", entry, {"path": str, "split": str, "offset": int, "length": int, "sha256": str})
        if entry["split"] not in SPLITS or not 1 <= entry["length"] <= LONGEST or entry["offset"] != end:
            raise ValueError(f"impossible split, offset or length of {_short(entry['path'])}")
        if not re.fullmatch("[0-9a-f]{64}", entry["sha256"]):
            raise ValueError(f"the hash of {_short(entry['path'])} is none")
        end += entry["length"]
        made_of = parts.get(entry["path"], ())
        if made_of and made_of[-1].offset + made_of[-1].length != entry["length"]:
            raise ValueError(f"the parts of {_short(entry['path'])} are not as long as itself")
        recordings.append(Recording(**entry | {"path": printable(entry["path"])}, parts=made_of))
    if not recordings:
        raise ValueError("it has no recordings")
    if end > LONGEST * 1024:  # beyond any disk; 64 bits hold every place below
        raise ValueError("its recordings are too long together")
    return tuple(recordings)


def _parts(values: Any) -> dict[str, tuple[Part, ...]]:
    """The parts of entries by their names. Raises ValueError."""
    if not isinstance(values, dict) or not _are(list, values.values()):
        raise ValueError("parts must be lists by the names of recordings")
    return {name: tuple(_in_order(name, parts)) for name, parts in values.items()}


def _in_order(name: str, values: list[Any]) -> list[Part]:
    """Parts that follow each other inside an entry. Raises ValueError."""
    parts, end = [], 0
    for value in values:
        _check_keys("a part", value, {"path": str, "offset": int, "start": int, "length": int})
        part = Part(**value | {"path": printable(value["path"])})
        if part.offset < end or part.start < 0 or part.length < 1:
            raise ValueError(f"the parts of {_short(name)} do not follow each other")
        end = part.offset + part.length
        parts.append(part)
    return parts


def _check_keys(what: str, value: Any, types: Mapping[str, type]) -> None:
    """Raises ValueError where `value` is no mapping of exactly these keys to values of these types."""
    if not isinstance(value, dict) or value.keys() != types.keys():
        raise ValueError(f"{what} must have the keys {', '.join(types)}, got {_short(value)}")
    for key, wanted in types.items():
        _typed(value, key, (wanted,))


def _typed(values: Mapping[str, Any], key: str, types: tuple[type, ...]) -> Any:
    """A value of one of some types, of which bool is never one. Raises ValueError."""
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, types):
        raise ValueError(f"{key} must be of the type {' or '.join(one.__name__ for one in types)}, got {_short(value)}")
    return value


def _are(wanted: type, values: Any) -> bool:
    return all(isinstance(value, wanted) for value in values)


def _short(value: Any) -> str:
    """A value for a message, at most 80 characters of it."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
