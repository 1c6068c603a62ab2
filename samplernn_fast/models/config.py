"""What defines a model and its audio: one frozen config class a system, under a common base. No torch here.

`AudioConfig` has what every system needs to know of the audio, `RecurrentConfig` what systems with an RNN share, and
`TieredConfig` what systems with tiers of frames share. `SampleRNNConfig` is the paper's model, `OneTierConfig` its RNN
baseline; the paper's other systems are in `other_configs`. `registry` knows all of them by the system's name, which
every checkpoint carries.
"""

import dataclasses
import itertools
import json
import reprlib
import typing
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from samplernn_fast.errors import ConfigError
from samplernn_fast.ranges import Range, check_fields

Rnn = Literal["gru", "lstm"]
Skip = Literal["none", "full", "prism"]
WeightNorm = Literal["all", "linear", "none"]
MOST_TIERS = 16
"""The most tiers of a SampleRNN, the sample-level one included. The paper has three."""
FrameInput = Literal["code", "code-half", "code-floor", "amplitude"]


@dataclass(frozen=True)
class AudioConfig(ABC):
    """The fields common to all systems. Stored inside every checkpoint, so that no flag has to repeat it when audio is
    made."""

    system: ClassVar[str]
    """The system's name, as checkpoints and `registry.SYSTEMS` have it."""
    packed: ClassVar[bool]
    """Whether its weights have a packed layout (`models.layout`), which the backends with kernels read. A system
    without one is sampled by the stepping backend."""
    mixture: ClassVar[bool] = False
    """Whether it predicts a mixture of Gaussians over amplitudes, in place of probabilities of levels."""

    sample_rate: Annotated[int, Range(0, 768_000, unit="Hz")] = 16000
    """Samples per second of the audio the model was trained on; 0, before training, is the data folder's rate."""
    quantization: str = "linear"
    """How amplitudes become levels: linear, mu-law, a-law, or the rule of an imported checkpoint."""
    q_levels: Annotated[int, Range(2, 65536)] = 256
    """Number of output levels, 2 to 65536."""
    gain: Annotated[float, Range(0, 1e12)] = 1.0
    """The data set's one factor on amplitude, applied to prompts too; 0, before training, is the data folder's."""

    def __post_init__(self) -> None:
        for name, hint in typing.get_type_hints(type(self)).items():
            if typing.get_origin(hint) is not ClassVar:
                _check_type(name, getattr(self, name), hint)
        check_fields(self)

    @property
    @abstractmethod
    def lookback(self) -> int:
        """L: samples of context that come before the first predicted one."""

    @property
    @abstractmethod
    def top_frame(self) -> int:
        """The samples of the longest frame. Subsequences are whole ones, and begin where such a frame begins."""

    @property
    def least_prompt(self) -> int:
        """The samples of the shortest prompt that is heard before the first new sample."""
        return 1

    @property
    def outputs(self) -> int:
        """O: the numbers that the network gives for one sample, a logit for each level."""
        return self.q_levels

    @property
    def least_values(self) -> int:
        """How many values the network's matrices have at least; 0 where nobody knows. A file with fewer holds no such
        model, so it is refused before memory is taken for one."""
        return 0

    @property
    def q_zero(self) -> int:
        """The level of silence, Q // 2 in every quantization."""
        return self.q_levels // 2

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dictionary with the system's name; `other_configs.config_from_dict` reads it back."""
        fields = dataclasses.asdict(self)
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
        return {"system": self.system} | values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The config with these fields. ConfigError where one is unknown or ill-typed, or names another system."""
        known = {one.name for one in dataclasses.fields(cls)}
        system = values.get("system", cls.system)
        require(system == cls.system, f"these are settings of another system than {cls.system}", system)
        unknown = sorted(set(values) - known - {"system"})
        require(not unknown, "unknown model settings; made by a newer version?", unknown)
        return cls(**{name: value for name, value in values.items() if name != "system"})

    def fingerprint(self) -> str:
        """One text for one set of fields. A model's hash stands on it, so it stays as version 0.1.0 wrote it."""
        fields = {name: value for name, value in self.to_dict().items() if name != "system"}
        return json.dumps(fields, sort_keys=True)


@dataclass(frozen=True)
class RecurrentConfig(AudioConfig):
    """The fields common to systems whose memory is an RNN."""

    dim: Annotated[int, Range(1, 16384)] = 1024
    """Units of every RNN, and of the hidden layers of an MLP."""
    n_rnn: Annotated[int, Range(1, 64)] = 1
    """RNN layers, in each tier where there are several."""
    rnn: Rnn = "gru"
    """Memory cell of Eq. 5."""
    reset_after: bool = True
    """GRU form: reset gate after the recurrent product (torch, cuDNN, Keras) or before it (the paper's code)."""
    learn_h0: bool = True
    """Learn the initial state of every RNN; otherwise it is zero."""
    weight_norm: WeightNorm = "all"
    """Weight normalization of every matrix but the embedding; "linear" leaves the RNNs' own matrices out."""
    skip: Skip = "none"
    """Skip connections inside a tier (n_rnn > 1): "full" feeds the tier's input to every layer and sums a linear map
    of every layer's output; "prism" is PRiSM's wiring (first layer reads its input twice, all layers are summed)."""

    @property
    def gates(self) -> int:
        """G: the gates of a layer, each with a vector of `dim` numbers."""
        return 3 if self.rnn == "gru" else 4

    @property
    def readers(self) -> int:
        """I: the layers that read a tier's own input."""
        return self.n_rnn if self.skip == "full" else 1


