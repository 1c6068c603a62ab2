"""Reads the SampleRNN of state-spaces/s4: a released .pt state dict, or a Lightning .ckpt with its settings inside.

The layout is that of `deepsound`, except that h0 is in the GRU module and the embedding has a width of its own. With
mu-law the frame tiers read the decoded amplitude.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samplernn_fast.errors import CheckpointError
from samplernn_fast.importing.formats.torch_file import read_torch_file
from samplernn_fast.importing.projects import deepsound
from samplernn_fast.importing.settings import Settings, read_settings
from samplernn_fast.importing.tensors import NamedTensors
from samplernn_fast.models.config import SampleRNNConfig

LEVELS = 256
"""How many outputs the project's last layer has, whatever the settings say."""
_BESIDE = ("config.json", "config.yaml", ".hydra/config.yaml")  # where settings can be beside a .pt file


def read(path: Path, settings: Settings) -> tuple[SampleRNNConfig, dict[str, Tensor]]:
    """Reads config and tensors from a .pt or .ckpt file. Raises CheckpointError and ConfigError."""
    tensors, parameters = read_torch_file(path)
    if parameters:
        settings.add_beside(parameters, f"{path.name} (hyper_parameters)")
    else:
        _read_beside(path, settings)
    return convert(tensors, settings, str(path))


def convert(
    tensors: Mapping[str, Tensor], settings: Settings, source: str
) -> tuple[SampleRNNConfig, dict[str, Tensor]]:
    """Makes config and tensors of a state dict."""
    named = NamedTensors(tensors, source, deepsound.MARKER)
    structure = deepsound.structure_of(named)
    if structure.q_levels != LEVELS:
        raise CheckpointError(
            f"{source}: tensor sample_level_mlp.embedding.weight must have {LEVELS} rows, as many as the output layer,"
            f" found {structure.q_levels}"
        )
    settings.agree(_facts(structure), source)
    names = ("model.quantization", "dataset.quantization")
    quantization = settings.quantization("s4", names, ("mu-law", "linear"))
    learn_h0 = named.any(r"\.rnn\.h0$")  # no tier has one where the initial state is not learned; it is 0 then
    initial = []
    for tier, (layers, dim) in enumerate(deepsound.h0_shapes(structure)):
        learned = named.take(f"frame_level_rnns.{tier}.rnn.h0", (layers, 1, dim))[:, 0] if learn_h0 else None
        initial.append(torch.zeros(layers, dim) if learned is None else learned)
    placed = deepsound.place(named, structure, initial)
    named.finish()
    frame_input = "amplitude" if quantization == "mu-law-s4" else "code-half"
    return deepsound.config_of(source, structure, settings, quantization, frame_input, learn_h0), placed


def _facts(structure: deepsound.Structure) -> dict[str, Any]:
    """The sizes under the names of hydra's settings, which must not contradict them."""
    return {
        "model.frame_sizes": list(structure.ratios),
        "model.n_rnn": structure.n_rnn,
        "model.d_hidden": structure.dim,
        "model.d_model": structure.emb_size,
    }


def _read_beside(path: Path, settings: Settings) -> None:
    """Finds the settings of a .pt file: in the .ckpt that it was made from, or in hydra's files, beside it."""
    origin = path.with_suffix(".ckpt")
    if origin != path and os.path.isfile(origin) and (parameters := read_torch_file(origin)[1]):
        settings.add_beside(parameters, origin.name)
        return
    for name in _BESIDE:
        if os.path.lexists(path.parent / name):
            settings.add_beside(read_settings(path.parent / name), name)
            return
