"""SampleRNN on its folded matrices, which are the parameters here, so that they can be pruned and trained further.

`reference.folding` has what is folded, and `models.layout` names the arrays, which are this network's parameters. All
of them are dense tensors. `models.sparse.pruning` makes blocks of them zero, and `models.stored.blocks` leaves those
out of a file.

Letters: B batch, N frames, L lookback, F frame size, D dim, G gates, H state width, I layers that read the tier's
input, R frames under one frame of the tier above.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, relu

from samplernn_fast.models.base import AudioModel, State
from samplernn_fast.models.config import SparseSampleRNNConfig
from samplernn_fast.models.layers.gru_scan import gru_scan
from samplernn_fast.models.layout import layout, packed_hidden
from samplernn_fast.models.sample_rnn import frame_values


class FoldedArrays(nn.Module):
    """The packed arrays of one part of the network, by their names in `layout`."""

    def __init__(self, config: SparseSampleRNNConfig, part: str) -> None:
        super().__init__()
        for one in layout(config):
            prefix, _, name = one.name.rpartition(".")
            if prefix != part:
                continue
            values = torch.zeros(one.shape)
            if name == "h0" and not config.learn_h0:
                self.register_buffer(name, values)
            else:
                self.register_parameter(name, nn.Parameter(values))

    def __getitem__(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, name))


class FoldedTier(FoldedArrays):
    """A frame-level module (section 2.1), which reads frames of F samples and what the tier above adds to its gates."""

    def __init__(self, config: SparseSampleRNNConfig, tier: int) -> None:
        super().__init__(config, f"tier{tier}")
        self.config, self.frame_size = config, config.frame_sizes[tier + 1]
        self.scan = gru_scan  # a compiled model takes another, as an `RNNLayer` does
        self.width = config.gates * config.dim

    def upsample(self, hidden: Tensor) -> Tensor:
        """Eq. 6 without its bias: hidden (B, N, D) -> what each unit below reads of it, (B, N r, O)."""
        up = self["up"]
        return linear(hidden, up.flatten(0, 1)).unflatten(2, (len(up), -1)).flatten(1, 2)

    def forward(self, frames: Tensor, above: Tensor | None, first: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, N, F) of real values and the upsampled tier above (B, N, I G D), from state (n, B, H) on ->
        outputs (B, N, D), new state (n, B, H). first: the place of the first frame under a frame above."""
        read = linear(frames, self["frame"])
        reads = (read if above is None else read + above).transpose(0, 1).split(self.width, dim=2)
        bias = self["input_bias"]
        out, outputs, new_state = torch.empty(0), [], []
        for layer in range(self.config.n_rnn):
            if layer < len(reads):
                gates = _by_place(bias[:, layer], first, frames.shape[1]).unsqueeze(1) + reads[layer]
            else:
                gates = bias[0, layer]
            if layer > 0:
                gates = gates + linear(out, self["stack"][layer - 1])
            gates = gates.expand(-1, state.shape[1], -1)
            out, last = self._scan(layer, gates, state[layer])
            outputs.append(out)
            new_state.append(last)
        return self._joined(outputs).transpose(0, 1), torch.stack(new_state)

    def output(self, state: Tensor) -> Tensor:
        """The output (B, D) of the newest frame, from the state (n, B, H) after it."""
        return self._joined(list(state[..., : self.config.dim]))

    def _joined(self, outputs: list[Tensor]) -> Tensor:
        """The tier's output: that of its last layer, or with skips the sum of maps of all layers' outputs."""
        if self.config.skip == "none":
            return outputs[-1]
        return linear(torch.cat(outputs, dim=-1), self["skip_out"], self["skip_bias"])

    def _scan(self, layer: int, gates: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The recurrence of a layer over gates (N, B, G D), from state (B, H) on -> (N, B, D), new state (B, H)."""
        config, recurrent = self.config, self["recurrent"][layer]
        if config.rnn == "lstm":
            return _lstm_scan(gates, state, recurrent)
        b_n = self["bias_n"][layer] if config.reset_after else recurrent.new_zeros(config.dim)
        out = self.scan(gates.unsqueeze(2), state, recurrent, b_n, config.reset_after)
        return out, out[-1]


def _by_place(bias: Tensor, first: int, count: int) -> Tensor:
    """The rows of a bias (R, ...) for `count` places in a frame above, from `first` on: (count, ...).

    They are repeated and not indexed, because the gradient of an index is summed in any order by several threads.
    """
    start = first % len(bias)
    times = -(-(start + count) // len(bias))
    return bias.repeat(times, *[1] * (bias.dim() - 1))[start : start + count]


def _lstm_scan(gates: Tensor, state: Tensor, recurrent: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence of an LSTM over gates (N, B, 4 D), from state [h | c] (B, 2 D) on -> (N, B, D), (B, 2 D)."""
    h, c = state.chunk(2, dim=1)
    out = []
    for at_frame in gates:
        i, f, g, o = torch.addmm(at_frame, h, recurrent.t()).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        out.append(h)
    return torch.stack(out), torch.cat((h, c), dim=1)


class SparseSampleRNN(AudioModel):
    """The folded network, which computes the same as the SampleRNN that it was folded from."""

    config: SparseSampleRNNConfig

    def __init__(self, config: SparseSampleRNNConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone. New
        weights are dense; `models.sparse.pruning` makes blocks zero."""
        super().__init__(config)
        tiers = [FoldedTier(config, tier) for tier in range(len(config.ratios))]
        for index, tier in enumerate(tiers):
            self.add_module(f"tier{index}", tier)
        self._tiers: Sequence[FoldedTier] = tuple(tiers)
        self.mlp = FoldedArrays(config, "mlp")
        self.values = torch.from_numpy(frame_values(config))
        self.draw_weights(seed)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Section 3's initial weights for the folded matrices: orthogonal recurrent ones, He elsewhere, and forget
        biases of 3."""
        dim, lstm = self.config.dim, self.config.rnn == "lstm"
        for name, parameter in self.named_parameters():
            field = name.split(".")[-1]
            if field == "recurrent":
                for gate in parameter.view(-1, dim, dim):
                    nn.init.orthogonal_(gate, generator=generator)
            elif parameter.dim() > 1 and field not in ("h0", "input_bias", "bias_n"):
                summed = len(parameter) if field == "tables" else parameter.shape[-1]
                parameter.normal_(0, math.sqrt(2 / summed), generator=generator)
            else:
                parameter.zero_()
            if lstm and field == "input_bias":
                parameter[..., dim : 2 * dim] = 3.0

    def init_state(self, batch_size: int) -> State:
        """The initial state of every tier, lowest first: (n_rnn, B, H) each."""
        return tuple(tier["h0"].unsqueeze(1).expand(-1, batch_size, -1) for tier in self._tiers)

    def forward(self, levels: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Teacher-forced logits of a whole subsequence, and the state after it: see `AudioModel`."""
        config, state = self.config, self.start(levels, state, reset)
        steps = levels.shape[1] - config.lookback
        values = self.values[levels].to(self.mlp["output"].dtype)
        hidden, new_state = None, list[Tensor]()
        for index in reversed(range(len(self._tiers))):
            tier = self._tiers[index]
            start = config.lookback - tier.frame_size
            frames = values[:, start : start + steps].unflatten(1, (-1, tier.frame_size))
            above = None if hidden is None else self._tiers[index + 1].upsample(hidden)
            hidden, last = tier(frames, above, 0, state[index])
            new_state.insert(0, last)
        assert hidden is not None
        return self._sample_level(self._tiers[0].upsample(hidden), levels[:, :-1], 0), tuple(new_state)

    def _sample_level(self, x: Tensor, recent: Tensor, first: int) -> Tensor:
        """Eq. 7-9 for what the samples read of the lowest tier (B, T, D), given the levels (B, >= taps - 1 + T) before
        the last of them -> logits (B, T, Q). first: the place of the first sample in its frame."""
        bias, tables, steps = self.mlp["input_bias"], self.mlp["tables"], x.shape[1]
        x = x + _by_place(bias, first, steps)
        start = recent.shape[1] - steps - len(tables) + 1
        for tap, table in enumerate(tables):
            x = embedding(recent[:, start + tap : start + tap + steps], table) + x
        x = relu(x)
        for layer in range(packed_hidden(self.config)):
            x = relu(linear(x, self.mlp[f"hidden{layer}"], self.mlp[f"hidden{layer}_bias"]))
        return linear(x, self.mlp["output"], self.mlp["output_bias"])

    def stepper(self, hidden: State, t: int) -> "FoldedStepper":
        """A stepper from this hidden state, at time t; see `AudioModel`."""
        return FoldedStepper(self, hidden, t)


class FoldedStepper:
    """Eq. 4-9 one sample at a time: a tier runs where one of its frames starts, and the MLP at every sample."""

    def __init__(self, model: SparseSampleRNN, hidden: State, t: int) -> None:
        self._model, self._hidden, self._t = model, list(hidden), t

    def step(self, levels: Tensor) -> Tensor:
        """Returns outputs (B, 1, O); see `Stepper`."""
        model, t, tiers = self._model, self._t, self._model._tiers
        values = model.values[levels].to(self._hidden[0].dtype)
        for index in reversed(range(len(tiers))):
            tier = tiers[index]
            if t % tier.frame_size:
                continue
            place, above = 0, None
            if index + 1 < len(tiers):
                place, above = self._read_above(index + 1, tier.frame_size)
            frames = values[:, None, -tier.frame_size :]
            _, self._hidden[index] = tier(frames, above, place, self._hidden[index])
        place, x = self._read_above(0, 1)
        self._t += 1
        return model._sample_level(x, levels, place)

    def _read_above(self, index: int, unit: int) -> tuple[int, Tensor]:
        """The place of the unit below that starts now under the newest frame of a tier, and what it reads of it,
        (B, 1, O). unit: its length in samples."""
        tier = self._model._tiers[index]
        place = self._t % tier.frame_size // unit
        up = tier["up"][place]
        return place, linear(tier.output(self._hidden[index]), up).unsqueeze(1)

    def hidden(self) -> State:
        """The state of every tier, lowest first; see `Stepper`."""
        return tuple(self._hidden)
