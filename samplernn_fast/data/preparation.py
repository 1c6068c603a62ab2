"""`prepare`: audio files of any kind and rate -> one data folder, under one gain."""

import hashlib
import math
import os
import secrets
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
from samplernn_fast.data.decoding import FLOAT, Decoder, Take, decode_all
from samplernn_fast.data.folder import AUDIO_FILE, MANIFEST_FILE, SAMPLE, Manifest, Recording
from samplernn_fast.data.report import PrepareReport, make_report
from samplernn_fast.data.splits import SplitRule
from samplernn_fast.errors import ConfigError, DataError

AUTO_PEAK = 0.98
"""Where gain "auto" puts the largest peak of the data set, as a share of full scale."""
_SCRATCH = "scratch"
_BLOCK = 1 << 18  # samples converted at a time; 1 MiB of float32 stays in cache

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
    channels: str | int = "mix",
    trim_silence_db: float | None = None,
    gain: float | Literal["auto"] = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> PrepareReport:
    """Decodes audio files and folders of them into the data folder `out`.

    A file that cannot be used is skipped and named in the report. A recording (one input file) is in one
    split, and so are exact copies of it: by shares of the duration, or, with `valid_files` or `test_files`
    (text files with one file name, relative path or glob pattern per line), by name, the rest being train.
    `channels` is "mix" or a channel; `trim_silence_db` cuts both ends of every recording where they are
    quieter than that. `gain` multiplies everything: "auto" brings the largest peak to 0.98 of full scale.

    Nothing is printed; `progress` shows a bar on standard error. `out` appears whole or not at all.
    Raises DataError when nothing is usable, `out` exists (without `overwrite`) or a list does not fit the
    files, ConfigError on a setting that cannot work.
    """
    started = time.monotonic()
    folder = Path(os.path.realpath(out) if os.path.islink(out) else out)
    _check_settings(sample_rate, chunk_seconds, gain, workers)
    rule = SplitRule.from_settings(split, split_seed, valid_files, test_files)
    sources = _named_sources([inputs] if isinstance(inputs, str | os.PathLike) else inputs)
    _check_destination(folder, overwrite)
    held_out = rule.read_lists(list(sources))
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        (partial / _SCRATCH).mkdir(parents=True)
        decoder = Decoder(partial / _SCRATCH, sample_rate, channels, trim_silence_db)
        made = _make_audio(decoder, sources, partial, gain, workers or _processors(), progress)
        recordings, warnings = rule.assign(made.recordings, held_out)
        manifest = Manifest(
            sample_rate=sample_rate,
            gain=made.gain,
            chunk_seconds=chunk_seconds,
            recordings=tuple(recordings),
            split_info=rule.info(),
            dropped=tuple(made.dropped),
            versions=_versions(),
        )
        manifest.write(partial)
        _move_into_place(partial, folder)
    except OSError as error:
        raise DataError(f"{folder}: preparing failed and nothing was kept: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return make_report(folder, manifest, warnings, made.peak, made.clipped, time.monotonic() - started)


def _versions() -> dict[str, str]:
    """Of what decides the samples; soxr may be missing where no file needed it."""
    decoders = [name for name in ("soundfile", "soxr") if find_spec(name)]
    return {"samplernn_fast": __version__} | {name: version(name) for name in decoders}


def _check_settings(sample_rate: int, chunk_seconds: float, gain: object, workers: int | None) -> None:
    if type(sample_rate) is not int or not 1 <= sample_rate <= 768_000:
        raise ConfigError(f"sample_rate must be 1 to 768000 Hz, got {sample_rate!r}")
    if not 0 < chunk_seconds < math.inf:
        raise ConfigError(f"chunk_seconds must be positive, got {chunk_seconds!r}")
    if gain != "auto" and not (isinstance(gain, int | float) and 0 < gain < math.inf):
        raise ConfigError(f'gain must be "auto" or a positive number, got {gain!r}')
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # what this process may use, not what the machine has
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _named_sources(inputs: Sequence[PathLike]) -> dict[str, Path]:
    """Every audio file by its name relative to the input folder, or to the deepest common one of several."""
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
    """What stands in audio.i16, all "train" as yet."""

    recordings: list[Recording]
    dropped: list[tuple[str, str]]
    gain: float
    peak: float
    clipped: int


def _make_audio(
    decoder: Decoder, sources: Mapping[str, Path], folder: Path, gain: float | str, workers: int, progress: bool
) -> _Audio:
    """Writes audio.i16: everything is decoded once, and the gain known, before the first sample is rounded."""
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
    """Scratch files to int16; the recordings in order and the number of clipped samples."""
    scratch = {name: np.memmap(name, FLOAT, mode="r") for name in {take.scratch for take in takes}}
    recordings, clipped, offset = [], 0, 0
    with open(path, "wb") as file:
        for take in takes:
            digest = hashlib.sha256()
            for first in range(take.start, take.stop, _BLOCK):
                last = min(first + _BLOCK, take.stop)
                block = scratch[take.scratch][first:last] * np.float32(gain * 32768)
                clipped += int(np.count_nonzero(np.abs(block) > 32768))
                pcm = np.clip(np.rint(block), -32768, 32767).astype(SAMPLE)
                digest.update(pcm.data)
                file.write(pcm.data)
            length = take.stop - take.start
            recordings.append(Recording(take.name, "train", offset, length, digest.hexdigest()))
            offset += length
    return recordings, clipped


def _move_into_place(partial: Path, folder: Path) -> None:
    """Renames; an old folder stands aside until the new one is there."""
    old = folder.with_name(f"{folder.name}.old-{secrets.token_hex(4)}")
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(partial, folder)
    except BaseException:
        if old.exists():
            os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
