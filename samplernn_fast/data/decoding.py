"""Audio files to float32 scratch files, decoded by several threads at once; `preparation` turns these into int16.

Scratch files are what allows one gain for all recordings, which is known only when the last file is decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from samplernn_fast import terminal
from samplernn_fast.errors import AudioError, one_line

FLOAT = np.dtype(np.float32)
"""The samples of a scratch file."""
_OPEN = 64  # scratch files that are open at once, one for each thread of the usual machine
_WINDOW_SECONDS = 0.02  # length of the pieces whose loudness `trim_silence` measures


def trim_silence(x: ArrayLike, rate: int, threshold_db: float) -> tuple[int, int]:
    """(start, stop) of the samples from the first to the last window of 20 ms that is louder than the threshold.

    x: (T,) samples at `rate` Hz. Loudness is RMS in dB below full scale: a constant 1 has 0 dB. Where no window is
    louder, the answer is (0, 0).
    """
    x = np.asarray(x, np.float64)
    size = max(1, round(rate * _WINDOW_SECONDS))
    starts = np.arange(0, len(x), size)
    if not len(starts):
        return 0, 0
    power = np.add.reduceat(x * x, starts) / np.diff(np.append(starts, len(x)))
    loud = np.flatnonzero(power > 10.0 ** (threshold_db / 10.0))
    if not len(loud):
        return 0, 0
    return int(loud[0]) * size, min(int(loud[-1] + 1) * size, len(x))


@dataclass(frozen=True, slots=True)
class Take:
    """A decoded recording: the samples [start, stop) of a scratch file, and its largest absolute amplitude."""

    name: str
    scratch: Path
    start: int
    stop: int
    peak: float
    lost: float = 0.0
    """The share of the channels' power that its mono samples lack; near 1 where channels cancel each other."""


Decoded = tuple[list[Take], list[tuple[str, str]]]
"""Recordings that were decoded, and (name, reason) of the files that are dropped."""


class Scratch:
    """Reads pieces of scratch files, of which it keeps some open. To map them would count as memory of the process."""

    def __init__(self) -> None:
        self._open: dict[Path, BinaryIO] = {}

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._open.values():
            file.close()

    def read(self, path: Path, start: int, stop: int) -> npt.NDArray[np.float32]:
        """The samples from `start` to `stop` of a scratch file: (stop - start,) float32. Raises OSError."""
        if path not in self._open:
            while len(self._open) >= _OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[path] = open(path, "rb", buffering=0)
        samples = np.empty(stop - start, FLOAT)
        file, view = self._open[path], samples.data.cast("B")
        file.seek(start * FLOAT.itemsize)
        while len(view):
            count = file.readinto(view)  # type: ignore[attr-defined]  # a file without a buffer has it
            if not count:
                raise OSError(f"{path}: the scratch file became shorter")
            view = view[count:]
        return samples


class _Stopped(Exception):
    """Ends the workers when the program stops early."""


class Decoder:
    """Decodes audio files into scratch files in `folder`, block by block. Threads share it: decoding frees the GIL.

    sample_rate and channels are those of `audio.reading.read_blocks`; trim_silence_db is the threshold of
    `trim_silence`, None to keep everything. Setting `stop` ends the workers at their next block.
    """

    def __init__(self, folder: Path, sample_rate: int, channels: str | int, trim_silence_db: float | None) -> None:
        self.stop = threading.Event()
        self._folder = folder
        self._sample_rate = sample_rate
        self._channels = channels
        self._trim_db = trim_silence_db
        self._own = threading.local()
        self._scratch_files: list[BinaryIO] = []

    def close(self) -> None:
        """Closes the scratch files. Call it when no worker runs any more."""
        for file in self._scratch_files:
            file.close()

    def __call__(self, name: str, path: Path) -> Take | tuple[str, str]:
        """Decodes one file: a take, or (name, why it is dropped). OSError of the scratch file passes through."""
        try:
            return self._decode(name, path)
        except AudioError as error:
            return name, str(error).removeprefix(f"{one_line(path)}: ")
        except MemoryError:
            return name, "decoding it takes more memory than there is"

    def _decode(self, name: str, path: Path) -> Take:
        from samplernn_fast.audio.reading import ChannelPower, read_blocks

        power = ChannelPower()
        file = self._scratch()
        position = begin = file.tell() // FLOAT.itemsize  # earlier files are before it, dropped ones too
        start, stop, peak = None, begin, 0.0  # start and stop enclose what is louder than silence
        for block in read_blocks(path, self._sample_rate, self._channels, power=power):
            if self.stop.is_set():
                raise _Stopped
            if not len(block):
                continue
            first, last = 0, len(block)
            if self._trim_db is not None:
                first, last = trim_silence(block, self._sample_rate, self._trim_db)
            if last > first:
                start, stop = position + first if start is None else start, position + last
            peak = max(peak, float(block.max()), -float(block.min()))
            file.write(np.ascontiguousarray(block, FLOAT).data)
            position += len(block)
        if position == begin:
            raise AudioError(f"{path}: too short, no sample is left at {self._sample_rate} Hz")
        if start is None:
            raise AudioError(f"{path}: silent all through (threshold {self._trim_db:g} dB)")
        return Take(name, Path(file.name), start, stop, peak, power.lost)

    def _scratch(self) -> BinaryIO:
        """The scratch file of this thread. Every thread has one, as making a file can take longer than a short clip."""
        if not hasattr(self._own, "file"):
            self._own.file = open(self._folder / f"{threading.get_ident()}.f32", "wb")
            self._scratch_files.append(self._own.file)
        file: BinaryIO = self._own.file
        return file


def decode_all(decoder: Decoder, sources: Mapping[str, Path], workers: int, progress: bool) -> Decoded:
    """Decodes `sources` (name -> path): the takes, and (name, reason) of the dropped files.

    Both are in the order of `sources`, whichever worker is first. progress: show a bar on standard error.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        jobs = [pool.submit(decoder, *item) for item in sources.items()]
        with terminal.Bar(len(jobs), "file", shown=progress, title="decode") as bar:
            for job in as_completed(jobs):
                job.result()  # raises what stops everything at once, such as a full disk
                bar.advance()
    finally:
        decoder.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        decoder.close()
    results = [job.result() for job in jobs]
    takes = [result for result in results if isinstance(result, Take)]
    return takes, [result for result in results if not isinstance(result, Take)]
