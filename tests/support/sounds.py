"""Tones and noise to write into audio files, and the errors that reading and writing may give."""

from collections.abc import Callable

import numpy as np
import pytest

from samplernn_fast.errors import AudioError


def tone(seconds: float, rate: int, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float, rate: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))).astype(np.float32)


def peak_hertz(x: np.ndarray, rate: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(x * np.hanning(len(x)))))) * rate / len(x)


def fails(call: Callable[[], object], *words: str) -> None:
    """The call raises an AudioError of one line that has all the words."""
    with pytest.raises(AudioError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
