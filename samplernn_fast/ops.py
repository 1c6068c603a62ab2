"""The steps of the sampler as `torch.library` operators, for other people's autoregressive models.

    from samplernn_fast import ops
    h = ops.gru_cell(gates, h, w_hh, b_n)
    level = ops.sample_step(conditioning, recent, tables, hidden, hidden_bias, output, output_bias, draw, temperature)

On the CPU they are the reference's plain torch, on an NVIDIA GPU Triton kernels; `torch.compile(fullgraph=True)` takes
both. For inference: they have no gradient.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, relu

from samplernn_fast.errors import ConfigError
from samplernn_fast.reference.cells import gru_cell_ref
from samplernn_fast.reference.draw import sample_ref

_FLOATS = (torch.float32, torch.bfloat16)


def gru_cell(gates: Tensor, h: Tensor, w_hh: Tensor, b_n: Tensor | None = None) -> Tensor:
    """One GRU step: the new state (B, D), of h's type.

    gates (B, 3D) float32: input products and biases, order r, z, n; h (B, D) and w_hh (3D, D): float32 or bfloat16,
    alike. b_n (D,) float32: the bias inside the reset gate's product; None is the form that resets before the product
    (Chung et al. 2014).
    """
    return torch.ops.samplernn_fast.gru_cell(gates, h, w_hh, b_n)


def sample_step(
    conditioning: Tensor,
    recent: Tensor,
    tables: Tensor,
    hidden: Tensor,
    hidden_bias: Tensor,
    output: Tensor,
    output_bias: Tensor,
    draw: Tensor,
    temperature: Tensor,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Tensor:
    """One level of every stream, (B,) int64: Eq. 7-9 of the paper and the draw of `samplernn_fast.reference.draw`.

    relu(conditioning (B, D) + tables[i][recent[:, i]] for every i), hidden layers with ReLU, output layer, softmax.
    recent (B, I) int64: the last I levels, oldest first; tables (I, Q, D). hidden (n, D, D) and hidden_bias (n, D), n
    may be 0; output (Q, D), output_bias (Q,). hidden and output: float32 or bfloat16; the other floats: float32.
    draw (B,) int64 below 2^32, as numbers of `reference.randomness.draws`; temperature (B,), 0 for the likeliest one.
    top_k 0 and top_p 1 are off.
    """
    settings = (draw, temperature, top_k, top_p)
    layers = (hidden, hidden_bias, output, output_bias)
    return torch.ops.samplernn_fast.sample_step(conditioning, recent, tables, *layers, *settings)


@torch.library.custom_op("samplernn_fast::gru_cell", mutates_args=(), device_types="cpu")
def _gru_cell(gates: Tensor, h: Tensor, w_hh: Tensor, b_n: Tensor | None) -> Tensor:
    _check_cell(gates, h, w_hh, b_n)
    inner = None if b_n is None else b_n.float()
    return gru_cell_ref(gates.float(), h.float(), w_hh.float(), inner).to(h.dtype)


@_gru_cell.register_kernel("cuda")
def _gru_cell_cuda(gates: Tensor, h: Tensor, w_hh: Tensor, b_n: Tensor | None) -> Tensor:
    _check_cell(gates, h, w_hh, b_n)
    from samplernn_fast.kernels.operators import gru_cell

    return gru_cell(gates, h, w_hh, b_n)


@_gru_cell.register_fake
def _gru_cell_fake(gates: Tensor, h: Tensor, w_hh: Tensor, b_n: Tensor | None) -> Tensor:
    return torch.empty_like(h, memory_format=torch.contiguous_format)


@torch.library.custom_op("samplernn_fast::sample_step", mutates_args=(), device_types="cpu")
def _sample_step(
    conditioning: Tensor,
    recent: Tensor,
    tables: Tensor,
    hidden: Tensor,
    hidden_bias: Tensor,
    output: Tensor,
    output_bias: Tensor,
    draw: Tensor,
    temperature: Tensor,
    top_k: int,
    top_p: float,
) -> Tensor:
    _check_sample(conditioning, recent, tables, hidden, hidden_bias, output, output_bias, draw, temperature)
    x = conditioning
    for tap, table in enumerate(tables):
        x = x + embedding(recent[:, tap], table)
    x = relu(x)
    for w, bias in zip(hidden, hidden_bias, strict=True):
        x = relu(_product(x, w) + bias)
    return sample_ref(_product(x, output) + output_bias, draw, temperature, top_k, top_p)


@_sample_step.register_kernel("cuda")
def _sample_step_cuda(
    conditioning: Tensor,
    recent: Tensor,
    tables: Tensor,
    hidden: Tensor,
    hidden_bias: Tensor,
    output: Tensor,
    output_bias: Tensor,
    draw: Tensor,
    temperature: Tensor,
    top_k: int,
    top_p: float,
) -> Tensor:
    layers = (hidden, hidden_bias, output, output_bias)
    _check_sample(conditioning, recent, tables, *layers, draw, temperature)
    from samplernn_fast.kernels.operators import sample_step

    return sample_step(conditioning, recent, tables, *layers, draw, temperature, top_k, top_p)


@_sample_step.register_fake
def _sample_step_fake(
    conditioning: Tensor,
    recent: Tensor,
    tables: Tensor,
    hidden: Tensor,
    hidden_bias: Tensor,
    output: Tensor,
    output_bias: Tensor,
    draw: Tensor,
    temperature: Tensor,
    top_k: int,
    top_p: float,
) -> Tensor:
    return torch.empty_like(draw, dtype=torch.int64, memory_format=torch.contiguous_format)


def _product(x: Tensor, w: Tensor) -> Tensor:
    """x times w (O, D), inputs rounded to w's type, summed in float32."""
    return linear(x.to(w.dtype).float(), w.float())


