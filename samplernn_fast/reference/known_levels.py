"""Known levels, many at a time: priming and scoring take all frames of a tier at once, then those of the tier below.

The `reference` and `triton` backends share this; each brings its own matrix products and its own recurrence.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding, log_softmax, relu

from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layout import Hidden, packed_hidden
from samplernn_fast.reference.weights import DeviceWeights, as_tensor, moved

_PRIME_FLOATS = 1 << 22  # the largest number of floats (streams x frames x units) that are computed at once


class TeacherForced(ABC):
    """The part of a backend that reads known levels. Letters as in `layout`, and N frames.

    Calls take and return NumPy arrays, as every backend's do; inside they are tensors on the backend's device.
    """

    config: PackedConfig
    weights: DeviceWeights
    device: torch.device

    @abstractmethod
    def linear(self, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        """x (..., K) times w (O, K), plus bias (O,), in the backend's numeric mode."""

    @abstractmethod
    def scan(self, tier: int, layer: int, gates: Tensor, state: Tensor) -> Tensor:
        """One layer over gates (N, B, G D), which hold all but its recurrent product: outputs (N, B, D); advances state
        (B, H) in place."""

    def init_hidden(self, streams: int, context: np.ndarray | None = None) -> Hidden:
        """The initial hidden state of every tier, lowest first: (n, B, H) each."""
        initial = [self.weights[f"tier{tier}.h0"].cpu().numpy() for tier in range(len(self.config.ratios))]
        return [np.repeat(h0[:, None], streams, axis=1) for h0 in initial]

    def prime(self, hidden: Hidden, history: np.ndarray, levels: np.ndarray) -> None:
        """Advance `hidden` over known levels (B, n), n a multiple of L, starting where a top frame starts."""
        lookback, both = self.config.lookback, as_tensor(np.concatenate((history, levels), axis=1), self.device)
        row = len(levels) * self.config.dim * (lookback // self.config.frame_sizes[1])
        step = lookback * max(1, _PRIME_FLOATS // row)
        with moved(hidden, self.device) as states:
            for start in range(0, levels.shape[1], step):
                self.frame_scan(states, both[:, start : start + lookback + step])

    def score(self, hidden: Hidden, levels: np.ndarray) -> np.ndarray:
        """Teacher-forced log-probabilities, natural log: levels (B, L + T), T a multiple of L -> (B, T, Q).

        Starts where a top frame starts, and advances `hidden`.
        """
        with moved(hidden, self.device) as states:
            return self.log_probabilities(states, as_tensor(levels, self.device)).cpu().numpy()

    @torch.inference_mode()
    def log_probabilities(self, hidden: list[Tensor], levels: Tensor) -> Tensor:
        """What `score` returns, of tensors on the device."""
        lookback = self.config.lookback
        steps = levels.shape[1] - lookback
        out = self.frame_scan(hidden, levels)
        x = self.linear(out, self.weights["tier0.up"].flatten(0, 1), self.weights["mlp.input_bias"].flatten())
        x = x.unflatten(2, (-1, self.config.dim)).flatten(1, 2)
        for tap in range(self.config.taps):
            start = lookback - self.config.taps + tap
            x = x + embedding(levels[:, start : start + steps], self.weights["mlp.tables"][tap])
        return log_softmax(self.mlp(x), dim=-1)

    @torch.inference_mode()
    def frame_scan(self, hidden: list[Tensor], levels: Tensor) -> Tensor:
        """All tiers over levels (B, L + T), T a multiple of L; advances `hidden`. Returns the lowest's (B, T/F, D)."""
        lookback = self.config.lookback
        steps = levels.shape[1] - lookback
        conditioning, out = None, levels
        for tier in reversed(range(len(self.config.ratios))):
            size = self.config.frame_sizes[tier + 1]
            frames = levels[:, lookback - size : lookback - size + steps].unflatten(1, (-1, size))
            gates = self.read_frames(tier, frames)
            if conditioning is not None:
                gates = gates + conditioning
            out = self._scan_layers(hidden, tier, gates)
            if tier > 0:
                up, bias = self.weights[f"tier{tier}.up"], self.weights.upsample_bias(tier)
                conditioning = self.linear(out, up.flatten(0, 1), bias.flatten()).unflatten(2, bias.shape).flatten(1, 2)
        return out

    def read_frames(self, tier: int, frames: Tensor) -> Tensor:
        """What a tier's frames of levels (..., F) add to the gates that read them: (..., I G D)."""
        if self.config.reads_levels:
            return embedding(frames[..., 0], self.weights[f"tier{tier}.table"])
        return self.linear(self.weights["frame_values"][frames], self.weights[f"tier{tier}.frame"])

    def _scan_layers(self, hidden: list[Tensor], tier: int, read: Tensor) -> Tensor:
        """A tier's RNN layers over N frames: read (B, N, I G D) -> the tier's outputs (B, N, D); advances `hidden`."""
        weights, name = self.weights, f"tier{tier}."
        bias = weights.gate_bias(tier)
        reads = read.transpose(0, 1).split(bias.shape[1], dim=2)
        outputs: list[Tensor] = []
        for layer in range(self.config.n_rnn):
            gates = bias[layer]
            if layer < len(reads):
                gates = gates + reads[layer]
            if layer > 0:
                gates = gates + self.linear(outputs[-1], weights[name + "stack"][layer - 1])
            outputs.append(self.scan(tier, layer, gates, hidden[tier][layer]))
        if self.config.skip == "none":
            return outputs[-1].transpose(0, 1)
        summed = self.linear(torch.cat(outputs, dim=2), weights[name + "skip_out"], weights[name + "skip_bias"])
        return summed.transpose(0, 1)

    def mlp(self, x: Tensor) -> Tensor:
        """Logits (..., Q) of the sum (..., D) of conditioning and table rows."""
        x = relu(x)
        for layer in range(packed_hidden(self.config)):
            x = relu(self.linear(x, self.weights[f"mlp.hidden{layer}"], self.weights[f"mlp.hidden{layer}_bias"]))
        return self.linear(x, self.weights["mlp.output"], self.weights["mlp.output_bias"])
