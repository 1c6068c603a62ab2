"""Reads rncm-prism/prism-samplernn: object-based checkpoints of TensorFlow 2, with the model's JSON config beside them.

A model has two tiers with an RNN, linear maps before them, Keras's GRU (gates z, r, h; the reset gate is after the
product) or LSTM (gates i, f, c, o), an upsampling without bias, and a sample-level MLP without a ReLU after the first
sum. Only the first layer gets the skip connection, and so it reads its input twice. The embedding is Q wide, whatever
emb_size says.
Letters: H units, F frame size, r ratio, Q levels, n layers, G gates.
"""

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samplernn_fast.errors import CheckpointError
from samplernn_fast.importing.formats.tf_bundle import index_file, read_bundle
from samplernn_fast.importing.settings import Settings, read_settings
from samplernn_fast.importing.tensors import NamedTensors, Placed, config_of_sizes
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.untrusted import SETTINGS_BYTES, Unreadable, read_bytes

TIERS = ("frame_rnn", "big_frame_rnn")
"""The project's names of the tiers, lowest first."""
MU_LAW_LEVELS = 256
"""How many levels the project's mu-law has."""
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # the names of a checkpoint's values end with it
_OF_TRAINING = re.compile(
    r"OPTIMIZER_SLOT|_CHECKPOINTABLE_OBJECT_GRAPH|save_counter|(^|/)(optimizer|keras_api|metrics)"
)


def read(path: Path, settings: Settings) -> tuple[SampleRNNConfig, dict[str, Tensor]]:
    """Reads config and tensors from a prefix, one of its files, or a folder. Raises CheckpointError and ConfigError."""
    prefix = find_prefix(path)
    _read_beside(prefix.parent, settings)
    arrays = read_bundle(prefix, lambda name: name.endswith(_SUFFIX) and not _OF_TRAINING.search(name))
    tensors = {name.removesuffix(_SUFFIX): torch.from_numpy(array) for name, array in arrays.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}  # drops counters
    named = NamedTensors(tensors, str(prefix), "big_frame_rnn/|frame_rnn/|sample_mlp/")
    config = _config(named, settings)
    placed = Placed()
    for tier in range(len(TIERS)):
        _place_tier(named, placed, config, tier)
    _place_mlp(named, placed, config)
    named.finish()
    return config, placed.tensors


def find_prefix(path: Path) -> Path:
    """The prefix that a path stands for: a prefix, an .index or .data file, a folder, or its `checkpoint` file."""
    is_folder = os.path.isdir(path)  # unlike Path's, it answers for a name that is too long, too
    if is_folder or path.name == "checkpoint":
        return _newest(path if is_folder else path.parent)
    return index_file(path).with_suffix("")


def _newest(folder: Path) -> Path:
    """The prefix that TensorFlow's `checkpoint` file names, or that of the only checkpoint in the folder."""
    pointer = folder / "checkpoint"
    if os.path.lexists(pointer):
        try:
            text = read_bytes(pointer, SETTINGS_BYTES).decode(errors="replace")
        except Unreadable as error:
            raise CheckpointError(f"{pointer}: cannot be read ({error})") from None
        found = re.search(r'^model_checkpoint_path: "(.+)"', text, re.MULTILINE)
        name = re.split(r"[/\\]", found[1])[-1] if found else ""  # it can be an absolute path of another machine
        if found and os.path.isfile(folder / f"{name}.index"):
            return folder / name
    indices = sorted(folder.glob("*.index"))
    if len(indices) != 1:
        names = ", ".join(index.stem for index in indices[:3]) or "none"
        raise CheckpointError(f"{folder}: must hold one TensorFlow checkpoint, found {names}; name the one you mean")
    return indices[0].with_suffix("")


def _read_beside(folder: Path, settings: Settings) -> None:
    """Finds the config, config.json or NAME.config.json, which is the file that has a q_type."""
    for file in [folder / "config.json", *sorted(folder.glob("*.config.json"))]:
        if os.path.lexists(file) and "q_type" in (values := read_settings(file)):
            settings.add_beside(values, file.name)
            return


