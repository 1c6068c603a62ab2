"""Sampling in plain torch, one sample at a time: what every backend must equal, and the one that runs anywhere.

`run_frame_network` and `run_sample_network` are one time step of the model; `known_levels` runs the same weights over
many known samples at once. Shapes use the letters of `layout`.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from samplernn_fast.errors import ConfigError
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layers.gru_scan import gru_scan
from samplernn_fast.models.layout import Hidden
from samplernn_fast.reference.cells import gru_cell_ref, lstm_cell_ref
from samplernn_fast.reference.draw import finite_logits, sample_ref
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.known_levels import TeacherForced
from samplernn_fast.reference.randomness import Drawing
from samplernn_fast.reference.weights import DeviceWeights, as_tensor, moved


class ReferenceBackend(TeacherForced):
    """The `reference` backend: any model, any device torch runs on, float32 or float64."""

    name = "reference"
    dtypes: tuple[str, ...] = ("float32", "float64")
    promised: tuple[str, ...] = ()
    packed = True
    compiled_here = False
    batch_invariant = False
    mixes = False
    hidden_on_device = True

    @staticmethod
    def unavailable_reasons(config: PackedConfig, device: str) -> list[str]:
        """Always empty, because this backend runs every model."""
        return []

    def __init__(self, weights: PackedWeights, device: str, dtype: str, num_threads: int | None = None) -> None:
        if num_threads is not None:
            raise ConfigError("num_threads is for the cpu backend; reference uses torch's (torch.set_num_threads)")
        self.config, self.device, self.dtype = weights.config, torch.device(device), dtype
        self.weights = DeviceWeights.of(weights, device, getattr(torch, dtype))

    def group_streams(self, streams: int) -> int:
        """All of them: a matrix product has all streams."""
        return streams

    @torch.inference_mode()
    def generate(self, hidden: Hidden, history: np.ndarray, t: int, drawing: Drawing, forced: np.ndarray) -> np.ndarray:
        """Sample n levels of every stream, one at a time; advances `hidden` in place.

        history (B, L): the last levels before time t; forced (B, n): -1 where the level is drawn. Returns (B, n).
        NotFinite, or a level of Q, where a logit is not finite.
        """
        lookback, steps = self.config.lookback, forced.shape[1]
        levels = as_tensor(np.concatenate((history, forced), axis=1), self.device)
        draws = as_tensor(drawing.randomness.draws(t, steps).astype(np.int64), self.device)
        temperature = as_tensor(drawing.temperature, self.device)
        known = forced >= 0
        with moved(hidden, self.device) as states, finite_logits(levels, self.config.q_levels):
            for step in range(steps):
                now = lookback + step
                self.run_frame_network(states, levels[:, :now], t + step)
                if known[:, step].all():
                    continue
                logits = self.run_sample_network(states, levels[:, :now], t + step)
                level = sample_ref(logits, draws[:, step], temperature[:, step], drawing.top_k, drawing.top_p)
                if known[:, step].any():
                    level = torch.where(levels[:, now] >= 0, levels[:, now], level)
                levels[:, now] = level
        return levels[:, lookback:].cpu().numpy()

    def run_frame_network(self, hidden: list[Tensor], levels: Tensor, t: int) -> None:
        """Eq. 4-5 at time t: every tier whose frame starts at t reads its last F of the levels (B, >= L), top first."""
        for tier in reversed(range(len(self.config.ratios))):
            size = self.config.frame_sizes[tier + 1]
            if t % size:
                continue
            gates = self.read_frames(tier, levels[:, -size:])
            if tier + 1 < len(self.config.ratios):
                gates = gates + self._upsample(hidden, tier + 1, t)
            self._run_layers(hidden, tier, gates)

    def run_sample_network(self, hidden: list[Tensor], levels: Tensor, t: int) -> Tensor:
        """Eq. 7-9 at time t, given the levels (B, >= L) before it: logits (B, Q)."""
        x, taps = self._upsample(hidden, 0, t), self.config.taps
        for tap in range(taps):
            x = x + embedding(levels[:, tap - taps], self.weights["mlp.tables"][tap])
        return self.mlp(x)

    def _upsample(self, hidden: list[Tensor], tier: int, t: int) -> Tensor:
        """Eq. 6: the conditioning (B, O) of the unit below that starts at time t."""
        step = self.config.frame_sizes[tier] if tier > 0 else 1
        j = t % self.config.frame_sizes[tier + 1] // step
        up, bias = self.weights[f"tier{tier}.up"], self.weights.upsample_bias(tier)
        return linear(self._tier_output(hidden, tier), up[j], bias[j])

    def _tier_output(self, hidden: list[Tensor], tier: int) -> Tensor:
        """The output (B, D) of a tier's newest frame: its last layer's, or with skips the sum over all layers."""
        h = hidden[tier][..., : self.config.dim]
        if self.config.skip == "none":
            return h[-1]
        return linear(
            h.transpose(0, 1).flatten(1),
            self.weights[f"tier{tier}.skip_out"],
            self.weights[f"tier{tier}.skip_bias"],
        )

    def _run_layers(self, hidden: list[Tensor], tier: int, read: Tensor) -> None:
        """One step of a tier's RNN layers; read (B, I G D) is what the tier's input adds to the gates."""
        weights, name, dim, bias = self.weights, f"tier{tier}.", self.config.dim, self.weights.gate_bias(tier)
        reads = read.split(bias.shape[1], dim=1)
        for layer in range(self.config.n_rnn):
            state = hidden[tier][layer]
            gates = bias[layer]
            if layer < len(reads):
                gates = gates + reads[layer]
            if layer > 0:
                gates = gates + linear(hidden[tier][layer - 1, :, :dim], weights[name + "stack"][layer - 1])
            recurrent = weights[name + "recurrent"][layer]
            if self.config.rnn == "lstm":
                state.copy_(lstm_cell_ref(gates, state, recurrent))
            else:
                b_n = weights[name + "bias_n"][layer] if self.config.reset_after else None
                state.copy_(gru_cell_ref(gates, state, recurrent, b_n))

    def linear(self, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        """The product of torch, as `TeacherForced.linear` asks for it."""
        return linear(x, w, bias)

    def scan(self, tier: int, layer: int, gates: Tensor, state: Tensor) -> Tensor:
        """The recurrence of one layer, frame by frame; see `TeacherForced.scan`."""
        name, dim = f"tier{tier}.", self.config.dim
        recurrent = self.weights[name + "recurrent"][layer]
        if self.config.rnn == "lstm":
            out = torch.empty(*gates.shape[:2], dim, dtype=gates.dtype, device=gates.device)
            for frame, gates_at_frame in enumerate(gates):
                state.copy_(lstm_cell_ref(gates_at_frame, state, recurrent))
                out[frame] = state[:, :dim]
            return out
        b_n = self.weights[name + "bias_n"][layer] if self.config.reset_after else gates.new_zeros(dim)
        out = gru_scan(gates.unsqueeze(2), state, recurrent, b_n, self.config.reset_after)
        state.copy_(out[-1])
        return out
