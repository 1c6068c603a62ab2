"""The gradients of one update, added up over its parts, which one after another fit into memory, and over processes.

Letters: R rows of one process's batch, L lookback, T samples of a subsequence.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from samplernn_fast.data.batches import Batch
from samplernn_fast.models.base import AudioModel, State
from samplernn_fast.models.sparse.teacher import Teacher, cross_entropy
from samplernn_fast.training import process
from samplernn_fast.training.config import TrainConfig


class Gradients:
    """Adds up the gradients of a model's loss on one subsequence after another."""

    def __init__(
        self, model: AudioModel, forward: Any, teacher: Teacher | None, config: TrainConfig, world_size: int
    ) -> None:
        """forward: the model, perhaps compiled. teacher: whose probabilities are learnt in place of the levels."""
        self._model, self._forward, self._teacher = model, forward, teacher
        self._config, self._world_size = config, world_size
        self._tiers = len(model.init_state(1))

    def add(self, batch: Batch, state: State | None) -> tuple[State, Tensor]:
        """Adds the gradients of the mean loss over the batch of all processes to those of the model.

        state: what the call before returned, None in the first one; that of the model, and behind it the teacher's.
        Returns the state behind the batch, without its gradients, and the bits of this process's samples with their
        number (2,), float64.
        """
        device = next(self._model.parameters()).device
        levels, reset, mask = (part.to(device, non_blocking=True) for part in (batch.levels, batch.reset, batch.mask))
        states, sums = [], torch.zeros(2, dtype=torch.float64, device=device)
        for rows in parts(len(levels), self._config.accumulate):
            before = None if state is None else tuple(one[:, rows] for one in state)
            after, of_part = self._add_part(levels[rows], reset[rows], mask[rows], before, batch.n_valid_global)
            states.append(after)
            sums += of_part
        if self._world_size > 1:
            _add_over_processes(self._model)
        return _joined(states), sums

    def _add_part(
        self, levels: Tensor, reset: Tensor, mask: Tensor, state: State | None, count: int
    ) -> tuple[State, Tensor]:
        """What `add` does, for some rows, in this process.

        levels (R, L + T), reset (R,) and mask (R, T) as in `Batch`. count: how many samples the update has in all.
        """
        own, its = (None, None) if state is None else (state[: self._tiers], state[self._tiers :])
        with torch.autocast(levels.device.type, torch.bfloat16, enabled=self._config.precision == "bf16"):
            outputs, after = self._forward(levels, own, reset)
            expected = None
            if self._teacher is not None:
                expected, its = self._teacher.expect(levels, its, reset)
                after = (*after, *its)
        targets = levels[:, self._config.model.lookback :]
        losses = self._model.losses(outputs, targets)
        learnt = losses if expected is None else cross_entropy(expected, outputs)
        # Every part and every process divides by the count of all, so their gradients are added and nothing else.
        loss = (learnt * mask).sum() * (1 / count)
        loss.backward()
        bits = self._model.bits(outputs.detach(), targets) if self._config.model.mixture else losses.detach()
        sums = torch.stack(((bits * mask).sum().double(), mask.sum().double()))
        return tuple(part.detach().float() for part in after), sums


def parts(rows: int, accumulate: int) -> list[slice]:
    """The rows of each of `accumulate` parts of an update on so many rows; fewer parts where there are fewer rows."""
    count = min(rows, accumulate)
    return [slice(part * rows // count, (part + 1) * rows // count) for part in range(count)]


def _joined(states: Sequence[State]) -> State:
    """The state of all rows, of those of the parts in their order."""
    if len(states) == 1:
        return states[0]
    return tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))


def _add_over_processes(model: AudioModel) -> None:
    """Gives every process the sum of the gradients of all; each of them calls this after its backward pass.

    All gradients travel as one vector in the order of the parameters. Where a number stands in the vector decides in
    which order several processes add it, so this order must be the same in every update, whether a run was begun just
    now or long ago. torch's DistributedDataParallel changes it after its first update.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    total = process.added(torch.cat([gradient.flatten() for gradient in gradients]))
    parted = total.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parted, strict=True):
        gradient.copy_(part.view_as(gradient))
