"""The SampleRNN-WaveNet hybrids of appendix A: a slow module over frames and a fast WaveNet over samples.

What the slow module makes of the frames before the current one is repeated for every sample of the frame, and set
beside what the fast one makes of the last samples; both pass through layers with ReLU at every sample alone. The paper
gives frames of 128 samples, and for the second hybrid an RNN of high capacity and a fast field of 509 samples. All
other sizes are ours, and so is the way a frame is read: its samples as real values in [-2, 2), as the frame tiers of
SampleRNN read them (Eq. 4), through one linear map.

Letters: B batch, T samples, N frames, F frame size, L lookback, C channels, S skip channels, E width of slow outputs.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, relu

from samplernn_fast.audio import quantize
from samplernn_fast.models.base import AudioModel, RecurrentModel, State
from samplernn_fast.models.layers.causal import DilatedStack, Head, StackStepper
from samplernn_fast.models.layers.cells import RNNStack
from samplernn_fast.models.other_configs import HybridConfig, HybridRNNWaveNetConfig, HybridWaveNetConfig


class Hybrid(AudioModel):
    """What both hybrids share. A hidden state is the slow output of the current frame (1, B, E), then the slow module's
    own, then the queues of the fast one."""

    config: HybridConfig

    def build(self, frame_width: int, slow_width: int) -> None:
        """Makes the parts that both have. frame_width: what the linear map makes of a frame."""
        config = self.config
        self.values = torch.from_numpy(quantize.for_config(config).frame_values("code", 2.0))
        self.slow_width = slow_width
        self.frame = nn.Linear(config.top_frame, frame_width)
        self.embedding = nn.Embedding(config.q_levels, config.channels)
        self.stack = DilatedStack(config.channels, config.dilations, config.skip_channels)
        self.head = Head(config.skip_channels + slow_width, config.end_channels, config.q_levels)

    @abstractmethod
    def run_slow(self, frames: Tensor, hidden: State) -> tuple[Tensor, State]:
        """Mapped frames (N, B, frame width) -> the slow outputs (N, B, E) for the frames that follow them, and the slow
        module's hidden state after them."""

    @abstractmethod
    def slow_hidden(self, batch_size: int, heard: Tensor) -> State:
        """The slow module's own part of `init_hidden`, behind levels (B, L), or (1, L) that all streams share."""

    def map_frames(self, levels: Tensor) -> Tensor:
        """Whole frames of levels (B, N F) -> what the linear map makes of each: (N, B, frame width)."""
        frames = self.values[levels].to(self.frame.weight.dtype).unflatten(1, (-1, self.config.top_frame))
        return self.frame(frames.transpose(0, 1))

    def mix(self, slow: Tensor, fast: Tensor) -> Tensor:
        """Slow outputs (N, B, E) and fast ones (N F, B, S) -> logits (B, N F, Q). The head's first layer reads a slow
        output once, and its product is repeated."""
        weight, bias = self.head.hidden.weight, self.head.hidden.bias
        of_fast, of_slow = weight.split((self.config.skip_channels, self.slow_width), dim=1)
        repeated = linear(relu(slow), of_slow, bias)[:, None]
        hidden = linear(relu(fast), of_fast).unflatten(0, (len(slow), -1)) + repeated
        return self.head.output(relu(hidden)).flatten(0, 1).transpose(0, 1)

    def init_hidden(self, batch_size: int, context: Tensor | None = None) -> State:
        """The hidden states of both modules, behind the context or endless silence. The slow output is 0, because the
        first step makes its own."""
        heard, table = self.silence() if context is None else context, self.embedding.weight
        queues = self.stack.queues_behind(embedding(heard[:, :-1].t(), table), batch_size)
        before = table.new_zeros(1, batch_size, self.slow_width)
        return (before, *self.slow_hidden(batch_size, heard), *queues)

    def split_hidden(self, hidden: State) -> tuple[Tensor, State, State]:
        """A hidden state's parts: the slow output, the slow module's own state, the queues."""
        queues = len(hidden) - len(self.stack.dilations)
        return hidden[0], hidden[1:queues], hidden[queues:]

    def follow(self, hidden: State, levels: Tensor) -> tuple[Tensor, State]:
        """Logits over known levels from the start of a frame on. What the hidden state holds is not computed again."""
        lookback, frame = self.config.lookback, self.config.top_frame
        _, slow_hidden, queues = self.split_hidden(hidden)
        slow, slow_hidden = self.run_slow(self.map_frames(levels[:, lookback - frame : -frame]), slow_hidden)
        fast, tails = self.stack(embedding(levels[:, lookback - 1 : -1].t(), self.embedding.weight), queues)
        parts = (slow[-1:], *slow_hidden, *tails)
        return self.mix(slow, fast), tuple(part.clone() for part in parts)

    def fast(self, levels: Tensor) -> Tensor:
        """The fast module over levels (B, L + T), from the context that it needs: (T, B, S)."""
        first = self.config.lookback - self.stack.field
        return self.stack(embedding(levels[:, first:-1].t(), self.embedding.weight))[0]

    def stepper(self, hidden: State, t: int) -> "HybridStepper":
        """A stepper from this hidden state, at time t; see `AudioModel`."""
        return HybridStepper(self, hidden, t)


