"""The data folder: its two files, audio.i16 and manifest.json; a large manifest has an index beside it.

`preparation` writes a data folder, `batches` reads one. audio.i16 holds every recording, one after another, as
little-endian int16 without a header; manifest.json holds everything else. `manifest` and `index` read and write that.
"""

import math
import os
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samplernn_fast.audio.quantize import quantizer
from samplernn_fast.data.chunks import Chunks
from samplernn_fast.data.index import Recordings, read_manifest
from samplernn_fast.data.manifest import MANIFEST_FILE, SPLITS, Manifest, Recording
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.stores.reading import local
from samplernn_fast.untrusted import Unreadable, open_file

AUDIO_FILE = "audio.i16"
SAMPLE = np.dtype("<i2")
"""The samples of audio.i16."""
_PIECE = 1 << 20  # samples that are counted at once
_LISTENED = 1 << 31  # most samples that `moments` counts: 37 hours at 16 kHz, 4 GB, half a minute
_SHORT = 1 << 10  # samples of a piece that is sound or silence as a whole
_LOOKS = 1 << 10  # most such pieces of a split that are looked at
_SPREAD = 64  # A piece whose samples differ by less lies 60 dB below full scale, or is one constant value.
_LEAST_SOUND = 0.01  # A split with a smaller share of sound is nearly silent.
_GOLDEN = (math.sqrt(5) - 1) / 2  # Its multiples spread evenly, and do not fall into step with words of one length.

Int16Array = npt.NDArray[np.int16]


class AudioData:
    """An open data folder. Its audio is memory-mapped, so that 20 hours of it need hardly any memory."""

    def __init__(self, folder: Path, manifest: Manifest, audio: Int16Array, file: int | None = None) -> None:
        """file: the number of the open file that `audio` maps, which is closed with this object; None maps none."""
        self.folder = folder
        self.manifest = manifest
        self._recordings = Recordings.of(manifest.recordings)
        self.audio = audio
        """Every recording, one after another: (samples,) int16, after the gain."""
        self._file = file
        if file is not None:
            weakref.finalize(self, os.close, file)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "AudioData":
        """Opens a folder. Raises DataError when it is missing, damaged, of another version or unlike its manifest."""
        root = local(folder, lambda names: names if MANIFEST_FILE in names else [])
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; make it with prepare")
        manifest = read_manifest(root)
        path = root / AUDIO_FILE
        expected = int(Recordings.of(manifest.recordings).lengths.sum()) * SAMPLE.itemsize
        try:
            with open_file(path) as file:
                size = os.fstat(file.fileno()).st_size
                if size != expected:
                    raise DataError(f"{path}: {size} bytes, the manifest says {expected}; prepare the data again")
                # A plain array over the same memory: slicing a memmap object costs microseconds more.
                audio = np.memmap(file, SAMPLE, mode="r").view(np.ndarray)
                number = os.dup(file.fileno())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}; prepare the data again") from None
        except Unreadable as error:
            raise DataError(f"{path}: cannot be read: {error}; prepare the data again") from None
        return cls(root, manifest, audio, number)

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

    def recordings(self, split: str) -> Recordings:
        """The recordings of "train", "valid" or "test", in the order of the folder; may be empty."""
        if split not in SPLITS:
            raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return self._recordings.of_split(split)

    def moments(self, split: str, gain: float) -> tuple[float, float]:
        """The mean and the standard deviation of a split's amplitudes, as a model of that gain hears them.

        The sums are exact, over the 16-bit samples after the gain; of a split of more than 2^31 samples, over pieces
        of at most a million that are spread evenly over it, so that it does not take hours. The deviation is at least
        one 16-bit step, 2^-15, so that a constant signal can be divided by it; (0, 2^-15) for an empty split.
        """
        counts = np.zeros(65536, np.int64)
        recordings = self.recordings(split)
        pieces = Chunks(recordings.offsets, recordings.lengths, _PIECE, 1)
        some = np.arange(0, len(pieces), -(-pieces.samples // _LISTENED) or 1)
        for start, length in zip(*(places.tolist() for places in pieces.places(some)), strict=True):
            heard = self.read(start, start + length).astype(np.int64)
            counts += np.bincount(heard + 32768, minlength=65536)
        table = quantizer("linear", 65536).lut_int16(gain / self.gain)
        # Python's integers, because a sum of squares passes 64 bits after some days of audio.
        pairs = [(int(count), int(level) - 32768) for count, level in zip(counts, table, strict=True) if count]
        number = sum(count for count, _ in pairs) or 1
        first = sum(count * value for count, value in pairs)
        second = sum(count * value * value for count, value in pairs)
        deviation = math.sqrt(number * second - first * first) / number
        return first / number / 32768, max(deviation, 1.0) / 32768

    def silent_splits(self, splits: Iterable[str] = SPLITS) -> dict[str, float]:
        """Returns which of `splits` are silent, or nearly so, and how much of each is sound: less than a hundredth.

        At most 1,024 short pieces of a split are looked at, and of one that sounds hardly more than ten. A split
        without recordings is not silent.
        """
        shares = {split: self._share_of_sound(split) for split in splits}
        return {split: share for split, share in shares.items() if share < _LEAST_SOUND}

    def _share_of_sound(self, split: str) -> float:
        """The share of a split that is sound; 1 as soon as it is known to be enough, and where there is nothing."""
        recordings = self.recordings(split)
        pieces = Chunks(recordings.offsets, recordings.lengths, _SHORT, 1)
        numbers = np.arange(len(pieces))
        if len(pieces) > _LOOKS:
            numbers = (np.arange(_LOOKS) * _GOLDEN % 1 * len(pieces)).astype(np.int64)
        starts, lengths = pieces.places(numbers)
        total, heard = int(lengths.sum()), 0
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            samples = self.read(start, start + length)
            if int(samples.max()) - int(samples.min()) >= _SPREAD:
                heard += length
            if heard >= _LEAST_SOUND * total:
                return 1.0
        return heard / total if total else 1.0

    def samples(self, recording: Recording) -> Int16Array:
        """The samples of a recording: (length,) int16, a view into the mapped file."""
        return self.audio[recording.offset : recording.offset + recording.length]

    def read(self, start: int, stop: int) -> Int16Array:
        """A copy of the samples from `start` to `stop`: (stop - start,) int16.

        Raises DataError where the file has become shorter since it was opened. To look at its map there would end the
        process by a signal.
        """
        if self._file is None:
            return self.audio[start:stop]
        wanted, size = (stop - start) * SAMPLE.itemsize, SAMPLE.itemsize
        try:
            content = os.pread(self._file, wanted, start * size)
        except OSError as error:
            raise DataError(f"{self.folder / AUDIO_FILE}: cannot be read: {error.strerror}") from None
        if len(content) < wanted:
            raise DataError(
                f"{self.folder / AUDIO_FILE}: ends before sample {stop}; it was changed while it was read, so prepare"
                " the data again"
            )
        return np.frombuffer(content, SAMPLE)
