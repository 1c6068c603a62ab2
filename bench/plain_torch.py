"""A sampler as one would write it in plain PyTorch, at its best: the peer that the engines are compared with.

Weights are folded (packed) and embeddings are lookup tables, as in the engines; no gradients; noise for the Gumbel-max
draw is made ahead; every step is a handful of torch calls. GRUs that reset after the product, one layer a tier, no
skips: the paper's model. `compiled` runs the same two functions through torch.compile.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear, relu

from samplernn_fast.weights import PackedWeights


class PlainTorch:
    """Free-running streams; `make(n)` goes on from the last call. dtype: float32 or bfloat16, of the whole model."""

    def __init__(self, weights: PackedWeights, batch_size: int, dtype: torch.dtype, compiled: bool = False) -> None:
        config = weights.config
        assert config.rnn == "gru" and config.reset_after and config.n_rnn == 1 and config.skip == "none"
        self.config, self.batch_size = config, batch_size
        w = {name: tensor.to(dtype) for name, tensor in weights.tensors.items()}
        self.tables, self.values = w["mlp.tables"], w["frame_values"]
        self.mlp = [(w[f"mlp.hidden{i}"], w[f"mlp.hidden{i}_bias"]) for i in range(len(w)) if f"mlp.hidden{i}" in w]
        self.mlp.append((w["mlp.output"], w["mlp.output_bias"]))
        names = ("frame", "bias", "recurrent", "bias_n", "up", "up_bias")
        self.tiers = [{name: w[f"tier{tier}.{name}"] for name in names} for tier in range(len(config.ratios))]
        for tier in self.tiers:
            for name in ("bias", "recurrent", "bias_n"):
                tier[name] = tier[name][0]
        self.h = [w[f"tier{tier}.h0"][0].repeat(batch_size, 1) for tier in range(len(self.tiers))]
        self.history = torch.full((batch_size, config.lookback), config.q_zero)
        self.t = 0
        self.tier_step = torch.compile(tier_step) if compiled else tier_step
        self.sample_step = torch.compile(sample_step) if compiled else sample_step

    @torch.inference_mode()
    def make(self, n: int) -> Tensor:
        """The next n levels of every stream: (B, n)."""
        lookback, sizes = self.config.lookback, self.config.frame_sizes
        taps = sizes[0]
        noise = torch.empty(n, self.batch_size, self.config.q_levels).exponential_().log_().to(self.tables.dtype)
        levels = torch.cat((self.history, self.history.new_zeros(self.batch_size, n)), dim=1)
        for step in range(n):
            t, end = self.t + step, lookback + step
            for index in reversed(range(len(self.tiers))):
                size = sizes[index + 1]
                if t % size:
                    continue
                frame = self.values[levels[:, end - size : end]]
                above = self._slot(index + 1, t, size) if index + 1 < len(self.tiers) else None
                self.h[index] = self.tier_step(self.tiers[index], frame, self.h[index], above)
            last = levels[:, end - taps : end]
            conditioning = self._slot(0, t, 1)
            levels[:, end] = self.sample_step(self.tables, self.mlp, last, conditioning, noise[step])
        self.t += n
        self.history = levels[:, -lookback:].clone()
        return levels[:, lookback:]

    def _slot(self, index: int, t: int, unit: int) -> tuple[Tensor, Tensor, Tensor]:
        """What a tier hands to the unit below that starts at t: its state, and the slot's matrix and bias."""
        tier = self.tiers[index]
        j = t % self.config.frame_sizes[index + 1] // unit
        return self.h[index], tier["up"][j], tier["up_bias"][j]


def tier_step(tier: dict[str, Tensor], frame: Tensor, h: Tensor, above: tuple[Tensor, Tensor, Tensor] | None) -> Tensor:
    """One GRU step (B, D) of a tier."""
    read = linear(frame, tier["frame"], tier["bias"])
    if above is not None:
        read = read + linear(*above)
    inner = linear(h, tier["recurrent"])
    dim = h.shape[1]
    rz = torch.sigmoid(read[:, : 2 * dim] + inner[:, : 2 * dim])
    reset, update = rz[:, :dim], rz[:, dim:]
    candidate = torch.tanh(read[:, 2 * dim :] + reset * (inner[:, 2 * dim :] + tier["bias_n"]))
    return candidate + update * (h - candidate)


def sample_step(
    tables: Tensor,
    mlp: list[tuple[Tensor, Tensor]],
    last: Tensor,
    conditioning: tuple[Tensor, Tensor, Tensor],
    noise: Tensor,
) -> Tensor:
    """One level (B,) of every stream."""
    x = linear(*conditioning)
    for tap in range(last.shape[1]):
        x = x + tables[tap][last[:, tap]]
    for weight, bias in mlp:
        x = linear(relu(x), weight, bias)
    return (x - noise).argmax(dim=-1)
