"""The numeric modes."""

import torch
from torch import Tensor

_CODE_LIMIT = 127


def quantise_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Codes -127, ..., 127 (rows, cols) int8 and a scale (rows,) for each row, by the float32 steps of
    csrc/cpu/int8.h, so that both engines have the same ones. A row that is not finite has codes 0 and the scale NaN."""
    peak = rows.abs().amax(dim=1)
    finite = torch.isfinite(rows).all(dim=1)
    peak = torch.where(finite, peak, 0.0)
    limit = torch.tensor(float(_CODE_LIMIT), dtype=torch.float32)
    per_unit = torch.where(peak > 1e-30, limit / peak, 0.0)
    scaled = torch.where(finite[:, None], rows, 0.0) * per_unit[:, None]
    codes = (scaled + torch.where(scaled < 0, -0.5, 0.5)).trunc().to(torch.int8)
    return codes, torch.where(finite, peak / limit, torch.nan)
