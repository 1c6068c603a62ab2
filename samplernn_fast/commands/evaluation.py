"""The `evaluate` command, and the progress bar of an evaluation, which `train` shows too."""

import json as json_module
import math
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from samplernn_fast import files, terminal
from samplernn_fast.backends import names
from samplernn_fast.commands.flags import NumShards, OptionalOut, ShardIndex
from samplernn_fast.errors import ConfigError, DataError, Interrupted
from samplernn_fast.jobs.ledger import Ledger, job_folder
from samplernn_fast.jobs.shards import Shard
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
    out: OptionalOut = None,
    overwrite: bool = False,
    shard_index: ShardIndex = None,
    num_shards: NumShards = None,
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
        out: Also write that JSON object into this file; shares need it, and their job lies beside it.
        overwrite: Replace that file where it exists.
        shard_index: Which share of the recordings to read, from 0, where several processes do; without it, what SLURM,
            Kubernetes, AWS Batch, Open MPI or torchrun says.
        num_shards: How many shares there are; the last one to end prints and writes the result.
    """
    from samplernn_fast.data.batches import some_recordings
    from samplernn_fast.data.folder import AudioData
    from samplernn_fast.data.report import silence_warnings
    from samplernn_fast.models.places import model_file

    if backend != "forward":
        names.check_backend(backend, dtype)
    names.check_device(device)
    shard = Shard.of(shard_index, num_shards)
    if shard is not None and out is None and shard.told_by:
        shard = None  # an array of jobs may evaluate one model in each
    if shard is not None and out is None:
        raise ConfigError("out must name the file of the result where work is shared")
    if out is not None:
        _check_out(out, shard, overwrite)
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
    for warning in silence_warnings(opened, [split]):
        terminal.say(f"warning: {warning}")
    settings = {"batch_size": batch_size, "backend": backend, "dtype": dtype, "device": device}
    if shard is None:
        result = score(loaded, opened, split, **settings)
        if out is not None:
            result.write(out, overwrite=overwrite)
    else:
        assert out is not None
        shared = _share(loaded, opened, split, out, shard, settings)
        if shared is None:
            return
        result = shared
    if json:
        print(json_module.dumps(result.to_dict()))
        return
    if per_file:
        for file in result.per_file:
            nats = "" if file.nll_nats is None else f"{file.nll_nats:8.4f}  "
            print(f"{file.nll_bits:8.4f}  {nats}{file.n_samples:9d}  {file.path}")
    print(result.text(split))


def _check_out(out: Path, shard: Shard | None, overwrite: bool) -> None:
    """Raises DataError where the file of the result exists and must stay, before the work is done. That of a job which
    was begun is the job's own, and is written again."""
    if shard is not None and overwrite:
        raise ConfigError(
            "overwrite=True makes no sense where work is shared: groups that are there and right are kept; remove the"
            " file, and the job's folder beside it, which ends in .job, to begin again"
        )
    if shard is None:
        files.check_free(out, DataError, overwrite=overwrite)
    elif os.path.lexists(out) and not Ledger.exists(job_folder(out)):
        raise DataError(f"{out} exists and is no job's result; choose another name, or remove it")


def _share(
    model: "AudioModel", data: "AudioData", split: str, out: Path, shard: Shard, settings: dict[str, Any]
) -> "EvalResult | None":
    """Reads one share. Returns the result of all where this was the last."""
    from samplernn_fast.evaluation.sharing import put_together, share_of
    from samplernn_fast.jobs.status import status_of

    if shard.told_by:
        terminal.say(f"{shard}; --num-shards 1 reads all recordings here")
    share = share_of(model, data, split, out, shard, settings)
    groups = share.left(terminal.say)
    with (
        terminal.interrupts(signal.SIGTERM) as caught,
        terminal.Bar(share.samples(groups), "sample", title=split, prefixes=True) as bar,
    ):
        done = share.read(groups, bar.advance, lambda: bool(caught))
    if caught:
        raise Interrupted(f"interrupted: {terminal.counted(done, 'group')} of recordings are kept", caught[0])
    missing = len(status_of(share.ledger, deep=False).missing)
    if not missing:
        return put_together(share.ledger, out)
    left = f"{terminal.counted(missing, 'group')} of recordings are missing"
    print(f"{left}; samplernn-fast jobs status {share.ledger.folder}")
    return None


def score(model: "Path | AudioModel", data: "AudioData", split: str, **settings: Any) -> "EvalResult":
    """`likelihood.evaluate` with a progress bar, which counts samples."""
    from samplernn_fast.evaluation.likelihood import evaluate as run

    total = sum(recording.length for recording in data.recordings(split))
    with terminal.Bar(total, "sample", title=split, prefixes=True) as bar:
        return run(model, data, split, progress=bar.advance, **settings)
