"""`TrainConfig`: all settings of a training run. The model's own stand in `models.config`."""

import dataclasses
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.models.config import AudioConfig, SampleRNNConfig, SparseSampleRNNConfig, require
from samplernn_fast.models.other_configs import MixtureConfig
from samplernn_fast.ranges import Range, check_fields
from samplernn_fast.stores.addresses import path_of, spelled
from samplernn_fast.stores.running import working_folder

if TYPE_CHECKING:
    from samplernn_fast.data.folder import AudioData

_STEPS = 10**9  # the most updates that any setting may speak of


def default_model() -> SampleRNNConfig:
    """The model of a `TrainConfig` that names none: the paper's, or with `init_from` that of its source."""
    return SampleRNNConfig(sample_rate=0, gain=0.0)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults are those of the paper (section 3). Nothing that makes audio reads this."""

    data: Path
    """The data folder, which `prepare` made; it may be at an address, such as s3://bucket/data."""
    out: Path
    """The run folder: model, checkpoints, log. The same command goes on with the run that it finds there. In place of
    an address this has the local folder in which the run is trained."""
    model: AudioConfig = field(default_factory=default_model)
    """The model to train; its sample rate and gain come from the data, or with init_from all of it from there."""
    init_from: str | None = None
    """Start from the weights of this model (run folder, .safetensors file, demo), whose settings and gain are kept."""
    max_steps: Annotated[int | None, Range(1, _STEPS)] = None
    """Training stops after this many updates in all."""
    max_minutes: Annotated[float | None, Range(0, 10**7, above=True, unit="minutes")] = None
    """Training stops after this much time in all, resumed parts added up."""
    batch_size: Annotated[int, Range(1, 10**6)] = 128
    """How many subsequences one update reads, over all processes and parts (paper: 128)."""
    accumulate: Annotated[int, Range(1, 10**6)] = 1
    """In how many parts an update reads its batch, one after another: memory then holds one part of it."""
    seq_len: Annotated[int, Range(1, 10**6)] = 512
    """How many samples a subsequence of truncated back-propagation has (paper: 512, Table 3)."""
    lr: Annotated[float, Range(0, 1e30, above=True)] = 1e-3
    """The learning rate of Adam (paper: 0.001)."""
    change_lr: Annotated[float | None, Range(0, 1e30, above=True)] = None
    """A run that goes on has this constant learning rate from where it stands, in place of lr and its schedule."""
    lr_schedule: Literal["constant", "cosine"] = "constant"
    """"cosine" falls to a hundredth of `lr` at max_steps, or without it at max_minutes; the paper keeps it constant."""
    warmup_steps: Annotated[int, Range(0, _STEPS)] = 0
    """Over how many updates the learning rate rises from 0."""
    weight_decay: Annotated[float, Range(0, 100)] = 0.0
    """AdamW in place of Adam: before each update matrices shrink by lr times this. Biases, gains, initial states and
    embeddings do not; 0, the paper's, leaves all as they are."""
    ema: Annotated[float, Range(0, 0.999999)] = 0.0
    """Which share of an average of the weights stays at each update, such as 0.999: the averages, which then are over
    about 1 / (1 - ema) updates, are what is validated, kept as models and heard; 0 makes none."""
    prune_until: Annotated[float, Range(0, 1)] = 0.5
    """After which share of the run a sparse model has its density; from its start on blocks become zero. Other models
    are not pruned."""
    distill: bool = True
    """Whether a sparse model learns the probabilities of the dense model that it starts from; otherwise it learns the
    levels of the recordings."""
    grad_clip: Annotated[float, Range(0, 1e30, above=True)] = 1.0
    """Every gradient is clipped to [-grad_clip, grad_clip] (paper: 1)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """"bf16" runs matrix products in bfloat16 (GPUs, and CPUs with AMX or AVX512-BF16)."""
    compile: bool = False
    """Whether torch.compile compiles the model."""
    device: str = "auto"
    """Where to train: auto, cpu or cuda."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """The seed of the initial weights and of the order of the data."""
    log_every: Annotated[int, Range(1, _STEPS)] = 50
    """How many updates lie between two rows of log.csv."""
    eval_every: Annotated[int, Range(1, _STEPS)] = 500
    """How many updates lie between two validations; the best model is kept."""
    keep: Annotated[int, Range(0, 10_000)] = 3
    """How many of the best models are kept in models/, to choose from by ear."""
    keep_every: Annotated[int, Range(0, _STEPS)] = 0
    """Every so many updates the model is kept in models/ too; 0 keeps only the best ones."""
    audition: bool = False
    """Whether models/ keeps up to 12 models besides that are spread over the run, later ones further apart, from update
    100 on: what `samplernn-fast audition` lets you choose from by ear."""
    eval_seconds: Annotated[float, Range(0, 10**7, unit="seconds")] = 60.0
    """How many seconds of the validation split a validation reads; 0 reads all."""
    save_every: Annotated[int, Range(1, _STEPS)] = 250
    """How many updates lie between two checkpoints."""
    sample_every: Annotated[int, Range(0, _STEPS)] = 2500
    """How many updates lie between two pieces of generated audio (samples/, TensorBoard); the first ones come sooner,
    after 100, 200, 500 and 1000; 0 makes none."""
    sample_seconds: Annotated[float, Range(0, 3600, above=True, unit="seconds")] = 4.0
    """How many seconds such a piece has."""
    resume: str = "auto"
    """auto goes on with the run in `out`, if any; never refuses a folder that holds one; a path is another run's."""
    num_threads: Annotated[int, Range(0, 1024)] = 0
    """How many CPU threads torch uses; 0 leaves the choice to torch."""

    def __post_init__(self) -> None:
        for name in ("data", "out"):
            if isinstance(getattr(self, name), str | Path):
                place = path_of if name == "data" else working_folder
                object.__setattr__(self, name, place(getattr(self, name)))
        if isinstance(self.init_from, str | Path):  # without a slash at the end, so that one folder has one name
            object.__setattr__(self, "init_from", str(path_of(self.init_from)))
        check_fields(self)
        require(self.accumulate <= self.batch_size, "accumulate must be at most batch_size", self.accumulate)
        endless = self.max_steps is None and self.max_minutes is None
        require(
            not (endless and self.lr_schedule == "cosine"),
            "lr_schedule cosine needs max_steps or max_minutes",
            self.lr_schedule,
        )
        if endless and isinstance(self.model, SparseSampleRNNConfig):
            raise ConfigError(
                "max_steps or max_minutes must say how long a sparse model is trained, because it is pruned by a share"
                " of that"
            )

    def done(self, step: int, seconds: float) -> float:
        """The share of the run that is done, 1 at its end; 0 where nothing ends it. Arguments as `learning_rate`.

        Steps are the same in every repetition of a run and the clock is not, so the clock is the second choice."""
        if self.max_steps is not None:
            return min(1.0, step / self.max_steps)
        return min(1.0, seconds / (60 * self.max_minutes)) if self.max_minutes is not None else 0.0

    def learning_rate(self, step: int, seconds: float) -> float:
        """The learning rate of the next update: a linear warm-up, then constant, or a cosine down to a hundredth.

        step: how many updates were made; seconds: how long the run took so far.
        """
        if self.change_lr is not None:
            return self.change_lr
        rate = self.lr * min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.lr_schedule == "constant":
            return rate
        return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.done(step, seconds))))

    def to_dict(self) -> dict[str, Any]:
        """All settings, for JSON."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return values | {"data": str(self.data), "out": spelled(self.out), "model": self.model.to_dict()}


FROM_DATA = ("sample_rate", "gain", "mean", "std")
"""The settings of a model that `fit_to_data` gives it, which are no flags to set."""


def fit_to_data(model: AudioConfig, data: "AudioData", known: AudioConfig | None = None) -> AudioConfig:
    """`model` with what it takes from the data: the sample rate, the gain, and for a mixture the mean and the standard
    deviation of the training split. known: the model that is trained on, whose own are kept, but for the sample rate.

    Raises DataError as `check_fit`.
    """
    gain = (known.gain if known is not None else 0.0) or data.gain
    check_fit(model, data, gain)
    if isinstance(model, MixtureConfig) and not model.std:
        own = known if isinstance(known, MixtureConfig) and known.std else None
        mean, std = data.moments("train", gain) if own is None else (own.mean, own.std)
        model = replace(model, mean=mean, std=std)
    return replace(model, sample_rate=data.sample_rate, gain=gain)


def check_fit(model: AudioConfig, data: "AudioData", gain: float = 0.0) -> None:
    """Raises DataError where a model has another sample rate than the data, or another gain than `gain`, which is the
    data's where it is 0. A gain of 1, which is the default of a model's config, counts as not said."""
    gain = gain or data.gain
    if model.sample_rate not in (0, data.sample_rate):
        raise DataError(
            f"{data.folder}: the audio is at {data.sample_rate} Hz, the model is for {model.sample_rate} Hz; prepare"
            f" the recordings at the model's rate (samplernn-fast prepare RECORDINGS --sample-rate"
            f" {model.sample_rate} --out FOLDER), or give a new model sample_rate 0, which takes the data's"
        )
    if model.gain not in (0, 1, gain):
        raise DataError(f"{data.folder}: the audio was scaled by {gain}, the model says gain {model.gain}")