@dataclass(frozen=True)
class MLPConfig(RecurrentConfig):
    """The fields common to systems with the paper's MLP (Eq. 3 and 9) behind their RNNs."""

    mlp_hidden: Annotated[int, Range(1, 64)] = 2
    """Hidden layers of the MLP before the output layer, each with ReLU."""

    @property
    def least_values(self) -> int:
        """Recurrent matrices of three gates in one tier, the MLP's hidden layers, and the output layer."""
        hidden = 3 * self.n_rnn + self.mlp_hidden - 1
        return self.dim * (hidden * self.dim + self.outputs)


@dataclass(frozen=True)
class TieredConfig(MLPConfig):
    """The fields common to systems with tiers of frames (section 2). The defaults are the paper's best 3-tier model."""

    reads_levels: ClassVar[bool] = False
    """Whether the lowest tier reads the embedding of a level, in place of frame values."""

    frame_sizes: Annotated[tuple[int, ...], Range(1, 65536, unit="samples")] = (2, 2, 8)
    """Samples per frame of each tier, lowest first: FS(1), ..., FS(K). FS(1) is what the sample-level MLP sees."""
    upsample_norm_axis: Literal["output", "input"] = "output"
    """One weight-norm gain per output or per input unit of the upsampling (deepsound: input)."""
    upsample_bias: bool = True
    """Bias on the upsampled conditioning."""
    top_input_linear: bool = False
    """Map the top tier's frame to `dim` before its RNN; the paper's Eq. 4 feeds the raw frame."""
    mlp_input_relu: bool = False
    """ReLU directly after W_x f + c (deepsound, s4); the paper's code has none."""

    def __post_init__(self) -> None:
        if isinstance(self.frame_sizes, list):  # as JSON has them
            object.__setattr__(self, "frame_sizes", tuple(self.frame_sizes))
        super().__post_init__()
        require(
            2 <= len(self.frame_sizes) <= MOST_TIERS,
            f"frame_sizes needs 2 to {MOST_TIERS} tiers, lowest first, such as (2, 8); the one-tier baseline is"
            " OneTierConfig",
            self.frame_sizes,
        )
        for small, large in itertools.pairwise(self.frame_sizes):
            require(large % small == 0, "each of frame_sizes must divide the next", self.frame_sizes)

    @property
    def lookback(self) -> int:
        """L = FS(K): samples of context that come before the first predicted one."""
        return self.frame_sizes[-1]

    @property
    def top_frame(self) -> int:
        """FS(K), the samples of a frame of the top tier."""
        return self.frame_sizes[-1]

    @property
    def taps(self) -> int:
        """FS(1): how many of the last samples the sample-level MLP reads."""
        return self.frame_sizes[0]

    @property
    def least_values(self) -> int:
        """The values that `MLPConfig` counts, the other tiers, and every tier's input and upsampling."""
        further = 3 * self.n_rnn * (len(self.ratios) - 1) + sum(self.ratios)
        return super().least_values + self.dim * (further * self.dim + sum(self.frame_sizes[1:]))

    @property
    def ratios(self) -> tuple[int, ...]:
        """r of Eq. 6 for every RNN tier, lowest first: vectors of conditioning that one of its frames gives."""
        steps = (1, *self.frame_sizes[1:])
        return tuple(size // step for step, size in itertools.pairwise(steps))


@dataclass(frozen=True)
class FramedConfig(TieredConfig):
    """The fields common to systems whose tiers read levels as real values."""

    frame_input: FrameInput = "code"
    """Real value of a level q for the frame tiers, before `frame_gain`, with Q = q_levels: "code" (q - Q//2) / (Q/2);
    "code-half" q / (Q/2) - 1; "code-floor" q / (Q//2) - 1; "amplitude" the decoded amplitude."""
    frame_gain: Annotated[float, Range(0, 1e6, above=True)] = 2.0
    """Factor on the frame tiers' input; the authors' code scales levels to [-2, 2)."""


@dataclass(frozen=True)
class SampleRNNConfig(FramedConfig):
    """One SampleRNN (ICLR 2017)."""

    system: ClassVar[str] = "samplernn"
    packed: ClassVar[bool] = True

    emb_size: Annotated[int, Range(0, 16384)] = 256
    """Width of the level embedding; 0 feeds one-hot levels to W_x of Eq. 8."""

    @property
    def least_values(self) -> int:
        """The values that `TieredConfig` counts, the embedding, and the MLP's input."""
        inputs = self.taps * (self.emb_size or self.q_levels)
        return super().least_values + self.dim * inputs + self.q_levels * self.emb_size


@dataclass(frozen=True)
class SparseSampleRNNConfig(FramedConfig):
    """SampleRNN whose folded matrices are its parameters, and are block-sparse: what a sampler multiplies is what is
    trained and pruned (`models.sparse.blocks`). `sparsify` makes one of a trained SampleRNN."""

    system: ClassVar[str] = "samplernn-sparse"
    packed: ClassVar[bool] = True

    weight_norm: WeightNorm = "none"
    """Leave it at none, because the folded matrices themselves are trained."""
    density: Annotated[float, Range(0.01, 1)] = 0.2
    """The share of the blocks of every matrix but the output layer that is not zero, 8 outputs by 4 inputs each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.weight_norm == "none", f"weight_norm must be none for {self.system}", self.weight_norm)

    @classmethod
    def of(cls, config: FramedConfig, density: float) -> Self:
        """The config of `config`'s folded network with this density. Fields that only the unfolded network has are
        left out, and `weight_norm`, which only its parameters have, is none."""
        known = {one.name for one in dataclasses.fields(cls)}
        values = {one.name: getattr(config, one.name) for one in dataclasses.fields(config) if one.name in known}
        return cls(**values | {"weight_norm": "none", "density": density})


@dataclass(frozen=True)
class SingleSampleConfig(MLPConfig):
    """The fields common to systems with one RNN over single samples. The authors' code has three hidden layers in its
    MLP, which is the default here."""

    mlp_hidden: Annotated[int, Range(1, 64)] = 3
    """Hidden layers of the MLP of Eq. 3, each with ReLU."""

    @property
    def lookback(self) -> int:
        """One sample: the RNN's state holds all that came before."""
        return 1

    @property
    def top_frame(self) -> int:
        """One sample."""
        return 1


@dataclass(frozen=True)
class OneTierConfig(SingleSampleConfig):
    """The paper's baseline, an RNN over single samples (Eq. 2-3; "RNN" in Table 1)."""

    system: ClassVar[str] = "rnn"
    packed: ClassVar[bool] = True

    emb_size: Annotated[int, Range(1, 16384)] = 256
    """Width of the level embedding."""

    MEANINGLESS: ClassVar[dict[str, Any]] = {
        "frame_sizes": [1],
        "upsample_norm_axis": "output",
        "upsample_bias": True,
        "top_input_linear": False,
        "mlp_input_relu": False,
        "frame_input": "code",
        "frame_gain": 2.0,
    }
    """What version 0.1.0 wrote for this system beside its fields: frame sizes of (1,) stood for the system, and the
    rest meant nothing. The values are those of its presets."""

    reads_levels: ClassVar[bool] = True
    """The one tier reads the embedding of the last level."""
    taps: ClassVar[int] = 0
    """The MLP reads no sample besides what the RNN has read."""
    frame_sizes: ClassVar[tuple[int, ...]] = (0, 1)
    """The model as samplers see it: no sample-level context, and one tier whose frame is one sample."""
    ratios: ClassVar[tuple[int, ...]] = (1,)
    """The one tier gives one vector for each of its frames."""
    mlp_input_relu: ClassVar[bool] = False
    """No ReLU stands between the RNN and the first hidden layer."""

    @property
    def least_values(self) -> int:
        """The values that `MLPConfig` counts, and the embedding."""
        return super().least_values + self.q_levels * self.emb_size

    def fingerprint(self) -> str:
        """The text of `AudioConfig`, with the fields that version 0.1.0 wrote besides."""
        return json.dumps(json.loads(super().fingerprint()) | self.MEANINGLESS, sort_keys=True)


PackedConfig = TieredConfig | OneTierConfig
"""The configs of systems with a packed layout, all of which are walked alike: tiers of frames, and an MLP."""


def require(condition: bool, message: str, got: object) -> None:
    """ConfigError that says what must hold and what came, unless the condition is met."""
    if not condition:
        raise ConfigError(f"{message}, got {reprlib.repr(got)}")


def _check_type(name: str, value: object, hint: Any) -> None:
    """JSON and keyword arguments are not typed; a wrong type must not surface later as a shape error."""
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        require(value in choices, f"{name} must be one of {', '.join(map(str, choices))}", value)
    elif typing.get_origin(hint) is tuple:
        whole = isinstance(value, tuple) and all(type(v) is int for v in value)
        require(whole, f"{name} must be whole numbers", value)
    elif hint is float:
        require(type(value) in (int, float), f"{name} must be a number", value)
    else:
        require(type(value) is hint, f"{name} must be {hint.__name__}", value)
