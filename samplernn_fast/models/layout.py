"""The layout of packed weights: which arrays every sampler reads, their names, shapes and order.

Letters: Q levels, D dim, G gates (3 GRU, 4 LSTM), F frame size, r ratio, n layers, I layers that read the tier's
input (n with "full" skips, else 1), O = I G D of the tier below, or D above the sample level; R frames of a tier under
one frame of the tier above it, 1 for the top tier; B streams, H numbers of a state (D, or 2 D for the LSTM's [h | c]).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from samplernn_fast.models.config import PackedConfig

if TYPE_CHECKING:
    from torch import Tensor

Hidden: TypeAlias = "list[np.ndarray] | list[Tensor]"
"""A hidden state outside a backend, (n, B, H) for each tier, lowest first: arrays, which calls change, or tensors on
the backend's device, which calls replace in the list."""

OUTPUT = "mlp.output"
"""The matrix of the output layer. It is small, and its errors go straight into the probabilities, so it keeps eight
bits in int4 and all of its weights in a sparse model."""
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
    dim, layers, gates, readers = config.dim, config.n_rnn, config.gates, config.readers
    width = dim if config.rnn == "gru" else 2 * dim
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
    fields.append(Field(OUTPUT, (config.q_levels, dim), "output layer"))
    fields.append(Field("mlp.output_bias", (config.q_levels,), "its bias"))
    return fields


def is_matrix(name: str) -> bool:
    """Whether a packed tensor is a matrix of products, which numeric modes round; all else stays float32."""
    return name.split(".")[-1].rstrip("0123456789") in _MATRICES


def packed_hidden(config: PackedConfig) -> int:
    """Hidden layers left after folding: the first vanishes where nothing non-linear stands before it."""
    return config.mlp_hidden if config.mlp_input_relu else config.mlp_hidden - 1
