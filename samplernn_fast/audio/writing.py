"""Float samples to audio files by soundfile, which is loaded on first use. A file appears whole or not at all.

`write` makes a file, `encode` the same bytes in memory. `reading` is the way back.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from samplernn_fast.audio.reading import PathLike
from samplernn_fast.errors import AudioError
from samplernn_fast.files import write_bytes

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
    ".wav": _Format("WAV", "PCM_16", 2**31 - 1, "any rate, under 4 GB"),
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
    an MP3). The file appears whole or not at all.

    Raises AudioError on an unknown suffix, a rate or number of channels that the format does not have, NaN or
    infinite samples, a file that exists (unless `overwrite`), a full disk or a folder that cannot be written.
    """
    path = Path(path)
    _check_suffix(path, path.suffix)
    if path.is_dir():
        raise AudioError(f"{path}: is a folder; name a file")
    if os.path.lexists(path) and not overwrite:
        raise AudioError(f"{path}: exists already; choose another name or use --overwrite")
    content = _encode(path, path.suffix, samples, sample_rate, comment)
    try:
        write_bytes(path, content)
    except OSError as error:
        raise AudioError(f"{path}: cannot be written: {error.strerror}") from None


def encode(suffix: str, samples: ArrayLike, sample_rate: int, comment: str | None = None) -> bytes:
    """The bytes of the file that `write` makes for a name with this suffix; arguments and errors are the same."""
    name = f"audio{suffix}"
    _check_suffix(name, suffix)
    return bytes(_encode(name, suffix, samples, sample_rate, comment))


def _check_suffix(name: object, suffix: str) -> None:
    if suffix.lower() not in _FORMATS:
        raise AudioError(f"{name}: the suffix must be one of {' '.join(WRITABLE)}, got {suffix!r}")


def _encode(name: object, suffix: str, samples: ArrayLike, sample_rate: int, comment: str | None) -> memoryview:
    """The bytes of a file, made in memory, because libsndfile does not report a full disk. `name` is for messages."""
    data = np.asarray(samples)
    if data.dtype.kind != "f" or data.ndim not in (1, 2) or not data.size:
        raise AudioError(f"{name}: samples must be floats of shape (T,) or (T, C), got {data.dtype} {data.shape}")
    if not np.isfinite(data).all():
        raise AudioError(f"{name}: not written, the samples hold NaN or infinite values")
    data = np.clip(data.reshape(len(data), -1), -1.0, 1.0)
    sample_rate, form = int(sample_rate), _FORMATS[suffix.lower()]
    refusal = (
        f"{name}: {suffix.lower()} does not take {data.shape[1]} channels at {sample_rate} Hz (it takes"
        f" {form.allows}); use .wav or resample"
    )
    if not 1 <= sample_rate <= form.max_rate:
        raise AudioError(refusal)
    if comment and form.container == "WAV" and len(comment.encode()) > _WAV_COMMENT_BYTES:
        raise AudioError(f"{name}: the comment is longer than {_WAV_COMMENT_BYTES} bytes; use .flac")
    if comment and form.container == "MP3" and not comment.isascii():
        raise AudioError(f"{name}: the comment of an MP3 must be ASCII")
    if form.subtype == "PCM_16":  # libsndfile would scale by 32767, and levels would not come back exactly
        data = np.clip(np.floor(data * 32768.0 + 0.5), -32768, 32767).astype(np.int16)
    else:
        data = data.astype(np.float32)
    content = _encoded_by_soundfile(form, data, sample_rate, comment)
    if content is None:
        raise AudioError(refusal)
    return content


def _encoded_by_soundfile(form: _Format, data: np.ndarray, sample_rate: int, comment: str | None) -> memoryview | None:
    """The bytes of (T, C) samples; None where soundfile refuses them, or reads back another rate or length."""
    import soundfile

    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(
            buffer, "w", sample_rate, data.shape[1], format=form.container, subtype=form.subtype
        ) as file:
            if comment:
                file.comment = comment
            for start in range(0, len(data), 1 << 16):
                file.write(data[start : start + (1 << 16)])
        buffer.seek(0)
        with soundfile.SoundFile(buffer) as file:
            whole = file.samplerate == sample_rate and file.frames == len(data)
    except soundfile.SoundFileError:
        return None
    return buffer.getbuffer() if whole else None
