"""The data folder: its two files, audio.i16 and manifest.json, and how its recordings are cut into chunks.

`preparation` writes a data folder, `batches` reads one. audio.i16 holds every recording, one after another, as
little-endian int16 without a header; manifest.json holds everything else.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.files import write_text

FORMAT = "samplernn_fast data"
FORMAT_VERSION = 1
AUDIO_FILE = "audio.i16"
MANIFEST_FILE = "manifest.json"
SPLITS = ("train", "valid", "test")
SAMPLE = np.dtype("<i2")
"""The samples of audio.i16."""

Int16Array = npt.NDArray[np.int16]


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Recording:
    """One entry of a data folder: one input file, or a stream of several that were joined."""

    path: str
    """The input file's name relative to the input folder, with forward slashes; a stream's own name."""
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
    recordings: tuple[Recording, ...]
    split_info: dict[str, Any] = field(default_factory=dict)
    dropped: tuple[tuple[str, str], ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes manifest.json into `folder`, whole or not at all.

        The parts of entries stand under a key of their own, which versions that know none pass over.
        """
        values: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION} | asdict(self)
        parts = {entry["path"]: made_of for entry in values["recordings"] if (made_of := entry.pop("parts"))}
        if parts:
            values["parts"] = parts
        write_text(folder / MANIFEST_FILE, json.dumps(values, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Reads a folder's manifest. Raises DataError when it is missing, damaged, or of another format or version."""
        path = folder / MANIFEST_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{folder}: no data folder (no {MANIFEST_FILE}); make one with prepare") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise DataError(f"{path}: damaged ({error}); prepare the data again") from None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise DataError(f"{path}: not a manifest of {FORMAT}; make a data folder with prepare")
        if values.get("format_version") != FORMAT_VERSION:
            got = values.get("format_version")
            raise DataError(f"{path}: format version {got}, this program reads {FORMAT_VERSION}; prepare again")
        try:
            return cls._from_values(values)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: damaged ({type(error).__name__}: {error}); prepare again") from None

    @classmethod
    def _from_values(cls, values: dict[str, Any]) -> "Manifest":
        parts = {path: tuple(Part(**part) for part in made_of) for path, made_of in values.get("parts", {}).items()}
        recordings = tuple(Recording(**entry, parts=parts.get(entry["path"], ())) for entry in values["recordings"])
        end = 0
        for recording in recordings:
            if recording.split not in SPLITS or recording.length < 1 or recording.offset != end:
                raise ValueError(f"impossible split, offset or length of {recording.path!r}")
            end += recording.length
        if end < 1 or values["sample_rate"] < 1 or not values["gain"] > 0 or not values["chunk_seconds"] > 0:
            raise ValueError("no recordings, or an impossible sample_rate, gain or chunk_seconds")
        dropped = tuple((name, reason) for name, reason in values["dropped"])
        fixed = {name: values[name] for name in ("sample_rate", "gain", "chunk_seconds")}
        more = {name: values[name] for name in ("split_info", "versions")}
        return cls(**fixed, **more, recordings=recordings, dropped=dropped)


def chunk_samples(sample_rate: int, chunk_seconds: float) -> int:
    """The largest number of samples in a chunk."""
    return max(1, round(sample_rate * chunk_seconds))


def chunk_count(length: int, largest: int) -> int:
    """How many chunks of at most `largest` samples a recording of `length` samples is cut into."""
    return -(-length // largest)


def chunk_step(length: int, largest: int, multiple: int) -> int:
    """How many samples lie between the starts of two chunks of a recording of `length` samples.

    All chunks are about equally long, so that no short one is left at the end. The step is a multiple of `multiple`
    (the subsequence) where `largest` allows it, so that only a last chunk needs padding.
    """
    even = -(-length // chunk_count(length, largest))
    return min(largest, -(-even // multiple) * multiple)


class AudioData:
    """An open data folder. Its audio is memory-mapped, so that 20 hours of it need hardly any memory."""

    def __init__(self, folder: Path, manifest: Manifest, audio: Int16Array) -> None:
        self.folder = folder
        self.manifest = manifest
        self.audio = audio
        """Every recording, one after another: (samples,) int16, after the gain."""

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "AudioData":
        """Opens a folder. Raises DataError when it is missing, damaged, of another version or unlike its manifest."""
        root = Path(folder)
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; make it with prepare")
        manifest = Manifest.read(root)
        path = root / AUDIO_FILE
        expected = sum(recording.length for recording in manifest.recordings) * SAMPLE.itemsize
        try:
            size = path.stat().st_size
            if size != expected:
                raise DataError(f"{path}: {size} bytes, the manifest says {expected}; prepare the data again")
            # A plain array over the same memory: slicing a memmap object costs microseconds more.
            audio = np.memmap(path, SAMPLE, mode="r").view(np.ndarray)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}; prepare the data again") from None
        return cls(root, manifest, audio)

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.manifest.sample_rate

    @property
    def gain(self) -> float:
        """The factor that all amplitudes were multiplied by."""
        return self.manifest.gain

    @property
    def chunk_seconds(self) -> float:
        """The length of the longest chunk, which training reads without a reset, in seconds."""
        return self.manifest.chunk_seconds

    def recordings(self, split: str) -> list[Recording]:
        """The recordings of "train", "valid" or "test", in the order of the folder; may be empty."""
        if split not in SPLITS:
            raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return [recording for recording in self.manifest.recordings if recording.split == split]

    def samples(self, recording: Recording) -> Int16Array:
        """The samples of a recording: (length,) int16, a view into the mapped file."""
        return self.audio[recording.offset : recording.offset + recording.length]
