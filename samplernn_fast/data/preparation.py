"""`prepare`: from audio files of any kind and rate to one data folder, all under one gain.

The steps: check the settings, find the files (`audio.reading`), decode them into scratch files (`decoding`), write
audio.i16, share the recordings out (`splits`), join them where that is asked for (`arranging`), write the manifest
(`folder`), report (`report`).
"""

import hashlib
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from samplernn_fast._version import __version__
from samplernn_fast.data import arranging
from samplernn_fast.data.decoding import FLOAT, Decoder, Take, decode_all
from samplernn_fast.data.folder import AUDIO_FILE, MANIFEST_FILE, SAMPLE, Manifest, Recording
from samplernn_fast.data.report import PrepareReport, make_report
from samplernn_fast.data.splits import SplitRule
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.files import replacing_folder

AUTO_PEAK = 0.98
"""Where gain "auto" puts the largest peak of the data set, as a share of full scale."""
JOIN_SECONDS = 60.0
"""The longest stream of joined recordings, unless another is asked for."""
_SCRATCH = "scratch"  # the folder of scratch files, inside the data folder while that is being made
_CONVERTED_AT_ONCE = 1 << 18  # samples; as float32 they take 1 MiB, which stays in a CPU's cache

PathLike = str | os.PathLike[str]


