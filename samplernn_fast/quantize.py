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
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samplernn_fast.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from samplernn_fast.config import FrameInput, SampleRNNConfig

Floats = NDArray[np.floating[Any]]

A_LAW = 87.6  # ITU-T G.711


def quantizer(name: str, q_levels: int) -> Quantizer:
    """The quantiser `name` with `q_levels` levels. Raises ConfigError on an unknown name or number."""
    return Quantizer(name, q_levels)


def for_config(config: SampleRNNConfig) -> Quantizer:
    """The quantiser of a model. `config.gain` is not part of it: multiply audio by it before `encode`."""
    return Quantizer(config.quantization, config.q_levels)


@dataclass(frozen=True)
class Quantizer:
    """One rule between amplitudes and levels 0 ... q_levels - 1. Make it with `quantizer` or `for_config`."""

    name: str
    q_levels: int

    def __post_init__(self) -> None:
        if self.name not in _RULES:
            raise ConfigError(f"quantization must be one of {', '.join(QUANTIZATIONS)}, got {self.name!r}")
        integer = isinstance(self.q_levels, (int, np.integer)) and not isinstance(self.q_levels, bool)
        if not integer or not 2 <= self.q_levels <= 65536:
            raise ConfigError(f"q_levels must be a whole number from 2 to 65536, got {self.q_levels!r}")
        if _RULES[self.name].only_256 and self.q_levels != 256:
            raise ConfigError(f"quantization {self.name!r} has 256 levels, got q_levels {self.q_levels}")

    @property
    def zero(self) -> int:
        """The level of silence, Q // 2 in every rule."""
        return self.q_levels // 2

    @property
    def per_file(self) -> bool:
        """True where the rule stretches each file (row) to its own minimum and maximum."""
        return _RULES[self.name].per_file

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
        rule = _RULES[self.name]
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
        return _RULES[self.name].table(int(self.q_levels)).astype(np.float64)

    def frame_values(self, frame_input: FrameInput, gain: float) -> NDArray[np.float64]:
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


@dataclass(frozen=True)
class _Rule:
    """`encode(rows, Q)` gives levels, whole or yet to be truncated; `table(Q)` every level's amplitude."""

    encode: Callable[[Floats, int], Floats]
    table: Callable[[int], Floats]
    dtype: type[np.floating[Any]]
    per_file: bool = False
    only_256: bool = False


def _companded(compress: Callable[[Floats, int], Floats], expand: Callable[[Floats, int], Floats]) -> _Rule:
    """This package's mid-tread rule around a companding law, in float64."""

    def encode(x: Floats, q_levels: int) -> Floats:
        x = np.clip(x, -1.0, 1.0)
        y = np.sign(x) * compress(np.abs(x), q_levels)
        return np.floor(y * (q_levels / 2) + 0.5) + q_levels // 2

    def table(q_levels: int) -> Floats:
        y = (np.arange(q_levels) - q_levels // 2) / (q_levels / 2)
        return np.sign(y) * expand(np.abs(y), q_levels)

    return _Rule(encode, table, np.float64)


def _identity(x: Floats, q_levels: int) -> Floats:
    return x


def _mu_compress(x: Floats, q_levels: int) -> Floats:
    mu = q_levels - 1
    return np.log1p(mu * x) / np.log1p(mu)


def _mu_expand(y: Floats, q_levels: int) -> Floats:
    mu = q_levels - 1
    return np.expm1(y * np.log1p(mu)) / mu


def _a_compress(x: Floats, q_levels: int) -> Floats:
    scale = 1.0 + np.log(A_LAW)
    ax = A_LAW * x
    return np.where(ax < 1.0, ax, 1.0 + np.log(np.maximum(ax, 1.0))) / scale


def _a_expand(y: Floats, q_levels: int) -> Floats:
    scale = 1.0 + np.log(A_LAW)
    return np.where(y * scale < 1.0, y * scale, np.exp(np.maximum(y * scale - 1.0, 0.0))) / A_LAW


def _unit_range(x: Floats) -> Floats:
    """Each row to [0, 1] by its own minimum and maximum; constant rows to 0."""
    x = x - x.min(axis=-1, keepdims=True)
    peak = x.max(axis=-1, keepdims=True)
    return x / np.where(peak > 0, peak, 1)


def _half_code(q_levels: int) -> Floats:
    return np.arange(q_levels) / (q_levels / 2) - 1.0


def _floor_code(q_levels: int) -> Floats:
    return np.arange(q_levels) / (q_levels // 2) - 1.0


def _mu255(x: Floats) -> Floats:
    return np.sign(x) * np.log(1 + 255 * np.abs(x)) / x.dtype.type(np.log(256.0))


def _mu255_expand(y: Floats) -> Floats:
    return np.sign(y) * np.expm1(np.abs(y) * np.log(256.0)) / 255.0


def _deepsound(x: Floats, q_levels: int) -> Floats:
    return _unit_range(x) * (q_levels - 1e-2) + 0.5e-2


def _theano(x: Floats, q_levels: int) -> Floats:
    return _unit_range(x) * (q_levels - 1e-5) + 0.5e-5


def _theano_mu(x: Floats, q_levels: int) -> Floats:
    return (_mu255(2 * _unit_range(x) - 1) + 1) / 2 * 255


def _prism(x: Floats, q_levels: int) -> Floats:
    return (x + 1) / 2 * (q_levels - 1e-5) + 0.5e-5


def _prism_mu(x: Floats, q_levels: int) -> Floats:
    return (_mu255(np.clip(x, -1, 1)) + 1) / 2 * 255 + 0.5


def _s4_unit_range(x: Floats) -> Floats:
    low, high = x.min(axis=-1, keepdims=True), x.max(axis=-1, keepdims=True)
    return (x - low) / (high - low + 1e-6)


def _s4(x: Floats, q_levels: int) -> Floats:
    return _s4_unit_range(x) * (q_levels - 1e-2) + 0.5e-2


def _s4_mu(x: Floats, q_levels: int) -> Floats:
    x = -1 + 2 * _s4_unit_range(x)
    y = np.sign(x) * np.log1p(255 * np.abs(x + 1e-8)) / np.log1p(x.dtype.type(255))
    return (y + 1) / 2 * (q_levels - 1e-2) + 0.5e-2


_RULES = {
    "linear": _companded(_identity, _identity),
    "mu-law": _companded(_mu_compress, _mu_expand),
    "a-law": _companded(_a_compress, _a_expand),
    "linear-deepsound": _Rule(_deepsound, _half_code, np.float32, per_file=True),
    "linear-prism": _Rule(_prism, _half_code, np.float32),
    "linear-theano": _Rule(_theano, _floor_code, np.float64, per_file=True),
    "linear-s4": _Rule(_s4, _half_code, np.float32, per_file=True, only_256=True),
    "mu-law-theano": _Rule(
        _theano_mu, lambda q: _mu255_expand(_half_code(q)), np.float64, per_file=True, only_256=True
    ),
    "mu-law-prism": _Rule(_prism_mu, lambda q: _mu255_expand(2 * np.arange(q) / 255 - 1), np.float32, only_256=True),
    "mu-law-s4": _Rule(_s4_mu, lambda q: _mu255_expand(_half_code(q)), np.float32, per_file=True, only_256=True),
}

QUANTIZATIONS: tuple[str, ...] = tuple(_RULES)
