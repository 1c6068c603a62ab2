"""Music to try the program with: tunes on a synthetic plucked string, which the demo and the tests learn from."""

import math

import numpy as np

_PENTATONIC = (0, 3, 5, 7, 10)  # semitones above the root: the minor pentatonic scale
_ROOT, _NOTE_SECONDS = 110.0, 0.25  # Hz of the lowest note; seconds from one note to the next


def plucked_music(seconds: float, seed: int, sample_rate: int = 8000) -> np.ndarray:
    """Makes a random pentatonic tune, (T,) float32 with a peak of 0.5; the same seed gives the same tune.

    A note is a sum of at most 8 harmonics below half the sample rate. Harmonic h has amplitude 1/h and decays faster
    the higher it is, as those of a plucked string do; a note rings on under the three that follow it.
    """
    rng = np.random.default_rng(seed)
    samples = np.zeros(int(seconds * sample_rate))
    for start in range(0, len(samples), int(_NOTE_SECONDS * sample_rate)):
        pitch = _ROOT * 2 ** ((rng.choice(_PENTATONIC) + 12 * rng.integers(0, 2)) / 12)
        t = np.arange(min(len(samples) - start, int(4 * _NOTE_SECONDS * sample_rate))) / sample_rate
        harmonics = range(1, min(9, int(sample_rate / 2 / pitch)))
        tone = sum(np.sin(2 * math.pi * pitch * h * t) * np.exp(-(3 + 1.5 * h) * t) / h for h in harmonics)
        attack = np.minimum(1, t / 0.002)  # 2 ms, so that a note does not start with a click
        samples[start : start + len(t)] += tone * attack * rng.uniform(0.5, 1)
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)
