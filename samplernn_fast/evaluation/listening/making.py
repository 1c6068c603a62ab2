"""Makes the folder of a listening test: clips of every system, of one loudness, under names that say nothing."""

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt

from samplernn_fast import files
from samplernn_fast.audio import writing
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.evaluation.clips.measures import measure_clip
from samplernn_fast.evaluation.listening import loudness
from samplernn_fast.evaluation.listening.folder import (
    CLIP_FOLDER,
    COUNT,
    LUFS,
    MOST_CHARACTERS,
    SECONDS,
    SEED,
    TRIALS,
    Clip,
    ListeningTest,
    System,
    clip_file,
)
from samplernn_fast.evaluation.listening.sources import Candidate, Named
from samplernn_fast.ranges import check_fields

NOISE_CLIP_FLATNESS = 0.3
"""The spectral flatness from which a clip counts as noise: white noise has 0.56, a voice about 0.02."""
_MOST_TRIED = 10  # how many times `count` clips a model makes where some are left out; a folder is read to its end


@dataclass(frozen=True)
class Settings:
    """How a test is made."""

    count: Annotated[int, COUNT] = 20
    """Clips of each system; fewer where a folder has no more."""
    seconds: Annotated[float, SECONDS] = 5.0
    """The longest that a clip may be."""
    trials: Annotated[int, TRIALS] = 20
    """Pairs that a listener hears, 20 in the paper."""
    seed: Annotated[int, SEED] = 0
    """Decides which clips are taken or generated, and later which pairs a listener hears."""
    lufs: Annotated[float, LUFS] = -23.0
    """The loudness of all clips."""
    drop_noise: bool = False
    """Leave out clips that are noise, as the paper did for music."""
    title: str = "Listening test"
    question: str = "Which one do you prefer?"

    def __post_init__(self) -> None:
        """Raises ConfigError for a number outside its range, and for a title or a question that is too long."""
        check_fields(self)
        for name in ("title", "question"):
            if (length := len(getattr(self, name))) > MOST_CHARACTERS:
                raise ConfigError(f"{name} must have at most {MOST_CHARACTERS} characters, got {length}")


@dataclass(frozen=True)
class _Taken:
    """A clip with what was measured of it."""

    system: str
    candidate: Candidate
    loudness: float
    peak: float


def is_noise(samples: npt.ArrayLike, sample_rate: int) -> bool:
    """Whether (T,) amplitudes are noise as a whole: `ClipMeasures.flatness` is at least `NOISE_CLIP_FLATNESS`."""
    return measure_clip(samples, sample_rate).flatness >= NOISE_CLIP_FLATNESS


def noise_clips(test: ListeningTest) -> set[str]:
    """The clips of a test that are noise. Raises AudioError for one that cannot be read."""
    from samplernn_fast.audio import reading

    return {name for name in test.clips if is_noise(*reading.read(test.clip_path(name)))}


def make(systems: Sequence[Named], folder: Path, settings: Settings) -> ListeningTest:
    """Makes the folder of a test, whole or not at all.

    Clips that are silent or too short to have a loudness are left out and counted. Raises ConfigError where pyloudnorm
    is missing and where a system has no clip left, DataError where the folder exists, AudioError where a folder has no
    audio files, CheckpointError for a model that cannot be loaded.
    """
    if folder.exists():
        raise DataError(f"{folder} exists, and a listening test is never written over; name another folder")
    loudness.load_pyloudnorm()
    for named in systems:
        named.check()
    taken: list[_Taken] = []
    described: list[System] = []
    for named in systems:
        found, system = _take(named, settings)
        taken += found
        described.append(system)
    lufs = loudness.common_loudness([one.loudness for one in taken], [one.peak for one in taken], settings.lufs)
    named_clips = {secrets.token_hex(8): one for one in taken}
    # Shuffled, so that the order of the clips in the folder and in time says nothing of their systems either.
    names = sorted(named_clips)
    test = ListeningTest(
        folder,
        secrets.token_hex(4),
        settings.title,
        settings.question,
        settings.seed,
        settings.trials,
        lufs,
        tuple(described),
        {name: Clip(named_clips[name].system, named_clips[name].candidate.source) for name in names},
    )
    try:
        with files.replacing_folder(folder) as partial:
            (partial / CLIP_FOLDER).mkdir()
            for name in names:
                candidate, was = named_clips[name].candidate, named_clips[name].loudness
                louder = loudness.scaled(candidate.samples, was, lufs)
                writing.write(clip_file(partial, name), louder, candidate.sample_rate)
            test.write(partial)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return test


def _take(named: Named, settings: Settings) -> tuple[list[_Taken], System]:
    """The clips of one system, and the system with how many were left out. Raises ConfigError where none is left."""
    taken: list[_Taken] = []
    left_out: Counter[str] = Counter()
    reason = ""
    for candidate in named.candidates(settings.seconds, settings.seed, settings.count):
        samples, rate = candidate.samples, candidate.sample_rate
        try:
            measured = loudness.loudness(samples, rate, candidate.source)
        except loudness.NoLoudness as error:
            left_out["no loudness"] += 1
            reason = reason or str(error)
        else:
            if settings.drop_noise and is_noise(samples, rate):
                left_out["noise"] += 1
            else:
                taken.append(_Taken(named.name, candidate, measured, float(np.abs(samples).max())))
        enough = named.is_model() and left_out.total() + len(taken) >= _MOST_TRIED * settings.count
        if len(taken) == settings.count or enough:
            break
    noise, silent = left_out["noise"], left_out["no loudness"]
    if not taken and not silent:
        raise ConfigError(f"{named.name}: all of its {noise} clips are noise; leave the system out, or keep noise")
    if not taken:
        noises = f", and {noise} are noise" if noise else ""
        raise ConfigError(f"{named.name}: no clip is left; {silent} are too short or silent{noises} ({reason})")
    return taken, System(named.name, named.source, noise, silent)
