"""The weights as every sampler reads them: folded once, in float64. Nothing else transposes, folds or reorders.

What is folded (all exact algebra): weight norm into the matrices; embedding x W_x x the first hidden layer (where no
ReLU stands between) into lookup tables; each tier's input map and its upsampling into the gates of the tier below;
biases that are always added together into one.
The one tier of an RNN over single samples reads its last level by a table of rows: the embedding through W_ih.
This is NumPy, so that sound can be made without torch. The letters are those of `layout`, and E embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from samplernn_fast.audio import quantize
from samplernn_fast.errors import ConfigError
from samplernn_fast.models.config import (
    FramedConfig,
    OneTierConfig,
    PackedConfig,
    SampleRNNConfig,
    SparseSampleRNNConfig,
    TieredConfig,
)
from samplernn_fast.models.layout import layout, packed_hidden
from samplernn_fast.models.stored.arrays import ModelArrays, check_finite
from samplernn_fast.models.stored.parameters import DIRECTION, GAIN

Linear = tuple[np.ndarray, np.ndarray]
"""A matrix (O, D) and a bias (O,)."""
_Biases = list[tuple[np.ndarray, np.ndarray]]
"""The gates' bias (n, G D) and the upsampling's bias (r, O) of every tier."""


@dataclass(frozen=True)
class PackedWeights:
    """Read-only and shareable between threads. `arrays` are float64 and follow `layout(config)`."""

    config: PackedConfig
    arrays: dict[str, np.ndarray]
    sums: dict[str, Linear] = field(default_factory=dict)
    """The two parts of each `input_bias` of a tier: the gates' own (1, n, G D), and the upsampling's (R, n, G D). Where
    they are not given, all of a bias counts as the upsampling's in layers that read it."""

    def __post_init__(self) -> None:
        if not self.sums:
            self.sums.update({f"tier{tier}.input_bias": self._split(tier) for tier in range(len(self.config.ratios))})

    def _split(self, tier: int) -> Linear:
        """Returns the parts of a tier's `input_bias` of which only the sum is known."""
        bias = self.arrays[f"tier{tier}.input_bias"]
        own = bias[:1].copy()
        if tier + 1 < len(self.config.ratios):
            own[:, : self.config.readers] = 0
        return own, bias - own

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def float32(self) -> dict[str, np.ndarray]:
        """The arrays, rounded once to float32.

        A sum of biases is taken of its rounded parts: the compiled backends have added them so from the first version
        on, and a seed's levels stand on it.
        """
        rounded = {name: np.ascontiguousarray(array, np.float32) for name, array in self.arrays.items()}
        for name, (own, added) in self.sums.items():
            rounded[name] = own.astype(np.float32) + added.astype(np.float32)
        return rounded


def fold(model: ModelArrays) -> PackedWeights:
    """Fold a model's weights. CheckpointError if one of them is not finite, ConfigError for a system that has no packed
    layout."""
    config = model.config
    if not config.packed or not isinstance(config, PackedConfig):
        raise ConfigError(
            f"only systems with packed weights can be timed or packed, and the model's system is {config.system};"
            " generate and evaluate take every system"
        )
    check_finite(model.arrays, said_behind="; this model cannot make audio")
    if isinstance(config, SparseSampleRNNConfig):
        return _folded_already(config, model.arrays)
    weights = _Weights(model.arrays)
    arrays, own = _one_tier(config, weights) if isinstance(config, OneTierConfig) else _tiers(config, weights)
    arrays["mlp.input_bias"] = own[0][1]
    sums = {f"tier{index}.input_bias": _input_bias(own, index) for index in range(len(own))}
    arrays |= {name: bias + added for name, (bias, added) in sums.items()}
    packed = {one.name: np.ascontiguousarray(arrays[one.name]) for one in layout(config)}
    for one in layout(config):
        assert packed[one.name].shape == one.shape, (one, packed[one.name].shape)
    return PackedWeights(config, packed, sums)


def _folded_already(config: SparseSampleRNNConfig, arrays: Mapping[str, np.ndarray]) -> PackedWeights:
    """The weights of a model whose parameters are its folded matrices."""
    values = quantize.for_config(config).frame_values(config.frame_input, config.frame_gain)
    every = {**arrays, "frame_values": values}
    packed = {one.name: np.array(every[one.name], np.float64) for one in layout(config)}
    for tier in range(len(config.ratios)):
        bias = packed[f"tier{tier}.input_bias"]
        bias[1:, config.readers :] = bias[:1, config.readers :]  # other layers read the first of them alone
    return PackedWeights(config, packed)


