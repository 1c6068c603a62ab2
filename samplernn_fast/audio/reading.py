"""Audio files to float32 samples, full scale at +-1, block by block, within the limits of `limits`.

Every file is read by soundfile, which is loaded on first use. libsndfile plays a file that is cut short without an
error; here that is an error too. Every AudioError is one line that begins with the file's name. `finding` says which
files there are, `writing` is the way back.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from samplernn_fast.audio import limits
from samplernn_fast.audio.finding import READABLE, PathLike
from samplernn_fast.audio.resampling import load_soxr
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.untrusted import Unreadable, open_file

Samples = NDArray[np.float32]


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


@dataclass
class ChannelPower:
    """How loud the channels of a file are beside their mix, gathered while the file is read."""

    channels: int = 1
    """How many channels the file has."""
    of_channels: float = 0.0
    """The sum of all squared samples of all channels, divided by their number."""
    of_mono: float = 0.0
    """The sum of the squared samples that were made of them."""

    def add(self, block: Samples, mono: Samples) -> None:
        """Counts (n, channels) samples, and the (n,) that were made of them."""
        self.channels = block.shape[1]
        if self.channels > 1:
            self.of_channels += float(np.vdot(block, block)) / self.channels
            self.of_mono += float(np.vdot(mono, mono))

    @property
    def lost(self) -> float:
        """The share of the channels' power that the mono samples lack: near 1 where channels cancel each other."""
        return 1 - self.of_mono / self.of_channels if self.of_channels else 0.0


def probe(path: PathLike) -> AudioInfo:
    """Reads length, rate and channels without decoding. Raises AudioError as `read_blocks` does."""
    with _naming(Path(path)), _open(Path(path)) as opened:
        rate, frames = int(opened.file.samplerate), _frames(opened.file)
        return AudioInfo(frames, rate, int(opened.file.channels), None if frames is None else frames / rate)


def read(path: PathLike, sample_rate: int | None = None, channels: str | int = "mix") -> tuple[Samples, int]:
    """Reads a whole file: ((T,) float32, sample rate). Arguments and errors are those of `read_blocks`.

    AudioError also where the file has more samples than `limits.WHOLE_SAMPLES`.
    """
    path = Path(path)
    to_come = read_blocks(path, sample_rate, channels)
    info = probe(path)
    rate = sample_rate or info.sample_rate
    blocks, count = list[Samples](), 0
    with _naming(path):
        limits.check_whole(info.seconds or 0, rate)
        for block in to_come:
            blocks.append(block)
            count += len(block)
            limits.check_whole(count / rate, rate)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), rate


def read_blocks(
    path: PathLike,
    sample_rate: int | None = None,
    channels: str | int = "mix",
    block_seconds: float = 30.0,
    power: ChannelPower | None = None,
) -> Iterator[Samples]:
    """Yields one file as (n,) float32 mono blocks of at most `block_seconds`, so that a long file needs little memory.

    sample_rate: the rate of the result in Hz; a file of another rate is resampled (soxr, HQ). None keeps the file's.
    channels: "mix" (the mean of all), "left", "right", or the number of one channel, counted from 0. power: gathers
    how much of the channels is left in the result.
    The blocks of a file join to the same samples whatever their length.

    Raises ConfigError at once for settings that fit no file. Raises AudioError while iterating: a file that is missing,
    empty, unreadable, damaged, cut short or beyond `limits`, NaN or infinite samples, a channel that the file does not
    have, or no soxr where the rate differs.
    """
    if sample_rate is not None and not 1 <= sample_rate <= limits.RATES.high:
        raise ConfigError(f"sample_rate must be {limits.RATES}, got {sample_rate}")
    if not block_seconds > 0:
        raise ConfigError(f"block_seconds must be positive, got {block_seconds}")
    channel = channel_number(channels)
    return _read_blocks(Path(path), sample_rate, channel, block_seconds, power or ChannelPower())


def channel_number(channels: str | int) -> int | None:
    """The number of the channel that a setting `channels` names, None for the mean of all. Raises ConfigError."""
    text = str(channels).strip().lower()
    if text == "mix":
        return None
    named = {"left": "0", "right": "1"}.get(text, text)
    if not re.fullmatch(r"[0-9]{1,6}", named):
        raise ConfigError(f"channels must be mix, left, right or the number of a channel from 0, got {channels!r}")
    return int(named)


def _read_blocks(
    path: Path, sample_rate: int | None, channel: int | None, block_seconds: float, power: ChannelPower
) -> Iterator[Samples]:
    with _naming(path), _open(path) as opened:
        rate = opened.file.samplerate
        blocks = _mono_blocks(opened, channel, block_seconds, sample_rate, power)
        if sample_rate is None or sample_rate == rate:
            yield from blocks
            return
        limits.check_rates(rate, sample_rate)
        stream = load_soxr(path).ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        for block in blocks:
            resampled = stream.resample_chunk(block)
            if len(resampled):
                yield resampled
        tail = stream.resample_chunk(np.zeros(0, np.float32), last=True)
        if len(tail):
            yield tail


