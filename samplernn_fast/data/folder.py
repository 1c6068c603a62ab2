"""The data folder, written by preparation.py and read by data.py: audio.i16, manifest.json, chunk sizes."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.files import replacing

FORMAT = "samplernn_fast data"
FORMAT_VERSION = 1
AUDIO_FILE = "audio.i16"
MANIFEST_FILE = "manifest.json"
SPLITS = ("train", "valid", "test")
SAMPLE = np.dtype("<i2")

Int16Array = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Recording:
    """One input file inside a data folder."""

    path: str
    """Name relative to the input folder, with forward slashes."""
    split: str
    """train, valid or test."""
    offset: int
    """First sample in audio.i16."""
    length: int
    """Samples, at the folder's rate."""
    sha256: str
    """Of the recording's bytes in audio.i16; equal for recordings that sound exactly the same."""


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
        """Writes manifest.json into `folder`, whole or not at all."""
        values = {"format": FORMAT, "format_version": FORMAT_VERSION} | asdict(self)
        with replacing(folder / MANIFEST_FILE) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises DataError when manifest.json is missing, damaged, or of another format or version."""
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
        recordings = tuple(Recording(**entry) for entry in values["recordings"])
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
    """Chunks of at most `largest` samples that a recording of `length` samples is cut into."""
    return -(-length // largest)


def chunk_step(length: int, largest: int, multiple: int) -> int:
    """Samples from one chunk's start to the next: even, so that no short tail is left of a short recording,
    and a multiple of `multiple` (the subsequence) where it fits, so that only a last chunk needs padding."""
    even = -(-length // chunk_count(length, largest))
    return min(largest, -(-even // multiple) * multiple)


class AudioData:
    """A data folder, memory-mapped: opening 20 hours takes no memory to speak of."""

    def __init__(self, folder: Path, manifest: Manifest, audio: Int16Array) -> None:
        self.folder = folder
        self.manifest = manifest
        self.audio = audio
        """Every recording, one after another: (samples,) int16, after the gain."""

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "AudioData":
        """Raises DataError when the folder is missing, damaged, of another version or unlike its manifest."""
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
            # A plain view: slicing a memmap object costs microseconds per row.
            audio = np.memmap(path, SAMPLE, mode="r").view(np.ndarray)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}; prepare the data again") from None
        return cls(root, manifest, audio)

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.manifest.sample_rate

    @property
    def gain(self) -> float:
        """The factor that the audio was multiplied by."""
        return self.manifest.gain

    @property
    def chunk_seconds(self) -> float:
        """The longest chunk that training reads without a reset."""
        return self.manifest.chunk_seconds

    def recordings(self, split: str) -> list[Recording]:
        """The recordings of "train", "valid" or "test", in the order of the folder; may be empty."""
        if split not in SPLITS:
            raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return [recording for recording in self.manifest.recordings if recording.split == split]

    def samples(self, recording: Recording) -> Int16Array:
        """(length,) int16, a view into the mapped file."""
        return self.audio[recording.offset : recording.offset + recording.length]
