"""Exact resumption: what a run writes to last.safetensors, and how it goes on from there.

The file holds everything that the next update depends on: the weights and their average, Adam's moments, the hidden
state of the whole batch, torch's generator, and the sums since the last row of the log. JSON beside the tensors says
where the batches and the run stand, and with which settings it was trained. So a resumed run ends with the same bits;
on another number of processes or parts it goes on too, and `other_sums` says what is no longer equal then. `trainer`
decides when this is written; `models.checkpoint` knows the format of the file.
"""

import json
import math
import os
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samplernn_fast.errors import CheckpointError, ConfigError, StoreError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.base import AudioModel, State
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.other_configs import config_from_dict
from samplernn_fast.models.places import TEACHER_FILE
from samplernn_fast.models.sparse.pruning import Pruning
from samplernn_fast.models.stored.header import config_in, read_header
from samplernn_fast.stores.addresses import address_of, path_of, spelled
from samplernn_fast.stores.reading import local
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.process import Launch, added, gathered, highest
from samplernn_fast.training.updates.averaging import Average
from samplernn_fast.untrusted import Fields, Unreadable

FREE_SETTINGS = frozenset(
    "data out max_steps max_minutes resume device num_threads change_lr accumulate".split()
    + "save_every log_every eval_every eval_seconds sample_every sample_seconds keep keep_every audition".split()
)
"""Settings that may differ between two parts of one run: where it is, when it ends, how much of an update is made at a
time, and what is looked at meanwhile."""

_LATER = ("prune_until", "distill", "weight_decay", "ema")
"""Settings that runs of earlier versions did not write, and which changed nothing there."""
_AVERAGE = "ema."
"""The prefix of averaged weights in a training checkpoint."""
PENDING = ("validation", "keep", "sample")
"""What a run that a signal stopped may still have to make at its last step."""
_MOST_PROCESSES = 10**6  # and parts
_MOST_STEPS = 2**53  # JSON keeps whole numbers exactly up to here
_MOST_BITS = 1e308  # a run whose rate is far too high has losses beyond all reason that are still numbers


@dataclass(frozen=True)
class Saved:
    """A training checkpoint that was read."""

    source: Path
    """The file."""
    model: AudioConfig
    """The settings of the run's model, with its sample rate and gain."""
    tensors: dict[str, Tensor]
    """All its tensors by name, on the CPU."""
    settings: dict[str, Any]
    """The settings of the run as JSON has them; `check_same_run` compares them."""
    batches: dict[str, Any]
    """Where the batches stand, for `TBPTTBatches.load_state_dict`, which checks it."""
    step: int
    epoch: int
    seconds: float
    best_bits: float
    """Infinite where nothing was validated yet."""
    train_bits: float
    """NaN where nothing was logged yet."""
    valid_bits: float | None
    pending: list[str]
    """What is to be made before the next update, of `PENDING`."""
    initialized_from: dict[str, Any] | None
    """Which model the run started from, where it did."""
    processes: int | None
    """On how many processes it was trained; None where an earlier version did not write it."""
    accumulate: int
    """In how many parts an update was made."""


def find(config: TrainConfig) -> Saved | None:
    """Reads the checkpoint that `config.resume` asks for; None where a run begins.

    Raises ConfigError where the folder holds another run, and CheckpointError where the file is damaged. Whether the
    settings are those of the checkpoint, `check_same_run` says.
    """
    source = _source(config)
    if source is None:
        return None
    tensors, header = checkpoint.read(source)
    if header["kind"] != "training":
        raise ConfigError(f"resume needs a run's {checkpoint.LAST_FILE}, and {source} holds only a model")
    try:
        saved = _read(source, tensors, header)
    except Unreadable as error:
        raise CheckpointError(f"{source}: damaged, and left as it is: {error}") from None
    last = config.out / checkpoint.LAST_FILE
    if config.resume != "auto" and source == last:
        # Compared as names, because what a run once began from may be gone, or out of reach, when it goes on.
        if _named(config.resume) not in (_named(str(config.out)), _named(saved.settings["resume"])):
            raise ConfigError(f"{config.out} holds another run; choose another folder to go on from {config.resume}")
    return saved


def model_begun(config: TrainConfig) -> AudioConfig | None:
    """The settings of the model in that checkpoint, without its tensors; None where `find` finds none, and where it is
    of a run that did not start from `config.init_from`. Raises as `find`."""
    source = _source(config)
    if source is None:
        return None
    header = read_header(source)
    settings = header.get("progress", {}).get("training")
    begun = isinstance(settings, dict) and settings.get("init_from") == config.init_from
    return config_in(header, source) if begun else None


