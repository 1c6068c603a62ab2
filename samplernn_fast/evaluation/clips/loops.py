"""Loops: a generator that is trapped makes the same stretch of sound over and over, for seconds.

A sustained note or a vowel repeats too, once a period of its pitch, so a short lag tells nothing. Here half a second of
sound is looked for half a second to one and a half seconds later. A trap with a period of up to a second has a multiple
of it in that range, and comes back unchanged. A voice has moved on by then, and a note of a piano has decayed: the
similarity compares amplitudes too, not shapes alone.
"""

import numpy as np

from samplernn_fast.evaluation.clips.windows import FloatArray, LongestRun, Windows, amplitude, levels

SIMILAR = 0.95
"""How similar a window and what it is compared with must be, at least, from -1 to 1. Two sounds that are the same but
for noise 13 dB below each of them have 0.95. The largest similarity of half a second of recorded speech is 0.74."""
_WINDOW, _NEAREST, _FARTHEST = 0.5, 0.5, 1.5  # seconds: of a window, and of the lags at which it is looked for
_STEP = 0.25  # seconds between two windows
_FLOOR = amplitude(-50)  # quieter windows say nothing: the hum of a microphone is periodic for ever


class LoopFinder:
    """Finds the longest repetition in a sound that comes block by block."""

    def __init__(self, sample_rate: int) -> None:
        self._size, nearest, farthest = (round(part * sample_rate) for part in (_WINDOW, _NEAREST, _FARTHEST))
        self._lags = nearest, farthest
        self._windows = Windows(farthest + self._size, round(_STEP * sample_rate))
        self._run = LongestRun()

    def add(self, samples: FloatArray) -> None:
        """Goes on with the next samples (T,)."""
        windows = self._windows.add(samples)
        if len(windows):
            loud = levels(windows[:, : self._size]) > _FLOOR
            self._run.add(
                similarity(window, self._size, *self._lags) >= SIMILAR if one else None
                for window, one in zip(windows, loud, strict=True)
            )

    def seconds(self) -> float:
        """How long the longest stretch is whose every window comes again; quiet windows in it are not counted."""
        return (self._run.longest - 1) * _STEP + _WINDOW if self._run.longest else 0.0


def similarity(sound: FloatArray, size: int, nearest: int, farthest: int) -> float:
    """How similar the first `size` samples are to what comes `nearest` to `farthest` samples later, at the best lag.

    sound: (farthest + size,) samples. The similarity of two stretches x and y is 2 x.y / (x.x + y.y): 1 for equal ones,
    0 for unrelated ones, and less than 1 too where y has the shape of x and another loudness.
    """
    first = sound[:size] - sound[:size].mean()
    later = sound[nearest:] - sound[nearest:].mean()
    padded = 1 << (len(later) + size).bit_length()
    spectrum = np.fft.rfft(later, padded) * np.conj(np.fft.rfft(first, padded))
    products = np.fft.irfft(spectrum, padded)[: farthest - nearest + 1]
    sums = np.concatenate(([0.0], np.cumsum(later**2)))
    powers = sums[size:] - sums[:-size] + first @ first
    return float((2 * products / np.maximum(powers, 1e-12)).max())
