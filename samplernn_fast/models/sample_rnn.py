"""SampleRNN as the paper describes it (sections 2 and 3): the training forward, and the truth for every sampler.

Letters: B batch, T samples, L = FS(K) lookback, F frame size, D dim, Q levels, E embedding, K tiers.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, relu

from samplernn_fast.audio import quantize
from samplernn_fast.models.base import RecurrentModel, State
from samplernn_fast.models.cells import RNNStack
from samplernn_fast.models.config import SampleRNNConfig


class Tier(nn.Module):
    """A frame-level module (section 2.1): reads frames of F samples, gives one vector for each unit below it."""

    def __init__(self, config: SampleRNNConfig, tier: int) -> None:
        super().__init__()
        self.frame_size, self.ratio = config.frame_sizes[tier + 1], config.ratios[tier]
        is_top = tier == len(config.ratios) - 1
        raw = is_top and not config.top_input_linear
        self.expand = None if raw else nn.Linear(self.frame_size, config.dim)
        self.rnn = RNNStack(config, self.frame_size if raw else config.dim)
        self.up = nn.Linear(config.dim, self.ratio * config.dim, bias=config.upsample_bias)

    def upsample(self, hidden: Tensor) -> Tensor:
        """Eq. 6: hidden (B, N, D) -> one vector for each unit below, (B, N r, D)."""
        return self.up(hidden).unflatten(2, (self.ratio, -1)).flatten(1, 2)

    def up_through(self, matrix: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """`upsample` followed by matrix (O, D) and bias (O,) as one map per unit below: (r, O, D) and (r, O)."""
        weight, own_bias = self.up_maps()
        if own_bias is None:
            return matrix @ weight, bias.expand(self.ratio, -1)
        return matrix @ weight, own_bias @ matrix.t() + bias

    def up_maps(self) -> tuple[Tensor, Tensor | None]:
        """`upsample` as one map for each unit below: (r, D, D) and (r, D)."""
        bias = None if self.up.bias is None else self.up.bias.unflatten(0, (self.ratio, -1))
        return self.up.weight.unflatten(0, (self.ratio, -1)), bias

    def expand_through(self, matrix: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The frame's input map followed by matrix (O, input) and bias (O,), as one map: (O, F) and (O,)."""
        if self.expand is None:
            return matrix, bias
        return matrix @ self.expand.weight, bias + matrix @ self.expand.bias


class SampleMLP(nn.Module):
    """The sample-level module (section 2.2): embeddings of the last FS(1) samples, W_x f + c, and the MLP of Eq. 9."""

    def __init__(self, config: SampleRNNConfig) -> None:
        super().__init__()
        self.taps = config.frame_sizes[0]
        width = config.emb_size or config.q_levels
        self.embedding = nn.Embedding(config.q_levels, config.emb_size) if config.emb_size else None
        self.input = nn.Linear(self.taps * width, config.dim, bias=False)
        hidden = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in range(config.mlp_hidden))
        self.hidden = cast(Sequence[nn.Linear], hidden)
        self.output = nn.Linear(config.dim, config.q_levels)

    def embed(self, context: list[Tensor]) -> Tensor:
        """Eq. 7: the flattened embeddings (..., taps E) of the levels (...) at each tap, oldest first."""
        assert self.embedding is not None  # one-hot levels go through `tables`
        vectors = [self.embedding(levels) for levels in context]
        return torch.cat(vectors, dim=-1)

    def tables(self) -> Tensor:
        """W_x applied to every embedding: (taps, Q, D), oldest sample first. One row replaces a product with W_x."""
        w_x = self.input.weight.unflatten(1, (self.taps, -1)).permute(1, 2, 0)
        return w_x if self.embedding is None else self.embedding.weight @ w_x


