"""Float samples to audio files by soundfile, which is loaded on first use. A file appears whole or not at all.

`Writer` makes a file block by block, `write` one at a time, and `encode` the same bytes in memory. `reading` is the way
back.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from samplernn_fast import files
from samplernn_fast.audio.reading import PathLike
from samplernn_fast.errors import AudioError, ConfigError

_WAV_BYTES = 2**32 - 2**16  # most bytes of samples in a WAV, whose sizes have 32 bits; a longer one is written as RF64
_BLOCK = 1 << 16  # frames that libsndfile is given at a time
_HEADER = 4096  # more bytes than come before the samples of a WAV, comment and all
# A block of 8,192 samples and what an encoder still holds then fit into so many bytes.
_TO_END_PCM, _TO_END_LOSSY = 7 << 12, 1 << 14
_WAV_COMMENT_BYTES = 2000  # most bytes in the comment of a WAV; libsndfile drops a longer one without an error


@dataclass(frozen=True)
class _Format:
    """How soundfile writes files of one suffix."""

    container: str
    """soundfile's name of the file format."""
    subtype: str
    """soundfile's name of the encoding."""
    max_rate: int
    """Highest sample rate in Hz that libsndfile may be given."""
    allows: str
    """Which channels and rates the format takes, for error messages."""


_FORMATS = {
    ".wav": _Format("WAV", "PCM_16", 2**31 - 1, "any rate"),
    ".flac": _Format("FLAC", "PCM_16", 655_350, "up to 8 channels, up to 65535 Hz or a multiple of 10 Hz"),
    # libsndfile crashes on Vorbis above 200 kHz, so the limit is checked before it is called.
    ".ogg": _Format("OGG", "VORBIS", 200_000, "up to 200000 Hz"),
    ".opus": _Format("OGG", "OPUS", 48_000, "8000, 12000, 16000, 24000 or 48000 Hz"),
    ".mp3": _Format(
        "MP3",
        "MPEG_LAYER_III",
        48_000,
        "1 or 2 channels; 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100 or 48000 Hz",
    ),
}
WRITABLE = tuple(_FORMATS)
"""Suffixes of files that `write` and `encode` make."""


def write(
    path: PathLike, samples: ArrayLike, sample_rate: int, *, comment: str | None = None, overwrite: bool = False
) -> None:
    """Writes (T,) or (T, C) float samples in the format that the suffix names.

    The suffixes are .wav and .flac (16 bit), .ogg (Vorbis), .opus and .mp3. Samples outside [-1, 1] are clipped;
    16-bit values are round(32768 * x). `comment` goes into the file's metadata (at most 2000 bytes in a WAV, ASCII in
    an MP3). A WAV of more than 4 GB is an RF64. The file appears whole or not at all.

    Raises ConfigError on an unknown suffix, and AudioError on a rate or number of channels that the format does not
    have, NaN or infinite samples, a file that exists (unless `overwrite`), a full disk or a folder that cannot be
    written.
    """
    path = Path(path)
    check_suffix(path)
    files.check_free(path, AudioError, overwrite=overwrite)
    data = _as_frames(path, samples)
    with Writer(path, sample_rate, data.shape[1], frames=len(data), comment=comment) as writer:
        writer.write(data)
        writer.end()
        writer.finish(path)


def encode(suffix: str, samples: ArrayLike, sample_rate: int, comment: str | None = None) -> bytes:
    """The bytes of the file that `write` makes for a name with this suffix; arguments and errors are the same."""
    name = Path(f"audio{suffix}")
    check_suffix(name)
    data, buffer = _as_frames(name, samples), io.BytesIO()
    encoder = _Encoder(name, buffer, sample_rate, data.shape[1], len(data), comment)
    encoder.write(data)
    encoder.close()
    encoder.check(buffer)
    return buffer.getvalue()


def check_suffix(path: Path) -> None:
    """Raises ConfigError where `path` does not end in one of `WRITABLE`."""
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"{path}: the suffix must be one of {' '.join(WRITABLE)}, got {path.suffix!r}")


