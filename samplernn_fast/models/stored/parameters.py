"""Which arrays a model with packed weights has: names and shapes, as its torch module and its checkpoint have them.

Letters: D dim, Q levels, E embedding, F frame size, r ratio, G gates (3 GRU, 4 LSTM).
"""

from samplernn_fast.models.config import (
    OneTierConfig,
    PackedConfig,
    SampleRNNConfig,
    SparseSampleRNNConfig,
    TieredConfig,
)
from samplernn_fast.models.layout import layout
from samplernn_fast.models.other_configs import RealInputConfig

Shapes = dict[str, tuple[int, ...]]
DIRECTION, GAIN = "original1", "original0"
"""The names of a normalized matrix's two parts, W = gain * direction / |direction|, under `parametrizations`."""


def parameters(config: PackedConfig) -> Shapes:
    """Every array of a model: its name and its shape."""
    if isinstance(config, SparseSampleRNNConfig):  # frame values follow from the config
        return {one.name: one.shape for one in layout(config) if one.name != "frame_values"}
    return _one_tier(config) if isinstance(config, OneTierConfig) else _tiers(config)


def _tiers(config: TieredConfig) -> Shapes:
    dim, found = config.dim, Shapes()
    axis = 1 if config.upsample_norm_axis == "input" else 0
    for index, ratio in enumerate(config.ratios):
        name, size = f"tiers.{index}", config.frame_sizes[index + 1]
        raw = index == len(config.ratios) - 1 and not config.top_input_linear
        if not raw:
            found |= _linear(config, f"{name}.expand", dim, size)
        found |= _rnn(config, f"{name}.rnn", size if raw else dim)
        found |= _linear(config, f"{name}.up", ratio * dim, dim, bias=config.upsample_bias, axis=axis)
    return found | _sample_level(config)


def _sample_level(config: TieredConfig) -> Shapes:
    """The MLP of Eq. 9 and what it reads samples with: an embedding and W_x, or W_x alone, or nothing."""
    found, width = Shapes(), 0
    if isinstance(config, SampleRNNConfig):
        width = config.emb_size or config.q_levels
        if config.emb_size:
            found["mlp.embedding.weight"] = (config.q_levels, config.emb_size)
    elif isinstance(config, RealInputConfig):
        width = 1
    if width:
        found |= _linear(config, "mlp.input", config.dim, config.taps * width, bias=False)
    for layer in range(config.mlp_hidden):
        found |= _linear(config, f"mlp.hidden.{layer}", config.dim, config.dim)
    return found | _linear(config, "mlp.output", config.q_levels, config.dim)


def _one_tier(config: OneTierConfig) -> Shapes:
    found: Shapes = {"embedding.weight": (config.q_levels, config.emb_size)}
    found |= _rnn(config, "rnn", config.emb_size)
    for layer in range(config.mlp_hidden):
        found |= _linear(config, f"hidden.{layer}", config.dim, config.dim)
    return found | _linear(config, "output", config.q_levels, config.dim)


def _rnn(config: PackedConfig, name: str, inputs: int) -> Shapes:
    """A stack of RNN layers that reads so many inputs, and the skips between its layers."""
    dim, gates = config.dim, config.gates
    found: Shapes = {f"{name}.h0": (config.n_rnn, dim if config.rnn == "gru" else 2 * dim)}
    first = 2 * inputs if config.skip == "prism" else inputs
    later = dim + inputs if config.skip == "full" else dim
    for layer in range(config.n_rnn):
        one = f"{name}.layers.{layer}"
        normalized = config.weight_norm == "all"
        found |= _matrix(one, "w_ih", gates * dim, later if layer else first, normalized)
        found |= _matrix(one, "w_hh", gates * dim, dim, normalized)
        found[f"{one}.b_ih"] = (gates * dim,)
        if config.rnn == "gru" and config.reset_after:
            found[f"{one}.b_hh"] = (gates * dim,)
        if config.skip != "none":
            found |= _linear(config, f"{name}.skip_out.{layer}", dim, dim, bias=layer == 0)
    return found


def _linear(config: PackedConfig, name: str, outputs: int, inputs: int, *, bias: bool = True, axis: int = 0) -> Shapes:
    """A linear map; axis: along which its weight has one gain per unit."""
    found = _matrix(name, "weight", outputs, inputs, config.weight_norm != "none", axis)
    return found | {f"{name}.bias": (outputs,)} if bias else found


def _matrix(module: str, name: str, rows: int, columns: int, normalized: bool, axis: int = 0) -> Shapes:
    if not normalized:
        return {f"{module}.{name}": (rows, columns)}
    parts, gains = f"{module}.parametrizations.{name}", (1, columns) if axis else (rows, 1)
    return {f"{parts}.{GAIN}": gains, f"{parts}.{DIRECTION}": (rows, columns)}
