"""The CUDA implementations of samplernn_fast.ops equal those of the CPU, and torch.compile takes them."""

import pytest
import torch
from triton_device import DEVICE, DTYPES, INTERPRETED

from samplernn_fast import ops
from samplernn_fast.kernels import operators

every_dtype = pytest.mark.parametrize("dtype", [getattr(torch, name) for name in DTYPES])
BATCHES = (1, 5, 33) if INTERPRETED else (1, 5, 33, 300)


def random(seed, *shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def on_device(tensors):
    return [one.to(DEVICE) if isinstance(one, torch.Tensor) else one for one in tensors]


def sample_inputs(batch, dim, taps, layers, dtype, q_levels=48):
    return (
        random(0, batch, dim),
        torch.randint(0, q_levels, (batch, taps), generator=torch.Generator().manual_seed(1)),
        random(2, taps, q_levels, dim),
        random(3, layers, dim, dim, dtype=dtype) / dim**0.5,
        random(4, layers, dim),
        random(5, q_levels, dim, dtype=dtype) / dim**0.5,
        random(6, q_levels),
        torch.randint(0, 2**32, (batch,), generator=torch.Generator().manual_seed(7)),
        torch.linspace(0, 2, batch),
    )


@every_dtype
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("after", [True, False])
def test_gru_cell(batch, after, dtype):
    dim = 33
    h, w_hh = random(1, batch, dim, dtype=dtype), random(2, 3 * dim, dim, dtype=dtype) / dim**0.5
    inputs = (random(0, batch, 3 * dim), h, w_hh, random(3, dim) if after else None)
    got = operators.gru_cell(*on_device(inputs))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(got.cpu(), ops.gru_cell(*inputs), rtol=0, atol=tolerance)


@every_dtype
@pytest.mark.parametrize(("batch", "taps", "layers"), [(1, 2, 1), (3, 1, 0), (3, 6, 2), (33, 2, 1), (130, 2, 1)])
def test_sample_step(batch, taps, layers, dtype):
    inputs = sample_inputs(batch, 33, taps, layers, dtype)
    for top_k, top_p in ((0, 1.0), (7, 0.9)):
        got = operators.sample_step(*on_device(inputs), top_k, top_p).cpu()
        wanted = ops.sample_step(*inputs, top_k, top_p)
        assert got.dtype == torch.int64
        assert (got != wanted).sum() <= (0 if dtype == torch.float32 else batch // 10 + 1)


def test_kernels_behind_operators_compile_into_one_graph():
    """torch.compile sees an operator, and nothing of the named tuples that its kernels take. Of samplernn_fast.ops the
    interpreter would reach the CPU's implementation, so these are operators of this test."""

    def fake_cell(gates, h, w_hh, b_n):
        return torch.empty_like(h)

    def fake_step(conditioning, recent, tables, hidden, hidden_bias, output, output_bias, draw, heat, top_k, top_p):
        return torch.empty_like(draw)

    gru_cell, sample_step = (
        torch.library.custom_op(f"triton_tests::{one.__name__}", one, mutates_args=())
        for one in (operators.gru_cell, operators.sample_step)
    )
    gru_cell.register_fake(fake_cell)
    sample_step.register_fake(fake_step)
    inputs = on_device(sample_inputs(3, 33, 2, 1, torch.float32))
    cell = on_device((random(0, 3, 99), random(1, 3, 33), random(2, 99, 33), random(3, 33)))

    def step(*tensors):
        return gru_cell(*tensors[:4]) * 2, sample_step(*tensors[4:], 5, 0.9) + 1

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(*cell, *inputs)
    for one, other in zip(compiled, step(*cell, *inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.skipif(INTERPRETED, reason="the operators reach their CUDA implementations on a GPU only")
@every_dtype
def test_operators_on_the_gpu_compile_into_one_graph(dtype):
    inputs = on_device(sample_inputs(4, 64, 2, 1, dtype))
    cell = on_device((random(0, 4, 192), random(1, 4, 64, dtype=dtype), random(2, 192, 64, dtype=dtype), random(3, 64)))
    torch.library.opcheck(torch.ops.samplernn_fast.gru_cell.default, tuple(cell))
    torch.library.opcheck(torch.ops.samplernn_fast.sample_step.default, (*inputs, 5, 0.9))

    def step(*tensors):
        return ops.gru_cell(*tensors[:4]) * 2, ops.sample_step(*tensors[4:]) + 1

    compiled = torch.compile(step, fullgraph=True)(*cell, *inputs)
    for one, other in zip(compiled, step(*cell, *inputs), strict=True):
        torch.testing.assert_close(one, other)
