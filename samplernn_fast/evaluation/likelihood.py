"""Negative log-likelihood of a split in bits per sample (section 3, Table 1).

Whole recordings are read, with the state carried from start to end. `evaluate` reads them; `scoring` has what scores a
batch, the training forward or the kernels of a backend.
"""

import dataclasses
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from samplernn_fast import files
from samplernn_fast.backends import devices
from samplernn_fast.data.batches import EvalBatch, whole_recordings
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import DataError
from samplernn_fast.evaluation import scoring
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.checkpoint import load_model
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.ranges import Range, checked


@dataclass(frozen=True)
class FileResult:
    """The mean negative log-likelihood of one recording, over `n_samples` samples; see `EvalResult`."""

    path: str
    nll_bits: float
    n_samples: int
    nll_nats: float | None = None


@dataclass(frozen=True)
class EvalResult:
    """The mean negative log-likelihood over all samples of a split, and the same for each recording."""

    nll_bits: float
    """The bits of levels. A mixture's density is integrated over the 256 linear levels (`audio.laws`)."""
    n_samples: int
    per_file: list[FileResult]
    nll_nats: float | None = None
    """The nats of a mixture's density of the normalised signal (Table 2); None for other systems."""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers and lists for JSON, without what is None."""
        values = dataclasses.asdict(self)
        for part in (values, *values["per_file"]):
            if part["nll_nats"] is None:
                del part["nll_nats"]
        return values

    def write(self, out: Path, *, overwrite: bool = False) -> None:
        """Writes `to_dict` as a JSON file. Raises DataError for a file that exists (unless `overwrite`), and where it
        cannot be written."""
        files.check_free(out, DataError, overwrite=overwrite)
        try:
            files.write_text(out, json.dumps(self.to_dict()) + "\n")
        except OSError as error:
            raise DataError(f"{out}: cannot be written: {error.strerror or error}") from None

    def text(self, split: str) -> str:
        """One line for a person."""
        nats = "" if self.nll_nats is None else f" of 256 levels, {self.nll_nats:.4f} nats of the normalised signal,"
        return f"{split} NLL {self.nll_bits:.4f} bits per sample{nats} over {self.n_samples} samples"


@checked
def evaluate(
    model: AudioModel | str | Path,
    data: AudioData | str | Path,
    split: str = "test",
    *,
    batch_size: Annotated[int, Range(1, 10**6)] = 32,
    backend: str = "auto",
    dtype: str = "auto",
    device: str = "auto",
    max_seconds: Annotated[float, Range(0, 10**9)] = 0,
    progress: Callable[[int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> EvalResult:
    """Measures the mean negative log-likelihood of the samples of `split`, in bits, and for a mixture in nats too.

    A recording is read whole, from silence and the learned initial state, so the result does not depend on
    `batch_size` or on chunks.

    model: a model, a run folder or a .safetensors file.
    backend: a name scores with that backend's kernels in `dtype`; "forward" scores with the training forward; "auto"
    takes the `cpu` backend where the model is on the CPU and can run there, else the training forward.
    device: "auto" is where a given model is, and for a path the GPU if there is one.
    max_seconds: reading stops after that much audio; 0 reads all.
    progress: called with the number of samples that were just read.
    should_stop: asked several times a second on a CPU; when it says so, Stopped is raised.

    Raises ConfigError and DataError for settings and data that do not fit the model, BackendUnavailable for a backend
    that cannot run it, and CheckpointError and DataError for files that cannot be read.
    """
    if not isinstance(model, AudioModel):
        model = load_model(model).to(devices.resolve_device(device))
    data = data if isinstance(data, AudioData) else AudioData.open(data)
    sums = sums_of(
        model,
        data,
        split,
        batch_size=batch_size,
        backend=backend,
        dtype=dtype,
        device=device,
        max_seconds=max_seconds,
        progress=progress,
        should_stop=should_stop,
    )
    recordings = data.recordings(split)
    return sums.result(lambda number: recordings[number].path)


@dataclass(frozen=True)
class Sums:
    """What was added up for the recordings of a split, in float64. Those that were not read have counts of 0."""

    measures: Tensor
    """(1 or 2, recordings): bits, and for a mixture nats too."""
    counts: Tensor
    """(recordings,): samples."""

    def result(self, path_of: Callable[[int], str]) -> EvalResult:
        """The means. path_of: the path of a recording by its number."""
        per_file = []
        for number in self.counts.nonzero()[:, 0].tolist():  # Where max_seconds ends the reading, most were not read.
            count = int(self.counts[number])
            bits, *nats = (total / count for total in self.measures[:, number].tolist())
            per_file.append(FileResult(path_of(number), bits, count, *nats))
        samples = int(self.counts.sum())
        bits, *nats = (float(row.sum()) / samples for row in self.measures)
        return EvalResult(bits, samples, per_file, *nats)


def sums_of(
    model: AudioModel,
    data: AudioData,
    split: str,
    *,
    batch_size: int,
    backend: str,
    dtype: str,
    device: str,
    groups: Collection[int] | None = None,
    max_seconds: float = 0,
    progress: Callable[[int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Sums:
    """What `evaluate` divides. groups: the numbers of the groups of `batch_size` recordings that are read, as
    `whole_recordings` makes them; None reads all. Other arguments and errors as in `evaluate`."""
    config = model.config
    seq_len = scoring.steps_at_once(config, batch_size)
    target = scoring.device_of(model, device)
    score = scoring.scorer(model, backend, dtype, target)
    recordings = data.recordings(split)
    measures = torch.zeros(2 if config.mixture else 1, len(recordings), dtype=torch.float64)
    counts = torch.zeros(len(recordings), dtype=torch.int64)
    limit = int(max_seconds * config.sample_rate)
    piece = scoring.piece_samples(model, target)
    for batch in whole_recordings(data, config, split, batch_size, seq_len, groups):
        parts = []
        for part in _pieces(batch, config, piece):
            if should_stop is not None and should_stop():
                raise Stopped
            parts.append(score(part).double().cpu())
        losses = torch.cat(parts, dim=2) * batch.mask
        measures.index_add_(1, batch.recordings, losses.sum(dim=2))
        counts.index_add_(0, batch.recordings, batch.mask.sum(dim=1))
        if progress is not None:
            progress(int(batch.mask.sum()))
        if limit and int(counts.sum()) >= limit:
            break
    return Sums(measures, counts)


class Stopped(Exception):
    """`evaluate` was asked to stop; nothing was measured."""


def _pieces(batch: EvalBatch, config: AudioConfig, samples: int) -> Iterator[EvalBatch]:
    """A batch in pieces of time of about `samples` samples of all rows together, whole top frames each."""
    rows, steps = batch.mask.shape
    size = config.top_frame * max(1, samples // (rows * config.top_frame))
    if size >= steps:
        yield batch
        return
    for start in range(0, steps, size):
        stop = min(start + size, steps)
        reset = batch.reset if start == 0 else torch.zeros_like(batch.reset)
        yield EvalBatch(
            batch.levels[:, start : stop + config.lookback], reset, batch.mask[:, start:stop], batch.recordings
        )
