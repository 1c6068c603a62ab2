"""The paper's baseline (Eq. 2-3; "RNN" in Table 1): one tier, a deep RNN that reads one sample after another."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from samplernn_fast.models.base import RecurrentModel, State
from samplernn_fast.models.config import OneTierConfig
from samplernn_fast.models.layers.cells import RNNStack


class OneTierRNN(RecurrentModel):
    """h_t = H(h_{t-1}, e(x_t)); p(x_{t+1}) = softmax(MLP(h_t)), every hidden layer of the MLP with ReLU."""

    config: OneTierConfig

    def __init__(self, config: OneTierConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone."""
        super().__init__(config)
        with torch.random.fork_rng(devices=[]):
            self.embedding = nn.Embedding(config.q_levels, config.emb_size)
            self.rnn = RNNStack(config, config.emb_size)
            hidden = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in range(config.mlp_hidden))
            self.output = nn.Linear(config.dim, config.q_levels)
        self.hidden = cast(Sequence[nn.Linear], hidden)
        self.draw_weights(seed)

    def init_state(self, batch_size: int) -> State:
        """The initial state of the one RNN: ((n_rnn, B, H),)."""
        return (self.rnn.h0.unsqueeze(1).expand(-1, batch_size, -1),)

    def forward(self, levels: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Teacher-forced logits of a whole subsequence, and the state after it: see `AudioModel`."""
        (before,) = self.start(levels, state, reset)
        x, after = self.rnn(self.embedding(levels[:, :-1]), before)
        return self.mlp(x), (after,)

    def mlp(self, x: Tensor) -> Tensor:
        """The MLP of Eq. 3: the RNN's outputs (..., D) -> logits (..., Q)."""
        for layer in self.hidden:
            x = relu(layer(x))
        return self.output(x)

    def stepper(self, hidden: State, t: int) -> "OneTierStepper":
        """As in `AudioModel`."""
        return OneTierStepper(self, hidden)


class OneTierStepper:
    """Eq. 2-3 one sample at a time."""

    def __init__(self, model: OneTierRNN, hidden: State) -> None:
        self._model, (self._hidden,) = model, hidden

    def step(self, levels: Tensor) -> Tensor:
        """As in `Stepper`."""
        x, self._hidden = self._model.rnn(self._model.embedding(levels[:, -1:]), self._hidden)
        return self._model.mlp(x)

    def hidden(self) -> State:
        """As in `Stepper`."""
        return (self._hidden,)
