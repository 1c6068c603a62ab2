"""The weights as every sampler reads them: folded once, in float64. Nothing else transposes, folds or reorders.

What is folded (all exact algebra): weight norm into the matrices; embedding x W_x x the first hidden layer (where no
ReLU stands between) into lookup tables; each tier's input map and its upsampling into the gates of the tier below;
biases that are always added together into one.
The one tier of an RNN over single samples reads its last level by a table of rows: the embedding through W_ih.
Letters: Q levels, D dim, G gates (3 GRU, 4 LSTM), F frame size, r ratio, n layers, I layers that read the tier's
input (n with "full" skips, else 1), O = I G D of the tier below, or D above the sample level; R frames of a tier under
one frame of the tier above it, 1 for the top tier.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from samplernn_fast.errors import CheckpointError
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layers.cells import RNNStack
from samplernn_fast.models.one_tier import OneTierRNN
from samplernn_fast.models.registry import PackedModel
from samplernn_fast.models.sample_rnn import Tier, TieredModel

_MATRICES = ("recurrent", "stack", "skip_out", "up", "hidden", "output")


@dataclass(frozen=True)
class Field:
    """One row of the layout table."""

    name: str
    shape: tuple[int, ...]
    made_from: str


def layout(config: PackedConfig) -> list[Field]:
    """The layout table of one model: every packed tensor, in order. Tier 0 is the lowest RNN tier.

    A tier that reads levels has a table in place of `frame`, and then there are no frame values, because nothing reads
    them. A sample level that reads no samples has no tables. `csrc/model/layout.h` has the same table.
    """
    dim, layers = config.dim, config.n_rnn
    gates = 3 if config.rnn == "gru" else 4
    width = dim if config.rnn == "gru" else 2 * dim
    readers = layers if config.skip == "full" else 1
    fields = []
    if not config.reads_levels:
        fields.append(Field("frame_values", (config.q_levels,), "real value of each level for the frame tiers"))
    for tier, ratio in enumerate(config.ratios):
        name, below = f"tier{tier}.", dim if tier == 0 else readers * gates * dim
        frames, read = (*config.ratios, 1)[tier + 1], readers * gates * dim
        if config.reads_levels:
            fields.append(Field(name + "table", (config.q_levels, read), "embedding of each level through W_ih"))
        else:
            fields.append(Field(name + "frame", (read, config.frame_sizes[tier + 1]), "W_ih W_x"))
        fields += [
            Field(name + "input_bias", (frames, layers, gates * dim), "b_ih + b_hh of r and z + W_ih (b_x + b_up)"),
            Field(name + "recurrent", (layers, gates * dim, dim), "W_hh"),
            Field(name + "h0", (layers, width), "learned initial state"),
        ]
        if config.rnn == "gru" and config.reset_after:
            fields.append(Field(name + "bias_n", (layers, dim), "b_hh of n, inside the reset gate's product"))
        if layers > 1:
            fields.append(Field(name + "stack", (layers - 1, gates * dim, dim), "W_ih of layers that read another"))
        if config.skip != "none":
            fields.append(Field(name + "skip_out", (dim, layers * dim), "maps of all layers' outputs, side by side"))
            fields.append(Field(name + "skip_bias", (dim,), "bias of the first of them"))
        fields.append(Field(name + "up", (ratio, below, dim), "W_j of Eq. 6 through what reads it below"))
    what = "bias of Eq. 6 through the first layer, and its own"
    fields.append(Field("mlp.input_bias", (config.ratios[0], dim), what))
    if config.taps:
        what = "first layers of every embedding"
        fields.append(Field("mlp.tables", (config.taps, config.q_levels, dim), what))
    for layer in range(packed_hidden(config)):
        fields.append(Field(f"mlp.hidden{layer}", (dim, dim), "hidden layer"))
        fields.append(Field(f"mlp.hidden{layer}_bias", (dim,), "its bias"))
    fields.append(Field("mlp.output", (config.q_levels, dim), "output layer"))
    fields.append(Field("mlp.output_bias", (config.q_levels,), "its bias"))
    return fields


def is_matrix(name: str) -> bool:
    """Whether a packed tensor is a matrix of products, which numeric modes round; all else stays float32."""
    return name.split(".")[-1].rstrip("0123456789") in _MATRICES


def packed_hidden(config: PackedConfig) -> int:
    """Hidden layers left after folding: the first vanishes where nothing non-linear stands before it."""
    return config.mlp_hidden if config.mlp_input_relu else config.mlp_hidden - 1


@dataclass(frozen=True)
class PackedWeights:
    """Read-only and shareable between threads. `tensors` follow `layout(config)`."""

    config: PackedConfig
    tensors: dict[str, Tensor]
    sums: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """The two parts of each `input_bias` of a tier: the gates' own (1, n, G D), and the upsampling's (R, n, G D)."""

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "PackedWeights":
        """The same weights, rounded once to another dtype.

        A sum of biases is taken of its rounded parts, in that dtype: the compiled backends have added them so from the
        first version on, and a seed's levels stand on it.
        """
        tensors = {name: tensor.to(device, dtype).contiguous() for name, tensor in self.tensors.items()}
        sums = {name: (own.to(device, dtype), added.to(device, dtype)) for name, (own, added) in self.sums.items()}
        tensors |= {name: own + added for name, (own, added) in sums.items()}
        return PackedWeights(self.config, tensors, sums)

    def gate_bias(self, tier: int) -> Tensor:
        """(n, G D): the bias of a tier's gates without what the tier above adds."""
        return self._parts(tier)[0][0]

    def upsample_bias(self, tier: int) -> Tensor:
        """(r, O): the bias with which a tier is upsampled (Eq. 6), through what reads it below."""
        if tier == 0:
            return self.tensors["mlp.input_bias"]
        return self._parts(tier - 1)[1][:, : self._readers].flatten(1)

    @property
    def _readers(self) -> int:
        return self.config.n_rnn if self.config.skip == "full" else 1

    def _parts(self, tier: int) -> tuple[Tensor, Tensor]:
        """The two parts of a tier's `input_bias`. Weights that were put together by hand have the sum alone: there all
        of it counts as the tier above's, where that one has a share."""
        name = f"tier{tier}.input_bias"
        if name in self.sums:
            return self.sums[name]
        own = self.tensors[name][:1].clone()
        if tier + 1 < len(self.config.ratios):
            own[:, : self._readers] = 0
        return own, self.tensors[name] - own


