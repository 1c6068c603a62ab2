"""Gradual pruning: how a sparse model gets from dense matrices to blocks while it trains.

Blocks with the smallest weights become zero and stay so (magnitude pruning, Zhu & Gupta 2017; blocks and the densities
of gates as in LPCNet, Valin & Skoglund 2019). The share that stays falls on a cubic curve, fast at first and slowly at
last, when every block that goes is missed the most. Behind a share of the run the blocks are fixed.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from samplernn_fast.errors import CheckpointError
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.sparse.blocks import (
    INPUTS,
    OUTPUTS,
    from_blocks,
    grid,
    kept,
    on_diagonal,
    sparse_fields,
    to_blocks,
)
from samplernn_fast.models.sparse.network import SparseSampleRNN

_EVERY = 10
"""How many updates lie between two choices of blocks. Between them the blocks that are zero stay zero."""
_PREFIX = "blocks."
"""The prefix of masks in a training checkpoint."""


def pruning_of(model: AudioModel, until: float, start: float | None) -> "Pruning | None":
    """The pruning of a sparse model; None for a model of another system.

    until: the share of the run behind which the model has its density. start: the density of the sparse model that the
    run starts from, whose zero blocks stay zero; None where every block is left at first.
    """
    if not isinstance(model, SparseSampleRNN):
        return None
    pruning = Pruning(model, until, 1.0 if start is None else start)
    if start is not None:
        pruning.start_from_zeros()
    return pruning


class Pruning:
    """Which blocks of a model's matrices are left, and which go next."""

    def __init__(self, model: SparseSampleRNN, until: float, start: float = 1.0) -> None:
        """until: the share of the run behind which the model has its density. start: the density with which the run
        starts. Every block is left at first; `start_from_zeros` and `restore` say otherwise."""
        self._until, self._start, self._model = until, start, model.config
        self._fields = {one.name: one for one in sparse_fields(model.config)}
        self._weights = {name: model.get_parameter(name) for name in self._fields}
        shapes = {name: grid(one.shape, model.config.dim) for name, one in self._fields.items()}
        self._left = {name: torch.ones(shape, dtype=torch.uint8) for name, shape in shapes.items()}
        self._zero: dict[str, Tensor] = {}

    def start_from_zeros(self) -> None:
        """Takes over the blocks of a model that is sparse already."""
        for name, weight in self._weights.items():
            blocks = to_blocks(weight.detach().cpu().numpy(), self._model.dim)
            self._left[name] = torch.from_numpy((blocks != 0).any(axis=(3, 4)).astype(np.uint8))
        self._apply()

    def density(self, done: float) -> float:
        """The share of blocks that may be left where a run is done to this share."""
        ramp = min(1.0, done / self._until) if self._until else 1.0
        return self._model.density + (self._start - self._model.density) * (1 - ramp) ** 3

    def is_complete(self) -> bool:
        """Whether no more blocks go: the model is as sparse as it is meant to be."""
        return all(
            self._has_at_most(name, torch.from_numpy(kept(self._model, field, self._model.density)))
            for name, field in self._fields.items()
        )

    def unfinished(self, limit: str) -> str:
        """What to say where a run reached the `limit` of its length before this was complete."""
        left = sum(int(mask.sum()) for mask in self._left.values())
        share = left / sum(mask.numel() for mask in self._left.values())
        return (
            f"the model has {share:.0%} of its blocks, and not yet the density of {self._model.density}: {limit} came"
            " before that; raise it to go on"
        )

    @torch.no_grad()
    def after_update(self, step: int, done: float) -> None:
        """Makes blocks zero after the update number `step`, where the run is done to the share `done`."""
        if not self._zero or done >= self._until or step % _EVERY == 0:
            self._choose(self.density(done))
        self._apply()

    @torch.no_grad()
    def clear(self, model: AudioModel) -> None:
        """Makes the blocks that are not left zero in another model of the same settings, such as an average."""
        for name, zero in self._zero.items():
            model.get_parameter(name).masked_fill_(zero, 0.0)

    def tensors(self) -> dict[str, Tensor]:
        """What a training checkpoint has of this, by name."""
        return {_PREFIX + name: left for name, left in self._left.items()}

    def restore(self, tensors: dict[str, Tensor], source: Path) -> None:
        """Takes over what `tensors` returned. Raises CheckpointError where it does not fit."""
        for name, left in self._left.items():
            found = tensors.get(_PREFIX + name)
            if found is None or found.shape != left.shape or found.dtype != torch.uint8 or int(found.max()) > 1:
                raise CheckpointError(f"{source}: tensor {_PREFIX}{name} must say which blocks are left")
            self._left[name] = found.clone()
        self._find_zeros()

    def _has_at_most(self, name: str, counts: Tensor) -> bool:
        """Returns whether no group of a unit of a matrix has more blocks left than its count (U,)."""
        return bool((self._left[name].sum(dim=2) <= counts[:, None]).all())

    def _choose(self, density: float) -> None:
        """Leaves the blocks of the largest weights in every group, of those that are left."""
        for name, field in self._fields.items():
            left, counts = self._left[name], torch.from_numpy(kept(self._model, field, density))
            if self._has_at_most(name, counts):
                continue
            energy = self._energy(name).masked_fill(left == 0, -1.0)
            energy[torch.from_numpy(on_diagonal(self._model, field).copy())] = torch.inf
            # A stable sort, so that of equal blocks the first ones are left on every machine.
            rank = energy.argsort(dim=2, descending=True, stable=True).argsort(dim=2)
            self._left[name] = left * (rank < counts[:, None, None]).to(torch.uint8)
            self._zero.clear()

    def _energy(self, name: str) -> Tensor:
        """The sum of squares of every block, (U, R, C) on the CPU."""
        units, groups, columns = self._left[name].shape
        rows = self._weights[name].view(units, self._model.dim, -1).square()
        padding = (0, columns * INPUTS - rows.shape[2], 0, groups * OUTPUTS - rows.shape[1])
        squares = nn.functional.pad(rows, padding).view(units, groups, OUTPUTS, columns, INPUTS)
        return squares.sum(dim=(2, 4)).cpu()

    @torch.no_grad()
    def _apply(self) -> None:
        """Makes the weights of the blocks that are not left zero."""
        if not self._zero:
            self._find_zeros()
        for name, zero in self._zero.items():
            self._weights[name].masked_fill_(zero, 0.0)

    def _find_zeros(self) -> None:
        """Works out which weights are zero, in the shapes of the matrices."""
        for name, left in self._left.items():
            weight = self._weights[name]
            gone = np.broadcast_to((left == 0).numpy()[..., None, None], (*left.shape, OUTPUTS, INPUTS))
            self._zero[name] = torch.from_numpy(from_blocks(gone, weight.shape, self._model.dim)).to(weight.device)
