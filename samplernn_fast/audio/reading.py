"""Audio files to float32 samples, full scale at +-1, block by block, within the limits of `limits`.

`sndfile` and, for a few suffixes, `ffmpeg` decode a file. Every AudioError is one line that begins with the file's
name. `finding` says which files there are, `writing` is the way back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from samplernn_fast.audio import ffmpeg, limits, sndfile
from samplernn_fast.audio.finding import NEEDS_FFMPEG, PathLike
from samplernn_fast.audio.resampling import load_soxr
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.stores.reading import local
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
    path = local(path)
    with _naming(path), _open(path) as decoded:
        return AudioInfo(decoded.frames, decoded.rate, decoded.channels, decoded.seconds)


def read(path: PathLike, sample_rate: int | None = None, channels: str | int = "mix") -> tuple[Samples, int]:
    """Reads a whole file: ((T,) float32, sample rate). Arguments and errors are those of `read_blocks`.

    AudioError also where the file has more samples than `limits.WHOLE_SAMPLES`.
    """
    path = local(path)
    to_come = read_blocks(path, sample_rate, channels)
    info = probe(path)
    rate = sample_rate or info.sample_rate
    blocks, count = list[Samples](), 0
    with _naming(path):
        limits.check_rates(info.sample_rate, rate)
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
    have. ConfigError also where the rate differs and soxr is not installed.
    """
    if sample_rate is not None and not 1 <= sample_rate <= limits.RATES.high:
        raise ConfigError(f"sample_rate must be {limits.RATES}, got {sample_rate}")
    if not block_seconds > 0:
        raise ConfigError(f"block_seconds must be positive, got {block_seconds}")
    channel = channel_number(channels)
    return _read_blocks(local(path), sample_rate, channel, block_seconds, power or ChannelPower())


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
    with _naming(path), _open(path) as decoded:
        rate = decoded.rate
        blocks = _mono_blocks(decoded, channel, block_seconds, sample_rate, power)
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
    decoded: _Decoded, channel: int | None, block_seconds: float, to_rate: int | None, power: ChannelPower
) -> Iterator[Samples]:
    """Yields a file as mono blocks at its own rate. Raises Unreadable where it is damaged or cut."""
    if channel is not None and channel >= decoded.channels:
        raise Unreadable(f"there is no channel {channel}; its channels are 0 to {decoded.channels - 1}")
    frames = limits.block_frames(block_seconds, decoded.rate, decoded.channels, to_rate)
    done = 0
    while True:
        block = decoded.read(frames)
        limits.check_amplitudes(block, done, decoded.rate)
        done += len(block)
        limits.check_decoded(done * decoded.channels, decoded.most)
        if len(block):
            mono = block.mean(axis=1) if channel is None else np.ascontiguousarray(block[:, channel])
            power.add(block, mono)
            yield mono
        if len(block) < frames:
            break
    decoded.finish(done)
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


class _Decoded(Protocol):
    """An open file, whichever library decodes it. Its methods raise Unreadable."""

    @property
    def rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def frames(self) -> int | None: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def most(self) -> int: ...

    def read(self, size: int) -> Samples:
        """The next (size, channels) samples, fewer at the end."""

    def finish(self, done: int) -> None:
        """Says after the last sample that the file is whole; `done` samples per channel were decoded."""


@contextmanager
def _open(path: Path) -> Iterator[_Decoded]:
    """Opens a file and checks its header. Raises Unreadable."""
    with _regular_file(path) as raw:
        size = os.fstat(raw.fileno()).st_size
        if not size:
            raise Unreadable("the file is empty")
        by_ffmpeg = path.suffix.lower() in NEEDS_FFMPEG
        with ffmpeg.opened(path, size) if by_ffmpeg else sndfile.opened(path, size, raw) as decoded:
            yield decoded


def _regular_file(path: Path) -> BinaryIO:
    try:
        return open_file(path)
    except Unreadable as error:
        text = str(error)
        raise Unreadable(text if text.startswith("is a ") else f"cannot be read: {text}") from None