class Writer:
    """Writes one audio file block by block, so that memory never holds more than a block of it.

    Until `finish` gives it its name, the file has a temporary name in the same folder. `close`, and the end of a `with`
    block, removes a file that was not finished.
    """

    def __init__(
        self, path: Path, sample_rate: int, channels: int = 1, *, frames: int, comment: str | None = None
    ) -> None:
        """path: where the file is to appear; its suffix says the format, and its folder must exist.

        frames: the most samples of a channel that will come. Raises AudioError as `write`.
        """
        check_suffix(path)
        self.path, self._temporary = path, files.temporary_beside(path)
        self._sink = _Sink(self._temporary)
        form = _FORMATS[path.suffix.lower()]
        # A FLAC of noise is a little longer than its samples.
        most = _HEADER + 2 * channels * frames + (0 if form.container == "WAV" else frames // 32)
        self._room = _TO_END_PCM if form.subtype == "PCM_16" else _TO_END_LOSSY, most
        self._check_disk()
        try:
            self._encoder = _Encoder(path, self._sink, sample_rate, channels, frames, comment)
        except BaseException:
            files.remove(self._temporary)
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, samples: ArrayLike) -> None:
        """Writes the next (n,) or (n, C) float samples. Raises AudioError as the function `write`."""
        self._encoder.write(_as_frames(self.path, samples))
        self._check_disk()

    def keep_room(self) -> str:
        """Keeps room on the disk for 8,192 samples more and for the end of the file. Returns why there is not so much,
        or nothing where there is.

        No more is kept than the promised samples take. Where the system keeps no room, the answer is always empty.
        """
        return self._sink.keep(*self._room)

    def end(self) -> None:
        """Ends the file and checks it, under its temporary name. Raises AudioError as the function `write`."""
        self._encoder.close()
        self._sink.give_back()
        self._check_disk()
        try:
            with open(self._temporary, "rb") as written:
                self._encoder.check(written)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def finish(self, path: Path) -> None:
        """Names the file, which has ended, `path`; it replaces what is there. Raises AudioError as `write`."""
        try:
            files.put_in_place(self._temporary, path)
        except OSError as error:
            raise _unwritable(path, error) from None

    def close(self) -> None:
        """Ends the file, and removes it where it was not finished."""
        self._encoder.close()
        files.remove(self._temporary)

    def _check_disk(self) -> None:
        if self._sink.error is not None:
            files.remove(self._temporary)
            raise _unwritable(self.path, self._sink.error)


class WavPipe:
    """Writes a WAV of one channel to something that cannot go back, such as a pipe, each block at once.

    The header comes first, so it says the length that was promised. Players and this package read a file that ends
    before it.
    """

    def __init__(self, pipe: BinaryIO, sample_rate: int, *, frames: int, comment: str | None = None) -> None:
        """frames: the samples that will come; a length beyond 4 GB is given as the largest number, as is usual.

        Raises AudioError for a rate or a comment that a WAV does not have.
        """
        self._pipe = pipe
        pipe.write(wav_header(sample_rate, frames=frames, comment=comment))

    def write(self, samples: np.ndarray) -> None:
        """Writes the next (n,) float samples, and hands them on at once. OSError passes through."""
        self._pipe.write(pcm_16(samples))
        self._pipe.flush()


def wav_header(sample_rate: int, *, frames: int, comment: str | None = None) -> bytes:
    """What stands before the samples of a WAV of one channel, as `WavPipe` writes it; arguments and errors are the
    same."""
    header = encode(".wav", np.zeros(1, np.float32), sample_rate, comment)[:-2]
    size = min(2 * frames, 2**32 - 1)
    riff = min(len(header) - 8 + size, 2**32 - 1)
    return header[:4] + struct.pack("<I", riff) + header[8:-4] + struct.pack("<I", size)


def pcm_16(samples: np.ndarray) -> bytes:
    """Samples (n,) as the 16-bit values, little-endian, that every file of this package has. Raises AudioError as the
    function `write`."""
    return _pcm_16(_as_frames("standard output", samples)).astype("<i2").tobytes()


def _unwritable(path: Path, error: OSError) -> AudioError:
    return AudioError(f"{path}: cannot be written: {error.strerror or error}")


def _as_frames(name: object, samples: ArrayLike) -> np.ndarray:
    """Samples as (T, C) in [-1, 1]. Raises AudioError where they are no finite floats; `name` is for messages."""
    data = np.asarray(samples)
    if data.dtype.kind != "f" or data.ndim not in (1, 2) or not data.size:
        raise AudioError(f"{name}: samples must be floats of shape (T,) or (T, C), got {data.dtype} {data.shape}")
    if not np.isfinite(data).all():
        raise AudioError(f"{name}: not written, the samples hold NaN or infinite values")
    return np.clip(data.reshape(len(data), -1), -1.0, 1.0)


