"""What a training run shows: log.csv always, TensorBoard where it is installed, progress on standard error.

`RunLog` writes all three; `read_log` reads log.csv back.
"""

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplernn_fast import terminal
from samplernn_fast.errors import CheckpointError
from samplernn_fast.models.checkpoint import write_text
from samplernn_fast.untrusted import INDEX_BYTES, Unreadable, read_bytes

if TYPE_CHECKING:
    import numpy as np

LOG_FILE = "log.csv"
COLUMNS = ("step", "epoch", "audio_seconds", "lr", "train_bits", "valid_bits", "seconds")
"""The columns of log.csv."""
_NUMBER = r"|nan|-?inf|-?[0-9]{1,30}(\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?"  # as `row` writes it; nothing is not measured


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
    """The rows of a log.csv, [] when there is none. A killed run can leave half a row at the end, which is left out.

    Raises CheckpointError, which names the row, where one is damaged: the curve is not thrown away without a word.
    """
    if not path.exists():
        return []
    try:
        text = read_bytes(path, INDEX_BYTES).decode("utf-8")
        lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]), strict=True)
        if tuple(next(lines, COLUMNS)) != COLUMNS:
            raise Unreadable(f"its first row must be {','.join(COLUMNS)}")
        return [_checked_row(values, number) for number, values in enumerate(lines, 2)]
    except (Unreadable, UnicodeDecodeError, csv.Error) as error:
        raise CheckpointError(
            f"{path}: damaged: {error}; mend it, or move it away, and the run goes on without those rows"
        ) from None


def _checked_row(values: list[str], number: int) -> dict[str, str]:
    """Row `number` of log.csv. Raises Unreadable where it is none that a run writes."""
    numeric = all(re.fullmatch(_NUMBER, value) for value in values)
    if len(values) != len(COLUMNS) or not numeric or not re.fullmatch("[0-9]{1,18}", values[0]):
        raise Unreadable(f"row {number} is not a step and numbers")
    return dict(zip(COLUMNS, values, strict=True))


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
