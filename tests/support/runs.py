"""Small training runs, and what is looked at when they end."""

import os
import subprocess
from pathlib import Path
from typing import IO

import torch
from warm_python import warm_python

from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import AudioConfig, SampleRNNConfig, SparseSampleRNNConfig
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.run_log import read_log
from samplernn_fast.training.trainer import Trainer

TINY = {"dim": 16, "emb_size": 8, "q_levels": 64, "frame_sizes": (2, 2, 8), "sample_rate": 0, "gain": 0.0}

LAUNCH = ("-m", "samplernn_fast")
"""How Python starts the command line."""

DENSE = SampleRNNConfig(**TINY | {"dim": 40})
"""A model that a sparse one is made of: 40 units are five groups of blocks."""


def tiny(
    data: Path, out: Path, *, steps: int | None, model: dict | AudioConfig | None = None, **settings: object
) -> TrainConfig:
    """Settings of a run that takes milliseconds a step, on one thread: the same bits in every process."""
    defaults = {"batch_size": 4, "seq_len": 64, "lr": 3e-3, "log_every": 2, "save_every": 5, "eval_every": 7}
    fields = defaults | {"num_threads": 1} | settings
    config = model if isinstance(model, AudioConfig) else SampleRNNConfig(**TINY | (model or {}))
    return TrainConfig(data=data, out=out, model=config, max_steps=steps, **fields)


def sparse_model(density: float) -> SparseSampleRNNConfig:
    """The settings of a sparse model that takes all else from the model that it starts from."""
    return SparseSampleRNNConfig(sample_rate=0, gain=0.0, density=density)


def sparse_settings(data: Path, out: Path, source: Path, **changes: object) -> TrainConfig:
    """Settings of a tiny run that makes the model of `source` sparse."""
    fields = {"steps": 40, "model": sparse_model(0.3), "init_from": source}
    return tiny(data, out, **fields | changes)


def trainer(config: TrainConfig) -> Trainer:
    """The run of a single process, before its first step or where it was left."""
    return Trainer(config, 0, 1, torch.device("cpu"))


def everything(run: Path) -> dict[str, torch.Tensor]:
    """All tensors of a run's last checkpoint: weights, moments, hidden state, sums, generator state."""
    tensors, _ = checkpoint.read(run / checkpoint.LAST_FILE)
    return tensors


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The weights in a run's last checkpoint, named as the model names them."""
    return {name[6:]: tensor for name, tensor in everything(run).items() if name.startswith("model.")}


def curve(run: Path) -> list[tuple[str, str, str]]:
    """(step, train_bits, valid_bits) of every row of log.csv, with all their digits."""
    return [(row["step"], row["train_bits"], row["valid_bits"]) for row in read_log(run / "log.csv")]


def files(run: Path) -> dict[str, bytes]:
    """Every file of a run folder but TensorBoard's."""
    return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """The same names, and the same bits under each."""
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different, different


def assert_same_run(one: Path, two: Path) -> None:
    """Two runs ended with the same bits: training state, loss curve and best model."""
    assert_equal(everything(one), everything(two))
    assert curve(one) == curve(two)
    assert_equal(checkpoint.load_model(one).state_dict(), checkpoint.load_model(two).state_dict())


def launch(
    config: TrainConfig,
    *python: str,
    errors: int | IO[str] = subprocess.PIPE,
    program: str | None = None,
    ranks: str | None = None,
) -> subprocess.Popen[str]:
    """The command line's own training process, with the settings of `config`.

    errors: where its standard error goes. Who does not read it while the process runs takes a file: a pipe gets full.
    program, ranks: the interpreters of the process, and of those that torchrun starts; else warm ones.
    """
    names = ("data", "out", "max_steps", "batch_size", "seq_len", "lr", "log_every", "save_every", "eval_every")
    names += ("accumulate", "weight_decay", "ema")
    flags = [text for name in names for text in (f"--{name.replace('_', '-')}", str(getattr(config, name)))]
    for name in ("dim", "emb_size", "q_levels"):
        flags += [f"--{name.replace('_', '-')}", str(getattr(config.model, name))]
    flags += ["--frame-sizes", *map(str, config.model.frame_sizes)]
    command = [
        program or warm_python(),
        *(python or LAUNCH),
        "train",
        "paper-3tier",
        *flags,
        "--num-threads",
        "1",
        "--sample-every",
        "0",
        "--keep",
        "0",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHON_EXEC": ranks or warm_python()}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """What a process has printed that ends with this status."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, err
    return out + (err or "")
