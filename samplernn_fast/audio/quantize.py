"""Amplitudes to levels and back: the only place that knows what a level means. Needs numpy only.

`linear`, `mu-law` and `a-law` share one mid-tread rule. With Q levels and the law's companding function f,

    y = f(x),  level = clip(floor(y * Q/2 + 0.5) + Q//2, 0, Q - 1);   y = (level - Q//2) / (Q/2),  x = f^-1(y)

so silence is level Q//2 and decodes to exactly 0, every level survives decoding and encoding, and linear with
65,536 levels is 16-bit PCM. Amplitudes have a fixed range, [-1, 1]; no file is scaled by its own peak.

The other names are the rules of other SampleRNN projects, for their checkpoints: `linear-deepsound`
(deepsound-project/samplernn-pytorch), `linear-prism` and `mu-law-prism` (rncm-prism/prism-samplernn),
`linear-theano` and `mu-law-theano` (soroushmehr/sampleRNN_ICLR2017), `linear-s4` and `mu-law-s4`
(state-spaces/s4). They give those projects' levels bit for bit, in the precision those projects compute in,
except where a project would fail or leave the range: constant rows become Q//2, and levels are clipped.
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
    """What a model's config says of its levels."""

    @property
    def quantization(self) -> str: ...
    @property
    def q_levels(self) -> int: ...


def quantizer(name: str, q_levels: int) -> Quantizer:
    """The quantiser `name` with `q_levels` levels. Raises ConfigError on an unknown name or number."""
    return Quantizer(name, q_levels)


def for_config(config: Quantized) -> Quantizer:
    """The quantiser of a model. `config.gain` is not part of it: multiply audio by it before `encode`."""
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
        """Float amplitudes, any shape, nominally in [-1, 1] -> int32 levels of the same shape.

        Amplitudes outside [-1, 1] take the outermost level. A `per_file` rule normalises the last axis, each
        row by itself; a constant row becomes the level of silence. Raises AudioError on NaN, infinite or integer
        input.
        """
        samples = np.asarray(x)
        if samples.dtype.kind != "f":
            raise AudioError(f"encode needs floating-point samples in [-1, 1], got {samples.dtype}")
        if not np.isfinite(samples).all():
            raise AudioError("audio holds NaN or infinite samples and cannot be quantised; repair the file")
        rule = RULES[self.name]
        rows = np.atleast_1d(samples).astype(rule.dtype)  # numpy 1 widens 0-d arrays
        if rows.size == 0:
            return np.zeros(samples.shape, np.int32)
        levels = np.clip(rule.encode(rows, self.q_levels), 0, self.q_levels - 1).astype(np.int32)
        if rule.per_file:
            constant = rows.max(axis=-1, keepdims=True) == rows.min(axis=-1, keepdims=True)
            levels = np.where(constant, np.int32(self.zero), levels)
        return levels.reshape(samples.shape)

    def decode(self, levels: ArrayLike) -> NDArray[np.float32]:
        """Levels, any shape -> float32 amplitudes of the same shape in [-1, 1].

        A `per_file` rule cannot be undone, as the file's own range is not kept; levels span [-1, 1] then. The
        Theano project has no decoder for linear levels, it rescales each generated file to its own minimum and
        maximum; `linear-theano` decodes as its networks read a level, q / (Q // 2) - 1. Raises ConfigError on
        anything but integers from 0 to Q - 1.
        """
        index = np.asarray(levels)
        if index.dtype.kind not in "iu":
            raise ConfigError(f"levels must be integers, got {index.dtype}")
        if index.size and not 0 <= int(index.min()) <= int(index.max()) < self.q_levels:
            raise ConfigError(f"levels must be 0 to {self.q_levels - 1}, got {index.min()} to {index.max()}")
        return np.asarray(_audio_table(self.name, self.q_levels)[index])

    def decode_table(self) -> NDArray[np.float64]:
        """(Q,) float64: the exact amplitude of every level."""
        return RULES[self.name].table(int(self.q_levels)).astype(np.float64)

    def frame_values(self, frame_input: str, gain: float) -> NDArray[np.float64]:
        """(Q,) float64: what the frame tiers read for every level (the frames f of the paper), times `gain`.

        The choices are explained at `SampleRNNConfig.frame_input`.
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
        """(65536,) uint16: entry v + 32768 is the level of the 16-bit sample v, of amplitude gain * v / 32768.

        Raises ConfigError for `per_file` rules, where a level depends on the whole file.
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
    table.setflags(write=False)  # shared by every caller
    return table
