"""Sample rates: soxr, loaded on first use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samplernn_fast.errors import AudioError


def resample(x: ArrayLike, from_rate: int, to_rate: int) -> NDArray[np.float32]:
    """(T,) or (T, C) samples at `from_rate` -> float32 at `to_rate` (soxr, HQ). Raises AudioError without soxr."""
    x = np.asarray(x, np.float32)
    if from_rate == to_rate:
        return x.copy()
    return np.asarray(load_soxr("resampling").resample(x, from_rate, to_rate, quality="HQ"), np.float32)


def load_soxr(subject: object) -> Any:
    try:
        import soxr
    except ImportError:
        raise AudioError(f"{subject}: changing the sample rate needs soxr; pip install soxr (extra `audio`)") from None
    return soxr
