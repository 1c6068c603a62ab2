"""Prompts: a file or samples become the levels that a stream has heard before it goes on."""

from pathlib import Path

import numpy as np

from samplernn_fast.audio import limits, quantize, reading, resampling
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.untrusted import Unreadable

Prompt = str | Path | np.ndarray


def prompt_levels(config: AudioConfig, prompt: Prompt, sample_rate: int | None = None) -> np.ndarray:
    """Levels (T,) or (B, T) of a prompt: a file, or float samples in [-1, 1] at `sample_rate` (default: the model's).

    A prompt gets the gain and the 16 bits that the training data got, so that a piece of that data gives its very
    levels. A short prompt needs no padding, because silence stands before it. Raises ConfigError for samples of
    another shape or type and for none, AudioError for a file that cannot be read or has none.
    """
    if isinstance(prompt, (str, Path)):
        samples, _ = reading.read(Path(prompt), sample_rate=config.sample_rate)
    else:
        try:
            samples = np.asarray(prompt)
        except ValueError:  # parts of different shapes
            samples = np.empty(0, object)
        if samples.ndim not in (1, 2) or samples.dtype.kind != "f":
            found = f"{samples.dtype} {samples.shape}"
            raise ConfigError(f"prompt must be float samples in [-1, 1], (T,) or (B, T), got {found}")
        if not samples.size:
            raise ConfigError(f"prompt must have samples, got none {samples.shape}; leave it out to begin in silence")
        samples = samples.astype(np.float32)
        if sample_rate is not None:
            limits.RATES.check("prompt_sample_rate", sample_rate, whole=True)
        _check(samples, sample_rate or config.sample_rate, config.sample_rate)
        if sample_rate not in (None, config.sample_rate):
            rows = [resampling.resample(row, sample_rate, config.sample_rate) for row in np.atleast_2d(samples)]
            samples = np.stack(rows) if samples.ndim == 2 else rows[0]
    pcm = np.rint(samples * np.float32(config.gain * 32768))
    return quantize.for_config(config).encode(pcm / 32768)


def _check(samples: np.ndarray, rate: int, to_rate: int) -> None:
    """Raises AudioError for (T,) or (B, T) samples that are no audio, or too long to be resampled to `to_rate`."""
    try:
        limits.check_amplitudes(np.atleast_2d(samples).T, 0, rate)
        limits.check_rates(rate, to_rate)
        limits.check_whole(samples.size / rate, to_rate)
    except Unreadable as error:
        raise AudioError(f"prompt: {error}") from None
