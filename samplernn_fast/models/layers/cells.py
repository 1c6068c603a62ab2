"""The memory cells of Eq. 5, run over a whole subsequence: GRU in both forms, LSTM, stacks with skips.

Gate order is torch's: r, z, n for the GRU, i, f, g, o for the LSTM.
Letters: N frames, B batch, D dim, G gates (3 or 4), H state width (D, or 2 D for the LSTM's [h | c]).
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from samplernn_fast.models.config import RecurrentConfig
from samplernn_fast.models.layers.gru_scan import gru_scan


class RNNLayer(nn.Module):
    """One recurrent layer. A GRU that resets after the product has a second bias; the other cells have one."""

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor
    b_hh: Tensor | None

    def __init__(self, config: RecurrentConfig, input_size: int) -> None:
        super().__init__()
        self.rnn, self.reset_after, self.dim = config.rnn, config.reset_after, config.dim
        self.scan = gru_scan  # a compiled model takes one that the compiler leaves alone: `keep_scans_uncompiled`
        width = config.dim * config.gates
        self.w_ih = nn.Parameter(torch.empty(width, input_size))
        self.w_hh = nn.Parameter(torch.empty(width, config.dim))
        self.b_ih = nn.Parameter(torch.zeros(width))
        two_biases = config.rnn == "gru" and config.reset_after
        self.b_hh = nn.Parameter(torch.zeros(width)) if two_biases else None

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, B, input), state (B, H) -> outputs (N, B, D), new state (B, H)."""
        if self.rnn == "lstm":
            h, c = state.unsqueeze(0).chunk(2, dim=-1)
            weights = [self.w_ih, self.w_hh, self.b_ih, torch.zeros_like(self.b_ih)]
            out, h, c = torch.lstm(
                x, (h.contiguous(), c.contiguous()), weights, True, 1, 0.0, self.training, False, False
            )
            return out, torch.cat((h[0], c[0]), dim=-1)
        if self.b_hh is not None and not self.scans(x.device):
            weights = [self.w_ih, self.w_hh, self.b_ih, self.b_hh]
            out, h = torch.gru(x, state.unsqueeze(0).contiguous(), weights, True, 1, 0.0, self.training, False, False)
            return out, h[0]
        return self.run_gates(nn.functional.linear(x, self.w_ih, self.gate_bias()).unsqueeze(2), state)

    def scans(self, device: torch.device) -> bool:
        """Whether `run_gates` is this layer's way on that device; other cells are torch's or cuDNN's."""
        return self.rnn == "gru" and not (self.reset_after and device.type == "cuda")

    def gate_bias(self) -> Tensor:
        """(G D,) the biases that are always added to W_ih x."""
        if self.b_hh is None:
            return self.b_ih
        return self.b_ih + torch.cat((self.b_hh[: 2 * self.dim], self.b_hh.new_zeros(self.dim)))

    def run_gates(self, gates: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As forward, from gates (N, B, R, 3D) = W_ih x + gate_bias of frames in groups of R -> (N R, B, D), (B, D)."""
        b_n = self.b_ih.new_zeros(self.dim) if self.b_hh is None else self.b_hh[2 * self.dim :]
        out = self.scan(gates, state, self.w_hh, b_n, self.reset_after)
        return out, out[-1]


class RNNStack(nn.Module):
    """The deep RNN of one tier: n_rnn layers, a learned initial state, and the skips between layers."""

    h0: Tensor

    def __init__(self, config: RecurrentConfig, input_size: int) -> None:
        super().__init__()
        self.skip, dim = config.skip, config.dim
        first = 2 * input_size if self.skip == "prism" else input_size
        later = dim + input_size if self.skip == "full" else dim
        sizes = [first] + [later] * (config.n_rnn - 1)
        self.layers = cast(Sequence[RNNLayer], nn.ModuleList(RNNLayer(config, size) for size in sizes))
        if self.skip != "none":
            maps = nn.ModuleList(nn.Linear(dim, dim, bias=layer == 0) for layer in range(config.n_rnn))
            self.skip_out = cast(Sequence[nn.Linear], maps)
        h0 = torch.zeros(config.n_rnn, dim if config.rnn == "gru" else 2 * dim)
        if config.learn_h0:
            self.h0 = nn.Parameter(h0)
        else:
            self.register_buffer("h0", h0)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, N, input), state (n_rnn, B, H) -> outputs (B, N, D), new state (n_rnn, B, H)."""
        inputs = x.transpose(0, 1).contiguous()
        out, summed, new_state = inputs, None, []
        for layer, module in enumerate(self.layers):
            if self.skip == "prism" and layer == 0:
                out = torch.cat((inputs, inputs), dim=-1)
            elif self.skip == "full" and layer > 0:
                out = torch.cat((out, inputs), dim=-1)
            out, last = module(out, state[layer])
            new_state.append(last)
            if self.skip != "none":
                projected = self.skip_out[layer](out)
                summed = projected if summed is None else summed + projected
        result = out if summed is None else summed
        return result.transpose(0, 1), torch.stack(new_state)

    def output(self, state: Tensor) -> Tensor:
        """The output (B, D) of the newest frame, from the state (n_rnn, B, H) after it."""
        h = state[..., : self.layers[0].dim]
        if self.skip == "none":
            return h[-1]
        projected = [skip_out(of_layer) for skip_out, of_layer in zip(self.skip_out, h, strict=True)]
        return torch.stack(projected).sum(0)

    def run_gates(self, gates: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As forward without skips, from what the first layer makes of x: see `RNNLayer.run_gates`."""
        out, last = self.layers[0].run_gates(gates, state[0])
        new_state = [last]
        for module, before in zip(self.layers[1:], state[1:], strict=True):
            out, last = module(out, before)
            new_state.append(last)
        return out.transpose(0, 1), torch.stack(new_state)


def keep_scans_uncompiled(model: nn.Module) -> None:
    """Keeps torch.compile, which would unroll every frame, away from a model's scans; call it before compiling.

    This is no decorator of `gru_scan`, because torch.compiler.disable imports the compiler, for which every start of
    the program would pay 1.3 s.
    """
    scan = torch.compiler.disable(gru_scan)
    for module in model.modules():
        if getattr(module, "scan", None) is gru_scan:
            module.scan = scan
