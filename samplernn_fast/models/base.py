"""`AudioModel`: what training, scoring and sampling need of a model of any system; and a recurrent one's first weights.

Letters: B batch, T samples, L lookback, Q levels, O outputs of the network for one sample.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import weight_norm

from samplernn_fast.errors import ConfigError
from samplernn_fast.models.config import AudioConfig, RecurrentConfig
from samplernn_fast.models.layers.causal import DilatedStack
from samplernn_fast.ranges import Range

_SEEDS = Range(0, 2**64 - 1)
State = tuple[Tensor, ...]
"""Float tensors (n, B, H) with the streams on the second axis."""


class Stepper(Protocol):
    """Goes through time with a model, sample by sample. `AudioModel.stepper` makes one for one call."""

    def step(self, levels: Tensor) -> Tensor:
        """levels (B, L): those before time t. Returns outputs (B, n, O) of the samples t .. t + n - 1, which depend on
        `levels` alone, so n is 1 unless they are independent of each other. The next step is that of t + n."""
        ...

    def hidden(self) -> State:
        """The hidden state before the next step; tensors of its own."""
        ...


class AudioModel(nn.Module, ABC):
    """An unconditional model of raw audio: p(x_{t+1} | x_1..x_t) (Eq. 1), as training, scoring and sampling use it.

    model(levels, state, reset), with levels (B, L + T) integers, the first L = `config.lookback` context, and T a
    multiple of `config.top_frame`; state: what an earlier call returned, or None for the initial state; reset: (B,)
    bool, rows that start a new recording and take the learned initial state. Returns outputs (B, T, O), where
    outputs[:, t] predicts levels[:, L + t] and depends on levels[:, :L + t] only, and the state after the last sample.
    Outputs are logits of the Q levels, or what `config.mixture` stands for.

    A state goes from one subsequence to the next. A hidden state is what one step hands to the next one, and a network
    without recurrence has one too (the queues of its convolutions); for a recurrent one both are the same.
    """

    values: Tensor
    """The real value of every level, where the network reads such values: (Q,) float64. It is no buffer, so that no
    cast of the model rounds it."""

    def __init__(self, config: AudioConfig, *, seed: int | None = 0) -> None:
        """Subclasses draw their weights from `seed` alone; None leaves them to be filled in."""
        if not isinstance(config, AudioConfig):
            raise ConfigError(f"a model takes a config, such as SampleRNNConfig(), got {config!r:.60}")
        super().__init__()
        self.config = config

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Does what torch does for `to`, `cuda` and the like. Of `values` it changes the device alone, to that of the
        weights."""
        super()._apply(fn, recurse)
        if "values" in self.__dict__:
            self.values = self.values.to(next(self.parameters()).device)
        return self

    def draw_weights(self, seed: int | None) -> None:
        """Section 3's initial weights in float32, from `seed` alone, where it is not None."""
        self.to(torch.float32)
        if seed is not None:
            _SEEDS.check("seed", seed, whole=True)
            self.initialize(torch.Generator().manual_seed(seed))

    def initialize(self, generator: torch.Generator) -> None:
        """Fills all weights with initial ones, which the generator draws."""
        lstm = isinstance(self.config, RecurrentConfig) and self.config.rnn == "lstm"
        _initialize(self, generator, lstm)

    @abstractmethod
    def init_state(self, batch_size: int) -> State:
        """The initial state of every deep RNN: (n_rnn, B, H) each, H = D, or 2 D ([h | c]) for LSTM. It is empty for a
        system that carries nothing from one subsequence to the next."""

    @abstractmethod
    def stepper(self, hidden: State, t: int) -> Stepper:
        """A stepper that begins at time t. hidden: the hidden state before it, which is left as it is."""

    def init_hidden(self, batch_size: int, context: Tensor | None = None) -> State:
        """The hidden state of a stepper before the first sample: behind the levels `context` (B, L), as `forward` has
        them from the initial state, or behind endless silence."""
        return self.init_state(batch_size)

    def silence(self) -> Tensor:
        """A context of silence that all streams share: levels (1, L)."""
        shape = (1, self.config.lookback)
        return torch.full(shape, self.config.q_zero, device=next(self.parameters()).device)

    def follow(self, hidden: State, levels: Tensor) -> tuple[Tensor, State]:
        """Outputs (B, T, O) over known levels (B, L + T), from a stepper's hidden state to the next one."""
        outputs, state = self(levels, hidden)
        return outputs, state

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns what training minimises, in bits: outputs (B, T, O) and targets (B, T) -> (B, T)."""
        return bits_per_sample(outputs, targets)

    def bits(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood of each target (B, T) among the levels, in bits: what systems are compared by."""
        return bits_per_sample(outputs, targets)

    def start(self, levels: Tensor, state: State | None, reset: Tensor | None) -> State:
        """The state that a call starts from. ConfigError where its levels cannot be aligned or are none of the model's,
        and for a reset that is not (B,) bool."""
        lookback, frame = self.config.lookback, self.config.top_frame
        if not isinstance(levels, Tensor) or levels.dim() != 2 or levels.dtype not in (torch.int64, torch.int32):
            raise ConfigError(f"forward: levels must be a tensor (B, L + T) of integers, got {_kind(levels)}")
        if reset is not None and (
            not isinstance(reset, Tensor) or reset.shape != levels.shape[:1] or reset.dtype != torch.bool
        ):
            raise ConfigError(f"forward: reset must be a tensor ({levels.shape[0]},) of bool, got {_kind(reset)}")
        steps = levels.shape[1] - lookback
        if steps <= 0 or steps % frame:
            raise ConfigError(
                f"forward: T must be a positive multiple of the top frame, {frame}, in levels (B, L + T) with"
                f" L = {lookback}, got T = {steps}"
            )
        # A GPU would have to be waited for, and a compiled forward looks at no numbers.
        if levels.device.type == "cpu" and not torch.compiler.is_compiling() and levels.numel():
            low, high = (int(end) for end in levels.aminmax())
            if low < 0 or high >= self.config.q_levels:
                raise ConfigError(f"forward: levels must be 0 to {self.config.q_levels - 1}, got {low} to {high}")
        initial = self.init_state(levels.shape[0])
        if state is None or reset is None:
            return initial if state is None else state
        return tuple(torch.where(reset[:, None], h0, h) for h0, h in zip(initial, state, strict=True))

    def nll_bits(self, levels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean negative log-likelihood, in bits per sample, of levels[:, L:] (B, T) from the initial state.

        Any T; mask (B, T) leaves out positions where it is False.
        """
        lookback = self.config.lookback
        steps = levels.shape[1] - lookback
        padding = -steps % self.config.top_frame
        padded = nn.functional.pad(levels, (0, padding), value=self.config.q_zero)
        outputs, _ = self(padded)
        bits = self.bits(outputs[:, :steps], levels[:, lookback:])
        return bits.mean() if mask is None else (bits * mask).sum() / mask.sum()


class RecurrentModel(AudioModel):
    """An audio model whose memory is an RNN: how its first weights are drawn."""

    config: RecurrentConfig

    def norm_axis(self, name: str) -> int:
        """The axis of a linear map's weight (out, in) along which weight normalization has one gain per unit."""
        return 0

    def draw_weights(self, seed: int | None) -> None:
        """Draws the initial weights, and adds weight normalization."""
        super().draw_weights(seed)
        _add_weight_norm(self)


def _kind(value: object) -> str:
    """Describes what was given in place of a tensor of another shape or type, for messages."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {value.dtype}"
    return f"{value!r:.60}" if value is None or isinstance(value, bool | int | float | str) else type(value).__name__


def bits_per_sample(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of each target, in bits: logits (..., Q), targets (...) -> (...) float32 or float64."""
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    losses = cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1).long(), reduction="none")
    return losses.view(targets.shape) / math.log(2)


