"""The exponential moving average of a model's weights over the updates of a run (Polyak and Juditsky 1992).

Late weights jump about a good place by the learning rate times the noise of a batch; their average lies closer to it.
"""

import torch

from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.registry import build_model
from samplernn_fast.models.sparse.pruning import Pruning


class Average:
    """A second model, whose weights are averages of those of the model that is trained."""

    def __init__(self, trained: AudioModel, decay: float) -> None:
        """Begins with the weights of `trained`. decay: the share of the average that stays at each update, below 1."""
        self.decay = decay
        self.model = build_model(trained.config, seed=None)
        self.model.load_state_dict(trained.state_dict())
        self.model.to(next(trained.parameters()).device).requires_grad_(False)

    def decay_at(self, step: int) -> float:
        """The share that stays at the update number `step`, from 1.

        Early on it is lower, so that the average is over about the last ninth of the updates: otherwise the initial
        weights, which are noise, would weigh for many updates.
        """
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def after_update(self, trained: AudioModel, step: int, pruning: Pruning | None) -> None:
        """Takes the weights behind the update number `step` in. Blocks that are pruned are zero here at once, too."""
        share = 1 - self.decay_at(step)
        for average, weight in zip(self.model.state_dict().values(), trained.state_dict().values(), strict=True):
            average.lerp_(weight, share)
        if pruning is not None:
            pruning.clear(self.model)
