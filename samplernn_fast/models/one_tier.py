"""The paper's baseline (Eq. 2-3; "RNN" in Table 1): one tier, a deep RNN that reads one sample after another."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from samplernn_fast.models.base import RecurrentModel, State
from samplernn_fast.models.config import OneTierConfig, SingleSampleConfig
from samplernn_fast.models.layers.cells import RNNStack


class SingleSampleRNN(RecurrentModel):
    """h_t = H(h_{t-1}, x_t), outputs MLP(h_t), each hidden layer of the MLP with ReLU. Subclasses say how x is read."""

    config: SingleSampleConfig
    output: nn.Linear

    def build(self, inputs: int, seed: int | None) -> None:
        """Makes the layers. inputs: how many numbers the RNN reads for a sample.

        Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone.
        """
        config = self.config
        with torch.random.fork_rng(devices=[]):  # torch's layers draw weights of their own first
            self.build_input()
            self.rnn = RNNStack(config, inputs)
            hidden = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in range(config.mlp_hidden))
            self.output = self.output_layer()
        self.hidden = cast(Sequence[nn.Linear], hidden)
        self.draw_weights(seed)

    def build_input(self) -> None:
        """Makes the layers that read a sample, where there are any. They come first, because weights are drawn in the
        order of the layers."""

    def output_layer(self) -> nn.Linear:
        """The last layer of the MLP."""
        return nn.Linear(self.config.dim, self.config.outputs)

    @abstractmethod
    def read(self, levels: Tensor) -> Tensor:
        """Levels (B, N) -> what the RNN reads of them, (B, N, inputs)."""

    def init_state(self, batch_size: int) -> State:
        """The initial state of the one RNN: ((n_rnn, B, H),)."""
        return (self.rnn.h0.unsqueeze(1).expand(-1, batch_size, -1),)

    def forward(self, levels: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Teacher-forced outputs of a whole subsequence, and the state after it: see `AudioModel`."""
        (before,) = self.start(levels, state, reset)
        x, after = self.rnn(self.read(levels[:, :-1]), before)
        return self.mlp(x), (after,)

    def mlp(self, x: Tensor) -> Tensor:
        """The MLP of Eq. 3: the RNN's outputs (..., D) -> outputs (..., O)."""
        for layer in self.hidden:
            x = relu(layer(x))
        return self.output(x)

    def stepper(self, hidden: State, t: int) -> "SingleSampleStepper":
        """A stepper from this hidden state, at time t; see `AudioModel`."""
        return SingleSampleStepper(self, hidden)


class OneTierRNN(SingleSampleRNN):
    """The paper's baseline: the RNN reads the embedding e(x_t), and p(x_{t+1}) = softmax(MLP(h_t))."""

    config: OneTierConfig

    def __init__(self, config: OneTierConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone."""
        super().__init__(config)
        self.build(config.emb_size, seed)

    def build_input(self) -> None:
        """Makes the embedding."""
        self.embedding = nn.Embedding(self.config.q_levels, self.config.emb_size)

    def read(self, levels: Tensor) -> Tensor:
        """Levels (B, N) -> their embeddings (B, N, E)."""
        embedded: Tensor = self.embedding(levels)
        return embedded


class SingleSampleStepper:
    """Eq. 2-3 one sample at a time."""

    def __init__(self, model: SingleSampleRNN, hidden: State) -> None:
        self._model, (self._hidden,) = model, hidden

    def step(self, levels: Tensor) -> Tensor:
        """Returns the outputs (B, 1, O) of the next sample; see `Stepper`."""
        x, self._hidden = self._model.rnn(self._model.read(levels[:, -1:]), self._hidden)
        return self._model.mlp(x)

    def hidden(self) -> State:
        """The state of the RNN; see `Stepper`."""
        return (self._hidden,)