def _mono_blocks(
    opened: _Opened, channel: int | None, block_seconds: float, to_rate: int | None, power: ChannelPower
) -> Iterator[Samples]:
    """Yields one file as mono blocks at its own rate. Raises Unreadable where it is damaged or cut short."""
    import soundfile

    file = opened.file
    if channel is not None and channel >= file.channels:
        raise Unreadable(f"there is no channel {channel}; its channels are 0 to {file.channels - 1}")
    size = limits.block_frames(block_seconds, file.samplerate, file.channels, to_rate)
    done = 0
    while True:
        try:
            block = file.read(size, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise Unreadable(f"damaged after {done / file.samplerate:.1f} s ({_reason(error)})") from None
        limits.check_amplitudes(block, done, file.samplerate)
        done += len(block)
        limits.check_decoded(done * file.channels, opened.size)
        if len(block):
            mono = block.mean(axis=1) if channel is None else np.ascontiguousarray(block[:, channel])
            power.add(block, mono)
            yield mono
        if len(block) < size:
            break
    _check_length(opened, done)
    if not done:
        raise Unreadable("holds no audio")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns an Unreadable inside the block into an AudioError that names the file, and lack of memory too."""
    try:
        yield
    except Unreadable as error:
        raise AudioError(f"{path}: {error}") from None
    except MemoryError:
        raise AudioError(f"{path}: reading it takes more memory than there is") from None


@dataclass(frozen=True)
class _Opened:
    """An open file."""

    path: Path
    size: int
    """Its bytes."""
    file: Any
    """The soundfile.SoundFile."""
    raw: BinaryIO
    """The file that an MP3 is read through."""


@contextmanager
def _open(path: Path) -> Iterator[_Opened]:
    """Opens a file and checks its header. Raises Unreadable."""
    import soundfile

    with _regular_file(path) as raw:
        size = os.fstat(raw.fileno()).st_size
        if not size:
            raise Unreadable("the file is empty")
        try:
            # A path in bytes need not be text.
            file = soundfile.SoundFile(raw if path.suffix.lower() == ".mp3" else os.fsencode(path))
        except soundfile.SoundFileError as error:
            if path.suffix.lower() in READABLE:
                raise Unreadable(f"damaged, or not audio ({_reason(error)})") from None
            raise Unreadable(f"not a format that can be read; convert it: {_ffmpeg(path)}") from None
        except TypeError:  # soundfile wants the rate of samples without a header, which it takes .raw to be
            raise Unreadable("samples without a header cannot be read; make a .wav of them") from None
        with file:
            # SoundFile.read seeks to where it already is, which garbles MP3; it does not where a file cannot seek.
            file.seekable = lambda: False
            if not file.frames:
                raise Unreadable("holds no audio")
            limits.check_header(file.samplerate, file.channels, _frames(file), size)
            if _is_cut_short(path, file):
                raise _cut_short(file.frames / file.samplerate)
            yield _Opened(path, size, file, raw)


def _regular_file(path: Path) -> BinaryIO:
    try:
        return open_file(path)
    except Unreadable as error:
        text = str(error)
        raise Unreadable(text if text.startswith("is a ") else f"cannot be read: {text}") from None


def _frames(file: Any) -> int | None:
    """How many samples per channel a file's header promises; None where it does not say."""
    return int(file.frames) if file.frames < 2**62 else None


def _ffmpeg(path: Path) -> str:
    """The command line that converts a file to WAV, for messages."""
    return shlex.join(["ffmpeg", "-i", str(path), str(path.with_suffix(".wav"))])


def _cut_short(seconds: float) -> Unreadable:
    return Unreadable(f"cut short, the audio ends after {seconds:.1f} s but should go on; copy it again")


def _check_length(opened: _Opened, done: int) -> None:
    """Raises Unreadable where the number of samples that were decoded is not what the file holds."""
    file, frames = opened.file, _frames(opened.file)
    # Without a Xing header the length of an MP3 is an estimate, and decoding ends where the estimate does.
    slack = file.samplerate if file.format == "MP3" else 0
    if frames is not None and done + slack < frames:
        raise _cut_short(done / file.samplerate)
    if file.format == "MP3" and 0 < opened.raw.tell() < opened.size - opened.size // 20 - (1 << 16):
        raise Unreadable(f"longer than its header says; convert it: {_ffmpeg(opened.path)}")


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


def _reason(error: Exception) -> str:
    """libsndfile's own words, without its prefixes and on one line."""
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(text.split()).removeprefix("Error : ").rstrip(".")