class HybridWaveNet(Hybrid):
    """Both modules are WaveNets. It has no state: `forward` reads the context of both from its levels."""

    config: HybridWaveNetConfig

    def __init__(self, config: HybridWaveNetConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone."""
        super().__init__(config)
        with torch.random.fork_rng(devices=[]):
            self.build(config.dim, config.skip_channels)
            self.slow = DilatedStack(config.dim, config.slow_dilations, config.skip_channels)
        self.draw_weights(seed)

    def init_state(self, batch_size: int) -> State:
        """The empty tuple, because nothing is carried between subsequences."""
        return ()

    def forward(self, levels: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Teacher-forced logits of a whole subsequence, and no state: see `AudioModel`."""
        self.start(levels, state, reset)
        lookback, frame = self.config.lookback, self.config.top_frame
        slow, _ = self.slow(self.map_frames(levels[:, lookback - self.slow.field * frame : -frame]))
        return self.mix(slow, self.fast(levels)), ()

    def run_slow(self, frames: Tensor, hidden: State) -> tuple[Tensor, State]:
        """Runs the stack over frames, from its queues on; see `Hybrid`."""
        slow, tails = self.slow(frames, hidden)
        return slow, tuple(tails)

    def slow_hidden(self, batch_size: int, heard: Tensor) -> State:
        """The queues of the slow stack's layers."""
        return tuple(self.slow.queues_behind(self.map_frames(heard[:, : -self.config.top_frame]), batch_size))


class HybridRNNWaveNet(Hybrid, RecurrentModel):
    """The slow module is an RNN, whose state is carried from subsequence to subsequence."""

    config: HybridRNNWaveNetConfig

    def __init__(self, config: HybridRNNWaveNetConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone."""
        super().__init__(config)
        with torch.random.fork_rng(devices=[]):
            self.build(config.dim, config.dim)
            self.slow = RNNStack(config, config.dim)
        self.draw_weights(seed)

    def init_state(self, batch_size: int) -> State:
        """The initial state of the RNN: ((n_rnn, B, H),)."""
        return (self.slow.h0.unsqueeze(1).expand(-1, batch_size, -1),)

    def forward(self, levels: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Teacher-forced logits of a whole subsequence, and the state after it: see `AudioModel`."""
        before = self.start(levels, state, reset)
        lookback, frame = self.config.lookback, self.config.top_frame
        slow, after = self.run_slow(self.map_frames(levels[:, lookback - frame : -frame]), before)
        return self.mix(slow, self.fast(levels)), after

    def run_slow(self, frames: Tensor, hidden: State) -> tuple[Tensor, State]:
        """Runs the RNN over frames, from its state on; see `Hybrid`."""
        out, after = self.slow(frames.transpose(0, 1), hidden[0])
        return out.transpose(0, 1), (after,)

    def slow_hidden(self, batch_size: int, heard: Tensor) -> State:
        """The initial state of the RNN, which is learned for the start of a recording."""
        return self.init_state(batch_size)


class HybridStepper:
    """A hybrid one sample at a time. A call may begin in the middle of a frame, whose slow output it is given."""

    def __init__(self, model: Hybrid, hidden: State, t: int) -> None:
        self._model, self._t = model, t
        self._slow, self._slow_hidden, queues = model.split_hidden(hidden)
        self._fast = StackStepper(model.stack, queues)

    def step(self, levels: Tensor) -> Tensor:
        """Returns the outputs (B, 1, O) of the next sample; see `Stepper`."""
        model, frame = self._model, self._model.config.top_frame
        if self._t % frame == 0:
            self._slow, self._slow_hidden = model.run_slow(model.map_frames(levels[:, -frame:]), self._slow_hidden)
        fast = self._fast.step(embedding(levels[:, -1], model.embedding.weight))
        self._t += 1
        return model.mix(self._slow, fast[None])

    def hidden(self) -> State:
        """Copies of the slow output, the slow module's hidden state and the queues; see `Stepper`."""
        return (self._slow.clone(), *(h.clone() for h in self._slow_hidden), *self._fast.queues())
