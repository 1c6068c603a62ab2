"""`TrainConfig`: how to train."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from samplernn_fast.models.config import SampleRNNConfig, require


@dataclass(frozen=True)
class TrainConfig:
    """How to train (section 3 of the paper, and its defaults). Never reaches the engine."""

    data: Path
    """Data folder that `prepare` made."""
    out: Path
    """Run folder: model, checkpoints, log. The same command resumes what it finds there."""
    model: SampleRNNConfig = field(default_factory=lambda: SampleRNNConfig(sample_rate=0, gain=0.0))
    """What to train; sample rate and gain are the data's."""
    max_steps: int | None = None
    """Stop after this many updates in all."""
    max_minutes: float | None = None
    """Stop after this much time in all, resumed runs added up."""
    batch_size: int = 128
    """Subsequences in one update, over all processes (paper: 128)."""
    seq_len: int = 512
    """Samples in one subsequence of truncated back-propagation (paper: 512, Table 3)."""
    lr: float = 1e-3
    """Adam's learning rate (paper: 0.001)."""
    lr_schedule: Literal["constant", "cosine"] = "constant"
    """"cosine" falls to a hundredth of `lr` at max_steps, or without it at max_minutes; the paper keeps it constant."""
    warmup_steps: int = 0
    """Updates over which the learning rate rises from 0."""
    grad_clip: float = 1.0
    """Every gradient is clipped to [-grad_clip, grad_clip] (paper: 1)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """"bf16" runs matrix products in bfloat16 (GPUs, and CPUs with AMX or AVX512-BF16)."""
    compile: bool = False
    """Compile the model with torch.compile."""
    device: str = "auto"
    """auto, cpu or cuda."""
    seed: int = 0
    """Draws the initial weights and the order of the data."""
    log_every: int = 50
    """Updates between two rows of log.csv."""
    eval_every: int = 500
    """Updates between two validations; the best model is kept."""
    eval_seconds: float = 60.0
    """Audio of the validation split that those validations read; 0 reads all."""
    save_every: int = 250
    """Updates between two checkpoints."""
    sample_every: int = 2500
    """Updates between two audio samples (samples/, TensorBoard); 0 makes none."""
    sample_seconds: float = 1.0
    """Length of those samples."""
    resume: str = "auto"
    """auto: go on with the run in `out`, if any. never: refuse a folder that holds one. Or the path of a checkpoint."""
    num_threads: int = 0
    """CPU threads; 0 leaves torch's choice."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "seq_len", "log_every", "eval_every", "save_every"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        for name in ("warmup_steps", "eval_seconds", "sample_every", "num_threads"):
            require(getattr(self, name) >= 0, f"{name} must be at least 0", getattr(self, name))
        for name in ("lr", "grad_clip", "sample_seconds"):
            require(0 < getattr(self, name) < float("inf"), f"{name} must be positive", getattr(self, name))
        require(self.max_steps is None or self.max_steps >= 1, "max_steps must be at least 1", self.max_steps)
        require(self.max_minutes is None or self.max_minutes > 0, "max_minutes must be positive", self.max_minutes)
        endless = self.max_steps is None and self.max_minutes is None
        require(
            not (endless and self.lr_schedule == "cosine"),
            "a cosine schedule needs --max-steps or --max-minutes",
            self.lr_schedule,
        )
        require(
            not (self.model.one_tier and self.sample_every),
            "sample_every must be 0 for the one-tier baseline, which has no sampler",
            self.sample_every,
        )
        require(0 <= self.seed < 2**63, "seed must be 0 to 2^63 - 1", self.seed)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return values | {"data": str(self.data), "out": str(self.out), "model": self.model.to_dict()}