def prepare(
    inputs: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    sample_rate: int = 16000,
    chunk_seconds: float = 8.0,
    split: Sequence[float] = (88, 6, 6),
    split_seed: int = 0,
    valid_files: PathLike | None = None,
    test_files: PathLike | None = None,
    join: bool = False,
    join_seconds: float = JOIN_SECONDS,
    join_pause: float = 0.0,
    channels: str | int = "mix",
    trim_silence_db: float | None = None,
    gain: float | Literal["auto"] = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> PrepareReport:
    """Decodes audio files, and folders of them, into the data folder `out`, which appears whole or not at all.

    A file that cannot be used is skipped and named in the report. A recording (one input file) is in one split, and
    its exact copies are in the same: by shares of the duration (`split`: train, valid, test), or by name with
    `valid_files` or `test_files`, text files of one file name, relative path or glob pattern in a line.

    join: the recordings of each split stand one after another, in an order that split_seed draws, in streams of at
    most join_seconds with join_pause seconds of silence between two; a longer recording is a stream of its own. What
    follows a recording is learnt only so, because training begins every recording, and every stream, with silence.

    sample_rate is in Hz. channels: "mix", "left", "right" or the number of a channel. trim_silence_db: both ends of
    every recording are cut where they are quieter, in dB below full scale. gain: the factor for all amplitudes; "auto"
    brings the largest peak to 0.98 of full scale. Only `progress` shows something: a bar on standard error.

    Raises DataError when no file is usable, `out` exists (without `overwrite`) or a list does not fit the files, and
    ConfigError on a setting that cannot work.
    """
    started = time.monotonic()
    folder = Path(os.path.realpath(out) if os.path.islink(out) else out)
    _check_settings(sample_rate, chunk_seconds, gain, workers)
    joining = _Joining.from_settings(join, join_seconds, join_pause, sample_rate, split_seed)
    rule = SplitRule.from_settings(split, split_seed, valid_files, test_files)
    sources = _named_sources([inputs] if isinstance(inputs, str | os.PathLike) else inputs)
    _check_destination(folder, overwrite)
    held_out = rule.read_lists(list(sources))
    try:
        with replacing_folder(folder) as partial:
            (partial / _SCRATCH).mkdir()
            decoder = Decoder(partial / _SCRATCH, sample_rate, channels, trim_silence_db)
            made = _make_audio(decoder, sources, partial, gain, workers or _processors(), progress)
            recordings, warnings = rule.assign(made.recordings, held_out)
            if joining:
                recordings = joining.apply(partial / AUDIO_FILE, recordings)
            manifest = Manifest(
                sample_rate=sample_rate,
                gain=made.gain,
                chunk_seconds=chunk_seconds,
                recordings=tuple(recordings),
                split_info=rule.info() | (joining.info() if joining else {}),
                dropped=tuple(made.dropped),
                versions=_versions(),
            )
            manifest.write(partial)
    except OSError as error:
        raise DataError(f"{folder}: preparing failed and nothing was kept: {error}") from error
    return make_report(folder, manifest, warnings, made.peak, made.clipped, time.monotonic() - started)


@dataclass(frozen=True)
class _Joining:
    """How recordings are joined into streams."""

    seed: int
    seconds: float
    pause: float
    sample_rate: int

    @classmethod
    def from_settings(cls, join: bool, seconds: float, pause: float, sample_rate: int, seed: int) -> "_Joining | None":
        """What `prepare`'s arguments ask for, None for nothing. Raises ConfigError for what cannot work."""
        if not 0 < seconds < math.inf:
            raise ConfigError(f"join_seconds must be positive, got {seconds!r}")
        if not 0 <= pause <= seconds:
            raise ConfigError(f"join_pause must be 0 to join_seconds ({seconds:g}), got {pause!r}")
        if join:
            return cls(seed, seconds, pause, sample_rate)
        if (seconds, pause) != (JOIN_SECONDS, 0):
            raise ConfigError("join_seconds and join_pause are for joined recordings; set join too (--join)")
        return None

    def info(self) -> dict[str, object]:
        """What the manifest keeps, for JSON."""
        return {"join": {"seed": self.seed, "seconds": self.seconds, "pause": self.pause}}

    def apply(self, audio: Path, recordings: Sequence[Recording]) -> list[Recording]:
        """Rewrites audio.i16 as streams of `recordings`, which have their splits; returns the streams."""
        most, pause = (round(seconds * self.sample_rate) for seconds in (self.seconds, self.pause))
        plans = arranging.join(recordings, self.seed, most, pause)
        joined = arranging.rearrange(audio, recordings, plans, audio.with_suffix(".joined"))
        os.replace(audio.with_suffix(".joined"), audio)
        return joined


def _versions() -> dict[str, str]:
    """The versions of the programs that decide the samples. soxr may be missing where no file needed it."""
    decoders = [name for name in ("soundfile", "soxr") if find_spec(name)]
    return {"samplernn_fast": __version__} | {name: version(name) for name in decoders}


def _check_settings(sample_rate: int, chunk_seconds: float, gain: object, workers: int | None) -> None:
    """Raises ConfigError for a setting that cannot work."""
    if type(sample_rate) is not int or not 1 <= sample_rate <= 768_000:
        raise ConfigError(f"sample_rate must be 1 to 768000 Hz, got {sample_rate!r}")
    if not 0 < chunk_seconds < math.inf:
        raise ConfigError(f"chunk_seconds must be positive, got {chunk_seconds!r}")
    if gain != "auto" and not (isinstance(gain, int | float) and 0 < gain < math.inf):
        raise ConfigError(f'gain must be "auto" or a positive number, got {gain!r}')
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")


def _processors() -> int:
    """How many processors this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _named_sources(inputs: Sequence[PathLike]) -> dict[str, Path]:
    """Every audio file by its name relative to the input folder, or to the deepest folder that holds all inputs."""
    from samplernn_fast.audio.reading import find_audio

    paths = [Path(path) for path in inputs]
    files = [Path(os.path.abspath(file)) for file in find_audio(paths)]
    if not files:
        raise DataError(f"{', '.join(map(str, paths)) or 'no input'}: no audio files found; name files or folders")
    roots = [os.path.abspath(path if path.is_dir() else path.parent) for path in paths]
    root = os.path.commonpath(roots)
    named = {file.relative_to(root).as_posix(): file for file in files}
    return dict(sorted(named.items()))


def _check_destination(folder: Path, overwrite: bool) -> None:
    """Raises DataError where something is in the way that is not to be replaced."""
    if not os.path.lexists(folder):
        return
    if not overwrite:
        raise DataError(f"{folder} exists; choose another folder for --out, or add --overwrite")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; choose another --out")
    foreign = {entry.name for entry in folder.iterdir()} - {AUDIO_FILE, MANIFEST_FILE}
    if foreign:
        raise DataError(f"{folder} holds more than a data set ({min(foreign)}), so it stays; choose another --out")


@dataclass(frozen=True)
class _Audio:
    """What was written to audio.i16. Every recording is "train" until the splits are known."""

    recordings: list[Recording]
    dropped: list[tuple[str, str]]
    gain: float
    peak: float
    clipped: int


def _make_audio(
    decoder: Decoder, sources: Mapping[str, Path], folder: Path, gain: float | str, workers: int, progress: bool
) -> _Audio:
    """Decodes everything, works out the gain, and then writes audio.i16, so that each sample is rounded once."""
    takes, dropped = decode_all(decoder, sources, workers, progress)
    if not takes:
        name, reason = dropped[0]
        raise DataError(f"none of {len(dropped)} audio files can be used; the first: {name}: {reason}")
    peak = max(take.peak for take in takes)
    factor = float(gain) if gain != "auto" else (AUTO_PEAK / peak if peak > 0 else 1.0)
    recordings, clipped = _write_audio(takes, folder / AUDIO_FILE, factor)
    shutil.rmtree(folder / _SCRATCH)
    return _Audio(recordings, dropped, factor, peak, clipped)


def _write_audio(takes: Sequence[Take], path: Path, gain: float) -> tuple[list[Recording], int]:
    """Writes scratch files as int16. Returns the recordings in order, and the number of clipped samples."""
    scratch = {name: np.memmap(name, FLOAT, mode="r") for name in {take.scratch for take in takes}}
    recordings, clipped, offset = [], 0, 0
    with open(path, "wb") as file:
        for take in takes:
            digest = hashlib.sha256()
            for first in range(take.start, take.stop, _CONVERTED_AT_ONCE):
                last = min(first + _CONVERTED_AT_ONCE, take.stop)
                block = scratch[take.scratch][first:last] * np.float32(gain * 32768)
                clipped += int(np.count_nonzero(np.abs(block) > 32768))
                pcm = np.clip(np.rint(block), -32768, 32767).astype(SAMPLE)
                digest.update(pcm.data)
                file.write(pcm.data)
            length = take.stop - take.start
            recordings.append(Recording(take.name, "train", offset, length, digest.hexdigest()))
            offset += length
    return recordings, clipped
