"""The kernels of csrc/cuda/device/stages.cuh that make a sample, in their order: the walk over the tiers (Eq. 1-9) as a
list of launches.

The list depends on the time only by the place in a top frame, so one list serves every call. The blocks count the
samples themselves.
"""

from dataclasses import dataclass
from typing import NamedTuple

from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layout import packed_hidden


class Stage(NamedTuple):
    """One launch: a kernel by its name, and the numbers that it takes (`Stage` of csrc/cuda/params.h)."""

    kernel: str
    tier: int = 0
    layer: int = 0
    begins: bool = False
    """Whether the blocks move on to the next sample first."""


@dataclass(frozen=True)
class Walk:
    """Launches before the first sample, for a sample at each place of a top frame, and after the last sample."""

    before: list[Stage]
    period: list[list[Stage]]
    after: list[Stage]

    @classmethod
    def of(cls, config: PackedConfig) -> "Walk":
        """The walk of a model, for any number of streams, any start and any number of samples."""
        outputs = [Stage("srnn_skip_output", tier) for tier in range(len(config.ratios)) if config.skip != "none"]
        period = [_sample(config, now) for now in range(config.lookback)]
        return cls([Stage("srnn_load"), *outputs], period, [Stage("srnn_save", begins=True)])

    @property
    def kernels(self) -> list[str]:
        """The names of the kernels that are launched, each once."""
        stages = [*self.before, *(stage for sample in self.period for stage in sample), *self.after]
        return list(dict.fromkeys(stage.kernel for stage in stages))


def _sample(config: PackedConfig, now: int) -> list[Stage]:
    """A sample at a place of the top frame: tiers from the top down, then the sample-level network by its exchanges."""
    stages = []
    for tier in reversed(range(len(config.ratios))):
        if now % config.frame_sizes[tier + 1] == 0:
            stages += _frame(config, tier)
        if now % (config.frame_sizes[tier] if tier > 0 else 1) == 0:  # a unit below begins
            stages.append(Stage("srnn_upsample", tier))
    stages.append(Stage("srnn_sample_mlp_input"))
    stages += [Stage("srnn_sample_mlp_hidden", layer=layer) for layer in range(packed_hidden(config))]
    stages += [Stage("srnn_sample_mlp_logits"), Stage("srnn_draw")]
    return [stages[0]._replace(begins=True), *stages[1:]]


def _frame(config: PackedConfig, tier: int) -> list[Stage]:
    """The stages of a tier's frame: its layers, and with skips the sum of their outputs."""
    stages = []
    for layer in range(config.n_rnn):
        stages.append(Stage("srnn_cell", tier, layer))
        if config.rnn == "gru" and not config.reset_after:
            stages.append(Stage("srnn_gru_candidate", tier, layer))
    return stages + ([Stage("srnn_skip_output", tier)] if config.skip != "none" else [])
