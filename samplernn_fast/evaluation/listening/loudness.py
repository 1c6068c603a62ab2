"""One loudness for all clips, by ITU-R BS.1770 as pyloudnorm measures it, and never a clipped sample.

pyloudnorm (Steinmetz and Reiss, "pyloudnorm: A simple yet flexible loudness meter in Python", AES 150, 2021) is an
optional package that is loaded on first use.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.evaluation.listening.folder import SHORTEST_SECONDS

CEILING_DB = -1.0
"""The highest peak of a clip in dB of full scale; players that resample need some room above it."""

Samples = npt.NDArray[np.float32]


class NoLoudness(AudioError):
    """A clip that is too short or too quiet to have a loudness."""


def load_pyloudnorm() -> Any:
    """The module pyloudnorm. Raises ConfigError where it is not installed."""
    try:
        import pyloudnorm
    except ImportError:
        message = "a listening test needs pyloudnorm for one loudness; pip install pyloudnorm (extra `listening`)"
        raise ConfigError(message) from None
    return pyloudnorm


def loudness(samples: Samples, sample_rate: int, name: str) -> float:
    """The integrated loudness of (T,) samples in LUFS.

    Raises NoLoudness, which begins with `name`, for a clip that is shorter than a block or silent: neither has a
    loudness that could be changed.
    """
    if len(samples) < SHORTEST_SECONDS * sample_rate:
        raise NoLoudness(
            f"{name}: lasts {1000 * len(samples) / sample_rate:.0f} ms; the loudness of a clip is defined from"
            f" {1000 * SHORTEST_SECONDS:.0f} ms on (ITU-R BS.1770)"
        )
    measured = float(load_pyloudnorm().Meter(sample_rate).integrated_loudness(samples.astype(np.float64)))
    if not math.isfinite(measured):
        raise NoLoudness(f"{name}: is silent (below -70 LUFS), so it cannot be made as loud as the others")
    return measured


def common_loudness(loudnesses: Sequence[float], peaks: Sequence[float], wanted: float) -> float:
    """The loudness in LUFS that all clips can be given: `wanted`, or less where a clip would pass `CEILING_DB`.

    peaks: the largest amplitude of each clip.
    """
    room = [CEILING_DB - 20 * math.log10(peak) + was for was, peak in zip(loudnesses, peaks, strict=True)]
    return min(wanted, *room)


def scaled(samples: Samples, was: float, wanted: float) -> Samples:
    """Samples of the loudness `was` with the loudness `wanted`, both in LUFS."""
    return np.asarray(samples * 10 ** ((wanted - was) / 20), np.float32)
