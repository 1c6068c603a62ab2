"""The formulas between amplitudes and levels: this package's three laws, and the rules of other SampleRNN projects.

`linear`, `mu-law` and `a-law` share one mid-tread rule. With Q levels and the law's companding function f,

    y = f(x),  level = clip(floor(y * Q/2 + 0.5) + Q//2, 0, Q - 1);   y = (level - Q//2) / (Q/2),  x = f^-1(y)

so silence is level Q//2 and decodes to exactly 0, every level survives decoding and encoding, and linear with
65,536 levels is 16-bit PCM. Amplitudes have a fixed range, [-1, 1]; no file is scaled by its own peak.

The other names are the rules of other projects, for their checkpoints: `linear-deepsound`
(deepsound-project/samplernn-pytorch), `linear-prism` and `mu-law-prism` (rncm-prism/prism-samplernn),
`linear-theano` and `mu-law-theano` (soroushmehr/sampleRNN_ICLR2017), `linear-s4` and `mu-law-s4`
(state-spaces/s4). They give those projects' levels bit for bit, in the precision those projects compute in. Where a
project would fail or leave the range, `quantize.Quantizer.encode` decides: constant rows become Q//2, and levels are
clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

A_LAW = 87.6
"""The parameter A of the a-law (ITU-T G.711)."""


@dataclass(frozen=True)
class Rule:
    """One way between amplitudes and Q levels; `quantize.Quantizer` clips and truncates what it gives."""

    encode: Callable[[Floats, int], Floats]
    """(rows (..., T), Q) -> levels as floats, which truncation makes whole."""
    table: Callable[[int], Floats]
    """Q -> (Q,) the amplitude of every level."""
    dtype: type[np.floating[Any]]
    """The precision that `encode` computes in."""
    per_file: bool = False
    """True where `encode` stretches each row to its own minimum and maximum."""
    only_256: bool = False
    """True where the rule exists for Q = 256 alone."""


def _companded(compress: Callable[[Floats, int], Floats], expand: Callable[[Floats, int], Floats]) -> Rule:
    """The mid-tread rule above around a companding law for [0, 1], in float64."""

    def encode(x: Floats, q_levels: int) -> Floats:
        x = np.clip(x, -1.0, 1.0)
        y = np.sign(x) * compress(np.abs(x), q_levels)
        return np.floor(y * (q_levels / 2) + 0.5) + q_levels // 2

    def table(q_levels: int) -> Floats:
        y = (np.arange(q_levels) - q_levels // 2) / (q_levels / 2)
        return np.sign(y) * expand(np.abs(y), q_levels)

    return Rule(encode, table, np.float64)


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
    """Stretches each row to [0, 1] by its own minimum and maximum. Constant rows become 0."""
    x = x - x.min(axis=-1, keepdims=True)
    peak = x.max(axis=-1, keepdims=True)
    return x / np.where(peak > 0, peak, 1)


def _half_code(q_levels: int) -> Floats:
    """Every level q as q / (Q / 2) - 1."""
    return np.arange(q_levels) / (q_levels / 2) - 1.0


def _floor_code(q_levels: int) -> Floats:
    """Every level q as q / (Q // 2) - 1, which differs from `_half_code` where Q is odd."""
    return np.arange(q_levels) / (q_levels // 2) - 1.0


def _mu255(x: Floats) -> Floats:
    """Compresses [-1, 1] by the mu-law with mu = 255, in the precision of x."""
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
    """Stretches each row to [0, 1) as s4 does, which adds 1e-6 against a division by 0."""
    low, high = x.min(axis=-1, keepdims=True), x.max(axis=-1, keepdims=True)
    return (x - low) / (high - low + 1e-6)


def _s4(x: Floats, q_levels: int) -> Floats:
    return _s4_unit_range(x) * (q_levels - 1e-2) + 0.5e-2


def _s4_mu(x: Floats, q_levels: int) -> Floats:
    x = -1 + 2 * _s4_unit_range(x)
    y = np.sign(x) * np.log1p(255 * np.abs(x + 1e-8)) / np.log1p(x.dtype.type(255))
    return (y + 1) / 2 * (q_levels - 1e-2) + 0.5e-2


RULES = {
    "linear": _companded(_identity, _identity),
    "mu-law": _companded(_mu_compress, _mu_expand),
    "a-law": _companded(_a_compress, _a_expand),
    "linear-deepsound": Rule(_deepsound, _half_code, np.float32, per_file=True),
    "linear-prism": Rule(_prism, _half_code, np.float32),
    "linear-theano": Rule(_theano, _floor_code, np.float64, per_file=True),
    "linear-s4": Rule(_s4, _half_code, np.float32, per_file=True, only_256=True),
    "mu-law-theano": Rule(_theano_mu, lambda q: _mu255_expand(_half_code(q)), np.float64, per_file=True, only_256=True),
    "mu-law-prism": Rule(_prism_mu, lambda q: _mu255_expand(2 * np.arange(q) / 255 - 1), np.float32, only_256=True),
    "mu-law-s4": Rule(_s4_mu, lambda q: _mu255_expand(_half_code(q)), np.float32, per_file=True, only_256=True),
}

QUANTIZATIONS: tuple[str, ...] = tuple(RULES)
"""The names that a config's `quantization` may have."""
