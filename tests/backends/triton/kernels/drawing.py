"""The draw kernel equals samplernn_fast.reference.draw: levels, truncation, and the random numbers of its Philox."""

import numpy as np
import pytest
import torch
from triton_device import DEVICE, INTERPRETED

from samplernn_fast.kernels.clock import BAD, Place, clock_values
from samplernn_fast.kernels.draw import launch_draw
from samplernn_fast.reference import draw, randomness

FULL = 0xFFFFFFFF


def drawn(logits, temperature, *, draws=None, top_k=0, top_p=1.0, seed=0, streams=None, t=0, bias=None):
    """Levels (B,) that the kernel draws, and whether a logit was not finite. If draws is None, Philox makes them."""
    batch, q_levels = logits.shape
    clock = clock_values(t, 0, seed, top_k, top_p).to(DEVICE)
    levels = torch.full((batch, 1), -1, dtype=torch.int32, device=DEVICE)
    numbers = torch.zeros(batch, dtype=torch.int64) if streams is None else torch.from_numpy(streams.astype(np.int64))
    launch_draw(
        Place(clock, 0, levels, levels.stride(0)),
        logits.float().contiguous().to(DEVICE),
        (torch.zeros(q_levels) if bias is None else bias).to(DEVICE),
        None if draws is None else draws.to(DEVICE),
        numbers.to(DEVICE),
        draw.scales(temperature)[:, None].to(DEVICE),
        top_k > 0 or top_p < 1,
    )
    return levels[:, 0].cpu().long(), bool(clock[BAD.value])


def random_rows(batch, q_levels, seed, spread=2.0):
    """Logits with ties, temperatures with zeros, and draws that include the least and the largest."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, q_levels, generator=generator) * spread
    logits[::4] = logits[::4].round()
    logits[1] = 0
    logits[2] = -torch.inf
    logits[2, q_levels // 2] = 1
    temperature = torch.rand(batch, generator=generator) * 2 + 0.05
    temperature[::7] = 0
    temperature[3], temperature[4] = 1e-3, 1e3
    draws = torch.randint(0, 2**32, (batch,), generator=generator)
    draws[5], draws[6] = 0, FULL
    return logits, temperature, draws


@pytest.mark.parametrize("q_levels", [2, 51, 256, 1000])
def test_equal_logits_give_the_equal_level(q_levels):
    logits, temperature, draws = random_rows(3000, q_levels, seed=q_levels)
    levels, failed = drawn(logits, temperature, draws=draws)
    assert torch.equal(levels, draw.sample_ref(logits, draws, temperature)) and not failed
    assert len(levels.unique()) > min(q_levels, 200) // 2


@pytest.mark.parametrize(("top_k", "top_p"), [(1, 1.0), (5, 1.0), (0, 0.7), (9, 0.9), (200, 0.5), (0, 1e-9)])
def test_top_k_and_top_p_keep_what_they_define(top_k, top_p):
    for q_levels in (64, 256):
        logits, temperature, draws = random_rows(500, q_levels, seed=top_k + q_levels)
        levels, _ = drawn(logits, temperature, draws=draws, top_k=top_k, top_p=top_p)
        assert torch.equal(levels, draw.sample_ref(logits, draws, temperature, top_k, top_p))


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0)] if INTERPRETED else [(0, 1.0), (700, 1.0), (50, 0.9)])
def test_as_many_levels_as_there_may_be(top_k, top_p):
    """65,536 levels are read in 64 blocks, and their sums need more than 32 bits."""
    logits, temperature, draws = random_rows(8, 65536, seed=1, spread=1.0)
    levels, _ = drawn(logits, temperature, draws=draws, top_k=top_k, top_p=top_p)
    assert torch.equal(levels, draw.sample_ref(logits, draws, temperature, top_k, top_p))


def test_truncation_goes_across_blocks():
    """2,500 levels are read in three blocks; most logits are equal, so that the cut falls among ties."""
    logits = torch.zeros(40, 2500)
    logits[:, 2100:] = -1.0
    draws = torch.linspace(0, FULL, 40).long()
    for top_k, top_p in ((2300, 1.0), (0, 0.97)):
        levels, _ = drawn(logits, torch.ones(40), draws=draws, top_k=top_k, top_p=top_p)
        assert torch.equal(levels, draw.sample_ref(logits, draws, torch.ones(40), top_k, top_p))
        assert levels.max() > 2100


def test_ties_at_temperature_zero_go_to_the_lowest_level():
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0], [0.0, -0.0, 0.0, -1.0], [-5.0, -6.0, -4.0, -4.0]])
    levels, _ = drawn(logits, torch.zeros(3), draws=torch.full((3,), FULL))
    assert levels.tolist() == [1, 0, 2]


def test_the_bias_is_added_before_anything_else():
    logits, temperature, draws = random_rows(200, 64, seed=9)
    bias = torch.randn(64, generator=torch.Generator().manual_seed(1))
    levels, _ = drawn(logits, temperature, draws=draws, bias=bias)
    assert torch.equal(levels, draw.sample_ref(logits + bias, draws, temperature))


@pytest.mark.parametrize("seed", [0, 5, 2**32 + 7, 2**63 + 11, 2**64 - 1])
def test_philox_is_that_of_seed_stream_and_time(seed):
    """With 4,096 equal weights the level is the upper 12 bits of the draw."""
    streams = np.array([0, 1, 77, 2**31, FULL], np.uint32)
    for t in (0, 2**32 - 1, 2**32, 2**40 + 3):
        levels, _ = drawn(torch.zeros(5, 4096), torch.ones(5), seed=seed, streams=streams, t=t)
        assert levels.tolist() == (randomness.draws(seed, streams, t, 1)[:, 0] >> 20).tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "all -inf"])
def test_a_logit_that_is_not_finite_is_marked(value):
    for row in (0, 2):
        logits = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
        logits[row, 10 if value != "all -inf" else slice(None)] = -torch.inf if value == "all -inf" else value
        levels, failed = drawn(logits, torch.tensor([0.0, 1.0, 1.0]), draws=torch.tensor([1, 2, 3]))
        assert failed and levels[row] == 0
        others = [one for one in range(3) if one != row]
        assert not drawn(logits[others], torch.ones(2), draws=torch.tensor([1, 2]))[1]


def test_a_million_draws_have_the_softmax_frequencies():
    q_levels, batch, rounds = 32, 1 << 18, 4
    row = torch.randn(q_levels, generator=torch.Generator().manual_seed(3)) * 0.8
    logits, counts = row.expand(batch, -1), np.zeros(q_levels)
    streams = np.arange(batch, dtype=np.uint32)
    for t in range(rounds):
        levels, _ = drawn(logits, torch.full((batch,), 0.8), seed=7, streams=streams, t=t)
        counts += np.bincount(levels.numpy(), minlength=q_levels)
    assert counts.sum() == 1 << 20

    def chi_square(temperature):
        expected = torch.softmax(row.double() / temperature, dim=0).numpy() * counts.sum()
        return ((counts - expected) ** 2 / expected).sum()

    # The statistic has 31 degrees of freedom: mean 31, standard deviation 7.9.
    assert chi_square(0.8) < 31 + 6 * 7.9
    assert chi_square(0.8 * 1.02) > 31 + 6 * 7.9, "the test cannot tell distributions apart"