def check_finite(model: nn.Module) -> None:
    """Raises CheckpointError where a weight is not finite: such a model cannot make audio."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"{name} holds a value that is not finite; this model cannot make audio")


@torch.no_grad()
def pack(model: PackedModel) -> PackedWeights:
    """Fold a model's weights, in float64. CheckpointError if one of them is not finite."""
    config = model.config
    check_finite(model)
    model = copy.deepcopy(model).cpu().double()
    tensors, own = _pack_one_tier(model) if isinstance(model, OneTierRNN) else _pack_tiers(model)
    tensors["mlp.input_bias"] = own[0][1]
    sums = {f"tier{index}.input_bias": _input_bias(own, index) for index in range(len(own))}
    tensors |= {name: bias + added for name, (bias, added) in sums.items()}
    packed = {one.name: tensors[one.name].detach().contiguous() for one in layout(config)}
    for one in layout(config):
        assert tuple(packed[one.name].shape) == one.shape, (one, packed[one.name].shape)
    return PackedWeights(config, packed, sums)


_Biases = list[tuple[Tensor, Tensor]]
"""The gates' bias (n, G D) and the upsampling's bias (r, O) of every tier."""


def _pack_tiers(model: TieredModel) -> tuple[dict[str, Tensor], _Biases]:
    """All tensors of a model with tiers of frames, but for its input biases, and the parts of those."""
    config = model.config
    tensors: dict[str, Tensor] = {"frame_values": model.values, "mlp.tables": model.mlp.tables(model.values)}
    readers: list[tuple[Tensor, Tensor]] = []  # matrices and biases of what reads a tier's conditioning
    hidden, own = list(model.mlp.hidden), []
    if not config.mlp_input_relu:
        first = hidden.pop(0)
        tensors["mlp.tables"] = tensors["mlp.tables"] @ first.weight.t()
        readers = [(first.weight, first.bias)]
    for index, tier in enumerate(model.tiers):
        packed, bias, up_bias = _pack_tier(config, tier, readers)
        tensors |= {f"tier{index}.{name}": value for name, value in packed.items()}
        own.append((bias, up_bias))
        readers = [(matrix, matrix.new_zeros(matrix.shape[0])) for matrix in _input_matrices(config, tier.rnn)]
    return tensors | _pack_mlp(hidden, model.mlp.output), own


