"""TensorBoard, where it is installed: the curves of a run, its sounds and their spectrograms.

It is a guest: where its files cannot be written any more, a warning is said once, and training goes on without it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplernn_fast.models.places import BOARD_FOLDER

if TYPE_CHECKING:
    import numpy as np


class Board:
    """Writes into tensorboard/ of a run folder. Does nothing where TensorBoard is missing or its files cannot be."""

    def __init__(self, folder: Path, start_step: int, warn: Callable[[str], object]) -> None:
        """What an earlier part of the run wrote after `start_step` is dropped. warn: takes the line of a failure."""
        self._folder, self._warn = folder / BOARD_FOLDER, warn
        self._writer: Any = None
        self._before = threading.excepthook
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        threading.excepthook = self._hear
        with self._guarded():
            self._writer = SummaryWriter(str(self._folder), purge_step=start_step + 1)

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Adds a point to each curve of that name."""
        with self._guarded():
            for name, value in values.items() if self._writer is not None else ():
                self._writer.add_scalar(name, float(value), step)

    def sound(self, samples: "np.ndarray", step: int, sample_rate: int) -> None:
        """Adds generated audio (T,), and its spectrogram."""
        with self._guarded():
            if self._writer is not None:
                self._writer.add_audio("sample", samples[None], step, sample_rate=sample_rate)
                self._writer.add_image("spectrogram", spectrogram(samples), step)

    def close(self) -> None:
        """Ends TensorBoard's file. Calling it again changes nothing."""
        with self._guarded():
            if self._writer is not None:
                self._writer.close()
        self._writer = None
        if threading.excepthook == self._hear:
            threading.excepthook = self._before

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Where what is done with the writer fails, that is said, and nothing is written from then on."""
        try:
            yield
        except Exception as error:  # TensorBoard hands on the errors of its thread, of any kind
            self._writer = None
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._warn(f"warning: {self._folder} cannot be written ({reason}); training goes on without it")

    def _hear(self, failed: threading.ExceptHookArgs) -> None:
        """Keeps Python from printing what ends TensorBoard's thread; the writer raises it again at its next call."""
        if not type(failed.thread).__module__.startswith("tensorboard"):
            self._before(failed)


def spectrogram(samples: "np.ndarray", window: int = 512) -> "np.ndarray":
    """A grey picture (1, frequency, time) in [0, 1] of log magnitudes over 80 dB; low frequencies are at the bottom."""
    import numpy as np
    import torch

    wave = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    wave = torch.nn.functional.pad(wave, (0, max(0, window - len(wave))))
    magnitude = torch.stft(wave, window, window // 4, window=torch.hann_window(window), return_complex=True).abs()
    decibels = 20 * torch.log10(magnitude / magnitude.max().clamp(min=1e-9) + 1e-9)
    return ((decibels.clamp(-80, 0) + 80) / 80).flip(0)[None].numpy()
