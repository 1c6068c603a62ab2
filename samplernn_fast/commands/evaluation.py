"""The `evaluate` command, and the progress bar of an evaluation, which `train` shows too."""

import json as json_module
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from samplernn_fast import terminal
from samplernn_fast.backends import names
from samplernn_fast.ranges import Range

if TYPE_CHECKING:
    from samplernn_fast.data.folder import AudioData
    from samplernn_fast.evaluation.likelihood import EvalResult
    from samplernn_fast.models.base import AudioModel


def evaluate(
    model: tyro.conf.Positional[str],
    /,
    *,
    data: Path,
    split: Literal["train", "valid", "test"] = "test",
    batch_size: Annotated[int, Range(1, 10_000)] = 32,
    backend: str = "auto",
    dtype: str = "auto",
    device: str = "auto",
    per_file: bool = False,
    json: bool = False,
) -> None:
    """Negative log-likelihood of a split in bits per sample, whole recordings with the state carried.

    Args:
        model: Run folder or .safetensors file.
        data: Data folder that `prepare` made.
        split: Which recordings to read.
        batch_size: Recordings read side by side; the result does not depend on it.
        backend: A backend's name scores with that backend, forward with the training forward; auto takes the cpu
            backend where that plays the model, on a CPU, else the training forward.
        dtype: Numeric mode of the backend; the training forward has only its own.
        device: auto, cpu, cuda or cuda:N.
        per_file: Print a line for every recording too.
        json: Print one JSON object instead of text, every recording in it.
    """
    from samplernn_fast.data.batches import some_recordings
    from samplernn_fast.data.folder import AudioData
    from samplernn_fast.models.places import model_file

    if backend != "forward":
        names.check_backend(backend, dtype)
    names.check_device(device)
    model_file(model)  # refuses before torch is loaded, as do the next lines
    opened = AudioData.open(data)
    some_recordings(opened, split)
    with terminal.waiting("loading torch"):
        from samplernn_fast.backends.devices import resolve_device
        from samplernn_fast.models.checkpoint import as_model
    loaded = as_model(model).to(resolve_device(device))
    gain = loaded.config.gain or opened.gain
    if not math.isclose(gain, opened.gain, rel_tol=1e-6):
        print(
            f"samplernn-fast: the data were prepared with gain {opened.gain:.4g}, the model learnt with {gain:.4g}: the"
            f" audio is scaled by {gain / opened.gain:.3g}, and 16 bits are rounded twice; prepare with --gain"
            f" {gain:.9g} to compare bits exactly",
            file=sys.stderr,
        )
    settings = {"batch_size": batch_size, "backend": backend, "dtype": dtype, "device": device}
    result = score(loaded, opened, split, **settings)
    if json:
        print(json_module.dumps(result.to_dict()))
        return
    if per_file:
        for file in result.per_file:
            nats = "" if file.nll_nats is None else f"{file.nll_nats:8.4f}  "
            print(f"{file.nll_bits:8.4f}  {nats}{file.n_samples:9d}  {file.path}")
    print(result.text(split))


def score(model: "Path | AudioModel", data: "AudioData", split: str, **settings: Any) -> "EvalResult":
    """`likelihood.evaluate` with a progress bar, which counts samples."""
    from samplernn_fast.evaluation.likelihood import evaluate as run

    total = sum(recording.length for recording in data.recordings(split))
    with terminal.Bar(total, "sample", title=split, prefixes=True) as bar:
        return run(model, data, split, progress=bar.advance, **settings)