def _source(config: TrainConfig) -> Path | None:
    """The file that `find` reads; None where a run begins. Raises ConfigError where it must not go on."""
    last = config.out / checkpoint.LAST_FILE
    if config.resume == "never":
        if Launch.from_environment().max_restarts:
            raise ConfigError(
                'resume="never" would refuse the run when torchrun starts it again; leave it out, and take a new folder'
            )
        if last.exists() or (config.out / checkpoint.MODEL_FILE).exists():
            raise ConfigError(f'{config.out} holds a run already; choose another folder, or leave out resume="never"')
        return None
    if config.resume == "auto" and not last.exists():
        return None
    return last if last.exists() else checkpoint_of(config.resume)


def checkpoint_of(resume: str) -> Path:
    """The file that `resume` names: itself, or the last checkpoint in a run folder. Of an address the teacher of a
    distilled run comes with it."""
    address = address_of(resume)
    folder = address.removesuffix(f"/{checkpoint.LAST_FILE}") if address else resume
    try:
        path = local(folder, lambda names: [name for name in (checkpoint.LAST_FILE, TEACHER_FILE) if name in names])
    except StoreError:
        if folder in (address, resume):
            raise
        path = local(resume)  # some stores show single files only
    return path / checkpoint.LAST_FILE if os.path.isdir(path) else path


def _named(resume: str) -> str:
    """One text for all names of a checkpoint, links followed; a path that can lead nowhere, because a file holds it, is
    itself. Of an address, or of its copy, it is the address, and nothing is fetched."""
    if address := address_of(spelled(resume)):
        return address.removesuffix(f"/{checkpoint.LAST_FILE}")
    path = path_of(resume)
    try:
        return os.path.realpath(path / checkpoint.LAST_FILE if os.path.isdir(path) else path)
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return str(path)


