"""`SampleRNNConfig`: everything that defines a model and its audio. No torch here."""

import dataclasses
import itertools
import json
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from samplernn_fast.errors import ConfigError

Rnn = Literal["gru", "lstm"]
Skip = Literal["none", "full", "prism"]
WeightNorm = Literal["all", "linear", "none"]
FrameInput = Literal["code", "code-half", "code-floor", "amplitude"]


@dataclass(frozen=True)
class SampleRNNConfig:
    """One SampleRNN (ICLR 2017). The defaults are the paper's best 3-tier model (section 3).

    Stored inside every checkpoint, so that no flag has to repeat it when audio is made.
    """

    sample_rate: int = 16000
    """Samples per second of the audio the model was trained on; 0, before training, is the data folder's rate."""
    quantization: str = "linear"
    """How amplitudes become levels: linear, mu-law, a-law, or the rule of an imported checkpoint."""
    q_levels: int = 256
    """Number of output levels, 2 to 65536."""
    gain: float = 1.0
    """The data set's one factor on amplitude, applied to prompts too; 0, before training, is the data folder's."""
    frame_sizes: tuple[int, ...] = (2, 2, 8)
    """Samples per frame of each tier, lowest first: FS(1), ..., FS(K). FS(1) is what the sample-level MLP sees.
    (1,) is the paper's one-tier baseline."""
    dim: int = 1024
    """Units of every RNN and of the hidden layers of the MLP."""
    n_rnn: int = 1
    """RNN layers in each tier."""
    rnn: Rnn = "gru"
    """Memory cell of Eq. 5."""
    reset_after: bool = True
    """GRU form: reset gate after the recurrent product (torch, cuDNN, Keras) or before it (the paper's code)."""
    emb_size: int = 256
    """Width of the level embedding; 0 feeds one-hot levels to W_x of Eq. 8."""
    learn_h0: bool = True
    """Learn the initial state of every RNN; otherwise it is zero."""
    weight_norm: WeightNorm = "all"
    """Weight normalisation of every matrix but the embedding; "linear" leaves the RNNs' own matrices out."""
    upsample_norm_axis: Literal["output", "input"] = "output"
    """One weight-norm gain per output or per input unit of the upsampling (deepsound: input)."""
    upsample_bias: bool = True
    """Bias on the upsampled conditioning."""
    top_input_linear: bool = False
    """Map the top tier's frame to `dim` before its RNN; the paper's Eq. 4 feeds the raw frame."""
    skip: Skip = "none"
    """Skip connections inside a tier (n_rnn > 1): "full" feeds the tier's input to every layer and sums a linear map
    of every layer's output; "prism" is PRiSM's wiring (first layer reads its input twice, all layers are summed)."""
    mlp_hidden: int = 2
    """Hidden layers between W_x f + c and the output layer, each with ReLU."""
    mlp_input_relu: bool = False
    """ReLU directly after W_x f + c (deepsound, s4); the paper's code has none."""
    frame_input: FrameInput = "code"
    """Real value of a level q for the frame tiers, before `frame_gain`, with Q = q_levels: "code" (q - Q//2) / (Q/2);
    "code-half" q / (Q/2) - 1; "code-floor" q / (Q//2) - 1; "amplitude" the decoded amplitude."""
    frame_gain: float = 2.0
    """Factor on the frame tiers' input; the authors' code scales levels to [-2, 2)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame_sizes", tuple(self.frame_sizes))
        for name, hint in typing.get_type_hints(type(self)).items():
            _check_type(name, getattr(self, name), hint)
        _require(0 <= self.sample_rate <= 768_000, "sample_rate must be 1 to 768000 Hz", self.sample_rate)
        _require(2 <= self.q_levels <= 65536, "q_levels must be 2 to 65536", self.q_levels)
        _require(0 <= self.gain < float("inf"), "gain must be positive", self.gain)
        _require(
            len(self.frame_sizes) >= 2 or self.one_tier,
            "frame_sizes needs at least 2 tiers, lowest first, such as (2, 8), or is (1,) for the one-tier baseline",
            self.frame_sizes,
        )
        _require(self.emb_size > 0 or not self.one_tier, "emb_size of the one-tier baseline must be at least 1", 0)
        _require(min(self.frame_sizes) >= 1, "frame_sizes must be at least 1", self.frame_sizes)
        for small, large in itertools.pairwise(self.frame_sizes):
            _require(large % small == 0, "each of frame_sizes must divide the next", self.frame_sizes)
        _require(1 <= self.dim <= 16384, "dim must be 1 to 16384", self.dim)
        _require(1 <= self.n_rnn <= 64, "n_rnn must be 1 to 64", self.n_rnn)
        _require(0 <= self.emb_size <= 16384, "emb_size must be 0 (one-hot) to 16384", self.emb_size)
        _require(1 <= self.mlp_hidden <= 64, "mlp_hidden must be 1 to 64", self.mlp_hidden)
        _require(self.frame_gain > 0, "frame_gain must be positive", self.frame_gain)

    @property
    def lookback(self) -> int:
        """L = FS(K): samples of context that come before the first predicted one."""
        return self.frame_sizes[-1]

    @property
    def q_zero(self) -> int:
        """The level of silence, Q // 2 in every quantisation."""
        return self.q_levels // 2

    @property
    def one_tier(self) -> bool:
        """Whether this is the paper's baseline: one RNN over single samples (Eq. 2-3)."""
        return self.frame_sizes == (1,)

    @property
    def ratios(self) -> tuple[int, ...]:
        """r of Eq. 6 for every RNN tier, lowest first: vectors of conditioning that one of its frames gives."""
        steps = (1, *self.frame_sizes[1:])
        return tuple(size // step for step, size in itertools.pairwise(steps))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dictionary; `from_dict` reads it back."""
        return dataclasses.asdict(self) | {"frame_sizes": list(self.frame_sizes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SampleRNNConfig":
        """Raises ConfigError on unknown or ill-typed fields."""
        known = {one.name for one in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        _require(not unknown, "unknown model settings; made by a newer version?", unknown)
        return cls(**values)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)


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
            _require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        for name in ("warmup_steps", "eval_seconds", "sample_every", "num_threads"):
            _require(getattr(self, name) >= 0, f"{name} must be at least 0", getattr(self, name))
        for name in ("lr", "grad_clip", "sample_seconds"):
            _require(0 < getattr(self, name) < float("inf"), f"{name} must be positive", getattr(self, name))
        _require(self.max_steps is None or self.max_steps >= 1, "max_steps must be at least 1", self.max_steps)
        _require(self.max_minutes is None or self.max_minutes > 0, "max_minutes must be positive", self.max_minutes)
        endless = self.max_steps is None and self.max_minutes is None
        _require(
            not (endless and self.lr_schedule == "cosine"),
            "a cosine schedule needs --max-steps or --max-minutes",
            self.lr_schedule,
        )
        _require(
            not (self.model.one_tier and self.sample_every),
            "sample_every must be 0 for the one-tier baseline, which has no sampler",
            self.sample_every,
        )
        _require(0 <= self.seed < 2**63, "seed must be 0 to 2^63 - 1", self.seed)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return values | {"data": str(self.data), "out": str(self.out), "model": self.model.to_dict()}


def _require(condition: bool, message: str, got: object) -> None:
    if not condition:
        raise ConfigError(f"{message}, got {got!r}")


def _check_type(name: str, value: object, hint: Any) -> None:
    """JSON and keyword arguments are not typed; a wrong type must not surface later as a shape error."""
    if typing.get_origin(hint) is Literal:
        _require(
            value in typing.get_args(hint),
            f"{name} must be one of {', '.join(map(str, typing.get_args(hint)))}",
            value,
        )
    elif typing.get_origin(hint) is tuple:
        _require(
            isinstance(value, tuple) and all(type(v) is int for v in value),
            f"{name} must be whole numbers",
            value,
        )
    elif hint is float:
        _require(type(value) in (int, float), f"{name} must be a number", value)
    else:
        _require(type(value) is hint, f"{name} must be {hint.__name__}", value)