def _check(op: str, name: str, tensor: Tensor, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> None:
    if tuple(tensor.shape) != shape or tensor.dtype not in dtypes:
        expected = f"{shape} {' or '.join(str(dtype).removeprefix('torch.') for dtype in dtypes)}"
        found = f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        raise ConfigError(f"{op}: {name} must be {expected}, got {found}")


def _check_cell(gates: Tensor, h: Tensor, w_hh: Tensor, b_n: Tensor | None) -> None:
    if h.dim() != 2:
        raise ConfigError(f"gru_cell: h must be (B, D), got {tuple(h.shape)}")
    batch, dim = h.shape
    _check("gru_cell", "h", h, (batch, dim), _FLOATS)
    _check("gru_cell", "gates", gates, (batch, 3 * dim), (torch.float32,))
    _check("gru_cell", "w_hh", w_hh, (3 * dim, dim), (h.dtype,))
    if b_n is not None:
        _check("gru_cell", "b_n", b_n, (dim,), (torch.float32,))


def _check_sample(
    conditioning: Tensor,
    recent: Tensor,
    tables: Tensor,
    hidden: Tensor,
    hidden_bias: Tensor,
    output: Tensor,
    output_bias: Tensor,
    draw: Tensor,
    temperature: Tensor,
) -> None:
    if conditioning.dim() != 2 or tables.dim() != 3:
        found = f"{tuple(conditioning.shape)} and {tuple(tables.shape)}"
        raise ConfigError(f"sample_step: conditioning must be (B, D) and tables (I, Q, D), got {found}")
    (batch, dim), (taps, q_levels, _) = conditioning.shape, tables.shape
    layers, floats = hidden.shape[0], (torch.float32,)
    for name, tensor, shape, dtypes in (
        ("conditioning", conditioning, (batch, dim), floats),
        ("recent", recent, (batch, taps), (torch.int64,)),
        ("tables", tables, (taps, q_levels, dim), floats),
        ("hidden", hidden, (layers, dim, dim), (output.dtype,)),
        ("hidden_bias", hidden_bias, (layers, dim), floats),
        ("output", output, (q_levels, dim), _FLOATS),
        ("output_bias", output_bias, (q_levels,), floats),
        ("draw", draw, (batch,), (torch.int64,)),
        ("temperature", temperature, (batch,), floats),
    ):
        _check("sample_step", name, tensor, shape, dtypes)
