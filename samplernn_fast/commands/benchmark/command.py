"""The `bench` command: flags to a table of speeds, or one JSON object."""

import functools
import json as json_module
import platform
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from samplernn_fast import terminal
from samplernn_fast.backends import names
from samplernn_fast.errors import ConfigError, SampleRNNError
from samplernn_fast.models.places import model_file
from samplernn_fast.ranges import Range
from samplernn_fast.reference.limits import THREADS

if TYPE_CHECKING:
    from samplernn_fast.models.base import AudioModel

_DIMS = (256, 1024)  # sizes of the models that are timed when none is named


def bench(
    model: tyro.conf.Positional[str | None] = None,
    /,
    *,
    backend: tuple[str, ...] = (),
    dtype: tuple[str, ...] = (),
    batch_size: Annotated[tuple[int, ...], Range(1, 100_000)] = (1, 64),
    dim: Annotated[tuple[int, ...], Range(1, 16384)] = (),
    threads: Annotated[tuple[int, ...], THREADS] = (),
    device: str = "auto",
    seconds: Annotated[float, Range(0, 3600, above=True, unit="seconds")] = 0.3,
    rounds: Annotated[int, Range(1, 10_000)] = 5,
    plain: bool = True,
    compile: bool = False,
    json: bool = False,
) -> None:
    """How fast this machine makes audio: every backend beside plain torch.

    What a backend computes is compared with the reference first; one that is wrong, or cannot run, is not timed.

    Args:
        model: Run folder, .safetensors file, or demo for the bundled model; without it, untrained models of the paper.
        backend: Backends by their names; without it, those that can run here.
        dtype: Numeric modes; without it, all that a backend has.
        batch_size: Numbers of streams made at a time.
        dim: Sizes of the untrained models; without it, 256 and 1024.
        threads: Numbers of threads for the cpu backend; without it, 1 and as many as torch uses.
        device: auto, cpu, cuda or cuda:N.
        seconds: About how long one round of one contestant lasts.
        rounds: How many rounds there are; the median counts.
        plain: Time plain torch too.
        compile: Time plain torch through torch.compile too, which takes minutes and a C++ compiler.
        json: Print one JSON object instead of text.
    """
    names.check_device(device)
    if model is not None:
        model_file(model)  # refuses before torch is loaded
    with terminal.waiting("loading torch"):
        import torch

        from samplernn_fast.backends.devices import resolve_device
        from samplernn_fast.commands.benchmark import timing
        from samplernn_fast.commands.benchmark.contestants import Options

    options = Options(batch_size, backend, dtype, threads, seconds, rounds, plain, compile)
    where, models = resolve_device(device), _models(model, dim)
    warning = timing.disturbance()
    before, rows = torch.get_num_threads(), list[dict[str, Any]]()
    try:
        torch.set_num_threads(max(threads, default=before))
        about = _about(model, timing.processor(where))
        if json:
            failed = timing.run(models, options, where, rows.extend, functools.partial(print, file=sys.stderr))
            print(json_module.dumps(about | {"rows": rows}))
        else:
            machine = about["machine"]
            print(f"{machine['processor']}, torch {torch.__version__}, {machine['threads']} threads for torch")
            failed = timing.run(models, options, where, timing.print_rows)
    finally:
        torch.set_num_threads(before)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    if failed:
        reasons = "; ".join(dict.fromkeys(f"{one.name}: {one.reason}" for one in failed))
        raise SampleRNNError(f"not all that was asked for was timed: {reasons}")


def _models(model: str | None, dims: tuple[int, ...]) -> "Iterator[AudioModel]":
    """The named model, or untrained ones of the paper in several sizes. ConfigError for both at once."""
    from samplernn_fast import api
    from samplernn_fast.models.config import SampleRNNConfig
    from samplernn_fast.models.sample_rnn import SampleRNN

    if model is None:
        configs = [SampleRNNConfig(dim=dim) for dim in dims or _DIMS]
        return (SampleRNN(config) for config in configs)
    if dims:
        raise ConfigError("--dim is for untrained models; leave it out, or leave the model out")
    return iter([api.load(model)])


def _about(model: str | None, processor: str) -> dict[str, Any]:
    """What was timed, where, and by which versions."""
    import torch

    from samplernn_fast._version import __version__

    versions = {"samplernn_fast": __version__, "python": platform.python_version(), "torch": torch.__version__}
    machine = {"processor": processor, "system": platform.platform(), "threads": torch.get_num_threads()}
    return {"model": model, "machine": machine, "versions": versions}
