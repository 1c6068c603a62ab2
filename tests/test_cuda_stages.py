"""The stages of a sample as kernels of their own (csrc/cuda/stages.cuh), run on a CPU by the shim of
`tests/cuda_shim` in the order of `cuda_stages`: they have the bits of the persistent kernel."""

import functools

import pytest
import torch
from cases import CASES, make_model, random_levels
from shim import Settings, ShimKernel
from torch import Tensor

from samplernn_fast.weights import PackedWeights, pack


@functools.cache
def packed(name: str) -> PackedWeights:
    return pack(make_model(CASES[name]))


@functools.cache
def kernel(name: str, dtype: str, exchange: str, batch: int, **shape: int) -> ShimKernel:
    return ShimKernel(packed(name), dtype, batch, threads=64, exchange=exchange, **shape)


def everything(kernel: ShimKernel, pieces: list[int], schedule: int = 0) -> list[Tensor]:
    """Levels, states, and logits of calls of so many samples each: free and forced samples, among them some that are
    told for every stream, and then one call of scores."""
    config, (hidden, made), t = kernel.config, kernel.initial(), 0
    for steps in pieces:
        forced = random_levels(config, kernel.batch, steps, seed=t)
        forced[torch.rand(forced.shape, generator=torch.Generator().manual_seed(t)) < 0.5] = -1
        forced[:, steps // 2 : steps // 2 + 3] = 1
        settings = Settings(0.9, 40, 0.95, seed=5, first_stream=2, schedule=schedule)
        levels, _ = kernel.run(hidden, made[:, -config.lookback :], t, steps, forced, settings=settings)
        made, t = torch.cat((made, levels), dim=1), t + steps
    state = hidden.clone()
    levels, logits = kernel.run(hidden, made[:, -config.lookback :], t, 3, want_logits=True)
    return [made, state, levels, logits, hidden]


# Every form and numeric mode; few streams, which every block draws, and many, which the blocks share out.
TELLING = [
    ("paper-3tier", "float32", 3),
    ("theano-gru-odd-levels", "int8", 11),
    ("theano-lstm-skips", "float32", 3),
    ("prism-skips", "bfloat16", 1),
]
SLOW = [(name, "float32", 3) for name in CASES if (name, "float32", 3) not in TELLING]
SLOW += [("paper-3tier", "bfloat16", 19), ("two-levels", "int8", 3), ("theano-lstm-skips", "int8", 9)]


@pytest.mark.parametrize(
    ("name", "dtype", "batch"), [*TELLING, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_they_have_the_bits_of_the_persistent_kernel(name, dtype, batch):
    """Also where calls begin in the middle of a frame."""
    lookback = CASES[name].lookback
    pieces = [lookback + 1, 2, lookback - 1]
    stages = everything(kernel(name, dtype, "launches", batch), pieces, schedule=3)
    persistent = everything(kernel(name, dtype, "tagged", batch), pieces)
    assert all(torch.equal(*pair) for pair in zip(stages, persistent, strict=True))
    assert len(stages[0].unique()) > 1
