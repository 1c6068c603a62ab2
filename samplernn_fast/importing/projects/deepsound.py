"""Reads deepsound-project/samplernn-pytorch: the state dict of its Predictor or of its SampleRNN.

state-spaces/s4 has the same layout, so `s4` uses this file: a linear map before every tier's GRU, torch's GRU, a
transposed convolution with a bias of its own as upsampling, and a sample-level MLP with a ReLU after the first sum and
one hidden layer.
Letters: H units, F frame size in samples, r ratio, Q levels, E embedding, n GRU layers.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from samplernn_fast.importing.formats.torch_file import read_torch_file
from samplernn_fast.importing.settings import Settings
from samplernn_fast.importing.tensors import NamedTensors, Placed, config_of_sizes
from samplernn_fast.models.config import SampleRNNConfig

MARKER = r"frame_level_rnns\.|sample_level_mlp\."
"""The pattern with which the names of this layout begin."""
_GRU = (("w_ih", "weight_ih"), ("w_hh", "weight_hh"), ("b_ih", "bias_ih"), ("b_hh", "bias_hh"))  # (our name, theirs)


@dataclass(frozen=True)
class Structure:
    """What the shapes of the tensors say."""

    ratios: tuple[int, ...]
    """How many vectors each tier's upsampling makes of one frame, lowest tier first."""
    dim: int
    n_rnn: int
    q_levels: int
    emb_size: int
    normed: bool
    """True where the weights have weight norm."""

    @property
    def frame_sizes(self) -> tuple[int, ...]:
        """Samples in a frame of each tier with an RNN: FS(2), FS(3), ... of our config."""
        sizes, size = [], 1
        for ratio in self.ratios:
            size *= ratio
            sizes.append(size)
        return tuple(sizes)

    def facts(self) -> dict[str, Any]:
        """The same in the projects' own names, where frame_sizes are ratios."""
        return {"frame_sizes": list(self.ratios), "n_rnn": self.n_rnn, "q_levels": self.q_levels}


def read(path: Path, settings: Settings) -> tuple[SampleRNNConfig, dict[str, Tensor]]:
    """Reads config and tensors from a checkpoint file. Raises CheckpointError and ConfigError."""
    tensors, _ = read_torch_file(path)
    return convert(tensors, settings, str(path))


def convert(
    tensors: Mapping[str, Tensor], settings: Settings, source: str
) -> tuple[SampleRNNConfig, dict[str, Tensor]]:
    """Makes config and tensors of a state dict. The project quantizes linearly, each file between its own peaks."""
    named = NamedTensors(tensors, source, MARKER)
    structure = structure_of(named)
    settings.agree(structure.facts() | {"dim": structure.dim}, source)
    quantization = settings.quantization("deepsound", ["q_type"], ("linear",))
    initial = [
        named.take(f"frame_level_rnns.{tier}.h0", h0_shape) for tier, h0_shape in enumerate(h0_shapes(structure))
    ]
    placed = place(named, structure, initial)
    named.finish()
    learn_h0 = any(bool(h0.any()) for h0 in initial)
    return config_of(source, structure, settings, quantization, "code-half", learn_h0), placed


def keeps_h0(names: Iterable[str]) -> bool:
    """Whether tensors of these names are of this project: each tier has an h0. s4 has it in the GRU, or has none."""
    return any(re.search(r"frame_level_rnns\.\d+\.h0$", name) for name in names)


def structure_of(named: NamedTensors) -> Structure:
    """Reads the sizes from a few shapes. `place` then demands that every other tensor agrees with them."""
    tiers = named.count(r"frame_level_rnns\.(\d+)\.")
    dim, _ = named.shape("frame_level_rnns.0.upsampling.bias", 2)
    q_levels, emb_size = named.shape("sample_level_mlp.embedding.weight", 2)
    return Structure(
        ratios=tuple(named.shape(f"frame_level_rnns.{tier}.upsampling.bias", 2)[1] for tier in range(tiers)),
        dim=dim,
        n_rnn=named.count(r"frame_level_rnns\.0\.rnn\.weight_\wh_l(\d+)$"),
        q_levels=q_levels,
        emb_size=emb_size,
        normed=named.any(r"weight_g$|\.original0$"),
    )


def h0_shapes(structure: Structure) -> list[tuple[int, int]]:
    """The shape (n, H) of h0 for every tier."""
    return [(structure.n_rnn, structure.dim)] * len(structure.ratios)


