"""Audio files to float32 samples, full scale at +-1: which files there are, and what they hold, block by block.

Every file is read by soundfile, which is loaded on first use. libsndfile plays a file that is cut short without an
error; here that is an error too. Every AudioError is one line that begins with the file's name. `writing` is the way
back.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from samplernn_fast.audio.resampling import load_soxr
from samplernn_fast.errors import AudioError, ConfigError

PathLike = str | os.PathLike[str]
Samples = NDArray[np.float32]

READABLE = frozenset(
    ".wav .wave .flac .ogg .oga .opus .mp3 .aiff .aif .aifc .au .snd .caf .w64 .rf64 .voc .sph .nist .svx .8svx"
    " .iff .pvf .paf .avr .sds .ircam .sf".split()
)
"""Suffixes of files that libsndfile opens."""
NEEDS_FFMPEG = frozenset(".m4a .m4b .mp4 .aac .wma .ape .wv .amr .webm .mka .ac3".split())
"""Suffixes of audio that libsndfile does not open. `find_audio` finds such files, so that they are reported."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    frames: int | None
    """Samples per channel; None where the header does not say."""
    sample_rate: int
    """Samples per second."""
    channels: int
    """How many channels are stored."""
    seconds: float | None
    """Length of the file; None where the header does not say."""


def find_audio(inputs: PathLike | Iterable[PathLike]) -> list[Path]:
    """Lists the files named in `inputs` and the audio files under its folders, sorted by path, each once.

    A file that is named itself is taken whatever its suffix. Below folders, hidden files and folders are skipped.
    Raises AudioError on a path that does not exist and on a folder that cannot be listed.
    """
    found: set[Path] = set()
    for path in [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs:
        if os.path.isdir(path):
            found.update(_files_below(Path(path)))
        elif os.path.exists(path):
            found.add(Path(path))
        else:
            raise AudioError(f"{os.fspath(path)}: no such file or folder")
    return sorted(found, key=Path.as_posix)


def _files_below(root: Path) -> Iterator[Path]:
    """Yields the audio files below a folder, by their suffixes."""

    def fail(error: OSError) -> None:
        raise AudioError(f"{error.filename}: cannot be listed: {error.strerror}") from None

    seen: set[str] = set()  # links are followed, so a folder could otherwise come up inside itself
    for folder, subfolders, names in os.walk(root, onerror=fail, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in READABLE | NEEDS_FFMPEG:
                yield Path(folder, name)


def probe(path: PathLike) -> AudioInfo:
    """Reads length, rate and channels without decoding. Raises AudioError as `read_blocks` does."""
    with _open(Path(path)) as (file, _):
        frames = int(file.frames) if file.frames < 2**62 else None
        seconds = None if frames is None else frames / file.samplerate
        return AudioInfo(frames, int(file.samplerate), int(file.channels), seconds)


def read(path: PathLike, sample_rate: int | None = None, channels: str | int = "mix") -> tuple[Samples, int]:
    """Reads a whole file: ((T,) float32, sample rate). Arguments and errors are those of `read_blocks`."""
    blocks = list(read_blocks(path, sample_rate, channels))
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return samples, sample_rate or probe(path).sample_rate


def read_blocks(
    path: PathLike, sample_rate: int | None = None, channels: str | int = "mix", block_seconds: float = 30.0
) -> Iterator[Samples]:
    """Yields one file as (n,) float32 mono blocks of about `block_seconds`, so that a long file needs little memory.

    sample_rate: the rate of the result in Hz; a file of another rate is resampled (soxr, HQ). None keeps the file's.
    channels: "mix" (the mean of all), "left", "right", or the number of one channel, counted from 0.
    The blocks of a file join to the same samples whatever their length.

    Raises AudioError while iterating: a file that is missing, empty, unreadable, damaged or cut short, NaN or
    infinite samples, a channel that the file does not have, or no soxr where the rate differs.
    """
    if sample_rate is not None and sample_rate < 1:
        raise ConfigError(f"sample_rate must be at least 1 Hz, got {sample_rate}")
    if not block_seconds > 0:
        raise ConfigError(f"block_seconds must be positive, got {block_seconds}")
    path = Path(path)
    blocks = _mono_blocks(path, channels, block_seconds)
    rate = probe(path).sample_rate
    if sample_rate is None or sample_rate == rate:
        yield from blocks
        return
    stream = load_soxr(path).ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        resampled = stream.resample_chunk(block)
        if len(resampled):
            yield resampled
    tail = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    if len(tail):
        yield tail


def _mono_blocks(path: Path, channels: str | int, block_seconds: float) -> Iterator[Samples]:
    """Yields one file as mono blocks at its own rate, and raises AudioError where it is damaged or cut short."""
    import soundfile

    with _open(path) as (file, raw):
        channel = _channel_index(path, channels, file.channels)
        size = max(1, round(block_seconds * file.samplerate))
        done = 0
        while True:
            try:
                block = file.read(size, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                at = done / file.samplerate
                raise AudioError(f"{path}: damaged after {at:.1f} s ({_reason(error)})") from None
            if not np.isfinite(block).all():
                at = (done + int(np.argmin(np.isfinite(block).all(axis=1)))) / file.samplerate
                raise AudioError(f"{path}: NaN or infinite sample at {at:.3f} s")
            done += len(block)
            if len(block):
                yield block.mean(axis=1) if channel is None else np.ascontiguousarray(block[:, channel])
            if len(block) < size:
                break
        _check_length(path, file, raw, done)
        if not done:
            raise AudioError(f"{path}: holds no audio")


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, BinaryIO]]:
    """Opens a file: the soundfile.SoundFile and, for `_check_length`, the file that it reads an MP3 through."""
    import soundfile

    try:
        raw = open(path, "rb")
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror}") from None
    with raw:
        if not os.path.getsize(path):
            raise AudioError(f"{path}: the file is empty")
        try:
            file = soundfile.SoundFile(raw if path.suffix.lower() == ".mp3" else path)
        except soundfile.SoundFileError as error:
            if path.suffix.lower() in READABLE:
                raise AudioError(f"{path}: damaged, or not audio ({_reason(error)})") from None
            raise AudioError(f"{path}: not a format that can be read; convert it: {_ffmpeg(path)}") from None
        with file:
            # SoundFile.read seeks to where it already is, which garbles MP3; it does not where a file cannot seek.
            file.seekable = lambda: False
            if not file.frames:
                raise AudioError(f"{path}: holds no audio")
            if _is_cut_short(path, file):
                raise _cut_short(path, file.frames / file.samplerate)
            yield file, raw


