"""The persistent CUDA kernel's text, run on a CPU by the shim of `tests/cuda_shim`, against the reference and the cpu
engine. Every launch has a schedule of its own."""

import functools

import pytest
import torch
from cases import CASES, make_model, random_levels
from mode_oracle import mode_logits
from shim import Settings, ShimKernel
from torch import Tensor

from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.cpu_backend import CpuBackend
from samplernn_fast.importing.parity import step_logits
from samplernn_fast.reference import ReferenceBackend
from samplernn_fast.weights import PackedWeights, pack

EXCHANGES = ("counters", "tagged")
# One of each kind; the other cases differ in sizes that are defines like any other.
FORMS = ("paper-3tier", "prism-skips", "theano-gru-odd-levels", "theano-lstm-skips", "two-levels")

every_form = pytest.mark.parametrize("name", FORMS)
every_exchange = pytest.mark.parametrize("exchange", EXCHANGES)
# The protocols differ in how numbers travel, so each case by one of them and each form by both.
every_case_somehow = pytest.mark.parametrize(
    ("name", "exchange"), [(name, "counters") for name in CASES] + [(name, "tagged") for name in FORMS]
)


@functools.cache
def packed(name: str) -> PackedWeights:
    return pack(make_model(CASES[name]))


@functools.cache
def kernel(name: str, dtype: str = "float32", exchange: str = "tagged", **shape: int) -> ShimKernel:
    return ShimKernel(packed(name), dtype, exchange=exchange, **({"batch": 3} | shape))


def clip(config: SampleRNNConfig, batch: int = 3) -> Tensor:
    """Two top frames or a few samples more, which is enough for every tier to go on from its own state."""
    return random_levels(config, batch, config.lookback + min(2 * config.lookback, config.lookback + 5))


def follow(kernel: ShimKernel, levels: Tensor, schedule: int = 0) -> tuple[Tensor, Tensor]:
    """Teacher-forced logits (B, T, Q) of levels (B, L + T), and the hidden state behind them."""
    hidden, _ = kernel.initial()
    lookback = kernel.config.lookback
    known, steps = levels[:, lookback:], levels.shape[1] - lookback
    settings = Settings(schedule=schedule)
    made, logits = kernel.run(hidden, levels[:, :lookback], 0, steps, known, want_logits=True, settings=settings)
    assert torch.equal(made, known)
    return logits, hidden


@every_case_somehow
def test_float32_logits_and_states_are_those_of_the_reference(name, exchange):
    levels = clip(CASES[name])
    logits, hidden = follow(kernel(name, exchange=exchange), levels)
    reference = ReferenceBackend(packed(name), torch.device("cpu"), "float64")
    torch.testing.assert_close(logits.double(), step_logits(reference, levels), rtol=0, atol=1e-4)
    states = reference.init_hidden(3)
    values = reference.weights["frame_values"][levels]
    for t in range(levels.shape[1] - CASES[name].lookback):
        reference.run_frame_network(states, values[:, : CASES[name].lookback + t], t)
    wanted = torch.cat([state.flatten() for state in states])
    torch.testing.assert_close(hidden.double(), wanted, rtol=0, atol=1e-5)


@every_form
def test_int8_has_the_bits_of_the_cpu_engine(name):
    levels = clip(CASES[name])
    lookback = CASES[name].lookback
    steps = (levels.shape[1] - lookback) // lookback * lookback
    levels = levels[:, : lookback + steps].contiguous()
    logits, hidden = follow(kernel(name, "int8"), levels)
    engine = CpuBackend(packed(name), torch.device("cpu"), "int8")
    states = engine.init_hidden(3)
    wanted = engine.native.score([state.numpy() for state in states], levels.numpy())
    assert torch.equal(logits, torch.from_numpy(wanted))
    assert torch.equal(hidden, torch.cat([state.flatten() for state in states]))


@every_form
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_mode_computes_what_it_defines(name, dtype):
    levels = clip(CASES[name])
    logits, _ = follow(kernel(name, dtype), levels)
    worst = (logits.double() - mode_logits(packed(name), dtype, levels)).abs().amax(dim=-1).flatten()
    # A number of which rounding in float32 moves the code or the last bit is the only larger difference.
    assert torch.quantile(worst, 0.1) < 1e-4
    assert worst.max() < {"bfloat16": 0.15, "int8": 0.03}[dtype]