def _read(source: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> Saved:
    """The checkpoint with every value of its header checked for type and range. Raises Unreadable."""
    fields = Fields(header, "the header")
    progress = fields.fields("progress")
    settings = progress.fields("training")
    settings.text("resume")
    accumulate = settings.integer("accumulate", 1, _MOST_PROCESSES) if settings.has("accumulate") else 1
    try:
        model = config_from_dict(fields.mapping("config"))
    except (TypeError, ValueError, OverflowError) as error:
        raise Unreadable(f"its model settings cannot be used: {str(error)[:200]}") from None
    best_bits, train_bits = (progress.number_or_none(name, 0, _MOST_BITS) for name in ("best_bits", "train_bits"))
    pending = progress.value("pending") if progress.has("pending") else []  # version 0.1.0 left nothing to make
    if not isinstance(pending, list) or any(name not in PENDING for name in pending):
        raise Unreadable(f"pending of its progress must be a list of {', '.join(PENDING)}")
    begun = progress.has("initialized_from")
    if begun and progress.fields("initialized_from").has("density"):
        progress.fields("initialized_from").number("density", 0, 1)
    return Saved(
        source,
        model,
        tensors,
        progress.mapping("training"),
        progress.mapping("batches"),
        step=progress.integer("step", 1, _MOST_STEPS),
        epoch=progress.integer("epoch", 0, _MOST_STEPS),
        seconds=progress.number("seconds", 0, 1e12),
        best_bits=math.inf if best_bits is None else best_bits,
        train_bits=math.nan if train_bits is None else train_bits,
        valid_bits=progress.number_or_none("valid_bits", 0, _MOST_BITS),
        pending=pending,
        initialized_from=progress.mapping("initialized_from") if begun else None,
        processes=progress.integer("processes", 1, _MOST_PROCESSES) if progress.has("processes") else None,
        accumulate=accumulate,
    )


def other_sums(saved: Saved, config: TrainConfig, world_size: int) -> str:
    """What to say of a run that goes on with other processes or parts than those of its checkpoint, else nothing."""
    if saved.processes is None or (saved.processes, saved.accumulate) == (world_size, config.accumulate):
        return ""
    return (
        f"an update is made by {_work(world_size, config.accumulate)}, and was made by"
        f" {_work(saved.processes, saved.accumulate)}: gradients are added in another order, so weights and bits from"
        " here on are those of an undisturbed run up to rounding, and no longer to the last bit"
    )


def check_same_everywhere(saved: Saved | None, config: TrainConfig, device: torch.device) -> None:
    """Raises CheckpointError where the processes of a run have found checkpoints of different steps, or only some have
    found one. Every process calls it."""
    step = 0 if saved is None else saved.step
    latest, negative = highest([step, -step], device)
    if latest != -negative:
        raise CheckpointError(
            f"{config.out}: the processes of this run find different checkpoints in it, from step {-negative:.0f} to"
            f" {latest:.0f} (0 is none); give them a folder that all of them see"
        )


def _work(processes: int, parts: int) -> str:
    """On how many processes, and in how many parts, an update is made."""
    words = f"{processes} process{'' if processes == 1 else 'es'}"
    return words if parts == 1 else f"{words} in {parts} parts"


def restore(
    saved: Saved,
    model: AudioModel,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    initial: State,
    rows: slice,
) -> State:
    """Copies weights, their average, Adam's moments and torch's generator out of a checkpoint; returns the hidden state
    of `rows`.

    initial: the hidden state of all rows before the first update, of which `rows` are this process's. Raises
    CheckpointError, which names the tensor, for one that does not fit.
    """
    tensors, source = saved.tensors, saved.source
    for prefix, filled in ({"model.": model} | ({_AVERAGE: average.model} if average is not None else {})).items():
        weights = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        checkpoint.check(weights, filled.state_dict(), source, exactly=True)
        checkpoint.fill(filled, weights, source)
    checkpoint.check(tensors, _beside_weights(model, initial), source, exactly=True)
    for name, tensor in tensors.items():
        # Adam takes the root of the second moments, and its steps begin at 1.
        if (name.startswith("adam.exp_avg_sq.") and tensor.min() < 0) or (name.startswith("adam.step.") and tensor < 1):
            raise CheckpointError(f"{source}: tensor {name} holds a number that Adam never makes")
    device = next(model.parameters()).device
    for name, parameter in model.named_parameters():
        moments = {key: tensors[f"adam.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {key: value.to(device) for key, value in moments.items()}
    try:
        torch.set_rng_state(tensors["rng.torch"])
    except RuntimeError:
        raise CheckpointError(f"{source}: tensor rng.torch is no state of torch's generator") from None
    tiers = range(len(initial))
    return tuple(tensors[f"state.{tier}"][:, rows].contiguous().to(device) for tier in tiers)


def tensors_to_save(
    model: AudioModel,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    pruning: Pruning | None,
    state: State,
    sums: Tensor,
) -> dict[str, Tensor]:
    """The tensors of a training checkpoint by name. `state` and `sums` are those of the whole batch, from `gather`."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"adam.{key}.{name}"] = value
    if average is not None:
        tensors |= {_AVERAGE + name: tensor for name, tensor in average.model.state_dict().items()}
    tensors |= pruning.tensors() if pruning is not None else {}
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
    whole = tuple(torch.cat(gathered(mine, world_size), dim=1) for mine in state)
    total = added(sums.clone())
    return whole, total if rank == 0 else torch.zeros_like(total)


def _beside_weights(model: AudioModel, initial: State) -> dict[str, Tensor]:
    """Tensors of the same shapes as those of a training checkpoint that are not weights."""
    wanted = {"sums": torch.zeros(2, dtype=torch.float64), "rng.torch": torch.get_rng_state()}
    wanted |= {f"state.{tier}": part for tier, part in enumerate(initial)}
    for name, parameter in model.named_parameters():
        wanted |= {f"adam.step.{name}": torch.zeros(())}
        wanted |= {f"adam.{moment}.{name}": parameter for moment in ("exp_avg", "exp_avg_sq")}
    return wanted


def check_same_run(config: TrainConfig, saved: dict[str, Any], source: Path) -> None:
    """Raises ConfigError, which names the first setting that differs from the `saved` ones and may not, and
    CheckpointError where the saved ones have no model.

    The model's settings are read first, because version 0.1.0 wrote no name of a system.
    """
    if config.change_lr is None and saved.get("change_lr") is not None:
        rate = reprlib.repr(saved["change_lr"])
        raise ConfigError(f"{source} was trained on with change_lr = {rate}; give it again, or another rate")
    try:
        saved = saved | {"model": config_from_dict(saved["model"]).to_dict()}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{source}: damaged: the model in its settings cannot be used: {str(error)[:200]}"
        ) from None
    saved = {name: getattr(TrainConfig, name) for name in _LATER} | saved
    for name, value in config.to_dict().items():
        if name in FREE_SETTINGS or json.loads(json.dumps(value)) == saved.get(name):
            continue
        pairs = [(name, saved.get(name), value)]
        if name == "model":
            pairs = [(key, saved[name].get(key), new) for key, new in value.items() if saved[name].get(key) != new]
        key, old, new = (pairs[0][0], *map(reprlib.repr, pairs[0][1:]))  # a damaged setting may be of any length
        other = {
            "lr": ", change_lr to go on at another rate",
            "init_from": " (a model that is gone can still be named)",
        }.get(key, "")
        raise ConfigError(
            f"{source} was trained with {key} = {old}, this command says {new}; use the same settings{other}, another"
            " folder, or remove the old run"
        )
