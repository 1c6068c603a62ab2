"""A sampler as one would write it in plain PyTorch, at its best: the peer that the engines are compared with.

Weights are folded (packed) and embeddings are lookup tables, as in the engines. There are no gradients, the noise for
the Gumbel-max draw is made in advance, and every step is a handful of torch calls. It knows the paper's model: GRUs
that reset after the product, one layer a tier, no skips. `compiled` runs the same two functions through torch.compile.
`GraphedTorch` makes the same calls by replaying one CUDA graph for each period of the top tier.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear, relu

from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.kernels.launch import Replay
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.weights import DeviceWeights


class PlainTorch:
    """Free-running streams; `make(n)` goes on from the last call. dtype: float32 or bfloat16, of the whole model.

    Raises BackendUnavailable for a model of another shape than the paper's.
    """

    def __init__(
        self,
        weights: PackedWeights,
        batch_size: int,
        dtype: torch.dtype,
        compiled: bool = False,
        device: str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        config = weights.config
        if (config.rnn, config.reset_after, config.n_rnn, config.skip) != ("gru", True, 1, "none"):
            raise BackendUnavailable(
                "plain torch is written for the paper's model: one GRU a tier, reset_after, no skips"
            )
        self.config, self.batch_size = config, batch_size
        w = DeviceWeights.of(weights, device, dtype).tensors
        self.tables, self.values = w["mlp.tables"], w["frame_values"]
        self.mlp = [(w[f"mlp.hidden{i}"], w[f"mlp.hidden{i}_bias"]) for i in range(len(w)) if f"mlp.hidden{i}" in w]
        self.mlp.append((w["mlp.output"], w["mlp.output_bias"]))
        names, top = ("frame", "recurrent", "bias_n", "up"), len(config.ratios) - 1
        self.tiers = [{name: w[f"tier{tier}.{name}"] for name in names} for tier in range(top + 1)]
        for tier in self.tiers:
            for name in ("recurrent", "bias_n"):
                tier[name] = tier[name][0]
        self.top_bias = w[f"tier{top}.input_bias"][0, 0]
        # The bias of what each tier upsamples for: the MLP's input, or the gates of the tier below.
        below = (w[f"tier{tier}.input_bias"][:, 0] for tier in range(top))
        self.biases = [w["mlp.input_bias"], *below]
        self.h = [w[f"tier{tier}.h0"][0].repeat(batch_size, 1) for tier in range(len(self.tiers))]
        self.history = torch.full((batch_size, config.lookback), config.q_zero, device=self.device)
        self.t = 0
        self.tier_step = torch.compile(tier_step) if compiled else tier_step
        self.sample_step = torch.compile(sample_step) if compiled else sample_step

    @torch.inference_mode()
    def make(self, n: int) -> Tensor:
        """The next n levels of every stream: (B, n)."""
        lookback = self.config.lookback
        levels = torch.cat((self.history, self.history.new_zeros(self.batch_size, n)), dim=1)
        self.fill(levels, self.noise(n), self.t)
        self.t += n
        self.history = levels[:, -lookback:].clone()
        return levels[:, lookback:]

    def noise(self, n: int) -> Tensor:
        """The noise that the Gumbel-max draw subtracts from the logits of n samples: (n, B, Q)."""
        noise = torch.empty(n, self.batch_size, self.config.q_levels, device=self.device)
        return noise.exponential_().log_().to(self.tables.dtype)

    def fill(self, levels: Tensor, noise: Tensor, start: int) -> None:
        """Draws the n samples from time `start` on into levels (B, L + n), behind the L that came before."""
        lookback, sizes = self.config.lookback, self.config.frame_sizes
        taps = sizes[0]
        for step in range(noise.shape[0]):
            t, end = start + step, lookback + step
            for index in reversed(range(len(self.tiers))):
                size = sizes[index + 1]
                if t % size:
                    continue
                frame = self.values[levels[:, end - size : end]]
                is_top = index + 1 == len(self.tiers)
                above = None if is_top else self._conditioning(index + 1, t, size)
                bias = self.top_bias if is_top else None
                self.h[index] = self.tier_step(self.tiers[index], frame, self.h[index], above, bias)
            last = levels[:, end - taps : end]
            conditioning = self._conditioning(0, t, 1)
            levels[:, end] = self.sample_step(self.tables, self.mlp, last, conditioning, noise[step])

    def _conditioning(self, index: int, t: int, unit: int) -> tuple[Tensor, Tensor, Tensor]:
        """What a tier upsamples from for the frame of `unit` samples at t (Eq. 6): its state, a matrix and a bias."""
        tier = self.tiers[index]
        j = t % self.config.frame_sizes[index + 1] // unit
        return self.h[index], tier["up"][j], self.biases[index][j]


class GraphedTorch(PlainTorch):
    """The same sampler, captured once for a period of the top tier; without a GPU its calls are made one by one."""

    def __init__(self, weights: PackedWeights, batch_size: int, dtype: torch.dtype, device: str = "cpu") -> None:
        super().__init__(weights, batch_size, dtype, device=device)
        lookback = self.config.lookback
        self.levels = torch.full((batch_size, 2 * lookback), self.config.q_zero, device=self.device)
        self.states = [h.clone() for h in self.h]
        self.replay = Replay(self.period, self.device)

    @torch.inference_mode()
    def period(self) -> None:
        """Draws L samples. It reads and writes states and levels at fixed addresses, which a graph needs."""
        lookback = self.config.lookback
        self.h = list(self.states)
        self.fill(self.levels, self.noise(lookback), 0)
        for fixed, new in zip(self.states, self.h, strict=True):
            fixed.copy_(new)
        self.levels[:, :lookback].copy_(self.levels[:, lookback:].clone())

    def make(self, n: int) -> Tensor:
        """The next levels of every stream, at least n, in whole periods: (B, >= n)."""
        made = []
        for _ in range(-(-n // self.config.lookback)):
            self.replay()
            made.append(self.levels[:, : self.config.lookback].clone())
        return torch.cat(made, dim=1)


def tier_step(
    tier: dict[str, Tensor], frame: Tensor, h: Tensor, above: tuple[Tensor, Tensor, Tensor] | None, bias: Tensor | None
) -> Tensor:
    """The new state (B, D) of a tier after one GRU step. above: conditioning of the tier above, None at the top, whose
    gates have `bias` instead."""
    read = linear(frame, tier["frame"], bias)
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
    """The next level of every stream, (B,), by the sample-level MLP on the last levels (B, FS(1))."""
    x = linear(*conditioning)
    for tap in range(last.shape[1]):
        x = x + tables[tap][last[:, tap]]
    for weight, bias in mlp:
        x = linear(relu(x), weight, bias)
    return (x - noise).argmax(dim=-1)