class SampleRNN(RecurrentModel):
    """The paper's model: K tiers (section 2), the truth for every sampler.

    `tiers[0]` is the lowest RNN tier (k = 2 in the paper), `tiers[-1]` the top one.
    """

    config: SampleRNNConfig

    def __init__(self, config: SampleRNNConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone."""
        super().__init__(config)
        with torch.random.fork_rng(devices=[]):  # torch's layers draw weights of their own first
            tiers = nn.ModuleList(Tier(config, tier) for tier in range(len(config.ratios)))
            self.mlp = SampleMLP(config)
        self.tiers = cast(Sequence[Tier], tiers)
        values = quantize.for_config(config).frame_values(config.frame_input, config.frame_gain)
        self.frame_values = torch.from_numpy(values)  # float64; not a buffer, so that no cast of the model rounds it
        self.draw_weights(seed)

    def init_state(self, batch_size: int) -> State:
        """The initial state of every tier, lowest first: (n_rnn, B, H) each."""
        return tuple(tier.rnn.h0.unsqueeze(1).expand(-1, batch_size, -1) for tier in self.tiers)

    def norm_axis(self, name: str) -> int:
        """As in `AudioModel`; the upsampling's gains may belong to its inputs."""
        return 1 if name.endswith(".up") and self.config.upsample_norm_axis == "input" else 0

    def forward(self, levels: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Teacher-forced logits of a whole subsequence, and the state after it: see `AudioModel`."""
        state = self.start(levels, state, reset)
        values = self.frame_values.to(self.tiers[0].rnn.h0)[levels]
        new_state: list[Tensor] = []
        hidden: Tensor | None = None
        for index in reversed(range(len(self.tiers))):
            tier = self.tiers[index]
            if self._reads_gates(index, levels):
                hidden, last = tier.rnn.run_gates(self._gates(index, values, hidden), state[index])
            else:
                frames = self._windows(values, tier.frame_size).unflatten(1, (-1, tier.frame_size))
                inputs = frames if tier.expand is None else tier.expand(frames)
                if hidden is not None:
                    inputs = inputs + self.tiers[index + 1].upsample(hidden)
                hidden, last = tier.rnn(inputs, state[index])
            new_state.insert(0, last)
        assert hidden is not None
        return self._sample_level(levels, hidden), tuple(new_state)

    def _windows(self, samples: Tensor, size: int) -> Tensor:
        """(B, T) of samples (B, L + T): what a unit that sees `size` samples has before each of the T predictions."""
        start = self.config.lookback - size
        return samples[:, start : start + samples.shape[1] - self.config.lookback]

    def _reads_gates(self, index: int, levels: Tensor) -> bool:
        """Whether products of matrices come first in a tier: there must be more rows to save them on than they cost."""
        tier, config = self.tiers[index], self.config
        if config.skip != "none" or not tier.rnn.layers[0].scans(levels.device):
            return False
        is_top = index == len(self.tiers) - 1
        above, cost = (tier, tier.frame_size) if is_top else (self.tiers[index + 1], 3 * config.dim)
        return levels.shape[0] * (levels.shape[1] - config.lookback) >= 2 * cost * above.frame_size

    def _gates(self, index: int, values: Tensor, hidden: Tensor | None) -> Tensor:
        """W_ih (W_x f + c) + b of Eq. 4-5 as (W_ih W_x) f + (W_ih W_j) h, h the output (B, N, D) of the tier above.

        Returns (N, B, R, 3D) for R frames of tier `index` under each frame above; R is 1 at the top.
        """
        tier = self.tiers[index]
        layer = tier.rnn.layers[0]
        weight, bias = tier.expand_through(layer.w_ih, layer.gate_bias())
        ratio = 1 if hidden is None else self.tiers[index + 1].ratio
        frames = self._windows(values, tier.frame_size).unflatten(1, (-1, ratio * tier.frame_size)).transpose(0, 1)
        if hidden is not None:
            above, bias = self.tiers[index + 1].up_through(layer.w_ih, bias)
            # One product for both: h, and beside it the R frames, each of which only its own gates read.
            weight = torch.cat((above.flatten(0, 1), torch.block_diag(*[weight] * ratio)), dim=1)
            frames = torch.cat((hidden.transpose(0, 1), frames), dim=2)
        return linear(frames, weight, bias.flatten()).unflatten(2, (ratio, -1))

    def _sample_level(self, levels: Tensor, hidden: Tensor) -> Tensor:
        """Eq. 6-9 for the lowest tier's output `hidden` (B, T / FS(2), D) -> logits (B, T, Q)."""
        tier, mlp = self.tiers[0], self.mlp
        steps, start = levels.shape[1] - self.config.lookback, self.config.lookback - mlp.taps
        context = [levels[:, start + tap : start + tap + steps] for tap in range(mlp.taps)]
        layers = list(mlp.hidden)
        if mlp.embedding is not None and levels.shape[0] * steps < 2 * self.config.q_levels:
            x = tier.upsample(hidden) + mlp.input(mlp.embed(context))
            return self._mlp(relu(x) if self.config.mlp_input_relu else x, layers)
        # With more samples than table rows, products of matrices first save most of the work per sample.
        tables = mlp.tables()
        weight: Tensor = tier.up.weight
        bias: Tensor = tier.up.bias
        if not self.config.mlp_input_relu:
            first = layers.pop(0)
            tables = tables @ first.weight.t()
            weight, bias = (part.flatten(0, 1) for part in tier.up_through(first.weight, first.bias))
        # In float32 also under autocast: the gradient of a row is a sum over thousands of samples, and the
        # CPU adds it up in the table's own dtype.
        tables = tables.to(torch.promote_types(tables.dtype, torch.float32))
        x = linear(hidden, weight, bias).unflatten(2, (tier.ratio, -1)).flatten(1, 2)
        for table, levels_at_tap in zip(tables, context, strict=True):
            x = embedding(levels_at_tap, table).add_(x)
        return self._mlp(relu(x), layers)

    def _mlp(self, x: Tensor, layers: list[nn.Linear]) -> Tensor:
        for layer in layers:
            x = relu(layer(x))
        return self.mlp.output(x)