def _config(named: NamedTensors, settings: Settings) -> SampleRNNConfig:
    """The config, whose sizes are read from the tensors' shapes. Settings must not contradict them."""
    low, dim = named.shape("frame_rnn/inputs/kernel", 2)
    top, _ = named.shape("big_frame_rnn/inputs/kernel", 2)
    (q_levels,) = named.shape("sample_mlp/outputs/bias", 1)
    lstm = named.dimensions("frame_rnn/rnn/layer_0/cell/bias") == 1  # a GRU's is (2, 3 H)
    skips = named.any(r"_skip_out/")
    layers = named.count(r"frame_rnn/rnn/layer_(\d+)/")
    if top % low:
        raise CheckpointError(f"{named.source}: the frame sizes {low} and {top} do not divide")
    facts = {
        "frame_sizes": [low, top],
        "dim": dim,
        "rnn_type": "lstm" if lstm else "gru",
        "num_rnn_layers": layers,
        "skip_conn": skips,
    }
    kinds = ("mu-law", "linear") if q_levels == MU_LAW_LEVELS else ("linear",)
    quantization = settings.quantization("prism", ["q_type"], kinds)
    if quantization == "linear-prism":  # with mu-law the project has 256 levels, whatever q_levels says
        facts["q_levels"] = q_levels
    settings.agree(facts, named.source)
    fields = dict(
        sample_rate=settings.sample_rate(),
        quantization=quantization,
        q_levels=q_levels,
        frame_sizes=(low, low, top),
        dim=dim,
        n_rnn=layers,
        rnn="lstm" if lstm else "gru",
        emb_size=q_levels,
        learn_h0=False,
        weight_norm="none",
        upsample_bias=False,
        top_input_linear=True,
        skip="prism" if skips else "none",
        frame_input="code-half",
    )
    return config_of_sizes(named.source, fields)


def _place_tier(named: NamedTensors, placed: Placed, config: SampleRNNConfig, tier: int) -> None:
    """Puts a tier: linear map, cells with their skips, an initial state of 0, upsampling."""
    dim, theirs, ours = config.dim, TIERS[tier], f"tiers.{tier}"
    placed.put(f"{ours}.expand.weight", named.take(f"{theirs}/inputs/kernel", (config.frame_sizes[tier + 1], dim)).t())
    placed.put(f"{ours}.expand.bias", named.take(f"{theirs}/inputs/bias", (dim,)))
    for layer in range(config.n_rnn):
        name = f"{theirs}/rnn/layer_{layer}"
        inputs = 2 * dim if config.skip == "prism" and layer == 0 else dim
        _place_cell(named, placed, config, f"{name}/cell", f"{ours}.rnn.layers.{layer}", inputs)
        if config.skip == "prism":
            placed.put(f"{ours}.rnn.skip_out.{layer}.weight", named.take(f"{name}_skip_out/kernel", (dim, dim)).t())
    if config.skip == "prism":
        placed.put(f"{ours}.rnn.skip_out.0.bias", named.take(f"{theirs}/rnn/layer_0_skip_out/bias", (dim,)))
    width = 2 * dim if config.rnn == "lstm" else dim
    placed.put(f"{ours}.rnn.h0", torch.zeros(config.n_rnn, width))
    ratio = config.ratios[tier]
    placed.put(f"{ours}.up.weight", named.take(f"{theirs}/upsample", (ratio, dim, dim)).flatten(0, 1))


def _place_cell(
    named: NamedTensors, placed: Placed, config: SampleRNNConfig, theirs: str, ours: str, inputs: int
) -> None:
    """Puts a cell. Keras has (inputs, G H), and z before r; the gates of its LSTM are in our order."""
    lstm = config.rnn == "lstm"
    width = (4 if lstm else 3) * config.dim

    def gates(parts: Tensor) -> Tensor:
        if lstm:
            return parts
        z, r, h = parts.chunk(3)
        return torch.cat((r, z, h))

    placed.put(f"{ours}.w_ih", gates(named.take(f"{theirs}/kernel", (inputs, width)).t()))
    placed.put(f"{ours}.w_hh", gates(named.take(f"{theirs}/recurrent_kernel", (config.dim, width)).t()))
    if lstm:
        placed.put(f"{ours}.b_ih", named.take(f"{theirs}/bias", (width,)))
        return
    outer, inner = named.take(f"{theirs}/bias", (2, width))
    placed.put(f"{ours}.b_ih", gates(outer))
    placed.put(f"{ours}.b_hh", gates(inner))


def _place_mlp(named: NamedTensors, placed: Placed, config: SampleRNNConfig) -> None:
    """Puts the sample-level MLP. Keras has matrices (inputs, outputs)."""
    dim, levels, taps = config.dim, config.q_levels, config.frame_sizes[0]
    placed.put("mlp.embedding.weight", named.take("sample_mlp/embedding/embeddings", (levels, levels)))
    kernel = named.take("sample_mlp/inputs/kernel", (taps, levels, dim))
    placed.put("mlp.input.weight", kernel.flatten(0, 1).t())
    layers: list[tuple[str, str, Any]] = [
        ("hidden1", "mlp.hidden.0", dim),
        ("hidden2", "mlp.hidden.1", dim),
        ("outputs", "mlp.output", levels),
    ]
    for theirs, ours, outputs in layers:
        placed.put(f"{ours}.weight", named.take(f"sample_mlp/{theirs}/kernel", (dim, outputs)).t())
        placed.put(f"{ours}.bias", named.take(f"sample_mlp/{theirs}/bias", (outputs,)))
