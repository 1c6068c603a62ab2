"""`prepare`: from audio files of any kind and rate to one data folder, all under one gain.

The steps: check the settings (`settings`), find the files (`audio.finding`), decode them into scratch files
(`decoding`), write audio.i16, share the recordings out (`splits`), cut or join them where that is needed
(`arranging`), write the manifest (`folder`), report (`report`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from samplernn_fast import terminal
from samplernn_fast._version import __version__
from samplernn_fast.data import arranging
from samplernn_fast.data.decoding import Decoded, Decoder, Scratch, Take, decode_all
from samplernn_fast.data.folder import AUDIO_FILE, SAMPLE, AudioData
from samplernn_fast.data.index import INDEX_FILE, write_manifest
from samplernn_fast.data.manifest import MANIFEST_FILE, Manifest, Recording, printable
from samplernn_fast.data.report import PrepareReport, loudness_warnings, make_report, silence_warnings
from samplernn_fast.data.settings import JOIN_SECONDS, Settings
from samplernn_fast.data.splits import SplitRule
from samplernn_fast.errors import ConfigError, DataError, exists
from samplernn_fast.files import replacing_folder
from samplernn_fast.ranges import checked
from samplernn_fast.stores.addresses import placed
from samplernn_fast.stores.reading import local
from samplernn_fast.stores.sending import sent_to, to_address

AUTO_PEAK = 0.98
"""Where gain "auto" puts the largest peak of the data set, as a share of full scale."""
SILENT_PEAK = 1e-6
"""Data with a smaller peak, 120 dB below full scale, is silence; 16-bit audio has no such peak."""
_SCRATCH = "scratch"  # the folder of scratch files, inside the data folder while that is being made
_ARRANGED = "arranged.i16"  # audio.i16 in its second order, likewise
_CONVERTED_AT_ONCE = 1 << 18  # samples; as float32 they take 1 MiB, which stays in a CPU's cache

PathLike = str | os.PathLike[str]


@to_address("out", last=(MANIFEST_FILE,))
@checked
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
    cut: bool = True,
    join: bool = False,
    join_seconds: float = JOIN_SECONDS,
    join_pause: float = 0.0,
    pad_seconds: float = 0.0,
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

    cut: where fewer than three different recordings would leave valid or test empty, those of a minute or more are cut
    by time, and 2 s are left out where two splits would touch. join: the recordings of each split stand one after
    another, in an order that split_seed draws, in medleys of at most join_seconds with join_pause seconds of silence
    between two; a longer recording is a medley of its own. pad_seconds: silence is put behind a recording that is
    shorter, before any are joined. What follows a recording is learnt only by one of the two, because training begins
    every recording, and every medley, with silence.

    sample_rate is in Hz. channels: "mix", "left", "right" or the number of a channel. trim_silence_db: both ends of
    every recording are cut where they are quieter, in dB below full scale. gain: the factor for all amplitudes; "auto"
    brings the largest peak to 0.98 of full scale. Only `progress` shows something: how far it is, on standard error.

    Raises DataError when no file is usable, all is silent, `out` exists (without `overwrite`) or a list does not fit
    the files, and ConfigError on a setting that cannot work or an `out` that holds something else than a data set.
    """
    started = time.monotonic()
    folder = Path(os.path.realpath(out) if os.path.islink(out) else out)
    settings = Settings(
        sample_rate=sample_rate,
        chunk_seconds=chunk_seconds,
        split=tuple(split),  # type: ignore[arg-type]  # SplitRule counts the shares
        split_seed=split_seed,
        cut=cut,
        join=join,
        join_seconds=join_seconds,
        join_pause=join_pause,
        pad_seconds=pad_seconds,
        channels=channels,
        trim_silence_db=trim_silence_db,
        gain=gain,
        workers=workers,
    )
    rule = SplitRule.from_settings(split, split_seed, valid_files, test_files)
    sources = find_sources([inputs] if isinstance(inputs, str | os.PathLike) else inputs)
    check_destination(folder, overwrite)
    held_out = rule.read_lists(list(sources.files))

    def decode(partial: Path) -> Decoded:
        (partial / _SCRATCH).mkdir()
        return decode_all(decoder_of(settings, partial / _SCRATCH), sources.files, workers or processors(), progress)

    return write_folder(folder, settings, rule, held_out, sources.unread, decode, started=started, progress=progress)


