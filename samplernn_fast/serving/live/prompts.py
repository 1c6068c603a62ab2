"""Recordings that listeners upload, for models to go on from. They are kept in memory, and the oldest give way."""

import hashlib
import tempfile
import threading
from collections import OrderedDict, deque
from pathlib import Path

import numpy as np

from samplernn_fast.audio import reading
from samplernn_fast.engine.prompt import prompt_levels
from samplernn_fast.errors import AudioError, ConfigError, quoted
from samplernn_fast.models.config import AudioConfig

UPLOAD_BYTES = 1 << 24
"""The most bytes of an uploaded file."""
SECONDS = 30
"""How much of a recording is kept: its end, which a model hears last."""
LONGEST = 1800
"""The most seconds of an uploaded file: all of it is decoded, and some files of a megabyte last for days."""
KEPT = 32
"""How many recordings are kept."""
_RATE = 96_000  # Hz; a recording of a higher rate is resampled, so that it takes no more memory than others


class Prompts:
    """The newest recordings, by names that say nothing but which they are."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[np.ndarray, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._decoding = threading.Lock()  # one at a time, so that many uploads take the memory of one

    def add(self, content: bytes, suffix: str = "") -> tuple[str, float]:
        """Keeps the end of an audio file. Returns its name and the seconds that are kept.

        suffix: of the file, which says for some formats what they are. Raises AudioError where it is no audio.
        """
        name = hashlib.sha256(content).hexdigest()[:16]
        with self._decoding, tempfile.TemporaryDirectory(prefix="samplernn-fast-") as folder:
            path = Path(folder) / f"recording{suffix if suffix.isascii() and suffix[1:].isalnum() else ''}"
            path.write_bytes(content)
            samples, rate = _end_of(path)
        with self._lock:
            self._kept[name] = samples, rate
            self._kept.move_to_end(name)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return name, len(samples) / rate

    def levels(self, name: str, config: AudioConfig) -> np.ndarray:
        """The levels (T,) of a recording for a model. Raises ConfigError where it is not kept."""
        with self._lock:
            if name not in self._kept:
                raise ConfigError(f"the recording {quoted(name)} is not kept here (any more); upload it again")
            self._kept.move_to_end(name)
            samples, rate = self._kept[name]
        return prompt_levels(config, samples, rate)


def _end_of(path: Path) -> tuple[np.ndarray, int]:
    """The last `SECONDS` of a file, and their rate. Raises AudioError, whose text does not name the folder."""
    try:
        info = reading.probe(path)
        rate, count = min(info.sample_rate, _RATE), 0
        blocks: deque[np.ndarray] = deque(maxlen=SECONDS + 1)
        for block in reading.read_blocks(path, sample_rate=rate, block_seconds=1.0):
            blocks.append(block)
            count += len(block)
            if max(count / rate, info.seconds or 0) > LONGEST:
                raise AudioError(f"{path}: a recording may last {LONGEST // 60} minutes; cut it")
    except AudioError as error:
        # The advice that follows is for whoever has the file, and names folders of this machine.
        told = str(error).replace(str(path), "the recording").partition("; convert it")[0]
        raise AudioError(told) from None
    return np.concatenate(list(blocks))[-SECONDS * rate :], rate
