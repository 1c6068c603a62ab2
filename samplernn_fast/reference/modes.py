"""The numeric modes: what a backend computes in, what a weight costs in bytes, and what a mode promises.

A mode is the same on every backend. In float32 sums are in float32. In bfloat16 weights and the inputs of products are
rounded to bfloat16 and sums stay in float32. In int8 weights and inputs of products are whole numbers and sums are
exact, so that every processor makes the same bits. `backends.promise` measures whether a mode keeps its promise.
"""

import torch
from torch import Tensor

MODES: tuple[str, ...] = ("float32", "bfloat16", "int8")
"""The modes of the compiled backends, most exact first. The place of a mode is its number in C++ and CUDA (SRNN_MODE);
the reference also computes in float64."""
FASTEST_FIRST: tuple[str, ...] = ("int8", "bfloat16", "float32")
"""The modes by speed: on no backend is one slower than the one after it."""
WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
"""The bytes of one weight of a matrix."""
PROMISED_BITS = {"bfloat16": 0.002, "int8": 0.005}
"""The likelihood, in bits per sample on real audio, that a mode may cost beside float32."""

_CODE_LIMIT = 127  # the largest code of an int8 weight; -128 is left out, so that the range is symmetric
_SMALLEST_PEAK = 1e-30  # a row whose largest weight is below this is a row of zeros; its reciprocal would overflow


def quantize_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The int8 mode's weights: codes (rows, cols) int8 from -127 to 127, and a scale (rows,) for each row.

    Takes the float32 steps of csrc/cpu/isa/int8.h one by one, so that both engines have the same codes. A row that is
    not finite has codes 0 and the scale NaN.
    """
    peak = rows.abs().amax(dim=1)
    finite = torch.isfinite(rows).all(dim=1)
    peak = torch.where(finite, peak, 0.0)
    limit = torch.tensor(float(_CODE_LIMIT), dtype=torch.float32)
    per_unit = torch.where(peak > _SMALLEST_PEAK, limit / peak, 0.0)
    scaled = torch.where(finite[:, None], rows, 0.0) * per_unit[:, None]
    codes = (scaled + torch.where(scaled < 0, -0.5, 0.5)).trunc().to(torch.int8)
    return codes, torch.where(finite, peak / limit, torch.nan)