def config_of(
    source: str, structure: Structure, settings: Settings, quantization: str, frame_input: str, learn_h0: bool
) -> SampleRNNConfig:
    """The config of a model of this layout. Raises CheckpointError where the sizes cannot be a model's."""
    fields = dict(
        sample_rate=settings.sample_rate(),
        quantization=quantization,
        q_levels=structure.q_levels,
        frame_sizes=(structure.ratios[0], *structure.frame_sizes),
        dim=structure.dim,
        n_rnn=structure.n_rnn,
        emb_size=structure.emb_size,
        learn_h0=learn_h0,
        weight_norm="linear" if structure.normed else "none",
        upsample_norm_axis="input",
        top_input_linear=True,
        mlp_hidden=1,
        mlp_input_relu=True,
        frame_input=frame_input,
    )
    return config_of_sizes(source, fields)


def place(named: NamedTensors, structure: Structure, initial: list[Tensor]) -> dict[str, Tensor]:
    """All tensors under our names. initial: the h0 of every tier, (n, H)."""
    placed, dim = Placed(), structure.dim
    for tier, (frame_size, ratio, h0) in enumerate(zip(structure.frame_sizes, structure.ratios, initial, strict=True)):
        theirs, ours = f"frame_level_rnns.{tier}", f"tiers.{tier}"
        _convolution(named, placed, structure, f"{theirs}.input_expand", f"{ours}.expand", (dim, frame_size, 1))
        placed.put(f"{ours}.expand.bias", named.take(f"{theirs}.input_expand.bias", (dim,)))
        for layer in range(structure.n_rnn):
            for mine, name in _GRU:
                shape = (3 * dim, dim) if name.startswith("weight") else (3 * dim,)
                tensor = named.take(f"{theirs}.rnn.{name}_l{layer}", shape)
                placed.put(f"{ours}.rnn.layers.{layer}.{mine}", tensor)
        placed.put(f"{ours}.rnn.h0", h0)
        # (in, out, r) becomes rows j H + out. torch has one gain for each index of the first axis, which is the input.
        weight, gain = _weight(named, structure, f"{theirs}.upsampling.conv_t", (dim, dim, ratio))
        weight = weight.permute(2, 1, 0).flatten(0, 1)
        placed.put_matrix(f"{ours}.up", "weight", weight, None if gain is None else gain.reshape(1, dim))
        placed.put(f"{ours}.up.bias", named.take(f"{theirs}.upsampling.bias", (dim, ratio)).t().flatten())
    _place_mlp(named, placed, structure)
    return placed.tensors


def _place_mlp(named: NamedTensors, placed: Placed, structure: Structure) -> None:
    """Puts the sample-level MLP: embedding, sum over the last FS(1) samples, one hidden layer, output."""
    dim, levels, width = structure.dim, structure.q_levels, structure.emb_size
    name = "sample_level_mlp"
    placed.put("mlp.embedding.weight", named.take(f"{name}.embedding.weight", (levels, width)))
    _convolution(named, placed, structure, f"{name}.input", "mlp.input", (dim, width, structure.ratios[0]))
    _convolution(named, placed, structure, f"{name}.hidden", "mlp.hidden.0", (dim, dim, 1))
    placed.put("mlp.hidden.0.bias", named.take(f"{name}.hidden.bias", (dim,)))
    _convolution(named, placed, structure, f"{name}.output", "mlp.output", (levels, dim, 1))
    placed.put("mlp.output.bias", named.take(f"{name}.output.bias", (levels,)))


def _convolution(
    named: NamedTensors, placed: Placed, structure: Structure, theirs: str, ours: str, shape: tuple[int, int, int]
) -> None:
    """Puts a Conv1d weight (out, in, k) as a matrix (out, k in), whose columns begin with the oldest sample."""
    weight, gain = _weight(named, structure, theirs, shape)
    matrix = weight.transpose(1, 2).flatten(1)
    placed.put_matrix(ours, "weight", matrix, None if gain is None else gain.reshape(-1, 1))


def _weight(
    named: NamedTensors, structure: Structure, name: str, shape: tuple[int, int, int]
) -> tuple[Tensor, Tensor | None]:
    """A weight, and its gains where there is weight norm, under the names of an old or a new torch."""
    if not structure.normed:
        return named.take(f"{name}.weight", shape), None
    gain, direction = f"{name}.weight_g", f"{name}.weight_v"
    if f"{name}.parametrizations.weight.original0" in named:
        gain, direction = (f"{name}.parametrizations.weight.original{part}" for part in (0, 1))
    return named.take(direction, shape), named.take(gain, (shape[0], 1, 1)).reshape(-1)
