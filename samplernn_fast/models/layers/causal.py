"""Dilated causal convolutions of filter size 2, gates and skips (Oord et al. 2016): over known samples, and by step.

Time is the first axis, so that the two taps of a convolution are two slices without a copy, and a queue is a slice too.
Letters: N inputs, T outputs, B batch, C channels, S skip channels, n layers, d the dilation of a layer.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu


class DilatedStack(nn.Module):
    """Blocks of layers: gated = tanh(W_f * x) sigmoid(W_g * x), next x = x + W_r gated, sum of W_s gated over layers.

    Filters, gates and residual connections have C channels each, and the last layer has no next x. The skips of
    all layers are one product, because one matrix with n C columns is faster than n matrices and n sums.
    """

    def __init__(self, channels: int, dilations: Sequence[int], skip_dim: int) -> None:
        """The weights are left to `draw`, or to be filled in."""
        super().__init__()
        self.dilations, self.channels, count = tuple(dilations), channels, len(dilations)
        self.gate_weight = nn.Parameter(torch.empty(count, 2 * channels, 2 * channels))
        """(n, [filter | gate], [older tap | newer tap])."""
        self.gate_bias = nn.Parameter(torch.zeros(count, 2 * channels))
        self.residual_weight = nn.Parameter(torch.empty(count - 1, channels, channels))
        self.residual_bias = nn.Parameter(torch.zeros(count - 1, channels))
        self.skip_weight = nn.Parameter(torch.empty(skip_dim, count * channels))
        self.skip_bias = nn.Parameter(torch.zeros(skip_dim))

    @property
    def field(self) -> int:
        """How many inputs an output depends on: 1 and the sum of the dilations."""
        return 1 + sum(self.dilations)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Initial weights that keep the variance of what tanh and sigmoid read, N(0, 1 / fan-in); biases are zero."""
        for weight in (self.gate_weight, self.residual_weight, self.skip_weight):
            weight.normal_(0, math.sqrt(1 / weight.shape[-1]), generator=generator)
        for bias in (self.gate_bias, self.residual_bias, self.skip_bias):
            bias.zero_()

    def forward(self, x: Tensor, queues: Sequence[Tensor] = ()) -> tuple[Tensor, list[Tensor]]:
        """x (N, B, C) -> skips (T, B, S), and every layer's last d inputs (d, B, C), which are its next queue.

        Behind queues, T = N. Without them, the first field - 1 inputs are context, T = N - field + 1, and each layer
        computes only what later ones still need.
        """
        steps = x.shape[0] if queues else x.shape[0] - self.field + 1
        gated, tails, channels = [], [], self.channels
        weights = zip(self.gate_weight.unbind(), self.gate_bias.unbind(), strict=True)
        residuals = list(zip(self.residual_weight.unbind(), self.residual_bias.unbind(), strict=True))
        for layer, (dilation, (weight, bias)) in enumerate(zip(self.dilations, weights, strict=True)):
            if queues:
                x = torch.cat((queues[layer], x))
            tails.append(x[-dilation:])
            newer = x[dilation:]
            gates = linear(x[:-dilation], weight[:, :channels]) + linear(newer, weight[:, channels:], bias)
            signal, gate = gates.chunk(2, dim=-1)
            out = torch.tanh(signal) * torch.sigmoid(gate)
            gated.append(out[-steps:])
            if layer < len(residuals):
                x = newer + linear(out, *residuals[layer])
        return linear(torch.cat(gated, dim=-1), self.skip_weight, self.skip_bias), tails

    def queues_behind(self, x: Tensor, batch_size: int) -> list[Tensor]:
        """The queues (d, B, C) behind inputs x (N, B, C), or (N, 1, C) that all streams share, N at least field - 1.
        Earlier inputs change none of them."""
        queues = self(torch.cat((x[:1], x)))[1]  # one more input, because `forward` makes an output
        return [queue.expand(-1, batch_size, -1) for queue in queues]


class StackStepper:
    """A stack one input at a time. A layer's queue of its last d inputs is a ring, so a step costs the same for every
    field: it reads the oldest input and writes the newest one into its place."""

    def __init__(self, stack: DilatedStack, queues: Sequence[Tensor]) -> None:
        """queues: (d, B, C) of each layer, oldest first; they are copied."""
        channels, (batch, count) = stack.channels, (queues[0].shape[1], len(queues))
        self._rings = [queue.clone(memory_format=torch.contiguous_format) for queue in queues]
        self._steps = 0
        # sigmoid(u) is (1 + tanh(u / 2)) / 2: with both halves in the weights, one tanh makes filter and gate.
        half = stack.gate_bias.new_ones(2 * channels)
        half[channels:] = 0.5
        gate_weights = (stack.gate_weight * half[:, None]).transpose(1, 2).contiguous()
        gate_biases = stack.gate_bias * half
        residuals = (stack.residual_weight / 2).transpose(1, 2).contiguous().unbind()
        self._skip_weight, self._skip_bias = (stack.skip_weight / 2).t().contiguous(), stack.skip_bias
        self._taps, self._gates = (stack.gate_bias.new_empty(batch, 2 * channels) for _ in range(2))
        self._gated = stack.gate_bias.new_empty(batch, count * channels)
        self._layers = list(
            zip(
                stack.dilations,
                [ring.unbind() for ring in self._rings],
                gate_weights.unbind(),
                gate_biases.unbind(),
                self._gated.split(channels, dim=1),
                [*residuals, None],
                [*stack.residual_bias.unbind(), None],
                strict=True,
            )
        )

    def step(self, x: Tensor) -> Tensor:
        """x (B, C) -> the layers' skips (B, S)."""
        older, newer = self._taps.chunk(2, dim=1)
        signal, gate = self._gates.chunk(2, dim=1)
        newer.copy_(x)
        for dilation, ring, weight, bias, gated, residual_weight, residual_bias in self._layers:
            slot = ring[self._steps % dilation]
            older.copy_(slot)
            slot.copy_(newer)
            torch.addmm(bias, self._taps, weight, out=self._gates)
            self._gates.tanh_()
            torch.addcmul(signal, signal, gate, out=gated)
            if residual_weight is not None:
                newer.addmm_(gated, residual_weight).add_(residual_bias)
        self._steps += 1
        return torch.addmm(self._skip_bias, self._gated, self._skip_weight)

    def queues(self) -> list[Tensor]:
        """The queues after the last step, oldest input first; tensors of their own."""
        return [ring.roll(-(self._steps % len(ring)), 0) for ring in self._rings]


class Head(nn.Module):
    """ReLU, then hidden layers with ReLU and an output layer, at every sample alone: skips (..., S) -> (..., Q)."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(input_size, hidden_size)
        self.output = nn.Linear(hidden_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        """Skips (..., S) -> logits (..., Q)."""
        return self.output(relu(self.hidden(relu(x))))
