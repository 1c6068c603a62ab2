"""Sample rates changed by soxr (quality HQ), an optional package that is loaded on first use.

`reading` resamples files block by block with the same package; `resample` takes samples that are in memory already.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samplernn_fast.audio.limits import check_rates
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.untrusted import Unreadable


def resample(x: ArrayLike, from_rate: int, to_rate: int) -> NDArray[np.float32]:
    """Resamples (T,) or (T, C) samples from one rate in Hz to another, as float32; T changes by their ratio.

    Equal rates give a copy, and need no soxr. Raises ConfigError where soxr is needed and not installed, and AudioError
    where the rates lie too far apart.
    """
    x = np.asarray(x, np.float32)
    if from_rate == to_rate:
        return x.copy()
    try:
        check_rates(from_rate, to_rate)
    except Unreadable as error:
        raise AudioError(str(error)) from None
    return np.asarray(load_soxr("resampling").resample(x, from_rate, to_rate, quality="HQ"), np.float32)


def load_soxr(subject: object) -> Any:
    """The module soxr. Raises ConfigError, which begins with `subject`, where it is not installed.

    That is no fault of the audio, so `prepare` ends with it instead of leaving the file out.
    """
    try:
        import soxr
    except ImportError:
        raise ConfigError(f"{subject}: changing the sample rate needs soxr; pip install soxr (extra `audio`)") from None
    return soxr