def _pcm_16(data: np.ndarray) -> np.ndarray:
    """16-bit samples; libsndfile would scale by 32767, and levels would not come back exactly."""
    return np.clip(np.floor(data * 32768.0 + 0.5), -32768, 32767).astype(np.int16)


class _Encoder:
    """libsndfile with our rules: which rates a format has, how samples are rounded, and a check of what it wrote."""

    def __init__(
        self, path: Path, sink: BinaryIO | _Sink, sample_rate: int, channels: int, frames: int, comment: str | None
    ) -> None:
        import soundfile

        suffix, self._rate, self._frames = path.suffix.lower(), int(sample_rate), 0
        self._form = form = _FORMATS[suffix]
        self._refusal = AudioError(
            f"{path}: {suffix} does not take {channels} channels at {self._rate} Hz (it takes {form.allows});"
            " use .wav or resample"
        )
        if not 1 <= self._rate <= form.max_rate:
            raise self._refusal
        if comment and form.container == "WAV" and len(comment.encode()) > _WAV_COMMENT_BYTES:
            raise AudioError(f"{path}: the comment is longer than {_WAV_COMMENT_BYTES} bytes; use .flac")
        if comment and form.container == "MP3" and not comment.isascii():
            raise AudioError(f"{path}: the comment of an MP3 must be ASCII")
        long = form.container == "WAV" and 2 * channels * frames > _WAV_BYTES
        container = "RF64" if long else form.container
        try:
            self._file = soundfile.SoundFile(sink, "w", self._rate, channels, format=container, subtype=form.subtype)
        except soundfile.SoundFileError:
            raise self._refusal from None
        if comment:
            self._file.comment = comment

    def write(self, data: np.ndarray) -> None:
        """Encodes (n, C) samples in [-1, 1]."""
        import soundfile

        data = _pcm_16(data) if self._form.subtype == "PCM_16" else data.astype(np.float32)
        try:
            for start in range(0, len(data), _BLOCK):
                self._file.write(data[start : start + _BLOCK])
        except soundfile.SoundFileError:
            raise self._refusal from None
        self._frames += len(data)

    def close(self) -> None:
        """Ends the file; what is still in libsndfile's hands is written."""
        self._file.close()

    def check(self, written: BinaryIO) -> None:
        """Raises AudioError where what was written does not read back at the rate and length that it should have."""
        import soundfile

        written.seek(0)
        try:
            with soundfile.SoundFile(written) as file:
                whole = file.samplerate == self._rate and file.frames == self._frames
        except soundfile.SoundFileError:
            whole = False
        if not whole:
            raise self._refusal


class _Sink:
    """A file as libsndfile writes it. It keeps the first OSError, which libsndfile would not report.

    The file is opened for every write, so that any number of files can be written side by side.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._position = path, 0
        self._length = self._kept = 0  # bytes that were written, and those that the file has room for
        self.error: OSError | None = None
        self._write(b"", "xb")

    def write(self, data: bytes) -> int:
        self._write(data, "r+b")
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}
        self._position = offset + (base[whence] if whence in base else self._length)
        return self._position

    def tell(self) -> int:
        return self._position

    def keep(self, more: int, most: int) -> str:
        """Keeps room for `more` bytes behind what was written, but for no more than `most` in all. Returns why the disk
        does not have it, or nothing where it has."""
        there, wanted = max(self._length, self._kept), min(self._length + more, most)
        if wanted <= there:
            return ""
        try:
            with open(self._path, "r+b") as file:
                os.posix_fallocate(file.fileno(), there, wanted - there)
        except AttributeError:  # such a system has no way to keep room
            return ""
        except OSError as error:  # others mean a file system that has no way, or a file that writing will complain of
            return files.why_full(error)
        self._kept = wanted
        return ""

    def give_back(self) -> None:
        """Ends the file behind what was written."""
        try:
            if self._kept > self._length:
                os.truncate(self._path, self._length)
        except OSError as error:
            self.error = self.error or error

    def _write(self, data: bytes, mode: str) -> None:
        try:
            with open(self._path, mode, buffering=0) as file:
                file.seek(self._position)
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
        except OSError as error:
            self.error = self.error or error
        self._length = max(self._length, self._position + len(data))
