"""The numeric modes: what a backend computes in, what a weight costs in bytes, and what a mode promises.

A mode is the same on every backend. In float32 sums are in float32. In bfloat16 weights and the inputs of products are
rounded to bfloat16 and sums stay in float32. In int8 weights and inputs of products are whole numbers and sums are
exact, so that every processor makes the same bits; in int4 the same, and a weight has four bits and shares of a factor
and a scale (`FourBits`). `backends.promise` measures whether a mode keeps its promise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MODES: tuple[str, ...] = ("float32", "bfloat16", "int8")
"""The modes of the compiled backends, most exact first. The place of a mode is its number in C++ and CUDA (SRNN_MODE);
the reference also computes in float64."""
INT4 = "int4"
"""The mode of four-bit weights, which the `cpu` backend has besides."""
FASTEST_FIRST: tuple[str, ...] = (INT4, "int8", "bfloat16", "float32")
"""The modes by speed: on no backend is one slower than the one after it, but for int4 with models that fit a cache."""
WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1, INT4: 17 / 32}
"""The bytes of one weight of a matrix, and of its part of what it shares with others."""
PROMISED_BITS = {"bfloat16": 0.002, "int8": 0.005, INT4: 0.005}
"""The likelihood, in bits per sample on real audio, that a mode may cost beside float32."""

GROUP, FACTOR_LIMIT, CODE_RANGE = 32, 15, (-8, 7)
"""The int4 mode: how many inputs share a factor, its largest magnitude, and the lowest and the highest code."""

_CODE_LIMIT = 127  # the largest code of an int8 weight; -128 is left out, so that the range is symmetric
_SMALLEST_PEAK = 1e-30  # a row whose largest weight is below this is a row of zeros; its reciprocal would overflow


def quantize_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The int8 mode's weights: codes (rows, cols) int8 from -127 to 127, and a scale (rows,) for each row, of float32
    rows.

    Takes the float32 steps of csrc/cpu/isa/int8.h one by one, so that both engines have the same codes. A row that is
    not finite has codes 0 and the scale NaN.
    """
    finite = np.isfinite(rows).all(axis=1)
    peak = np.where(finite, np.abs(rows).max(axis=1, initial=0), np.float32(0))
    limit = np.float32(_CODE_LIMIT)
    per_unit = np.where(peak > _SMALLEST_PEAK, limit / np.where(peak > _SMALLEST_PEAK, peak, limit), np.float32(0))
    scaled = np.where(finite[:, None], rows, np.float32(0)) * per_unit[:, None]
    codes = np.trunc(scaled + np.where(scaled < 0, np.float32(-0.5), np.float32(0.5))).astype(np.int8)
    return codes, np.where(finite, peak / limit, np.float32(np.nan))


@dataclass(frozen=True)
class FourBits:
    """The int4 mode's form of a matrix (rows, K): weight = scale of the row x factor of the group x code.

    The product of factor and code is a whole number of at most 120, so that sums are the exact integers of the int8
    mode with these products for its codes.
    """

    codes: np.ndarray
    """(rows, K) int8, in `CODE_RANGE`."""
    factors: np.ndarray
    """(rows, groups) int8 from -15 to 15, one for every `GROUP` neighbouring inputs."""
    scales: np.ndarray
    """(rows,) float32."""

    @classmethod
    def of_parts(cls, parts: Sequence["FourBits"]) -> "FourBits":
        """The matrix that has the rows of all parts, one behind the other."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*(part.arrays for part in parts), strict=True)))

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Codes, factors and scales."""
        return self.codes, self.factors, self.scales

    def int8_codes(self) -> np.ndarray:
        """(rows, K) int8: the codes of the int8 mode that have the same sums."""
        return self.codes * np.repeat(self.factors, GROUP, axis=1)[:, : self.codes.shape[1]]

    def weights(self) -> np.ndarray:
        """(rows, K) float32."""
        return self.int8_codes() * self.scales[:, None]
