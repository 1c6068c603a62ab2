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
    """A model that is not trained, of which another one learns. Its state is kept by who asks it."""

    def __init__(self, model: AudioModel, device: torch.device) -> None:
        """model: it goes to the device, and learns nothing any more."""
        self.model = model.to(device).requires_grad_(False)

    @torch.no_grad()
    def expect(self, levels: Tensor, state: State | None, reset: Tensor) -> tuple[Tensor, State]:
        """Its logits (B, T, Q) on levels (B, L + T), and its state behind them; arguments as `AudioModel`."""
        expected, state = self.model(levels, state, reset)
        return expected, state


def cross_entropy(expected: Tensor, outputs: Tensor) -> Tensor:
    """The cross-entropy (B, T) of a teacher's logits and a pupil's, both (B, T, Q), in bits."""
    return -(expected.float().softmax(dim=-1) * outputs.float().log_softmax(dim=-1)).sum(dim=-1) / math.log(2)
