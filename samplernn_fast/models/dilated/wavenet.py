"""WaveNet, as the paper compares SampleRNN with it (section 3.1): dilated causal convolutions over single samples.

The paper gives 4 blocks of 10 layers with dilations 1 to 512, filters of size 2, and 64 channels with gates (128
filters). Oord et al. 2016 give gates, residual and skip connections, one-hot input, and the head of ReLU, 1x1, ReLU,
1x1. Both leave the width of the skips and of the head open: 4 x `dim` is ours.

These dilations have a field of 4 x 1023 + 1 = 4,093 samples. The paper says 4,092 for them, but 509 for the smaller
stack of appendix A, which is 4 x 127 + 1 for 4 blocks of 7 layers. The input layer is 1x1 and adds nothing.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from samplernn_fast.models.base import AudioModel, State
from samplernn_fast.models.layers.causal import DilatedStack, Head, StackStepper
from samplernn_fast.models.other_configs import WaveNetConfig


class WaveNet(AudioModel):
    """p(x_t | x_{t-1} .. x_{t-L}), L the field. It has no state: `forward` reads the whole context from its levels, so
    gradients go through all of it, and an output depends on L levels exactly, at the start of a subsequence too."""

    config: WaveNetConfig

    def __init__(self, config: WaveNetConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone."""
        super().__init__(config)
        self.input: nn.Embedding | nn.Linear
        with torch.random.fork_rng(devices=[]):
            if config.input == "onehot":
                self.input = nn.Embedding(config.q_levels, config.dim)
            else:
                self.input = nn.Linear(1, config.dim)
            self.stack = DilatedStack(config.dim, config.dilations, config.skip_channels)
            self.head = Head(config.skip_channels, config.end_channels, config.q_levels)
        self.draw_weights(seed)

    def table(self) -> Tensor:
        """What the input layer makes of every level: (Q, C)."""
        weight = self.input.weight
        if isinstance(self.input, nn.Embedding):
            return weight
        levels = torch.arange(self.config.q_levels, dtype=weight.dtype, device=weight.device)
        return self.input(levels[:, None] / (self.config.q_levels - 1) - 0.5)

    def init_state(self, batch_size: int) -> State:
        """The empty tuple, because nothing is carried between subsequences."""
        return ()

    def forward(self, levels: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Teacher-forced logits of a whole subsequence, and no state: see `AudioModel`."""
        self.start(levels, state, reset)
        skips, _ = self.stack(embedding(levels[:, :-1].t(), self.table()))
        return self.head(skips).transpose(0, 1), ()

    def init_hidden(self, batch_size: int, context: Tensor | None = None) -> State:
        """The queues of all layers, behind the context or endless silence: (d, B, C) each, oldest input first."""
        heard = self.silence() if context is None else context
        return tuple(self.stack.queues_behind(embedding(heard[:, :-1].t(), self.table()), batch_size))

    def follow(self, hidden: State, levels: Tensor) -> tuple[Tensor, State]:
        """Logits over known levels. What the queues hold is not computed again, so the cost is that of the new levels
        alone."""
        fresh = levels[:, self.config.lookback - 1 : -1]
        skips, queues = self.stack(embedding(fresh.t(), self.table()), hidden)
        return self.head(skips).transpose(0, 1), tuple(queue.clone() for queue in queues)

    def stepper(self, hidden: State, t: int) -> "WaveNetStepper":
        """A stepper from this hidden state, at time t; see `AudioModel`."""
        return WaveNetStepper(self, hidden)


class WaveNetStepper:
    """WaveNet one sample at a time."""

    def __init__(self, model: WaveNet, hidden: State) -> None:
        self._table, self._stack, self._head = model.table(), StackStepper(model.stack, hidden), model.head

    def step(self, levels: Tensor) -> Tensor:
        """Returns the outputs (B, 1, O) of the next sample; see `Stepper`."""
        return self._head(self._stack.step(embedding(levels[:, -1], self._table)))[:, None]

    def hidden(self) -> State:
        """The queues of all layers; see `Stepper`."""
        return tuple(self._stack.queues())