def write_folder(
    folder: Path,
    settings: Settings,
    rule: SplitRule,
    held_out: Mapping[str, str],
    unread: Unread,
    decode: Callable[[Path], Decoded],
    *,
    started: float,
    progress: bool,
    last: Callable[[Path], object] = lambda partial: None,
    within: Path | None = None,
) -> PrepareReport:
    """Makes a data folder of decoded recordings, which appears whole or not at all, and reports it.

    held_out: what the lists of `rule` name. decode: decodes, and may put scratch files into the folder that is being
    made, which it is called with. last: is called with that folder when all is in it. within: where that folder is
    made, unless beside `folder`. started: when the preparation began. Raises what `prepare` does.
    """
    try:
        with replacing_folder(folder, within) as partial:
            made = _make_audio(settings, decode(partial), partial, progress)
            arranged = _arrange(settings, rule, *rule.assign(made.recordings, held_out), partial)
            manifest = Manifest(
                sample_rate=int(settings.sample_rate),
                gain=made.gain,
                chunk_seconds=float(settings.chunk_seconds),
                recordings=tuple(arranged.recordings),
                split_info=rule.info() | arranged.info,
                dropped=(*unread.folders, *made.dropped),
                versions=versions(),
            )
            write_manifest(partial, manifest)
            silent = silence_warnings(AudioData.open(partial))
            last(partial)
    except OSError as error:
        raise DataError(f"{folder}: preparing failed and nothing was kept: {error}") from error
    return make_report(
        sent_to(folder),
        manifest,
        recordings=len(made.recordings),
        passed_over=unread.passed_over,
        notes=arranged.notes,
        warnings=[*arranged.warnings, *made.warnings, *silent],
        peak=made.peak,
        clipped=made.clipped,
        seconds=time.monotonic() - started,
    )


def decoder_of(settings: Settings, folder: Path) -> Decoder:
    """What decodes into scratch files in `folder`."""
    return Decoder(folder, settings.sample_rate, settings.channels, settings.trim_silence_db)


def versions() -> dict[str, str]:
    """The versions of the programs that decide the samples. soxr may be missing where no file needed it."""
    decoders = [name for name in ("soundfile", "soxr") if find_spec(name)]
    return {"samplernn_fast": __version__} | {name: version(name) for name in decoders}


