"""How much memory one update takes, and whether there is so much: a run that cannot work ends before it begins, and
one that may not is warned of.

Without this, the system would kill the process at its first update, without a word.
"""

from contextlib import suppress
from pathlib import Path

import torch

from samplernn_fast.errors import ConfigError
from samplernn_fast.models.config import (
    AudioConfig,
    MLPConfig,
    OneTierConfig,
    RecurrentConfig,
    SingleSampleConfig,
    SparseSampleRNNConfig,
    TieredConfig,
)
from samplernn_fast.models.other_configs import DilatedConfig, HybridRNNWaveNetConfig, HybridWaveNetConfig
from samplernn_fast.training.config import TrainConfig

_STATE_BYTES = 20  # A weight, its gradient, Adam's two moments and the normalized weight are float32 each.
_ERROR = 2.0  # the factor by which the estimate may be too high; the most that was measured is 1.4
_CGROUP_FILES = (
    "memory.max",
    "memory/memory.limit_in_bytes",
)  # Control groups of version 2 and of version 1 have these.


def update_bytes(config: TrainConfig, rows: int) -> int:
    """About how many bytes an update takes whose largest part has `rows` rows: activations for the backward pass,
    weights, Adam's moments.

    It was within a factor of 1.4 of what was measured on five models (laptop, paper-3tier at 256 units, dadabots and
    rnn at 128, wavenet), at a batch of 0.2 to 1 GB.
    """
    half = 0.5 if config.precision == "bf16" else 1.0
    floats, weights = half * _floats_per_sample(config.model, config.seq_len), _STATE_BYTES * config.model.least_values
    weights += 4 * config.model.least_values if config.ema else 0
    if isinstance(config.model, SparseSampleRNNConfig) and config.distill and config.init_from is not None:
        floats += 4 * config.model.q_levels  # both models' probabilities, and two steps from them to the loss
        weights += 4 * config.model.least_values
    return round(4 * rows * config.seq_len * floats) + weights


def check_memory(config: TrainConfig, world_size: int, device: torch.device) -> str:
    """What to warn of where an update seems to need more memory than this process can get, else nothing.

    Raises ConfigError where it needs more than the estimate can be wrong by: nobody has to overrule a refusal then.
    """
    rows = max(1, -(-(config.batch_size // world_size) // config.accumulate))  # of the largest part
    needed, free = update_bytes(config, rows), _free_bytes(device)
    if free is None or needed <= free:
        return ""
    where = "of this GPU's memory" if device.type == "cuda" else "of memory"
    found = f"an update needs about {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB {where} are free"
    lower = (
        f"lower batch_size (now {config.batch_size}), seq_len (now {config.seq_len}) or the size of the model, or raise"
        f" accumulate (now {config.accumulate}), which makes an update in parts"
    )
    if needed > _ERROR * free:
        raise ConfigError(f"{found}; {lower}")
    return f"{found}; where that is too little, the system ends the run without a word; then {lower}"


def _floats_per_sample(model: AudioConfig, seq_len: int) -> float:
    """How many floats the forward pass keeps for a sample of a row: logits, the MLP's layers, the tiers' gates."""
    if isinstance(model, DilatedConfig):
        head = 3 * model.q_levels + 2 * (model.skip_channels + model.end_channels)
        return head + _stack_floats(model.channels, model.dilations, seq_len) + _slow_floats(model, seq_len)
    if not isinstance(model, MLPConfig):
        return 3.0 * model.outputs
    kept = 3 * model.outputs + model.dim * (model.mlp_hidden + 1)
    gates = _gate_floats(model)
    if isinstance(model, SingleSampleConfig):
        return float(kept + gates + (2 * model.emb_size if isinstance(model, OneTierConfig) else 0))
    total, unit = float(kept), 1
    for size in model.frame_sizes[1:] if isinstance(model, TieredConfig) else ():
        total += model.dim / unit + gates / size
        unit = size
    return total


def _stack_floats(channels: int, dilations: tuple[int, ...], steps: int) -> float:
    """How many floats a stack of dilated convolutions keeps for each of `steps` outputs, its context's shared out.

    Five vectors of a layer's outputs are kept, and the gated ones of the targets once more.
    """
    later = sum(layer * dilation for layer, dilation in enumerate(dilations))
    return channels * (6 * len(dilations) + 5 * later / steps)


def _slow_floats(model: DilatedConfig, seq_len: int) -> float:
    """How many floats a hybrid's module over frames keeps for each sample, a frame's divided by its samples; 0 for a
    system that has none."""
    if isinstance(model, HybridWaveNetConfig):
        frames = max(1, seq_len // model.frame_size)
        return (_stack_floats(model.dim, model.slow_dilations, frames) + model.skip_channels) / model.frame_size
    if isinstance(model, HybridRNNWaveNetConfig):
        return _gate_floats(model) / model.frame_size
    return 0.0


def _gate_floats(model: RecurrentConfig) -> int:
    """How many floats the cells of a tier keep for each of its frames."""
    return model.n_rnn * model.dim * (9 if model.rnn == "lstm" else 7)


def _free_bytes(device: torch.device) -> int | None:
    """The bytes that a process can still get, swap included; None where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = []
    with suppress(OSError, ValueError, KeyError, IndexError):
        rows = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        kilobytes = {row[0].rstrip(":"): int(row[1]) for row in rows}
        known.append(1024 * (kilobytes["MemAvailable"] + kilobytes["SwapFree"]))
    for name in _CGROUP_FILES:
        with suppress(OSError, ValueError):  # "max" is no number: there is no limit
            known.append(int(Path("/sys/fs/cgroup", name).read_text()))
    return min(known, default=None)
