"""Blocks of different roles (csrc/cuda/device/roles.cuh) on a CPU: a cluster of heads makes samples, helpers make the
tiers' products. Every bit must be that of blocks that all do the same."""

import functools
import itertools

import numpy as np
import pytest
import torch
from cases import CASES, make_model, random_levels
from shim import KernelError, Settings, ShimError, ShimKernel
from torch import Tensor

from samplernn_fast.backends.cuda import constants
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference import modes
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.weights import pack

TINY = SampleRNNConfig(dim=16, emb_size=4, q_levels=16, frame_sizes=(2, 2, 8), n_rnn=1)


@functools.cache
def packed(name: str) -> PackedWeights:
    return pack(make_model(TINY if name == "tiny" else CASES[name]))


@functools.cache
def kernel(name: str, dtype: str, exchange: str, **shape: int) -> ShimKernel:
    return ShimKernel(packed(name), dtype, exchange=exchange, **({"batch": 2} | shape))


def forced_levels(config: SampleRNNConfig, batch: int, steps: int) -> Tensor:
    """Free samples, some that are given to one stream or to all, and a stretch that is given over frames of all tiers
    and ends inside one."""
    forced = torch.full((batch, steps), -1)
    known = random_levels(config, batch, steps, seed=5)
    forced[:, 3] = known[:, 3]
    forced[0, 6] = known[0, 6]
    stretch = slice(config.lookback - 1, 2 * config.lookback + config.frame_sizes[1] // 2)
    forced[:, stretch] = known[:, stretch]
    return forced


def walk(subject: ShimKernel, schedule: int = 0, **settings: int) -> tuple[Tensor, Tensor, Tensor]:
    """Levels, logits of the second of two launches, which begins inside a frame, and hidden states behind them."""
    config = subject.config
    hidden, history = subject.initial()
    steps = 2 * config.lookback + 5
    first, second = forced_levels(config, subject.batch, steps), torch.full((subject.batch, config.lookback), -1)
    how = Settings(seed=5, schedule=schedule, **settings)
    levels, _ = subject.run(hidden, history, 0, steps, first, settings=how)
    history = torch.cat((history, levels), dim=1)[:, -config.lookback :]
    more, logits = subject.run(hidden, history, steps, config.lookback, second, want_logits=True, settings=how)
    return torch.cat((levels, more), dim=1), logits, hidden


def same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(*pair) for pair in zip(first, second, strict=True))


USUAL = ("paper-3tier", "int8")
every_case = [one for one in itertools.product(CASES, modes.MODES) if one != USUAL]


@pytest.mark.parametrize(
    ("name", "dtype"), [USUAL, *(pytest.param(*one, marks=pytest.mark.slow) for one in every_case)]
)
def test_roles_have_the_bits_of_blocks_that_all_do_the_same(name, dtype):
    wanted = walk(kernel(name, dtype, "tagged"))
    assert len(wanted[0].unique()) > 1
    for schedule in range(3):
        assert same(walk(kernel(name, dtype, "roles"), schedule), wanted)


@pytest.mark.slow
def test_what_the_lowest_tier_gives_is_made_where_its_matrix_fits():
    """By heads for all samples of a frame, for the first ones, or for none; and where nothing fits at all."""
    wanted = walk(kernel("paper-3tier", "float32", "tagged", batch=1))
    head_rows = 8 * CASES["paper-3tier"].dim * 4  # bytes of a head's 8 units
    mlp = 3 * head_rows  # of one hidden layer, and 16 levels of the output layer
    nothing = kernel("paper-3tier", "float32", "roles", batch=1, shared_bytes=1)
    working = nothing.sizes[3]  # of shared memory, without rows that stay
    for resident in (0, mlp, mlp + head_rows, mlp + 2 * head_rows):
        subject = kernel("paper-3tier", "float32", "roles", batch=1, shared_bytes=max(1, working + resident))
        assert subject.sizes[4] == resident
        assert all(same(walk(subject, schedule), wanted) for schedule in range(2))


@pytest.mark.slow
@pytest.mark.parametrize(("blocks", "helpers", "batch"), [(2, 1, 1), (4, 16, 8)])
def test_bits_do_not_depend_on_how_many_there_are(blocks, helpers, batch):
    wanted = walk(kernel("tiny", "int8", "tagged", batch=batch, threads=32))
    subject = kernel("tiny", "int8", "roles", batch=batch, blocks=blocks, helpers=helpers, threads=32)
    for schedule in range(20 if batch == 1 else 3):
        assert same(walk(subject, schedule), wanted)


def test_a_lost_message_ends_at_the_time_limit_with_its_place():
    """From heads to helpers, from helpers to heads and among heads."""
    subject = kernel("tiny", "float32", "roles", batch=1, threads=32)
    names = constants.exchange_names(TINY)
    places = set()
    for number in range(0, 420, 7):
        try:
            walk(subject, number, time_limit=100_000, lose_store=number)
        except KernelError as error:
            code, block, place, count, _ = error.args[:5]
            assert code == 1 and block < 9 and count >= 1
            places.add(names[place].split(" of ")[0])
    assert {"hidden state", "input", "recurrent product", "upsampling", "logits"} <= places


def test_helpers_leave_when_logits_are_not_numbers():
    spoiled = {"mlp.output_bias": np.full_like(packed("tiny")["mlp.output_bias"], np.inf)}
    weights = PackedWeights(TINY, packed("tiny").arrays | spoiled)
    subject = ShimKernel(weights, batch=1, threads=32, exchange="roles")
    with pytest.raises(KernelError) as caught:
        walk(subject, time_limit=1 << 40)
    assert caught.value.args[0] == 2


@pytest.mark.slow
def test_a_profile_is_that_of_the_first_head():
    subject = kernel("tiny", "float32", "roles", batch=1, threads=32, profile=True)
    wanted = walk(kernel("tiny", "float32", "tagged", batch=1, threads=32))
    assert same(walk(subject), wanted)
    *stages, whole = subject.profile.reshape(-1, 3).tolist()
    assert sum(ticks for ticks, _, _ in stages) == whole[0]
    rows = dict(zip(constants.phase_names(TINY), stages, strict=True))
    assert rows["cells of tier 1"][2] == -(-whole[2] // 8)


@pytest.mark.slow
def test_any_schedule_gives_the_same():
    wanted = walk(kernel("tiny", "float32", "tagged", batch=1, threads=32))
    subject = kernel("tiny", "float32", "roles", batch=1, threads=32, blocks=2, helpers=3)
    try:
        assert all(same(walk(subject, schedule), wanted) for schedule in range(400))
    except ShimError as problem:
        pytest.fail(str(problem))