class _Weights:
    """A model's arrays in float64, of which each is a copy; a normalized matrix is multiplied out."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return np.array(self._arrays[name], np.float64)

    def has(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return name in self._arrays

    def matrix(self, module: str, name: str = "weight") -> np.ndarray:
        """A matrix of a module (Salimans & Kingma 2016: W = g V / |V|, |V| over what shares a gain)."""
        parts = f"{module}.parametrizations.{name}"
        if not self.has(f"{parts}.{GAIN}"):
            return self[f"{module}.{name}"]
        gains, direction = self[f"{parts}.{GAIN}"], self[f"{parts}.{DIRECTION}"]
        shared = tuple(axis for axis, size in enumerate(gains.shape) if size == 1)
        with np.errstate(
            divide="ignore", invalid="ignore"
        ):  # a direction of zeros; the sampler reports what is no number
            return direction * (gains / np.sqrt(np.square(direction).sum(axis=shared, keepdims=True)))

    def linear(self, module: str) -> Linear:
        """A linear map, whose bias is 0 where it has none."""
        weight = self.matrix(module)
        bias = self[f"{module}.bias"] if self.has(f"{module}.bias") else np.zeros(len(weight))
        return weight, bias


class _Stack:
    """The RNN layers of one tier."""

    def __init__(self, config: PackedConfig, weights: _Weights, name: str) -> None:
        self.config, self._weights, self._name = config, weights, name
        self._layers = [f"{name}.layers.{layer}" for layer in range(config.n_rnn)]
        self._inner = [weights[f"{one}.b_hh"] for one in self._layers if weights.has(f"{one}.b_hh")]
        self._w_ih = [weights.matrix(one, "w_ih") for one in self._layers]

    def input_matrices(self) -> list[np.ndarray]:
        """The matrices (G D, input) of every layer that reads the tier's own input."""
        first, config = self._w_ih[0], self.config
        if config.skip == "prism":  # the first layer reads its input twice
            first = first[:, : first.shape[1] // 2] + first[:, first.shape[1] // 2 :]
        if config.skip != "full":
            return [first]
        return [first] + [matrix[:, config.dim :] for matrix in self._w_ih[1:]]

    def gate_biases(self) -> list[np.ndarray]:
        """The biases (G D,) of each layer that are always added: a GRU that resets after the product adds the last
        third of b_hh inside the reset gate's product."""
        biases = [self._weights[f"{one}.b_ih"] for one in self._layers]
        for bias, inner in zip(biases, self._inner, strict=False):
            bias[: 2 * self.config.dim] += inner[: 2 * self.config.dim]
        return biases

    def packed(self) -> dict[str, np.ndarray]:
        """The cells of the tier and the skips between them, but for the biases of the gates."""
        dim, weights = self.config.dim, self._weights
        packed = {"recurrent": np.stack([weights.matrix(one, "w_hh") for one in self._layers])}
        packed["h0"] = weights[f"{self._name}.h0"]
        if self._inner:
            packed["bias_n"] = np.stack([inner[2 * dim :] for inner in self._inner])
        if len(self._layers) > 1:
            packed["stack"] = np.stack([matrix[:, :dim] for matrix in self._w_ih[1:]])
        if self.config.skip != "none":
            maps = [weights.matrix(f"{self._name}.skip_out.{layer}") for layer in range(len(self._layers))]
            packed["skip_out"] = np.concatenate(maps, axis=1)
            packed["skip_bias"] = weights[f"{self._name}.skip_out.0.bias"]
        return packed


def _tiers(config: TieredConfig, weights: _Weights) -> tuple[dict[str, np.ndarray], _Biases]:
    """All arrays of a model with tiers of frames, but for its input biases, and the parts of those."""
    assert isinstance(config, FramedConfig)  # every packed system with tiers reads frame values
    values = quantize.for_config(config).frame_values(config.frame_input, config.frame_gain)
    arrays = {"frame_values": values, "mlp.tables": _tables(config, weights, values)}
    hidden = [weights.linear(f"mlp.hidden.{layer}") for layer in range(config.mlp_hidden)]
    readers, own = list[Linear](), _Biases()  # readers: what reads a tier's conditioning
    if not config.mlp_input_relu:
        first = hidden.pop(0)
        arrays["mlp.tables"] = arrays["mlp.tables"] @ first[0].T
        readers = [first]
    for index in range(len(config.ratios)):
        stack = _Stack(config, weights, f"tiers.{index}.rnn")
        packed, bias, up_bias = _tier(config, weights, index, stack, readers)
        arrays |= {f"tier{index}.{name}": value for name, value in packed.items()}
        own.append((bias, up_bias))
        readers = [(matrix, np.zeros(len(matrix))) for matrix in stack.input_matrices()]
    return arrays | _mlp(config, hidden, weights.linear("mlp.output")), own


def _tables(config: TieredConfig, weights: _Weights, values: np.ndarray) -> np.ndarray:
    """What each level adds to the MLP's input at each tap: (taps, Q, D), oldest sample first. values: (Q,)."""
    if not config.taps:
        return np.zeros((0, config.q_levels, config.dim))
    w_x = weights.matrix("mlp.input")
    if not isinstance(config, SampleRNNConfig):  # the last samples are read as real values
        return values[:, None] * w_x.T[:, None, :]
    by_tap = w_x.reshape(config.dim, config.taps, -1).transpose(1, 2, 0)
    return weights["mlp.embedding.weight"] @ by_tap if config.emb_size else by_tap


def _tier(
    config: TieredConfig, weights: _Weights, index: int, stack: _Stack, below: list[Linear]
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """One RNN tier: its arrays, the bias of its gates (n, G D), and that of its upsampling (r, O).

    below: whatever reads the tier's conditioning, if anything does.
    """
    name, ratio, dim = f"tiers.{index}", config.ratios[index], config.dim
    matrices, biases = stack.input_matrices(), stack.gate_biases()
    if weights.has(f"{name}.expand.bias"):  # the frame's input map; the top tier may read the raw frame
        expand, expand_bias = weights.linear(f"{name}.expand")
        for layer, matrix in enumerate(matrices):
            biases[layer] = biases[layer] + matrix @ expand_bias
            matrices[layer] = matrix @ expand
    up, up_bias = weights.linear(f"{name}.up")
    up, up_bias = up.reshape(ratio, dim, dim), up_bias.reshape(ratio, dim)  # one map for each unit below (Eq. 6)
    if below:
        reader, reader_bias = (np.concatenate(parts) for parts in zip(*below, strict=True))
        up, up_bias = reader @ up, up_bias @ reader.T + reader_bias
    return {"frame": np.concatenate(matrices), "up": up} | stack.packed(), np.stack(biases), up_bias


def _one_tier(config: OneTierConfig, weights: _Weights) -> tuple[dict[str, np.ndarray], _Biases]:
    """What `_tiers` returns, for an RNN over single samples. Its first hidden layer takes the place of the
    upsampling."""
    stack = _Stack(config, weights, "rnn")
    (first, *hidden) = [weights.linear(f"hidden.{layer}") for layer in range(config.mlp_hidden)]
    packed = {"table": weights["embedding.weight"] @ np.concatenate(stack.input_matrices()).T, "up": first[0][None]}
    packed |= stack.packed()
    arrays = {f"tier0.{name}": value for name, value in packed.items()}
    own = [(np.stack(stack.gate_biases()), first[1][None])]
    return arrays | _mlp(config, hidden, weights.linear("output")), own


def _input_bias(own: _Biases, tier: int) -> Linear:
    """The gates' own bias (1, n, G D) of a tier, and what the upsampling of the tier above always adds (R, n, G D).

    Layers that do not read the tier's input get 0.
    """
    bias = own[tier][0]
    if tier + 1 == len(own):
        return bias[None], np.zeros((1, *bias.shape))
    up_bias = own[tier + 1][1]
    readers = up_bias.reshape(len(up_bias), -1, bias.shape[1])
    return bias[None], np.pad(readers, ((0, 0), (0, len(bias) - readers.shape[1]), (0, 0)))


def _mlp(config: PackedConfig, hidden: list[Linear], output: Linear) -> dict[str, np.ndarray]:
    """The hidden layers that are left after folding, and the output layer."""
    assert len(hidden) == packed_hidden(config)
    packed = {"mlp.output": output[0], "mlp.output_bias": output[1]}
    for index, (weight, bias) in enumerate(hidden):
        packed[f"mlp.hidden{index}"], packed[f"mlp.hidden{index}_bias"] = weight, bias
    return packed
