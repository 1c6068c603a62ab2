"""Exact resumption: what a run writes to last.safetensors, and how it goes on from there.

The file holds everything that the next update depends on: the weights, Adam's moments, the hidden state of the whole
batch, torch's generator, and the sums since the last row of the log. JSON beside the tensors says where the batches
and the run stand, and with which settings it was trained. So a resumed run ends with the same bits, on another number
of processes too. `trainer` decides when this is written; `models.checkpoint` knows the format of the file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from samplernn_fast.errors import ConfigError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.base import AudioModel, State
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.registry import config_from_dict
from samplernn_fast.training.config import TrainConfig

FREE_SETTINGS = frozenset(
    "data out max_steps max_minutes resume device num_threads change_lr".split()
    + "save_every log_every eval_every eval_seconds sample_every sample_seconds keep keep_every".split()
)
"""Settings that may differ between two parts of one run: where it is, when it ends, and what is looked at meanwhile."""


@dataclass(frozen=True)
class Saved:
    """A training checkpoint that was read."""

    source: Path
    """The file."""
    model: AudioConfig
    """The settings of the run's model, with its sample rate and gain."""
    tensors: dict[str, Tensor]
    """All its tensors by name, on the CPU."""
    progress: dict[str, Any]
    """The JSON beside them: "batches", "training" (the settings), and the numbers of the run."""


def find(config: TrainConfig) -> Saved | None:
    """Reads the checkpoint that `config.resume` asks for; None where a run begins.

    Raises ConfigError where the folder holds another run, and CheckpointError where the file is damaged. Whether the
    settings are those of the checkpoint, `check_same_run` says.
    """
    last = config.out / checkpoint.LAST_FILE
    if config.resume == "never":
        if last.exists() or (config.out / checkpoint.MODEL_FILE).exists():
            raise ConfigError(f"{config.out} holds a run already; choose another --out, or drop --resume never")
        return None
    if config.resume == "auto" and not last.exists():
        return None
    source = last if last.exists() else Path(config.resume)
    tensors, header = checkpoint.read(source)
    if header["kind"] != "training":
        raise ConfigError(f"{source} holds only a model; --resume needs a run's {checkpoint.LAST_FILE}")
    progress = header["progress"]
    if config.resume != "auto" and source == last and progress["training"]["resume"] != config.resume:
        raise ConfigError(f"{config.out} holds another run; choose another --out to go on from {config.resume}")
    return Saved(source, config_from_dict(header["config"]), tensors, progress)


def restore(saved: Saved, model: AudioModel, optimizer: torch.optim.Optimizer, batch_size: int, rows: slice) -> State:
    """Copies weights, Adam's moments and torch's generator out of a checkpoint; returns the hidden state of `rows`.

    batch_size counts the rows of all processes, of which `rows` are this one's. Raises CheckpointError, which names
    the tensor, for one that does not fit.
    """
    tensors, source = saved.tensors, saved.source
    weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    checkpoint.fill(model, weights, source)
    checkpoint.check(tensors, _beside_weights(model, batch_size), source)
    device = next(model.parameters()).device
    for name, parameter in model.named_parameters():
        moments = {key: tensors[f"adam.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {key: value.to(device) for key, value in moments.items()}
    torch.set_rng_state(tensors["rng.torch"])
    tiers = range(len(model.init_state(1)))
    return tuple(tensors[f"state.{tier}"][:, rows].contiguous().to(device) for tier in tiers)


def tensors_to_save(
    model: AudioModel, optimizer: torch.optim.Optimizer, state: State, sums: Tensor
) -> dict[str, Tensor]:
    """The tensors of a training checkpoint by name. `state` and `sums` are those of the whole batch, from `gather`."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"adam.{key}.{name}"] = value
    tensors |= {f"state.{tier}": part for tier, part in enumerate(state)}
    return tensors | {"rng.torch": torch.get_rng_state(), "sums": sums}


def gather(state: State, sums: Tensor, rank: int, world_size: int) -> tuple[State, Tensor]:
    """The hidden state of the whole batch, and what this process's sums are from now on.

    The state is (layers, rows, units) for each tier, with the rows of all processes in their order. Rank 0 takes
    over the sums of all processes, and the others begin again at 0, so that a resumed run may use another number of
    processes.
    """
    if world_size == 1:
        return state, sums
    parts = []
    for mine in state:
        rows = [torch.empty_like(mine) for _ in range(world_size)]
        dist.all_gather(rows, mine.contiguous())
        parts.append(torch.cat(rows, dim=1))
    total = sums.clone()
    dist.all_reduce(total)
    return tuple(parts), total if rank == 0 else torch.zeros_like(total)


def _beside_weights(model: AudioModel, batch_size: int) -> dict[str, Tensor]:
    """Tensors of the same shapes as those of a training checkpoint that are not weights."""
    wanted = {"sums": torch.zeros(2, dtype=torch.float64), "rng.torch": torch.get_rng_state()}
    wanted |= {f"state.{tier}": part for tier, part in enumerate(model.init_state(batch_size))}
    for name, parameter in model.named_parameters():
        wanted |= {f"adam.step.{name}": torch.zeros(())}
        wanted |= {f"adam.{moment}.{name}": parameter for moment in ("exp_avg", "exp_avg_sq")}
    return wanted


def check_same_run(config: TrainConfig, saved: dict[str, Any], source: Path) -> None:
    """Raises ConfigError, which names the first setting that differs from the `saved` ones and may not.

    The model's settings are read first, because version 0.1.0 wrote no name of a system.
    """
    if config.change_lr is None and saved.get("change_lr") is not None:
        raise ConfigError(
            f"{source} was trained on with change_lr = {saved['change_lr']}; give it again, or another rate"
        )
    saved = saved | {"model": config_from_dict(saved["model"]).to_dict()}
    for name, value in config.to_dict().items():
        if name in FREE_SETTINGS or json.loads(json.dumps(value)) == saved.get(name):
            continue
        pairs = [(name, saved.get(name), value)]
        if name == "model":
            pairs = [(key, saved[name].get(key), new) for key, new in value.items() if saved[name].get(key) != new]
        key, old, new = pairs[0]
        other = ", change_lr to go on at another rate" if key == "lr" else ""
        raise ConfigError(
            f"{source} was trained with {key} = {old}, this command says {new}; use the same settings{other}, another"
            " --out, or remove the old run"
        )
