"""The memory cells of Eq. 5, run over a whole subsequence: GRU in both forms, LSTM, stacks with skips.

Gate order is torch's: r, z, n for the GRU, i, f, g, o for the LSTM.
Letters: N frames, B batch, D dim, G gates (3 or 4), H state width (D, or 2 D for the LSTM's [h | c]).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from samplernn_fast.config import SampleRNNConfig


class GRUScan(torch.autograd.Function):
    """The recurrent half of a GRU over N frames, both forms, for the CPU.

    torch's own CPU GRU runs one small product per frame for the weights' gradient; here the backward pass only
    walks the state's gradient and leaves one large product for the end. On CUDA cuDNN is used instead.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, h0: Tensor, w_hh: Tensor, b_n: Tensor, reset_after: bool) -> Tensor:
        """gates (N, B, 3D) = W_ih x + biases; h0 (B, D); w_hh (3D, D); b_n (D,) inside the reset. Returns (N, B, D)."""
        n_frames, batch, dim = gates.shape[0], gates.shape[1], h0.shape[1]
        rz = gates.new_empty(n_frames, batch, 2 * dim)
        n, inner = gates.new_empty(2, n_frames, batch, dim).unbind(0)
        states = gates.new_empty(n_frames + 1, batch, dim)
        states[0] = h0
        w_rz, w_n = w_hh[: 2 * dim].t(), w_hh[2 * dim :].t()
        for t in range(n_frames):
            h = states[t]
            torch.addmm(gates[t, :, : 2 * dim], h, w_rz, out=rz[t]).sigmoid_()
            r, z = rz[t, :, :dim], rz[t, :, dim:]
            if reset_after:
                torch.addmm(b_n, h, w_n, out=inner[t])
                torch.addcmul(gates[t, :, 2 * dim :], r, inner[t], out=n[t]).tanh_()
            else:
                torch.mul(r, h, out=inner[t])
                torch.addmm(gates[t, :, 2 * dim :], inner[t], w_n, out=n[t]).tanh_()
            torch.lerp(n[t], h, z, out=states[t + 1])
        ctx.save_for_backward(rz, n, inner, states, w_hh)
        ctx.reset_after = reset_after
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor):
        """The state's gradient frame by frame; everything that does not depend on it is computed at once before."""
        rz, n, inner, states, w_hh = ctx.saved_tensors
        n_frames, batch, dim = n.shape
        r, z, h = rz[..., :dim], rz[..., dim:], states[:-1]
        slope_n = (1 - z) * (1 - n * n)
        d_gates = n.new_empty(n_frames, batch, 3, dim)
        d_h = torch.zeros_like(states[0])
        if ctx.reset_after:
            slopes = torch.stack((slope_n * r * inner * (1 - r), (h - n) * z * (1 - z), slope_n * r), dim=2)
            d_states = torch.empty_like(n)
            for t in reversed(range(n_frames)):
                torch.add(d_h, d_out[t], out=d_states[t])
                torch.mul(slopes[t], d_states[t].unsqueeze(1), out=d_gates[t])
                d_h = torch.addmm(d_states[t] * z[t], d_gates[t].view(batch, 3 * dim), w_hh)
            flat = d_gates.view(n_frames * batch, 3 * dim)
            d_w = flat.t() @ h.reshape(-1, dim)
            d_b = flat[:, 2 * dim :].sum(0)
            torch.mul(slope_n, d_states, out=d_gates[:, :, 2])
        else:
            slope_z, slope_r = (h - n) * z * (1 - z), h * r * (1 - r)
            w_rz, w_n = w_hh[: 2 * dim], w_hh[2 * dim :]
            for t in reversed(range(n_frames)):
                d_state = d_h + d_out[t]
                torch.mul(slope_n[t], d_state, out=d_gates[t, :, 2])
                torch.mul(slope_z[t], d_state, out=d_gates[t, :, 1])
                d_inner = d_gates[t, :, 2] @ w_n
                torch.mul(slope_r[t], d_inner, out=d_gates[t, :, 0])
                d_h = torch.addmm(d_state * z[t], d_gates[t, :, :2].reshape(batch, 2 * dim), w_rz).addcmul_(
                    d_inner, r[t]
                )
            flat = d_gates.view(n_frames * batch, 3 * dim)
            d_w = torch.cat((flat[:, : 2 * dim].t() @ h.reshape(-1, dim), flat[:, 2 * dim :].t() @ inner.view(-1, dim)))
            d_b = None
        return d_gates.view(n_frames, batch, 3 * dim), d_h, d_w, d_b, None


def gru_scan(gates: Tensor, h0: Tensor, w_hh: Tensor, b_n: Tensor, reset_after: bool) -> Tensor:
    """`GRUScan`, in one dtype: under autocast everything goes to its dtype, as torch's own GRU does."""
    device = gates.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return GRUScan.apply(gates.to(dtype), h0.to(dtype), w_hh.to(dtype), b_n.to(dtype), reset_after)
    return GRUScan.apply(gates, h0, w_hh, b_n, reset_after)


class RNNLayer(nn.Module):
    """One recurrent layer. A GRU that resets after the product has a second bias; the other cells have one."""

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor
    b_hh: Tensor | None

    def __init__(self, config: SampleRNNConfig, input_size: int) -> None:
        super().__init__()
        self.rnn, self.reset_after, self.dim = config.rnn, config.reset_after, config.dim
        self.scan = gru_scan  # a compiled model takes one that the compiler leaves alone: `keep_scans_uncompiled`
        width = config.dim * (3 if config.rnn == "gru" else 4)
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
        if self.b_hh is not None and x.is_cuda:
            weights = [self.w_ih, self.w_hh, self.b_ih, self.b_hh]
            out, h = torch.gru(x, state.unsqueeze(0).contiguous(), weights, True, 1, 0.0, self.training, False, False)
            return out, h[0]
        bias, b_n = self.b_ih, self.b_ih.new_zeros(self.dim)
        if self.b_hh is not None:
            outer, b_n = self.b_hh.split((2 * self.dim, self.dim))
            bias = bias + torch.cat((outer, outer.new_zeros(self.dim)))
        out = self.scan(nn.functional.linear(x, self.w_ih, bias), state, self.w_hh, b_n, self.reset_after)
        return out, out[-1]


class RNNStack(nn.Module):
    """The deep RNN of one tier: n_rnn layers, a learned initial state, and the skips between layers."""

    h0: Tensor

    def __init__(self, config: SampleRNNConfig, input_size: int) -> None:
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


def keep_scans_uncompiled(model: nn.Module) -> None:
    """Before torch.compile: it would unroll every frame of a scan. Not a decorator, because torch.compiler.disable
    imports the compiler, 1.3 s that every start of the program would pay."""
    scan = torch.compiler.disable(gru_scan)
    for module in model.modules():
        if isinstance(module, RNNLayer):
            module.scan = scan
