"""SampleRNN as the paper describes it (sections 2 and 3): the training forward, and the truth for every sampler.

Letters: B batch, T samples, L = FS(K) lookback, F frame size, D dim, Q levels, E embedding, K tiers.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, relu

from samplernn_fast.audio import quantize
from samplernn_fast.models.base import RecurrentModel, State
from samplernn_fast.models.config import FramedConfig, SampleRNNConfig, TieredConfig
from samplernn_fast.models.layers.cells import RNNStack


class Tier(nn.Module):
    """A frame-level module (section 2.1): reads frames of F samples, gives one vector for each unit below it."""

    def __init__(self, config: TieredConfig, tier: int) -> None:
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
    """The sample-level module (section 2.2): W_x f + c of Eq. 8, and the MLP of Eq. 9. Subclasses say what f is."""

    def __init__(self, config: TieredConfig) -> None:
        super().__init__()
        self.taps = config.taps
        self.build_input(config)
        hidden = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in range(config.mlp_hidden))
        self.hidden = cast(Sequence[nn.Linear], hidden)
        self.output = self.output_layer(config)

    @abstractmethod
    def build_input(self, config: Any) -> None:
        """Makes the layers that read f. They come first, because weights are drawn in the order of the layers."""

    def output_layer(self, config: TieredConfig) -> nn.Linear:
        """The last layer of the MLP."""
        return nn.Linear(config.dim, config.outputs)

    @abstractmethod
    def add_input(self, x: Tensor, levels: Tensor, values: Tensor, first: nn.Linear | None) -> Tensor:
        """x (B, T, D) plus W_x f, taken through the weight of `first` where a layer is given.

        levels (B, taps - 1 + T) integers, of which the t-th sample reads `taps` from t on, and their real values.
        """

    def folds(self, samples: int) -> bool:
        """Whether products of matrices first save work for so many samples."""
        return True


class LevelMLP(SampleMLP):
    """The sample-level module of the paper: f has the embeddings of the last FS(1) samples (Eq. 7)."""

    def build_input(self, config: SampleRNNConfig) -> None:
        """Makes the embedding, unless levels are one-hot, and W_x."""
        self.q_levels = config.q_levels
        self.embedding = nn.Embedding(config.q_levels, config.emb_size) if config.emb_size else None
        self.input = nn.Linear(self.taps * (config.emb_size or config.q_levels), config.dim, bias=False)

    def folds(self, samples: int) -> bool:
        """One-hot levels are always read by tables; an embedding, where there are more samples than rows of them."""
        return self.embedding is None or samples >= 2 * self.q_levels

    def add_input(self, x: Tensor, levels: Tensor, values: Tensor, first: nn.Linear | None) -> Tensor:
        """Adds a row of a table for each level, or where samples are few, the products with W_x; see `SampleMLP`."""
        steps = x.shape[1]
        context = [levels[:, tap : tap + steps] for tap in range(self.taps)]
        if self.embedding is not None and not self.folds(levels.shape[0] * steps):
            return x + self.input(self.embed(context))
        tables = self.tables()
        if first is not None:
            tables = tables @ first.weight.t()
        # In float32 also under autocast: the gradient of a row is a sum over thousands of samples, and the
        # CPU adds it up in the table's own dtype.
        tables = tables.to(torch.promote_types(tables.dtype, torch.float32))
        for table, levels_at_tap in zip(tables, context, strict=True):
            x = embedding(levels_at_tap, table).add_(x)
        return x

    def embed(self, context: list[Tensor]) -> Tensor:
        """Eq. 7: the flattened embeddings (..., taps E) of the levels (...) at each tap, oldest first."""
        assert self.embedding is not None  # one-hot levels go through `tables`
        vectors = [self.embedding(levels) for levels in context]
        return torch.cat(vectors, dim=-1)

    def tables(self) -> Tensor:
        """W_x applied to every embedding: (taps, Q, D), oldest sample first. One row replaces a product with W_x."""
        w_x = self.input.weight.unflatten(1, (self.taps, -1)).permute(1, 2, 0)
        return w_x if self.embedding is None else self.embedding.weight @ w_x


def frame_values(config: FramedConfig) -> np.ndarray:
    """What the tiers read in place of every level: (Q,) float64."""
    return quantize.for_config(config).frame_values(config.frame_input, config.frame_gain)


class TieredModel(RecurrentModel):
    """K tiers of frames over a sample level (section 2), whatever the sample level reads and predicts.

    `tiers[0]` is the lowest RNN tier (k = 2 in the paper), `tiers[-1]` the top one.
    """

    config: TieredConfig
    mlp: SampleMLP
    tiers: Sequence[Tier]

    def build(self, mlp: type[SampleMLP], values: np.ndarray, seed: int | None) -> None:
        """Makes the layers. values: (Q,) what the tiers read in place of every level.

        Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone.
        """
        config = self.config
        with torch.random.fork_rng(devices=[]):  # torch's layers draw weights of their own first
            tiers = nn.ModuleList(Tier(config, tier) for tier in range(len(config.ratios)))
            self.mlp = mlp(config)
        self.tiers = cast(Sequence[Tier], tiers)
        self.values = torch.from_numpy(values)
        self.draw_weights(seed)

    def init_state(self, batch_size: int) -> State:
        """The initial state of every tier, lowest first: (n_rnn, B, H) each."""
        return tuple(tier.rnn.h0.unsqueeze(1).expand(-1, batch_size, -1) for tier in self.tiers)

    def norm_axis(self, name: str) -> int:
        """Axis 1 for an upsampling whose gains belong to its inputs, else 0."""
        return 1 if name.endswith(".up") and self.config.upsample_norm_axis == "input" else 0

    def forward(self, levels: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Teacher-forced logits of a whole subsequence, and the state after it: see `AudioModel`."""
        state = self.start(levels, state, reset)
        values = self.values[levels].to(self.tiers[0].rnn.h0.dtype)
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
        return self._sample_level(levels, values, hidden), tuple(new_state)

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

    def _sample_level(self, levels: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
        """Eq. 6-9 for the lowest tier's output `hidden` (B, T / FS(2), D) -> outputs (B, T, O)."""
        tier, mlp = self.tiers[0], self.mlp
        steps, start = levels.shape[1] - self.config.lookback, self.config.lookback - mlp.taps
        recent, recent_values = levels[:, start:-1], values[:, start:-1]
        layers = list(mlp.hidden)
        if self.config.mlp_input_relu or not mlp.folds(levels.shape[0] * steps):
            x = mlp.add_input(tier.upsample(hidden), recent, recent_values, None)
            return self._mlp(relu(x) if self.config.mlp_input_relu else x, layers)
        # Products of matrices first save most of the work per sample.
        first = layers.pop(0)
        weight, bias = (part.flatten(0, 1) for part in tier.up_through(first.weight, first.bias))
        x = linear(hidden, weight, bias).unflatten(2, (tier.ratio, -1)).flatten(1, 2)
        return self._mlp(relu(mlp.add_input(x, recent, recent_values, first)), layers)

    def _mlp(self, x: Tensor, layers: list[nn.Linear]) -> Tensor:
        for layer in layers:
            x = relu(layer(x))
        return self.mlp.output(x)

    def stepper(self, hidden: State, t: int) -> "TierStepper":
        """A stepper from this hidden state, at time t; see `AudioModel`."""
        return TierStepper(self, hidden, t)


class SampleRNN(TieredModel):
    """The paper's model, the truth for every sampler."""

    config: SampleRNNConfig
    mlp: LevelMLP

    def __init__(self, config: SampleRNNConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone."""
        super().__init__(config)
        self.build(LevelMLP, frame_values(config), seed)


class TierStepper:
    """Eq. 4-9 one sample at a time: a tier runs where one of its frames starts, and the MLP at every sample."""

    def __init__(self, model: TieredModel, hidden: State, t: int) -> None:
        self._model, self._hidden, self._t = model, list(hidden), t
        self._values = model.values.to(hidden[0].dtype)
        self._outputs = [tier.rnn.output(h) for tier, h in zip(model.tiers, hidden, strict=True)]

    def step(self, levels: Tensor) -> Tensor:
        """Returns outputs (B, n, O): n is 1, or where the MLP reads no samples, the rest of the lowest tier's frame."""
        model, t, values = self._model, self._t, self._values[levels]
        for index in reversed(range(len(model.tiers))):
            tier = model.tiers[index]
            if t % tier.frame_size:
                continue
            inputs = values[:, -tier.frame_size :]
            inputs = inputs if tier.expand is None else tier.expand(inputs)
            if index + 1 < len(model.tiers):
                above = model.tiers[index + 1]
                unit = t % above.frame_size // tier.frame_size
                inputs = inputs + above.upsample(self._outputs[index + 1].unsqueeze(1))[:, unit]
            out, self._hidden[index] = tier.rnn(inputs.unsqueeze(1), self._hidden[index])
            self._outputs[index] = out[:, 0]
        lowest, mlp = model.tiers[0], model.mlp
        place = t % lowest.frame_size
        count = 1 if mlp.taps else lowest.frame_size - place
        x = lowest.upsample(self._outputs[0].unsqueeze(1))[:, place : place + count]
        start = levels.shape[1] - mlp.taps
        x = mlp.add_input(x, levels[:, start:], values[:, start:], None)
        self._t += count
        return model._mlp(relu(x) if model.config.mlp_input_relu else x, list(mlp.hidden))

    def hidden(self) -> State:
        """The state of every tier, lowest first; see `Stepper`."""
        return tuple(self._hidden)
