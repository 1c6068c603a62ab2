"""Sound for other programs: an endless Ogg/Opus stream."""

import io
from typing import Any

import numpy as np
import soundfile

from samplernn_fast.audio.resampling import load_soxr

_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # Hz; sound of another rate is resampled to the last one


class _Pipe(io.RawIOBase):
    """A file for an encoder that is only ever written at its end; `take` gives what was written since the last call."""

    def __init__(self) -> None:
        self._waiting, self._position = bytearray(), 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True  # libsndfile asks, and never goes back in an Ogg stream

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        content = bytes(data)
        self._waiting += content
        self._position += len(content)
        return len(content)

    def take(self) -> bytes:
        content = bytes(self._waiting)
        self._waiting.clear()
        return content


class OpusStream:
    """Ogg/Opus of mono samples, as they come. Raises ConfigError where the rate needs soxr and it is not installed."""

    def __init__(self, sample_rate: int) -> None:
        rate = sample_rate if sample_rate in _OPUS_RATES else _OPUS_RATES[-1]
        self._resampler: Any = None
        if rate != sample_rate:
            soxr = load_soxr(f"Opus has no {sample_rate} Hz")
            self._resampler = soxr.ResampleStream(sample_rate, rate, 1, dtype="float32", quality="HQ")
        self._pipe = _Pipe()
        self._file = soundfile.SoundFile(self._pipe, "w", rate, 1, format="OGG", subtype="OPUS")

    def add(self, samples: np.ndarray) -> bytes:
        """The bytes that are complete after these samples (n,); there may be none yet."""
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(np.ascontiguousarray(samples, np.float32))
        self._file.write(samples)
        return self._pipe.take()

    def close(self) -> bytes:
        """The last bytes."""
        self._file.close()
        return self._pipe.take()
