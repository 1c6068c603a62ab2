"""Distillation: a sparse model learns the probabilities of the dense one that it was made of (Hinton et al. 2015).

The levels of a recording are one draw from what may come next; the dense model's probabilities say all of it. A model
that loses most of its weights finds its way back with them in fewer updates.

Letters: B batch, T samples, L lookback, Q levels.
"""

import math

import torch
from torch import Tensor

from samplernn_fast.models.base import AudioModel, State


class Teacher:
    """A model that is not trained, and its hidden state, which goes from one subsequence to the next."""

    def __init__(self, model: AudioModel, device: torch.device) -> None:
        """model: it goes to the device, and learns nothing any more."""
        self.model = model.to(device).requires_grad_(False)
        self._state: State | None = None

    def init_state(self, batch_size: int) -> State:
        """The state before the first subsequence, as `AudioModel.init_state`."""
        return self.model.init_state(batch_size)

    @torch.no_grad()
    def expect(self, levels: Tensor, reset: Tensor) -> Tensor:
        """Its logits (B, T, Q) on levels (B, L + T) behind those of the last call. reset: (B,) as in `AudioModel`."""
        expected, state = self.model(levels, self._state, reset)
        self._state = tuple(part.float() for part in state)
        return expected

    def behind(self, state: State) -> State:
        """A pupil's hidden state with this model's behind it, as a training checkpoint has both."""
        return (*state, *(self._state or ()))

    def take(self, state: State) -> State:
        """Takes its own part of what `behind` returned, and returns the pupil's."""
        own = len(state) - len(self.init_state(1))
        self._state = state[own:]
        return state[:own]


def cross_entropy(expected: Tensor, outputs: Tensor) -> Tensor:
    """The cross-entropy (B, T) of a teacher's logits and a pupil's, both (B, T, Q), in bits."""
    return -(expected.float().softmax(dim=-1) * outputs.float().log_softmax(dim=-1)).sum(dim=-1) / math.log(2)
