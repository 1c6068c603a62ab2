"""Generated audio: `Audio`, which holds it, the names of its files, and `Takes`, which writes them side by side.

A take is one stream of what was generated: with another number, or another seed, it is another take.
"""

import base64
import contextlib
import filecmp
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from samplernn_fast import files
from samplernn_fast.audio import writing
from samplernn_fast.errors import AudioError
from samplernn_fast.ranges import checked
from samplernn_fast.stores import sending

SPEED = ("seconds", "samples_per_second", "x_real_time", "rtf")
"""The entries of `Audio.info` that differ from run to run; a file's metadata is without them."""
_PLAYED_SECONDS = 60.0  # the longest audio that a notebook is given, whose file keeps what it shows
_MOST_NUMBERS = 1_000_000  # how many names are tried before a folder counts as full
_BLOCK = 8192  # samples that a file is given at a time; a short write costs much more than its samples do


@dataclass(frozen=True)
class Audio:
    """Generated audio of one or several streams. A notebook plays it."""

    samples: np.ndarray
    """(B, T) float32 in [-1, 1]."""
    tokens: np.ndarray
    """(B, T) integer levels."""
    sample_rate: int
    info: dict[str, Any] = field(default_factory=dict)
    """How it was made: backend, dtype, speed, model hash, seed, streams, settings."""

    @property
    def seconds(self) -> float:
        """How long each stream is."""
        return self.samples.shape[1] / self.sample_rate

    @checked
    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write .wav, .flac, .ogg, .opus or .mp3, with provenance in the file's own metadata; returns the paths.

        Several streams become out-00.wav, out-01.wav, ... by stream number. AudioError when a file exists, before any
        is written. The path may be an address, such as s3://bucket/out.wav.
        """
        with sending.file_at(path) as place:
            names = Names(Path(place), self.info.get("streams", range(len(self.samples))), overwrite=overwrite)
            with Takes(names, self.info, self.sample_rate, self.samples.shape[1]) as takes:
                takes.write(self.samples)
                return [sending.sent_to(file) for file in takes.finish()]

    def __repr__(self) -> str:
        seed = f", seed {self.info['seed']}" if "seed" in self.info else ""
        return f"Audio({len(self.samples)} x {self.seconds:.2f} s at {self.sample_rate} Hz{seed})"

    def _repr_html_(self) -> str:
        """What a notebook shows in place of the repr: a player for each stream."""
        text = f"<div>{self!r}</div>"
        if not self.samples.size:
            return text
        if len(self.samples) * self.seconds > _PLAYED_SECONDS:
            return f"{text}<div>Longer than {_PLAYED_SECONDS:.0f} seconds; listen to what save(path) writes.</div>"
        return text + "".join(
            f'<audio controls preload="none" src="data:audio/wav;base64,{base64.b64encode(wav).decode()}"></audio>'
            for wav in (writing.encode(".wav", row, self.sample_rate) for row in self.samples)
        )


@dataclass(frozen=True)
class Names:
    """What the files of some streams are called: the path itself for one of one, name-00.wav, ... for several."""

    path: Path
    streams: Sequence[int]
    total: int | None = None
    """How many streams the whole has, where these are a share of it; None: these are the whole."""
    overwrite: bool = False
    """Whether files that exist are replaced."""
    numbered: bool = False
    """Where a name is taken, the next that is free is used, name-2.wav and so on; otherwise it is an error."""

    def paths(self) -> list[Path]:
        """The paths, in the order of the streams. ConfigError for an unknown suffix, AudioError where one exists."""
        writing.check_suffix(self.path)
        for number in range(1, _MOST_NUMBERS if self.numbered else 2):
            found = self._of(self.path if number == 1 else self.path.with_stem(f"{self.path.stem}-{number}"))
            try:
                for path in found:
                    files.check_free(path, AudioError, overwrite=self.overwrite)
            except AudioError as error:
                refusal = error
            else:
                return found
        raise refusal

    def repeated(self, saved: Sequence[Path]) -> Path | None:
        """The earlier file that is the first of `saved` byte for byte, where that one got a number; otherwise None."""
        earlier = self._of(self.path)[0]
        if not self.numbered or not saved or saved[0] == earlier:
            return None
        with contextlib.suppress(OSError):  # one of them may have been moved away meanwhile
            return earlier if filecmp.cmp(earlier, saved[0], shallow=False) else None
        return None

    def _of(self, path: Path) -> list[Path]:
        total = len(self.streams) if self.total is None else self.total
        if total == 1:
            return [path]
        digits = max(2, len(str(max([total - 1, *self.streams]))))
        return [path.with_stem(f"{path.stem}-{stream:0{digits}d}") for stream in self.streams]


def stem(
    model: str, seed: int, temperatures: Sequence[float] = (1.0,), top_k: int | None = None, top_p: float | None = None
) -> str:
    """What files are called that nobody named: album-seed0, and behind it what makes them sound otherwise: -t0.9 for
    the temperature (-t0.7-1.1 for several, or for a curve between these), -k50 and -p0.95 for top_k and top_p."""
    heat = "-".join(f"{one:g}" for one in dict.fromkeys((min(temperatures), max(temperatures))))
    parts = [f"-t{heat}"] * (heat != "1") + [f"-k{top_k}"] * (top_k is not None)
    if top_p is not None and top_p != 1:
        parts.append(f"-p{top_p:g}")
    return f"{model}-seed{seed}{''.join(parts)}"


class Takes:
    """The files of several streams, written block by block. All appear when they are ended, or none does."""

    def __init__(
        self, names: Names, info: dict[str, Any], sample_rate: int, frames: int, *, end_when_full: bool = False
    ) -> None:
        """info: what the metadata of the files tell, `Audio.info`. frames: the most samples that will come.

        end_when_full: where the disk takes no more, the files are not lost, but take no more samples. Raises AudioError
        where a file exists or cannot be written, before anything is written.
        """
        self._names, self._end_when_full = names, end_when_full
        self.full = ""
        """This says why the disk takes no more; it is empty while it does."""
        self.frames = 0
        """Each stream has so many samples in its file."""
        self._waiting: list[np.ndarray] = []
        self._writers: list[writing.Writer] = []
        try:
            for row, path in enumerate(names.paths()):
                told = comment(info, row)
                self._writers.append(writing.Writer(path, sample_rate, frames=frames, comment=told))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, samples: np.ndarray) -> None:
        """Takes the next (B, n) float samples, and writes all whole blocks of them; they are dropped once `full`.
        Raises AudioError as `writing.write`.

        Blocks are the same however the samples come, because an encoder of Vorbis, Opus or MP3 makes other sound of
        other blocks.
        """
        self._waiting.append(samples)
        self._write_waiting()

    def _write_waiting(self, last: bool = False) -> None:
        """Writes the whole blocks of what waits; last: and what is left behind them."""
        waiting = sum(part.shape[1] for part in self._waiting)
        until = waiting if last else waiting // _BLOCK * _BLOCK
        if not until:
            return
        samples = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting, axis=1)
        self._waiting = [samples[:, until:].copy()] if until < waiting else []
        for start in range(0, until, _BLOCK):
            # This comes before a block is written, so that all files end after the same one.
            if self._end_when_full and not self.full:
                self.full = next(filter(None, map(writing.Writer.keep_room, self._writers)), "")
            if self.full:
                return
            block = samples[:, start : min(start + _BLOCK, until)]
            for writer, row in zip(self._writers, block, strict=True):
                writer.write(row)
            self.frames += block.shape[1]

    def finish(self) -> list[Path]:
        """Ends all files, and gives them their names, which are returned. There are none where the disk was full before
        anything was written. Raises AudioError as `writing.write`.

        Where somebody else has made a file of such a name meanwhile, the next that is free is taken, so that nothing
        is lost.
        """
        self._write_waiting(last=True)
        if self.full and not self.frames:
            return []
        files.for_each(writing.Writer.end, self._writers)
        paths = replace(self._names, numbered=not self._names.overwrite).paths()
        files.for_each(lambda pair: pair[0].finish(pair[1]), list(zip(self._writers, paths, strict=True)))
        return paths

    def close(self) -> None:
        """Removes the files that were not finished."""
        for writer in self._writers:
            writer.close()


def comment(info: dict[str, Any], row: int) -> str:
    """The metadata of a file, in JSON: what makes one stream again, of the `info` of several.

    It has no timings: the same audio is the same file.
    """
    told = {name: value for name, value in info.items() if name not in SPEED}
    for name in ("streams", "temperature"):
        if isinstance(told.get(name), (list, tuple)):
            told[name] = [told[name][row]]
    return json.dumps(told)
