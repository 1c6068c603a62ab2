"""What a training run shows: log.csv always, TensorBoard where it is installed, progress on standard error.

`RunLog` writes all three; `read_log` reads log.csv back.
"""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplernn_fast import terminal
from samplernn_fast.models.checkpoint import write_text

if TYPE_CHECKING:
    import numpy as np

LOG_FILE = "log.csv"
COLUMNS = ("step", "epoch", "audio_seconds", "lr", "train_bits", "valid_bits", "seconds")
"""The columns of log.csv."""


class RunLog:
    """Writes the log of one run folder. Rows after `start_step`, the checkpoint's step, are dropped and made again."""

    def __init__(self, folder: Path, start_step: int, max_steps: int | None, *, shown: bool = True) -> None:
        """shown: False prints nothing."""
        self.folder, self.step = folder, start_step
        self._csv = folder / LOG_FILE
        kept = [row for row in read_log(self._csv) if int(row["step"]) <= start_step]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_text(self._csv, text.getvalue())
        self._board = _tensorboard(folder, start_step)
        self._bar = terminal.Bar(max_steps, "step", shown=shown, start=start_step)

    def row(self, values: dict[str, Any]) -> None:
        """Appends a row of `values`, which are named as in COLUMNS. Missing ones stay empty."""
        with open(self._csv, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(values)
        if self._board is not None:
            for name in ("train_bits", "valid_bits", "lr"):
                if name in values:
                    self._board.add_scalar(name, float(values[name]), values["step"])

    def advance(self) -> None:
        """Moves the progress bar on by a step."""
        self.step += 1
        self._bar.advance()

    def note(self, text: str) -> None:
        """Puts `text` behind the progress bar, or into the lines that take its place."""
        self._bar.move_to(self.step, text)

    def say(self, text: str) -> None:
        """Prints a line on standard error, above the progress bar where there is one."""
        self._bar.say(text)

    def sample(self, step: int, samples: "np.ndarray", sample_rate: int) -> Path:
        """Keeps generated audio (T,) as a WAV file, and in TensorBoard as sound and spectrogram; returns the file."""
        from samplernn_fast.audio import writing

        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        file = folder / f"step_{step:07d}.wav"
        writing.write(file, samples, sample_rate, overwrite=True)
        if self._board is not None:
            self._board.add_audio("sample", samples[None], step, sample_rate=sample_rate)
            self._board.add_image("spectrogram", spectrogram(samples), step)
        return file

    def close(self) -> None:
        """Ends TensorBoard's file and the bar."""
        if self._board is not None:
            self._board.close()
        self._bar.close()


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a log.csv, [] when there is none. A killed run can leave half a row at the end, which is left out."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    return [
        row
        for row in csv.DictReader(io.StringIO(whole))
        if (row.get("step") or "").isdigit() and None not in row.values()
    ]


def spectrogram(samples: "np.ndarray", window: int = 512) -> "np.ndarray":
    """A grey picture (1, frequency, time) in [0, 1] of log magnitudes over 80 dB; low frequencies are at the bottom."""
    import numpy as np
    import torch

    wave = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    wave = torch.nn.functional.pad(wave, (0, max(0, window - len(wave))))
    magnitude = torch.stft(wave, window, window // 4, window=torch.hann_window(window), return_complex=True).abs()
    decibels = 20 * torch.log10(magnitude / magnitude.max().clamp(min=1e-9) + 1e-9)
    return ((decibels.clamp(-80, 0) + 80) / 80).flip(0)[None].numpy()


def _tensorboard(folder: Path, start_step: int) -> Any:
    """A writer that drops what an earlier part of the run wrote after `start_step`; None without TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1)
