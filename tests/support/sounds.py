"""Tones and noise to write into audio files, headers that lie, and the errors that reading and writing may give."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

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


def wav(
    path: Path, rate: int = 8000, channels: int = 1, claimed: int | None = None, samples: bytes = bytes(800)
) -> Path:
    """A WAV file of 16 bits whose header says whatever it is told to."""
    form = struct.pack("<HHIIHH", 1, channels, rate, (rate * 2 * channels) % 2**32, (2 * channels) % 2**16, 16)
    size = len(samples) if claimed is None else claimed
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size) + samples
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks)
    return path


def flac_claiming(path: Path, samples: int) -> Path:
    """A FLAC file whose header claims another number of samples."""
    soundfile.write(path, tone(0.1, 8000), 8000)
    content = bytearray(path.read_bytes())
    # STREAMINFO begins at byte 8; its bytes 13 (low half) to 17 are the number of samples (RFC 9639, section 8.2).
    content[21] = content[21] & 0xF0 | samples >> 32
    content[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    path.write_bytes(content)
    return path
