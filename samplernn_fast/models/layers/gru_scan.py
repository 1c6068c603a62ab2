"""The recurrent half of a GRU over a whole subsequence, forward and backward, for the CPU.

Letters: N groups of R frames, B batch, D dim, O outputs.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# The most floats (frames x batch x units) whose slopes a backward pass works out together, so that they stay in cache.
_SLOPES_AT_ONCE = 1 << 18


class GRUScan(torch.autograd.Function):
    """The recurrent half of a GRU, both forms, for the CPU. Frame n R + j reads gates[n, :, j].

    torch's own CPU GRU runs one small product per frame for the weights' gradient; here the backward pass only
    walks the state's gradient and leaves one large product for the end. On CUDA cuDNN is used instead.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, h0: Tensor, w_hh: Tensor, b_n: Tensor, reset_after: bool) -> Tensor:
        """gates (N, B, R, 3D) = W_ih x + biases; h0 (B, D); w_hh (3D, D); b_n (D,) inside the reset: (N R, B, D)."""
        (batch, dim), n_frames = h0.shape, gates.shape[0] * gates.shape[2]
        sums = gates.new_empty(n_frames, batch, 3 * dim)  # r, z, and what stands inside n's product with r or W_hn
        n = gates.new_empty(n_frames, batch, dim)
        states = gates.new_empty(n_frames + 1, batch, dim)
        states[0] = h0
        w_rz, w_n = w_hh[: 2 * dim].t(), w_hh[2 * dim :].t()
        for t, gates_at_t in enumerate(_frames(gates)):
            h, rz, inner = states[t], sums[t, :, : 2 * dim], sums[t, :, 2 * dim :]
            r, z = rz[:, :dim], rz[:, dim:]
            rz.copy_(gates_at_t[:, : 2 * dim])
            if reset_after:
                inner.copy_(b_n)
                sums[t].addmm_(h, w_hh.t())
                rz.sigmoid_()
                torch.addcmul(gates_at_t[:, 2 * dim :], r, inner, out=n[t]).tanh_()
            else:
                rz.addmm_(h, w_rz).sigmoid_()
                torch.mul(r, h, out=inner)
                torch.addmm(gates_at_t[:, 2 * dim :], inner, w_n, out=n[t]).tanh_()
            torch.lerp(n[t], h, z, out=states[t + 1])
        ctx.save_for_backward(sums, n, states, w_hh)
        ctx.groups, ctx.reset_after = gates.shape[0], reset_after
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor):
        """The state's gradient frame by frame, slopes for a few frames at once, the weights' gradient at the end."""
        sums, n, states, w_hh = ctx.saved_tensors
        n_frames, batch, dim = n.shape
        d_gates = n.new_empty(ctx.groups, batch, n_frames // ctx.groups, 3 * dim)
        flat, h = d_gates.view(-1, 3 * dim), _grouped(states[:-1], ctx.groups).reshape(-1, dim)
        if ctx.reset_after:
            d_n = torch.empty_like(n)
            d_h = _walk_reset_after(d_out, sums, n, states, w_hh, _frames(d_gates), d_n)
            d_w = flat.t() @ h
            d_b = flat[:, 2 * dim :].sum(0)
            d_gates[..., 2 * dim :] = _grouped(d_n, ctx.groups)
        else:
            d_h = _walk_reset_before(d_out, sums, n, states, w_hh, _frames(d_gates))
            inner = _grouped(sums[..., 2 * dim :], ctx.groups).reshape(-1, dim)
            d_w = torch.cat((flat[:, : 2 * dim].t() @ h, flat[:, 2 * dim :].t() @ inner))
            d_b = None
        return d_gates, d_h, d_w, d_b, None


def _frames(gates: Tensor) -> list[Tensor]:
    """Views of (N, B, R, O) frame by frame: N R times (B, O)."""
    return [frame for group in gates.unbind(0) for frame in group.unbind(1)]


def _grouped(frames: Tensor, groups: int) -> Tensor:
    """(N R, B, O) in the order of the gates: (N, B, R, O)."""
    return frames.unflatten(0, (groups, -1)).transpose(1, 2)


def _backwards(n: Tensor) -> Iterator[slice]:
    """Runs of frames, last first, short enough for the cache."""
    step = max(1, _SLOPES_AT_ONCE // n[0].numel())
    for end in range(n.shape[0], 0, -step):
        yield slice(max(0, end - step), end)


def _walk_reset_after(
    d_out: Tensor, sums: Tensor, n: Tensor, states: Tensor, w_hh: Tensor, d_gates: list[Tensor], d_n: Tensor
) -> Tensor:
    """Fills d_gates with the gradient of W_hh h + b, d_n with that of the input's part of n; returns h0's (B, D)."""
    dim, d_h = n.shape[2], d_out[-1]
    for run in _backwards(n):
        (r, z, inner), n_run = sums[run].split(dim, dim=2), n[run]
        slope_n = (1 - z) * (1 - n_run * n_run)
        slope_z, slope_inner = (states[run] - n_run) * z * (1 - z), slope_n * r
        slopes = torch.stack((slope_inner * inner * (1 - r), slope_z, slope_inner), dim=2)
        for t in reversed(range(run.start, run.stop)):
            at = t - run.start
            torch.mul(slopes[at], d_h.unsqueeze(1), out=d_gates[t].unflatten(1, (3, dim)))
            torch.mul(slope_n[at], d_h, out=d_n[t])
            # In place on a fresh sum: one pass, and the product needs no copy of what it is added to.
            d_h = torch.addcmul(d_out[t - 1], d_h, z[at]) if t else d_h * z[at]
            d_h.addmm_(d_gates[t], w_hh)
    return d_h


def _walk_reset_before(
    d_out: Tensor, sums: Tensor, n: Tensor, states: Tensor, w_hh: Tensor, d_gates: list[Tensor]
) -> Tensor:
    """Fills d_gates with the gradient of all three gates; returns that of h0 (B, D)."""
    dim, d_h = n.shape[2], d_out[-1]
    w_rz, w_n = w_hh[: 2 * dim], w_hh[2 * dim :]
    for run in _backwards(n):
        (r, z, _), n_run, h = sums[run].split(dim, dim=2), n[run], states[run]
        slope_n = (1 - z) * (1 - n_run * n_run)
        slope_z, slope_r = (h - n_run) * z * (1 - z), h * r * (1 - r)
        for t in reversed(range(run.start, run.stop)):
            at, (d_r, d_z, d_n) = t - run.start, d_gates[t].split(dim, dim=1)
            torch.mul(slope_n[at], d_h, out=d_n)
            torch.mul(slope_z[at], d_h, out=d_z)
            d_inner = d_n @ w_n
            torch.mul(slope_r[at], d_inner, out=d_r)
            d_h = torch.addcmul(d_out[t - 1], d_h, z[at]) if t else d_h * z[at]
            d_h.addcmul_(d_inner, r[at]).addmm_(d_gates[t][:, : 2 * dim], w_rz)
    return d_h


def gru_scan(gates: Tensor, h0: Tensor, w_hh: Tensor, b_n: Tensor, reset_after: bool) -> Tensor:
    """`GRUScan`, in one dtype: under autocast everything goes to its dtype, as torch's own GRU does."""
    device = gates.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return GRUScan.apply(gates.to(dtype), h0.to(dtype), w_hh.to(dtype), b_n.to(dtype), reset_after)
    return GRUScan.apply(gates, h0, w_hh, b_n, reset_after)
