"""The optimizer of a run: Adam as in the paper, or AdamW, which lets the weights decay beside their gradients."""

import re
from typing import Any

import torch

from samplernn_fast.models.base import AudioModel
from samplernn_fast.training.config import TrainConfig

_NOT_DECAYED = re.compile(
    r"(bias|\.b_ih|\.b_hh|\.bias_n|(^|\.)h0"  # biases and initial states, which are biases of the first step
    r"|\.original0"  # gains of weight normalization: the lengths of the rows of a matrix
    r"|(^|\.)embedding\.weight|\.tables?)$"  # embeddings, and those of a sparse model, folded into its first layer
)


def decays(model: AudioModel, name: str) -> bool:
    """Whether weight decay makes the parameter `name` of a model smaller: the matrices of its maps, nothing else.

    Left alone are biases, initial states, gains of weight normalization and embeddings. Of a weight that is normalized
    the direction decays, whose length changes no output; see docs/decisions/training.md for what that does.
    """
    module = model.get_submodule(name.rpartition(".")[0])
    return not _NOT_DECAYED.search(name) and not isinstance(module, torch.nn.Embedding)


def optimizer_of(model: AudioModel, config: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015), or with `weight_decay` AdamW (Loshchilov and Hutter 2019), for a model on a device.

    AdamW multiplies what decays by 1 - lr * weight_decay before each step of Adam. Both keep the same moments.
    """
    fused = device.type in ("cpu", "cuda")  # one pass over the weights; torch has it for these devices only
    if not config.weight_decay:
        return torch.optim.Adam(model.parameters(), lr=config.lr, fused=fused)
    named = dict(model.named_parameters())
    decayed = [parameter for name, parameter in named.items() if decays(model, name)]
    others = [parameter for name, parameter in named.items() if not decays(model, name)]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=fused)
