"""What a training run shows: log.csv always, TensorBoard where it is installed, a progress bar on a terminal."""

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplernn_fast.models.checkpoint import write_text

if TYPE_CHECKING:
    import numpy as np

COLUMNS = ("step", "epoch", "audio_seconds", "lr", "train_bits", "valid_bits", "seconds")


class RunLog:
    """Writes the log of one run folder. After a resume, rows later than the checkpoint are dropped and made again."""

    def __init__(self, folder: Path, start_step: int, max_steps: int | None) -> None:
        self.folder = folder
        self._csv = folder / "log.csv"
        kept = [row for row in read_log(self._csv) if int(row["step"]) <= start_step]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_text(self._csv, text.getvalue())
        self._board = _tensorboard(folder, start_step)
        self._bar = _bar(start_step, max_steps)

    def row(self, values: dict[str, Any]) -> None:
        """Append one row; values are named as in COLUMNS, missing ones stay empty."""
        with open(self._csv, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(values)
        if self._board is not None:
            for name in ("train_bits", "valid_bits", "lr"):
                if name in values:
                    self._board.add_scalar(name, float(values[name]), values["step"])

    def advance(self, step: int, text: str) -> None:
        """Move the progress bar to `step`."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def say(self, text: str) -> None:
        """One line of progress, on standard error."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)

    def sample(self, step: int, samples: "np.ndarray", sample_rate: int) -> None:
        """Keep an audio sample (T,): a WAV file, and sound and spectrogram in TensorBoard."""
        from samplernn_fast.audio import writing

        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        writing.write(folder / f"step_{step:07d}.wav", samples, sample_rate, overwrite=True)
        if self._board is not None:
            self._board.add_audio("sample", samples[None], step, sample_rate=sample_rate)
            self._board.add_image("spectrogram", spectrogram(samples), step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
        if self._bar is not None:
            self._bar.close()


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a log.csv; [] when there is none. A half-written last row, as a killed run leaves, is left out."""
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
    """Grey picture (1, frequency, time) in [0, 1] of the log magnitude over 80 dB, low frequencies at the bottom."""
    import numpy as np
    import torch

    wave = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    wave = torch.nn.functional.pad(wave, (0, max(0, window - len(wave))))
    magnitude = torch.stft(wave, window, window // 4, window=torch.hann_window(window), return_complex=True).abs()
    decibels = 20 * torch.log10(magnitude / magnitude.max().clamp(min=1e-9) + 1e-9)
    return ((decibels.clamp(-80, 0) + 80) / 80).flip(0)[None].numpy()


def _tensorboard(folder: Path, start_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1)


def _bar(start_step: int, max_steps: int | None) -> Any:
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    return tqdm(total=max_steps, initial=start_step, unit="step", dynamic_ncols=True, file=sys.stderr)
