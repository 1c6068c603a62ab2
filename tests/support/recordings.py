"""Recordings of tones and noise for `prepare`, and what a data folder holds."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 8000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-20000, 20000, samples).astype(np.int16)


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype)
    return path


def write_noise(folder: Path, lengths: list[int]) -> Path:
    for number, length in enumerate(lengths):
        write(folder / f"{number}.wav", noise(length, seed=number))
    return folder
