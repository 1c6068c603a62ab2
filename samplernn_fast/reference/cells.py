"""One step of the memory cells of Eq. 5, in plain torch: GRU in both forms, and LSTM. Letters: B streams, D units."""

import torch
from torch import Tensor
from torch.nn.functional import linear


def gru_cell_ref(gates: Tensor, h: Tensor, w_hh: Tensor, b_n: Tensor | None) -> Tensor:
    """One GRU step: gates (B, 3D) = input products and biases in order r, z, n; h (B, D) -> new h.

    b_n (D,) is the bias inside the reset gate's product; None selects the form that resets before the product.
    """
    dim = h.shape[1]
    if b_n is None:
        r, z = (gates[:, : 2 * dim] + linear(h, w_hh[: 2 * dim])).sigmoid().chunk(2, dim=1)
        n = torch.tanh(gates[:, 2 * dim :] + linear(r * h, w_hh[2 * dim :]))
    else:
        recurrent = linear(h, w_hh)
        r, z = (gates[:, : 2 * dim] + recurrent[:, : 2 * dim]).sigmoid().chunk(2, dim=1)
        n = torch.tanh(gates[:, 2 * dim :] + r * (recurrent[:, 2 * dim :] + b_n))
    return n + z * (h - n)


def lstm_cell_ref(gates: Tensor, state: Tensor, w_hh: Tensor) -> Tensor:
    """One LSTM step: gates (B, 4D) = input products and bias, order i, f, g, o; state (B, 2D) = [h | c] -> new."""
    h, c = state.chunk(2, dim=1)
    i, f, g, o = (gates + linear(h, w_hh)).chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return torch.cat((o.sigmoid() * c.tanh(), c), dim=1)