def processors() -> int:
    """How many processors this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Unread:
    """What lies among the inputs and is not decoded."""

    folders: tuple[tuple[str, str], ...]
    """(name, reason) of every folder that cannot be listed."""
    passed_over: str
    """How many files of which suffixes are no audio, in words."""


@dataclass(frozen=True)
class Sources:
    """What there is to decode."""

    files: dict[str, Path]
    """Every audio file by its name relative to the input folder, or to the deepest folder that holds all inputs."""
    unread: Unread


def find_sources(inputs: Sequence[PathLike]) -> Sources:
    """Finds the audio files. Raises DataError where there is none, or two have one name."""
    from samplernn_fast.audio.finding import maybe_audio, search

    paths = [local(path, maybe_audio) for path in inputs]
    found = search(paths)
    if not found.files:
        seen = f" ({found.not_audio()} passed over)" if found.passed_over else ""
        raise DataError(
            f"{', '.join(map(str, paths)) or 'no input'}: no audio files found{seen}; name files or folders"
        )
    roots = [placed(path) if path.is_dir() else os.path.dirname(placed(path)) for path in paths]
    root = os.path.commonpath(roots)

    def name(path: Path) -> str:
        return printable(Path(placed(path)).relative_to(root).as_posix())

    files: dict[str, Path] = {}
    for path in sorted({Path(os.path.abspath(file)) for file in found.files}):
        if files.setdefault(name(path), path) != path:
            raise DataError(f"{path}: another file's name is written in the same way, {name(path)}; rename one")
    folders = tuple((name(folder), reason) for folder, reason in found.unlisted)
    return Sources(dict(sorted(files.items())), Unread(folders, found.not_audio()))


def check_destination(folder: Path, overwrite: bool) -> None:
    """Raises DataError where a data set is in the way, and ConfigError where something is that is never replaced."""
    if not os.path.lexists(folder):
        return
    if not overwrite:
        raise DataError(exists(folder))
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; choose another name")
    foreign = {entry.name for entry in folder.iterdir()} - {AUDIO_FILE, MANIFEST_FILE, INDEX_FILE}
    if foreign:
        raise ConfigError(f"{folder} holds more than a data set ({min(foreign)}), so it stays; choose another folder")


@dataclass(frozen=True)
class _Audio:
    """What was written to audio.i16. Every recording is "train" until the splits are known."""

    recordings: list[Recording]
    dropped: list[tuple[str, str]]
    gain: float
    peak: float
    clipped: int
    warnings: list[str]


def _make_audio(settings: Settings, decoded: Decoded, folder: Path, progress: bool) -> _Audio:
    """Works out the gain of what was decoded, and then writes audio.i16, so that each sample is rounded once."""
    takes, dropped = decoded
    if not takes:
        name, reason = dropped[0]
        raise DataError(f"none of {len(dropped)} audio files can be used; the first: {name}: {reason}")
    peak = max(take.peak for take in takes)
    if peak < SILENT_PEAK:
        what = f"silence (the largest amplitude is {peak:.2g}, where full scale is 1)" if peak else "digital silence"
        raise DataError(f"all {len(takes)} recordings are {what}, and nothing can be learnt from them")
    gain = float(settings.gain) if settings.gain != "auto" else AUTO_PEAK / peak
    shortest = round(settings.pad_seconds * settings.sample_rate)
    written = _write_audio(takes, folder / AUDIO_FILE, gain, shortest, progress)
    if len(written.constant) == len(takes):
        raise DataError(
            f"all {len(takes)} recordings are one constant value each as 16-bit samples at gain {gain:.4g}, and nothing"
            " can be learnt from them"
        )
    shutil.rmtree(folder / _SCRATCH, ignore_errors=True)
    warnings = loudness_warnings(takes, written.constant, gain, settings)
    return _Audio(written.recordings, dropped, gain, peak, written.clipped, warnings)


@dataclass
class _Written:
    """What `_write_audio` wrote."""

    recordings: list[Recording] = field(default_factory=list)
    clipped: int = 0
    """How many samples were beyond full scale."""
    constant: list[str] = field(default_factory=list)
    """The names of recordings all of whose samples are equal."""


def _write_audio(takes: Sequence[Take], path: Path, gain: float, shortest: int, progress: bool) -> _Written:
    """Writes scratch files as int16, and silence behind those that have fewer than `shortest` samples.

    progress: show how many recordings are written.
    """
    written, offset = _Written(), 0
    with (
        Scratch() as scratch,
        open(path, "wb") as file,
        terminal.Bar(len(takes), "recording", shown=progress, title="write") as bar,
    ):
        for take in takes:
            digest = hashlib.sha256()
            low, high = 32767, -32768
            for first in range(take.start, take.stop, _CONVERTED_AT_ONCE):
                last = min(first + _CONVERTED_AT_ONCE, take.stop)
                block = scratch.read(take.scratch, first, last) * np.float32(gain * 32768)
                written.clipped += int(np.count_nonzero(np.abs(block) > 32768))
                pcm = np.clip(np.rint(block), -32768, 32767).astype(SAMPLE)
                low, high = min(low, int(pcm.min())), max(high, int(pcm.max()))
                digest.update(pcm.data)
                file.write(pcm.data)
            length = max(shortest, take.stop - take.start)
            silence = np.zeros(length - (take.stop - take.start), SAMPLE)
            digest.update(silence.data)
            file.write(silence.data)
            written.recordings.append(Recording(take.name, "train", offset, length, digest.hexdigest()))
            if low == high:
                written.constant.append(take.name)
            offset += length
            bar.advance()
    return written


@dataclass(frozen=True)
class _Arranged:
    """The entries of the data folder."""

    recordings: list[Recording]
    info: dict[str, Any]
    """What the manifest keeps of how they were made, for JSON."""
    notes: list[str]
    warnings: list[str]


def _arrange(
    settings: Settings, rule: SplitRule, recordings: list[Recording], warnings: list[str], folder: Path
) -> _Arranged:
    """Cuts long recordings and joins short ones, where that is needed or asked for, and rewrites audio.i16 then."""
    plans, info, notes = arranging.whole(recordings), dict[str, Any](), list[str]()
    rate = settings.sample_rate
    if settings.cut and rule.is_short_of_recordings(recordings):
        cut = arranging.cut(recordings, rule.shares, rule.seed, rate)
        if len(cut) > len(plans):
            plans = cut
            info["cut"] = {"seed": rule.seed, "gap_seconds": arranging.GAP_SECONDS}
            lost = sum(one.length for one in recordings) - sum(plan.length for plan in cut)
            notes.append(
                f"fewer than 3 different recordings, so they are cut by time into {len(cut)} pieces for train, valid"
                f" and test, with {arranging.GAP_SECONDS} s left out between two splits,"
                f" {terminal.audio_length(lost / rate)} in all; cut=False keeps all for training"
            )
    warnings = warnings + rule.warn_of_empty({plan.split for plan in plans})
    if settings.join:
        most, pause = (round(seconds * rate) for seconds in (settings.join_seconds, settings.join_pause))
        plans = arranging.join(plans, rule.seed, most, pause)
        info["join"] = {"seed": rule.seed, "seconds": settings.join_seconds, "pause": settings.join_pause}
    if info:
        recordings = arranging.rearrange(folder / AUDIO_FILE, recordings, plans, folder / _ARRANGED)
        os.replace(folder / _ARRANGED, folder / AUDIO_FILE)
    if settings.pad_seconds:
        info["pad"] = {"seconds": settings.pad_seconds}
    return _Arranged(recordings, info, notes, warnings)