def _ffmpeg(path: Path) -> str:
    """The command line that converts a file to WAV, for messages."""
    return shlex.join(["ffmpeg", "-i", str(path), str(path.with_suffix(".wav"))])


def _cut_short(path: Path, seconds: float) -> AudioError:
    return AudioError(f"{path}: cut short, the audio ends after {seconds:.1f} s but should go on; copy it again")


def _check_length(path: Path, file: Any, raw: BinaryIO, done: int) -> None:
    """Raises AudioError where the number of frames that were decoded is not what the file holds."""
    # Without a Xing header the length of an MP3 is an estimate, and decoding ends where the estimate does.
    slack = file.samplerate if file.format == "MP3" else 0
    if done + slack < file.frames < 2**62:
        raise _cut_short(path, done / file.samplerate)
    size = os.path.getsize(path)
    if file.format == "MP3" and 0 < raw.tell() < size - size // 20 - (1 << 16):
        raise AudioError(f"{path}: longer than its header says; convert it: {_ffmpeg(path)}")


def _is_cut_short(path: Path, file: Any) -> bool:
    """Whether the header promises more than the file has. libsndfile only writes it into its log and plays on."""
    if file.format == "OGG":
        return _last_ogg_page_is_cut(path)
    for promised, found in re.findall(
        r"^\s*(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE
    ):
        # Programs that write into a pipe put the largest number there, and up to 16 bytes of padding may be missing.
        if int(found) + 16 < int(promised) < 0x7FFF_0000:
            return True
    return False


def _last_ogg_page_is_cut(path: Path) -> bool:
    """Whether the last page of an Ogg file ends before its last segment does.

    A page is 27 bytes, of which the last is the number n of segments, then n sizes, then the segments (RFC 3533).
    """
    with open(path, "rb") as raw:
        raw.seek(-min(1 << 17, os.path.getsize(path)), os.SEEK_END)  # a page has at most 65307 bytes
        tail = raw.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if len(page) < 27:
        return True
    sizes = page[27 : 27 + page[26]]
    return len(page) < 27 + page[26] + sum(sizes)


def _channel_index(path: Path, channels: str | int, count: int) -> int | None:
    """The number of the channel that `channels` names, or None for the mean of all `count` channels."""
    text = str(channels).strip().lower()
    if text == "mix":
        return None
    named = {"left": "0", "right": "1"}.get(text, text)
    if not re.fullmatch(r"[0-9]{1,6}", named) or int(named) >= count:
        raise AudioError(
            f"{path}: channels must be mix, left, right or a number below {count} (the file's channels),"
            f" got {channels!r}"
        )
    return int(named)


def _reason(error: Exception) -> str:
    """libsndfile's own words, without its prefixes and on one line."""
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(text.split()).removeprefix("Error : ").rstrip(".")
