"""Audio that counts 1, 2, 3, ..., so that a level says which sample it is: 16-bit linear levels are the samples
themselves."""

import hashlib
from pathlib import Path

import numpy as np

from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import Manifest, Recording

RATE = 1000


def counting_data(lengths: list[int], chunk: int, split: str = "train") -> AudioData:
    audio = np.arange(1, sum(lengths) + 1, dtype=np.int16)
    recordings, start = [], 0
    for length in lengths:
        digest = hashlib.sha256(audio[start : start + length].data).hexdigest()
        recordings.append(Recording(f"{start}.wav", split, start, length, digest))
        start += length
    return AudioData(Path("counting"), Manifest(RATE, 1.0, chunk / RATE, tuple(recordings)), audio)