def _pack_one_tier(model: OneTierRNN) -> tuple[dict[str, Tensor], _Biases]:
    """What `_pack_tiers` returns, for an RNN over single samples. Its first hidden layer takes the place of the
    upsampling."""
    (first, *hidden), layers = model.hidden, model.rnn.layers
    matrix = torch.cat(_input_matrices(model.config, model.rnn))
    packed = {"table": model.embedding.weight @ matrix.t(), "up": first.weight.unsqueeze(0)}
    packed |= _pack_cells(model.config, model.rnn)
    tensors = {f"tier0.{name}": value for name, value in packed.items()}
    bias = torch.stack([layer.gate_bias() for layer in layers])
    return tensors | _pack_mlp(hidden, model.output), [(bias, first.bias.unsqueeze(0))]


def _input_bias(own: _Biases, tier: int) -> tuple[Tensor, Tensor]:
    """The gates' own bias (1, n, G D) of a tier, and what the upsampling of the tier above always adds (R, n, G D).

    Layers that do not read the tier's input get 0.
    """
    bias = own[tier][0].detach()
    if tier + 1 == len(own):
        return bias.unsqueeze(0), bias.new_zeros(1, *bias.shape)
    up_bias = own[tier + 1][1].detach().unflatten(1, (-1, bias.shape[1]))
    return bias.unsqueeze(0), torch.nn.functional.pad(up_bias, (0, 0, 0, bias.shape[0] - up_bias.shape[1]))


def _input_matrices(config: PackedConfig, rnn: RNNStack) -> list[Tensor]:
    """The matrices (G D, input) of every layer that reads the tier's own input."""
    layers = rnn.layers
    first = layers[0].w_ih
    if config.skip == "prism":  # the first layer reads its input twice
        first = first[:, : first.shape[1] // 2] + first[:, first.shape[1] // 2 :]
    if config.skip != "full":
        return [first]
    return [first] + [layer.w_ih[:, config.dim :] for layer in layers[1:]]


def _pack_tier(
    config: PackedConfig, tier: Tier, below: list[tuple[Tensor, Tensor]]
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """One RNN tier: its tensors, the bias of its gates (n, G D), and that of its upsampling (r, O).

    below: (matrix, bias) of whatever reads the tier's conditioning, if anything does.
    """
    matrices, frame = _input_matrices(config, tier.rnn), []
    bias = [layer.gate_bias() for layer in tier.rnn.layers]
    for layer, matrix in enumerate(matrices):
        through, bias[layer] = tier.expand_through(matrix, bias[layer])
        frame.append(through)
    packed = {"frame": torch.cat(frame)} | _pack_cells(config, tier.rnn)
    if below:
        reader, reader_bias = (torch.cat(parts) for parts in zip(*below, strict=True))
        packed["up"], up_bias = tier.up_through(reader, reader_bias)
    else:
        packed["up"], own_bias = tier.up_maps()
        up_bias = packed["up"].new_zeros(tier.ratio, config.dim) if own_bias is None else own_bias
    return packed, torch.stack(bias), up_bias


def _pack_cells(config: PackedConfig, rnn: RNNStack) -> dict[str, Tensor]:
    """The cells of a tier and the skips between them, but for the biases of the gates."""
    dim, layers = config.dim, rnn.layers
    packed = {"recurrent": torch.stack([layer.w_hh for layer in layers]), "h0": rnn.h0}
    inner = [layer.b_hh for layer in layers if layer.b_hh is not None]  # A GRU that resets after the product has these.
    if inner:
        packed["bias_n"] = torch.stack([b_hh[2 * dim :] for b_hh in inner])
    if len(layers) > 1:
        packed["stack"] = torch.stack([layer.w_ih[:, :dim] for layer in layers[1:]])
    if config.skip != "none":
        packed["skip_out"] = torch.cat([linear.weight for linear in rnn.skip_out], dim=1)
        packed["skip_bias"] = rnn.skip_out[0].bias
    return packed


def _pack_mlp(hidden: Sequence[nn.Linear], output: nn.Linear) -> dict[str, Tensor]:
    """The hidden layers that are left after folding, and the output layer."""
    packed = {"mlp.output": output.weight, "mlp.output_bias": output.bias}
    for index, layer in enumerate(hidden):
        packed[f"mlp.hidden{index}"], packed[f"mlp.hidden{index}_bias"] = layer.weight, layer.bias
    return packed
