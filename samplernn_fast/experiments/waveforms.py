"""Figure 2: waveforms of recordings and of each model's samples, two seconds of each and 100 milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samplernn_fast.api import generate
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.experiments.places import data_name

LONG, SHORT = 2.0, 0.1
"""Seconds of the upper rows and of the lower ones."""
_LEAD = 1.0  # seconds of a model's sound before what is shown, in which it finds from silence into sound

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """What a row of the figure shows in the column of one data set."""

    title: str
    samples: FloatArray
    """Two seconds, (T,) amplitudes."""

    def closer(self, sample_rate: int) -> FloatArray:
        """The loudest 100 milliseconds of them."""
        size = round(SHORT * sample_rate)
        starts = range(0, max(1, len(self.samples) - size), max(1, size // 4))
        start = max(starts, key=lambda one: float(np.square(self.samples[one : one + size]).sum()))
        return self.samples[start : start + size]


@dataclass(frozen=True)
class Column:
    """A data set with its models."""

    title: str
    sample_rate: int
    rows: list[Row]


def column(data: Path, models: Sequence[tuple[str, Path]], seed: int, temperature: float) -> Column:
    """The rows of one data folder: its test split, then each model as (title, run folder).

    Raises DataError where no recording of the test split has two seconds, and ConfigError where a model's sample rate
    is another one.
    """
    folder = AudioData.open(data)
    rate = folder.sample_rate
    rows = [Row("data", _recorded(folder, seed))]
    for title, run in models:
        made = generate(run, duration=_LEAD + LONG, seed=seed, temperature=temperature, progress=True)
        if made.sample_rate != rate:
            raise ConfigError(f"models: {run} is for {made.sample_rate} Hz, {data} is at {rate} Hz")
        rows.append(Row(title, np.asarray(made.samples)[0, round(_LEAD * rate) :]))
    return Column(data_name(data), rate, rows)


def _recorded(data: AudioData, seed: int) -> FloatArray:
    """Two seconds of the test split, which the seed chooses."""
    size = round(LONG * data.sample_rate)
    long_enough = [one for one in data.recordings("test") if one.length >= size]
    if not long_enough:
        raise DataError(f"{data.folder}: no recording of the test split has {LONG:g} s; prepare it with join")
    draw = np.random.default_rng(seed)
    chosen = long_enough[int(draw.integers(len(long_enough)))]
    start = int(draw.integers(chosen.length - size + 1))
    return np.asarray(data.samples(chosen)[start : start + size] / 32768, np.float32)
