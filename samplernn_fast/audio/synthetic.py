"""A plucked string, synthesised: music to try the program with."""

import math

import numpy as np

from samplernn_fast.commands.demo import SAMPLE_RATE

_PENTATONIC = (0, 3, 5, 7, 10)


def plucked_music(seconds: float, seed: int, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """A random pentatonic tune on a plucked string: decaying harmonics, (T,) float32 with a peak of 0.5."""
    rng = np.random.default_rng(seed)
    samples = np.zeros(int(seconds * sample_rate))
    note_seconds, root = 0.25, 110.0
    for start in range(0, len(samples), int(note_seconds * sample_rate)):
        pitch = root * 2 ** ((rng.choice(_PENTATONIC) + 12 * rng.integers(0, 2)) / 12)
        t = np.arange(min(len(samples) - start, int(4 * note_seconds * sample_rate))) / sample_rate
        harmonics = range(1, min(9, int(sample_rate / 2 / pitch)))
        tone = sum(np.sin(2 * math.pi * pitch * h * t) * np.exp(-(3 + 1.5 * h) * t) / h for h in harmonics)
        samples[start : start + len(t)] += tone * np.minimum(1, t / 0.002) * rng.uniform(0.5, 1)
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)
