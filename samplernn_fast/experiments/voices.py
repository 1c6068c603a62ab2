"""Whose voice a sound is, by its mean fundamental frequency (section 3.3), which Praat finds (the extra `voice`)."""

import glob
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samplernn_fast.audio import reading
from samplernn_fast.audio.finding import find_audio
from samplernn_fast.errors import AudioError, ConfigError

LOWEST, HIGHEST = 60.0, 500.0
"""The range in which a fundamental frequency is looked for, in Hz."""
LEAST_VOICED = 0.1
"""How many seconds of a clip must be voiced, so that its mean says whose voice it is."""
_STEP = 0.01  # seconds between two measures of the pitch


def praat() -> Any:
    """Praat's library. Raises ConfigError, which says what to install, where there is none."""
    try:
        import parselmouth
    except ImportError:
        raise ConfigError(
            "praat-parselmouth measures the pitch of voices and is not installed: pip install praat-parselmouth"
        ) from None
    return parselmouth


def pitches(samples: npt.ArrayLike, sample_rate: int) -> npt.NDArray[np.float64]:
    """The fundamental frequency in Hz of every voiced frame of (T,) amplitudes, 10 ms apart; empty without a voice."""
    clip = np.asarray(samples, np.float64)
    if len(clip) < sample_rate * 3 / LOWEST:  # Praat looks at three periods of the lowest pitch at once
        return np.zeros(0)
    found = praat().Sound(clip, sample_rate).to_pitch(_STEP, LOWEST, HIGHEST).selected_array["frequency"]
    voiced: npt.NDArray[np.float64] = found[found > 0]
    return voiced


def mean_pitch(samples: npt.ArrayLike, sample_rate: int) -> float:
    """The mean fundamental frequency of a clip in Hz; NaN where too little of it is voiced."""
    voiced = pitches(samples, sample_rate)
    return float(voiced.mean()) if len(voiced) * _STEP >= LEAST_VOICED else math.nan


@dataclass(frozen=True)
class Voice:
    """A speaker, known by recordings."""

    name: str
    pitch: float
    """The mean fundamental frequency of all voiced frames, in Hz."""
    recordings: tuple[float, ...]
    """The mean of each recording that is voiced."""


@dataclass(frozen=True)
class TwoVoices:
    """Two speakers who are told apart by pitch."""

    low: Voice
    high: Voice

    @property
    def boundary(self) -> float:
        """The pitch between them, in Hz: their geometric mean, since pitch is heard in ratios."""
        return math.sqrt(self.low.pitch * self.high.pitch)

    def of(self, pitch: float) -> str | None:
        """The name of the speaker of that pitch; None for NaN."""
        if math.isnan(pitch):
            return None
        return self.low.name if pitch < self.boundary else self.high.name

    def accuracy(self) -> float:
        """The share of their own recordings that `of` gives to the right speaker, both speakers counted alike."""
        shares = [np.mean([self.of(one) == voice.name for one in voice.recordings]) for voice in (self.low, self.high)]
        return float(np.mean(shares))


def read_voices(inputs: Sequence[str], sample_rate: int) -> TwoVoices:
    """Measures two speakers, each a folder of recordings or a pattern of files such as 'digits/*_george_*.wav'.

    Recordings are read at `sample_rate`. Raises ConfigError where there are not two voices of different pitch, and
    AudioError for recordings that cannot be read.
    """
    if len(inputs) != 2:
        raise ConfigError(f"voices must be two, a folder or a pattern of files each, got {len(inputs)}")
    praat()
    low, high = sorted((_read_voice(one, sample_rate) for one in inputs), key=lambda voice: voice.pitch)
    if low.name == high.name:
        raise ConfigError(
            f"voices must have two names, and both are called {low.name}; put them into folders of their own"
        )
    if high.pitch / low.pitch < 1.05:
        raise ConfigError(
            f"voices must be two of different pitch, got {low.name} at {low.pitch:.1f} Hz and {high.name} at"
            f" {high.pitch:.1f} Hz"
        )
    return TwoVoices(low, high)


def _read_voice(pattern: str, sample_rate: int) -> Voice:
    matched = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
    files = find_audio(matched) if matched else []
    if not files:
        raise AudioError(f"{pattern}: no recordings there")
    frames, means = [], []
    for file in files:
        samples, rate = reading.read(file, sample_rate)
        voiced = pitches(samples, rate)
        frames.append(voiced)
        if len(voiced) * _STEP >= LEAST_VOICED:
            means.append(float(voiced.mean()))
    if not means:
        raise AudioError(f"{pattern}: none of {len(files)} recordings has a voice")
    return Voice(_name(pattern), float(np.concatenate(frames).mean()), tuple(means))


def _name(pattern: str) -> str:
    """What a voice is called: its folder, or the words of its pattern, or the folder before a pattern without words."""
    path = Path(pattern)
    if not glob.has_magic(pattern):
        return path.name
    words = re.sub(r"[*?]|\[.*?\]", "", path.stem).strip("_- ")
    return words or _name(str(path.parent))
