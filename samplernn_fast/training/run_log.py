"""What a training run shows: log.csv always, TensorBoard and pictures where they can be, progress on standard error.

`RunLog` writes all of them; `read_log` reads log.csv back. `TrainResult` is what a run returns.
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplernn_fast import terminal
from samplernn_fast.errors import AudioError, CheckpointError
from samplernn_fast.models.places import LOG_FILE, SAMPLES_FOLDER
from samplernn_fast.stores.addresses import spelled
from samplernn_fast.training.board import Board
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.pictures.album import Pictures
from samplernn_fast.training.pictures.curves import Curve, curves_of
from samplernn_fast.untrusted import INDEX_BYTES, Unreadable, read_bytes

if TYPE_CHECKING:
    import numpy as np

COLUMNS = ("step", "epoch", "audio_seconds", "lr", "train_bits", "valid_bits", "seconds")
"""The columns of log.csv."""
_NUMBER = r"|nan|-?inf|-?[0-9]{1,30}(\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?"  # as `row` writes it; nothing is not measured


@dataclass(frozen=True)
class TrainResult:
    """Where a run stands when `train` returns."""

    run: Path
    """The run folder."""
    steps: int
    """How many updates were made in all."""
    seconds: float
    """How long the run took in all, resumed parts added up."""
    train_bits: float
    """Bits per sample of the training audio behind the last row of the log; before the first row, of all audio so far.
    NaN where no update was made."""
    valid_bits: float | None
    """Bits per sample of the last validation; None before the first one."""
    stopped: str
    """What ended it: "max_steps", "max_minutes", "signal", or "watch" where the function of that name did."""
    signal: int = 0
    """The number of the signal that ended it; 0 where none did."""


Watch = Callable[[int, float, float], bool]
"""A function of the step, the seconds and the bits of a validation, which says whether the run is to end there."""


class RunLog:
    """Writes the log of one run folder. Rows after `start_step`, the checkpoint's step, are dropped and made again."""

    def __init__(
        self,
        folder: Path,
        start_step: int,
        max_steps: int | None,
        *,
        validates_again: bool = False,
        header: Iterable[str] = (),
        shown: bool = True,
    ) -> None:
        """validates_again: the validation of `start_step` is still to be made; a row of it, which a run wrote that was
        killed before its next checkpoint, is dropped too. header: lines to print at once, before TensorBoard is loaded.
        shown: False prints nothing.
        """
        from samplernn_fast.models.checkpoint import write_text  # here, because reading a log needs no torch

        self.folder, self.step = folder, start_step
        self._csv = folder / LOG_FILE
        kept = [row for row in read_log(self._csv) if int(row["step"]) <= start_step]
        if validates_again:
            kept = [row for row in kept if int(row["step"]) < start_step or not row["valid_bits"]]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_text(self._csv, text.getvalue())
        self._bar = terminal.Bar(max_steps, "step", shown=shown, start=start_step)
        for line in header:
            self.say(line)
        self._board = Board(folder, start_step, self.say)
        self._pictures = Pictures(folder, self.say)

    def row(self, values: dict[str, Any]) -> None:
        """Appends a row of `values`, which are named as in COLUMNS. Missing ones stay empty.

        Raises CheckpointError where it cannot, which is also where somebody has removed the file.
        """
        try:
            with open(self._csv, "a", newline="", encoding="utf-8", opener=_open_existing) as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(values)
        except OSError as error:
            raise _unwritable(self._csv, error) from None
        curves = {name: value for name, value in values.items() if name in ("train_bits", "valid_bits", "lr")}
        self._board.scalars(curves, values["step"])

    def advance(self) -> None:
        """Moves the progress bar on by a step."""
        self.step += 1
        self._bar.advance()

    def note(self, text: str) -> None:
        """Puts `text` behind the progress bar, or into the lines that take its place."""
        self._bar.move_to(self.step, text)

    def say(self, text: str) -> None:
        """Prints a line on standard error, above the progress bar where there is one."""
        self._bar.say(spelled(text))

    def sample(self, step: int, samples: "np.ndarray", sample_rate: int) -> Path:
        """Keeps generated audio (T,) as a WAV file with a spectrogram, and in TensorBoard as both; returns the file.

        Raises CheckpointError where it cannot be written.
        """
        from samplernn_fast.audio import writing

        folder = self.folder / SAMPLES_FOLDER
        file = folder / f"step_{step:07d}.wav"
        try:
            folder.mkdir(exist_ok=True)
            writing.write(file, samples, sample_rate, overwrite=True)
        except (OSError, AudioError) as error:
            raise _unwritable(file, error) from None
        self._board.sound(samples, step, sample_rate)
        self._pictures.spectrogram(samples, sample_rate, file.with_suffix(".png"))
        return file

    def draw(self, last: bool = False) -> None:
        """Draws the curve of the run, where matplotlib is installed and it takes a small part of the run's time.

        last: whatever it takes.
        """
        self._pictures.curve(self._curves, last)

    def _curves(self) -> dict[str, Curve]:
        return curves_of(read_log(self._csv))

    def close(self) -> None:
        """Ends TensorBoard's file and the bar, and draws the curve of the whole run."""
        self.draw(last=True)
        self._board.close()
        self._bar.close()


def row(config: TrainConfig, step: int, epoch: int, seconds: float, **bits: float) -> dict[str, Any]:
    """One row of log.csv behind the update number `step`. Bits are written with all their digits."""
    audio = step * config.batch_size * config.seq_len / config.model.sample_rate
    values: dict[str, Any] = {"step": step, "epoch": epoch, "lr": f"{config.learning_rate(step, seconds):.3g}"}
    values |= {"audio_seconds": f"{audio:.1f}", "seconds": f"{seconds:.1f}"}
    return values | {name: repr(value) for name, value in bits.items()}


def _open_existing(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_CREAT)


def _unwritable(path: Path, error: Exception) -> CheckpointError:
    reason = getattr(error, "strerror", None) or error
    return CheckpointError(
        f"{path}: cannot be written ({reason}); the run stops, and the same command goes on from its last checkpoint"
    )


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
