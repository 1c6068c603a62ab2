"""One loudness for all that a radio plays, joins without a step, and no sample beyond -1 dB of full scale.

The loudness is that of ITU-R BS.1770 over the last half minute: its K-weighting, as a factor on the spectrum of each
block, and its two gates. A meter with filters, such as pyloudnorm's, would cost more than a small model.
"""

import math
from collections.abc import Iterable

import numpy as np

CEILING = 0.891
"""The largest amplitude: -1 dB of full scale, rounded down, so that 16 bits do not pass it either."""
MEMORY = 120
"""The loudness is that of so many blocks, about half a minute."""
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0  # LUFS, and LU below the loudness of what passes the first gate
_MOST_DB, _FASTEST_DB = 24.0, 0.5  # the largest gain, and its largest change from one block to the next
_REACH_SECONDS = 0.01  # the limiter turns down so long before a peak, and up so long behind it
# The filters of BS.1770 at 48 kHz, which the standard gives; their responses hold at any rate.
_SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
_HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
_FILTER_RATE = 48_000


def k_weights(samples: int, sample_rate: int) -> np.ndarray:
    """The factors (samples // 2 + 1,) of the power spectrum of a real block, whose weighted sum is its mean square."""
    turns = np.minimum(np.fft.rfftfreq(samples, 1 / sample_rate) / _FILTER_RATE, 0.5)
    step = np.exp(-2j * np.pi * turns)
    response = np.ones_like(step)
    for over, under in (_SHELF, _HIGH_PASS):
        response *= (over[0] + over[1] * step + over[2] * step**2) / (under[0] + under[1] * step + under[2] * step**2)
    both_sides = np.full(len(step), 2.0)
    both_sides[0] = 1.0
    if samples % 2 == 0:
        both_sides[-1] = 1.0
    return np.asarray(np.abs(response) ** 2 * both_sides / samples**2)


def power(block: np.ndarray, weights: np.ndarray) -> float:
    """The K-weighted mean square of a block (n,). weights: `k_weights`."""
    return float(np.abs(np.fft.rfft(block.astype(np.float64))) ** 2 @ weights)


def _lufs(mean_square: float) -> float:
    return -0.691 + 10 * math.log10(max(mean_square, 1e-12))


def loudness(powers: Iterable[float]) -> float | None:
    """The loudness in LUFS of blocks of these powers, without the quiet ones; None where all are quiet."""
    heard = [one for one in powers if _lufs(one) > _ABSOLUTE_GATE]
    if not heard:
        return None
    gate = _lufs(sum(heard) / len(heard)) + _RELATIVE_GATE
    loud = [one for one in heard if _lufs(one) > gate]
    return _lufs(sum(loud) / len(loud))


def next_gain(before: float | None, powers: Iterable[float], wanted: float) -> float:
    """The gain in dB at the end of a block. before: that at its beginning, None where a sound begins. wanted: LUFS."""
    found = loudness(powers)
    if found is None:
        return before or 0.0
    gain = min(_MOST_DB, max(-_MOST_DB, wanted - found))
    return gain if before is None else min(before + _FASTEST_DB, max(before - _FASTEST_DB, gain))


def ramp(first_db: float, last_db: float, samples: int) -> np.ndarray:
    """Factors (samples,) from one gain in dB to another, along a straight line."""
    first, last = 10 ** (first_db / 20), 10 ** (last_db / 20)
    return first + (last - first) * np.arange(1, samples + 1) / samples


def fades(done: int, samples: int, whole: int) -> tuple[np.ndarray, np.ndarray]:
    """The factors (samples,) of the new sound and of the old one, of equal power, in a cross-fade of `whole` samples of
    which `done` are over."""
    angle = np.pi / 2 * (done + np.arange(samples) + 0.5) / whole
    return np.sin(angle), np.cos(angle)


class Limiter:
    """Turns peaks down before they come, and gives each block back one block later."""

    def __init__(self, sample_rate: int) -> None:
        self.reach = max(1, round(_REACH_SECONDS * sample_rate))
        self.held = np.zeros(2 * self.reach, np.float32)
        """The end of what was given back, and the block that waits, in float32."""

    def add(self, block: np.ndarray) -> np.ndarray | None:
        """Takes the next block (n,), of at least 2 `reach` samples. Returns the one before it, float32; None for the
        first one."""
        joined, context = np.concatenate((self.held, block)), 2 * self.reach
        waiting = len(self.held) - context
        self.held = joined[waiting:]
        if not waiting:
            return None
        part = joined[: waiting + 2 * context].astype(np.float64)
        gains = CEILING / np.maximum(np.abs(part), CEILING)
        if gains.min() == 1:
            return part[context : context + waiting].astype(np.float32)
        width = 2 * self.reach + 1
        lowest = np.lib.stride_tricks.sliding_window_view(gains, width).min(axis=1)
        smooth = np.convolve(lowest, np.full(width, 1 / width), "valid")
        limited = part[context : context + waiting] * smooth
        return np.clip(limited, -CEILING, CEILING).astype(np.float32)