@torch.no_grad()
def _initialize(model: AudioModel, generator: torch.Generator, lstm: bool) -> None:
    """Section 3: N(0, 1) embedding, orthogonal hidden-to-hidden matrices, He elsewhere, LSTM forget bias 3. Stacks of
    dilated convolutions, of which the section does not speak, draw their own."""
    for name, parameter in model.named_parameters():
        if name.endswith("w_hh"):
            for gate in parameter.split(parameter.shape[1]):
                nn.init.orthogonal_(gate, generator=generator)
        elif name.endswith("embedding.weight"):
            parameter.normal_(generator=generator)
        elif parameter.dim() == 2 and not name.endswith("h0"):
            parameter.normal_(0, math.sqrt(2 / parameter.shape[1]), generator=generator)
        else:
            parameter.zero_()
        if lstm and name.endswith("b_ih"):
            dim = len(parameter) // 4
            parameter[dim : 2 * dim] = 3.0
    for module in model.modules():
        if isinstance(module, DilatedStack):
            module.draw(generator)


def _add_weight_norm(model: RecurrentModel) -> None:
    """Weight normalization (Salimans & Kingma 2016) where the config wants it: one gain per output row by default."""
    config = model.config
    if config.weight_norm == "none":
        return
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            weight_norm(module, "weight", dim=model.norm_axis(name))
        elif hasattr(module, "w_hh") and config.weight_norm == "all":
            weight_norm(module, "w_ih", dim=0)
            weight_norm(module, "w_hh", dim=0)
    for name, vectors in model.named_parameters():
        if name.endswith("original1") and vectors.numel() == model.get_parameter(name[:-1] + "0").numel():
            # A vector of one number has a sign for its direction, and no gradient but what rounding leaves. Adam would
            # divide that by its own size, walk at random, and turn signs.
            vectors.register_hook(torch.zeros_like)
