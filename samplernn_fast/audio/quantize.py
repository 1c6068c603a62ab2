"""Amplitudes to levels and back: the only place that knows what a level means.

`quantizer` and `for_config` make a `Quantizer`; the formulas of each law stand in `laws`. Needs numpy only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samplernn_fast.audio.laws import QUANTIZATIONS, RULES
from samplernn_fast.errors import AudioError, ConfigError


class Quantized(Protocol):
    """The two fields of a model's config that decide what its levels mean."""

    @property
    def quantization(self) -> str: ...
    @property
    def q_levels(self) -> int: ...


def quantizer(name: str, q_levels: int) -> Quantizer:
    """The quantizer `name` with `q_levels` levels. Raises ConfigError on an unknown name or number."""
    return Quantizer(name, q_levels)


def for_config(config: Quantized) -> Quantizer:
    """The quantizer of a model. `config.gain` is not part of it: multiply audio by it before `encode`."""
    return Quantizer(config.quantization, config.q_levels)


@dataclass(frozen=True)
class Quantizer:
    """One rule between amplitudes and levels 0 ... q_levels - 1. Make it with `quantizer` or `for_config`."""

    name: str
    q_levels: int

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise ConfigError(f"quantization must be one of {', '.join(QUANTIZATIONS)}, got {self.name!r}")
        integer = isinstance(self.q_levels, (int, np.integer)) and not isinstance(self.q_levels, bool)
        if not integer or not 2 <= self.q_levels <= 65536:
            raise ConfigError(f"q_levels must be a whole number from 2 to 65536, got {self.q_levels!r}")
        if RULES[self.name].only_256 and self.q_levels != 256:
            raise ConfigError(f"quantization {self.name!r} has 256 levels, got q_levels {self.q_levels}")

    @property
    def zero(self) -> int:
        """The level of silence, Q // 2 in every rule."""
        return self.q_levels // 2

    @property
    def per_file(self) -> bool:
        """True where the rule stretches each file (row) to its own minimum and maximum."""
        return RULES[self.name].per_file

    def encode(self, x: ArrayLike) -> NDArray[np.int32]:
        """Turns float amplitudes of any shape, nominally in [-1, 1], into int32 levels of the same shape.

        Amplitudes outside [-1, 1] take the outermost level. A `per_file` rule stretches each row (the last axis) to
        its own minimum and maximum; a constant row becomes the level of silence. Raises AudioError on NaN, infinite
        or integer input.
        """
        samples = np.asarray(x)
        if samples.dtype.kind != "f":
            raise AudioError(f"encode needs floating-point samples in [-1, 1], got {samples.dtype}")
        if not np.isfinite(samples).all():
            raise AudioError("audio holds NaN or infinite samples and cannot be quantized; repair the file")
        rule = RULES[self.name]
        rows = np.atleast_1d(samples).astype(rule.dtype)  # numpy 1 would widen a 0-d array to float64
        if rows.size == 0:
            return np.zeros(samples.shape, np.int32)
        levels = np.clip(rule.encode(rows, self.q_levels), 0, self.q_levels - 1).astype(np.int32)
        if rule.per_file:
            constant = rows.max(axis=-1, keepdims=True) == rows.min(axis=-1, keepdims=True)
            levels = np.where(constant, np.int32(self.zero), levels)
        return levels.reshape(samples.shape)

    def decode(self, levels: ArrayLike) -> NDArray[np.float32]:
        """Turns levels of any shape into float32 amplitudes of the same shape in [-1, 1].

        A `per_file` rule cannot be undone, because the file's own range is not kept; levels span [-1, 1] then. The
        Theano project has no decoder for linear levels: it rescales each generated file to the file's own minimum
        and maximum. So `linear-theano` decodes as its networks read a level, q / (Q // 2) - 1. Raises ConfigError
        on anything but integers from 0 to Q - 1.
        """
        index = np.asarray(levels)
        if index.dtype.kind not in "iu":
            raise ConfigError(f"levels must be integers, got {index.dtype}")
        if index.size and not 0 <= int(index.min()) <= int(index.max()) < self.q_levels:
            raise ConfigError(f"levels must be 0 to {self.q_levels - 1}, got {index.min()} to {index.max()}")
        return np.asarray(_audio_table(self.name, self.q_levels)[index])

    def decode_table(self) -> NDArray[np.float64]:
        """The exact amplitude of every level, (Q,) float64. `decode` clips it to [-1, 1]."""
        return RULES[self.name].table(int(self.q_levels)).astype(np.float64)

    def frame_values(self, frame_input: str, gain: float) -> NDArray[np.float64]:
        """The number that the frame tiers read in place of every level, times `gain`: (Q,) float64.

        These are the samples of the frames f in Eq. 4 of the paper. The choices of `frame_input` are explained at
        `SampleRNNConfig.frame_input`; ConfigError names an unknown one.
        """
        code = np.arange(self.q_levels, dtype=np.float64)
        if frame_input == "code":
            return gain * ((code - self.zero) / (self.q_levels / 2))
        if frame_input == "code-half":
            return gain * (code / (self.q_levels / 2) - 1.0)
        if frame_input == "code-floor":
            return gain * (code / self.zero - 1.0)
        if frame_input == "amplitude":
            return gain * self.decode_table()
        raise ConfigError(f"frame_input must be one of code, code-half, code-floor, amplitude, got {frame_input!r}")

    def lut_int16(self, gain: float = 1.0) -> NDArray[np.uint16]:
        """The level of every 16-bit sample, (65536,) uint16.

        Entry v + 32768 is the level of the sample v, whose amplitude is gain * v / 32768. Raises ConfigError for
        `per_file` rules, where a level depends on the whole file.
        """
        if self.per_file:
            raise ConfigError(
                f"quantization {self.name!r} scales every file by its own peaks and is not offered for training;"
                " use linear, mu-law or a-law"
            )
        return self.encode(gain * (np.arange(-32768, 32768) / 32768.0)).astype(np.uint16)


@functools.lru_cache(maxsize=16)
def _audio_table(name: str, q_levels: int) -> NDArray[np.float32]:
    table = np.clip(Quantizer(name, q_levels).decode_table(), -1.0, 1.0).astype(np.float32)
    table.setflags(write=False)  # the cache hands the same array to every caller
    return table
