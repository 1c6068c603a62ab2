"""The persistent CUDA kernel's text, run on a CPU by the shim of `tests/played_gpu`, against the reference and the cpu
engine. Every launch has a schedule of its own."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch
from cases import CASES, make_model, random_levels
from mode_oracle import mode_logits
from shim import KernelError, Settings, ShimKernel
from torch import Tensor

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.backends.cuda import constants
from samplernn_fast.importing.parity import step_logits
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference import draw, randomness
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.weights import pack

EXCHANGES = ("tagged", "cluster")
# One of each kind; the other cases differ in sizes that are defines like any other.
FORMS = ("paper-3tier", "prism-skips", "theano-gru-odd-levels", "theano-lstm-skips", "two-levels")

every_form = pytest.mark.parametrize("name", FORMS)
every_exchange = pytest.mark.parametrize("exchange", EXCHANGES)
# The exchanges differ in how numbers travel, so each case by one of them and each form by others.
every_case_somehow = pytest.mark.parametrize(
    ("name", "exchange", "teams"),
    [(name, "tagged", 2) for name in CASES]
    + [(name, "tagged", 1) for name in FORMS]
    + [(name, "cluster", 2) for name in FORMS[1:4]],
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
def test_float32_logits_and_states_are_those_of_the_reference(name, exchange, teams):
    levels = clip(CASES[name])
    logits, hidden = follow(kernel(name, exchange=exchange, teams=teams), levels)
    reference = ReferenceBackend(packed(name), "cpu", "float64")
    torch.testing.assert_close(logits.double(), step_logits(reference, levels), rtol=0, atol=1e-4)
    states = [torch.from_numpy(state) for state in reference.init_hidden(3)]
    for t in range(levels.shape[1] - CASES[name].lookback):
        reference.run_frame_network(states, levels[:, : CASES[name].lookback + t], t)
    wanted = torch.cat([state.flatten() for state in states])
    torch.testing.assert_close(hidden.double(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "batch", "teams"),
    [(name, 3, 2) for name in FORMS] + [("paper-3tier", 3, 1), ("prism-skips", 5, 2), ("two-levels", 11, 1)],
)
def test_int8_has_the_bits_of_the_cpu_engine(name, batch, teams):
    """By sums of bytes for few streams, by tensor cores for more."""
    lookback = CASES[name].lookback
    levels = random_levels(CASES[name], batch, lookback * 2)
    logits, hidden = follow(kernel(name, "int8", batch=batch, teams=teams), levels)
    engine = CpuBackend(packed(name), "cpu", "int8")
    states = engine.init_hidden(batch)
    wanted = engine.native.score(states, levels.numpy())
    assert np.array_equal(logits.numpy(), wanted)
    assert np.array_equal(hidden.numpy(), np.concatenate([state.ravel() for state in states]))


@every_form
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_mode_computes_what_it_defines(name, dtype):
    levels = clip(CASES[name])
    logits, _ = follow(kernel(name, dtype), levels)
    worst = (logits.double() - mode_logits(packed(name), dtype, levels)).abs().amax(dim=-1).flatten()
    # A number of which rounding in float32 moves the code or the last bit is the only larger difference.
    assert torch.quantile(worst, 0.1) < 1e-4
    assert worst.max() < {"bfloat16": 0.15, "int8": 0.03}[dtype]


def free_run(
    kernel: ShimKernel, pieces: list[int], settings: Settings, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Levels that the model makes in launches of so many steps each, and the hidden state behind them."""
    hidden, history = kernel.initial()
    made = history if start is None else start
    t = 0
    for number, steps in enumerate(pieces):
        schedule = dataclasses.replace(settings, schedule=settings.schedule + number)
        levels, _ = kernel.run(hidden, made[:, -kernel.config.lookback :], t, steps, settings=schedule)
        made, t = torch.cat((made, levels), dim=1), t + steps
    return made[:, kernel.config.lookback :], hidden


def row_of(hidden: Tensor, kernel: ShimKernel, stream: int) -> Tensor:
    """The state of one stream in all tiers and layers."""
    width = kernel.config.dim * (2 if kernel.config.rnn == "lstm" else 1)
    return hidden.view(-1, kernel.batch, width)[:, stream].flatten()


@pytest.mark.parametrize("name", FORMS[1:4])
def test_bits_do_not_depend_on_grid_batch_launches_or_schedule(name):
    """Also not on what is in shared memory (nothing, what a block works on, everything); nor on how blocks meet."""
    config = CASES[name]
    steps = config.lookback * 2 + 3
    whole = kernel(name, "int8", batch=3)
    levels, hidden = free_run(whole, [steps], Settings(seed=5))
    assert len(levels.unique()) > 1
    working = whole.sizes[3] - whole.sizes[4]
    shapes = [{"blocks": 7, "threads": 96, "shared_bytes": 1000}, {"shared_bytes": working - 64}]
    for exchange, shape in itertools.product(("tagged", "launches"), shapes):
        other = kernel(name, "int8", exchange, **shape)
        made, state = free_run(other, [1, config.lookback, steps - config.lookback - 1], Settings(seed=5, schedule=9))
        assert torch.equal(made, levels) and torch.equal(state, hidden)
    alone = kernel(name, "int8", batch=1)
    made, state = free_run(alone, [steps - 1, 1], Settings(seed=5, first_stream=2))
    assert torch.equal(made[0], levels[2])
    assert torch.equal(state, row_of(hidden, whole, 2))


@pytest.mark.parametrize(
    ("dtype", "exchange"),
    [("float32", "tagged"), ("bfloat16", "launches"), ("bfloat16", "tagged"), ("bfloat16", "cluster")],
)
def test_many_streams_have_the_bits_of_single_ones(dtype, exchange):
    """More streams than rows are copied for at once: each block draws its own and tells the others."""
    name, steps = "paper-3tier", 11
    many = kernel(name, dtype, exchange, batch=19)
    levels, hidden = free_run(many, [4, steps - 4], Settings(seed=2))
    assert len({tuple(row) for row in levels.tolist()}) == 19
    alone = kernel(name, dtype, exchange, batch=1)
    for stream in (0, 18):
        made, state = free_run(alone, [steps], Settings(seed=2, first_stream=stream))
        assert torch.equal(made[0], levels[stream])
        assert torch.equal(state, row_of(hidden, many, stream))


@pytest.mark.parametrize(
    ("name", "exchange", "dtype"),
    [
        ("paper-3tier", "tagged", "int8"),
        ("theano-lstm-skips", "alone", "int8"),
        ("two-levels", "alone", "float32"),
        ("paper-3tier", "cluster", "int8"),
        ("theano-gru-odd-levels", "launches", "float32"),
    ],
)
def test_groups_of_blocks_make_streams_side_by_side(name, exchange, dtype):
    """Groups do not meet, and a group may be one block, which needs no other."""
    lookback = CASES[name].lookback
    blocks = 1 if exchange == "alone" else 2
    single = kernel(name, dtype, "tagged", batch=6)
    seeds = [1, 1, 2, 3, 4, 5]
    levels, hidden = free_run(single, [lookback * 2 + 3], Settings(seed=seeds))
    side = kernel(name, dtype, exchange, batch=2, groups=3, blocks=blocks)
    made, state = free_run(side, [lookback + 1, lookback + 2], Settings(seed=seeds, schedule=4))
    assert torch.equal(made, levels) and torch.equal(state, hidden)


@pytest.mark.parametrize(("name", "batch"), [("paper-3tier", 5), ("two-levels", 3), ("paper-3tier", 19)])
def test_draws_are_those_of_the_logits(name, batch):
    """Temperatures, top-k, top-p, forced levels and stream numbers: sampling by the definition from the kernel's own
    logits gives the very levels that it made."""
    config = CASES[name]
    steps = config.lookback + 4
    subject = kernel(name, batch=batch)
    temperatures = [0.0, 0.4, 1.0, 1.7, 1.0] * 4
    for schedule, (top_k, top_p) in enumerate(((0, 1.0), (5, 1.0), (0, 0.8), (9, 0.9))):
        forced = random_levels(config, batch, steps, seed=2)
        forced[torch.rand(forced.shape, generator=torch.Generator().manual_seed(3)) < 0.7] = -1
        settings = Settings(temperatures[:batch], top_k, top_p, 11, first_stream=3, schedule=schedule)
        hidden, history = subject.initial()
        levels, logits = subject.run(hidden, history, 0, steps, forced, want_logits=True, settings=settings)
        draws = torch.from_numpy(randomness.draws(11, np.arange(3, 3 + batch), 0, steps).astype(np.int64))
        heat = torch.tensor(temperatures[:batch]).repeat_interleave(steps)
        drawn = draw.sample_ref(logits.flatten(0, 1), draws.flatten(), heat, top_k, top_p).view(batch, steps)
        assert torch.equal(levels, torch.where(forced >= 0, forced, drawn))
        hidden, _ = subject.initial()
        again, _ = subject.run(hidden, history, 0, steps, forced, settings=settings)
        assert torch.equal(again, levels)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_streams_of_several_listeners(exchange):
    """Each has a seed, a time, and settings of its own, and the levels that it has alone."""
    name, steps = "paper-3tier", 24
    frame = CASES[name].lookback
    several = kernel(name, "int8", exchange, batch=3)
    seeds, ahead = [5, 2**64 - 1, 5], [0, 3 * frame, (1 << 33) * frame]
    heat, top_k, top_p = [1.2, 0.9, 1.0], [0, 3, 7], [1.0, 1.0, 0.6]
    hidden, history = several.initial()
    settings = Settings(heat, top_k, top_p, seeds, ahead, first_stream=4, schedule=2)
    levels, _ = several.run(hidden, history, frame, steps, settings=settings)
    assert len({tuple(row) for row in levels.tolist()}) == 3
    alone = kernel(name, "int8", batch=1)
    for stream in range(3):
        state, silence = alone.initial()
        settings = Settings(heat[stream], top_k[stream], top_p[stream], seeds[stream], first_stream=4 + stream)
        made, _ = alone.run(state, silence, frame + ahead[stream], steps, settings=settings)
        assert torch.equal(made[0], levels[stream]) and torch.equal(state, row_of(hidden, several, stream))


def test_a_row_of_65536_levels_is_drawn():
    config = SampleRNNConfig(dim=8, emb_size=2, q_levels=65536, frame_sizes=(1, 1), mlp_hidden=1)
    subject = ShimKernel(pack(make_model(config)), batch=1, blocks=3, threads=64)
    hidden, history = subject.initial()
    levels, logits = subject.run(hidden, history, 0, 2, want_logits=True, settings=Settings(seed=4))
    draws = torch.from_numpy(randomness.draws(4, np.arange(1), 0, 2).astype(np.int64))
    assert levels[0].tolist() == draw.sample_ref(logits[0], draws[0], torch.ones(2)).tolist()


@pytest.mark.parametrize("teams", [1, 2])
@every_form
def test_priming_skips_the_sample_network_and_leaves_the_same_state(name, teams):
    config = CASES[name]
    levels = clip(config)
    subject = kernel(name, teams=teams)
    _, wanted = follow(subject, levels)
    hidden, _ = subject.initial()
    known = levels[:, config.lookback :]
    made, _ = subject.run(hidden, levels[:, : config.lookback], 0, known.shape[1], known)
    assert torch.equal(made, known) and torch.equal(hidden, wanted)


@pytest.mark.parametrize("teams", [1, 2])
@every_exchange
def test_a_lost_message_ends_at_the_time_limit_with_its_place(exchange, teams):
    """Nothing hangs: whichever store is lost, the launch ends and says which exchange was waited for."""
    subject = kernel("theano-gru-odd-levels", exchange=exchange, teams=teams)
    apart = {"tagged": 7, "cluster": 28}[exchange]  # in a cluster each of 4 blocks is sent its own
    places = set()
    for number in range(0, 40, 3):
        hidden, history = subject.initial()
        with pytest.raises(KernelError) as caught:
            settings = Settings(time_limit=200_000, schedule=number, lose_store=number * apart)
            subject.run(hidden, history, 0, 4, settings=settings)
        code, _, place, count, step = caught.value.args[:5]
        assert (code, step) == (1, min(step, 3)) and count >= 1
        places.add(constants.exchange_names(subject.config)[place])
    assert len(places) > 3


@pytest.mark.parametrize("teams", [1, 2])
def test_a_message_lost_before_the_first_sample_is_told_as_one(teams):
    """A launch that begins inside a frame first prepares what other blocks need for its first sample."""
    subject = ShimKernel(pack(make_model(SMALL)), threads=32, teams=teams)
    hidden, history = subject.initial()
    with pytest.raises(KernelError) as caught:
        subject.run(hidden, history, 1, 4, settings=Settings(time_limit=200_000, lose_store=0))
    code, _, place, sequence, step = caught.value.args[:5]
    assert (code, sequence, np.uint32(step).astype(np.int32)) == (1, 1, -1)
    assert constants.exchange_names(SMALL)[place] == "upsampling of tier 0 ahead"


@pytest.mark.parametrize("batch", [1, 3, 19])
def test_logits_that_are_not_numbers_are_reported(batch):
    weights = packed("paper-3tier")
    spoiled = weights.arrays | {"mlp.output_bias": np.full_like(weights["mlp.output_bias"], np.inf)}
    subject = ShimKernel(PackedWeights(weights.config, spoiled), batch=batch, exchange="tagged")
    hidden, history = subject.initial()
    with pytest.raises(KernelError) as caught:
        subject.run(hidden, history, 0, 3)
    assert caught.value.args[0] == 2 and caught.value.args[2] < batch and caught.value.args[4] == 0


SMALL = SampleRNNConfig(dim=16, emb_size=4, q_levels=16, frame_sizes=(2, 2, 8), n_rnn=1)


@pytest.mark.parametrize("teams", [1, 2])
def test_a_lost_logit_of_a_forced_sample_ends_the_walk(teams):
    """Its level is given, so that the wait alone tells that something is wrong. The levels in the output tell in which
    sample the walk ends: with two teams those of a sample are written when it has ended well."""
    subject = ShimKernel(pack(make_model(SMALL)), threads=32, teams=teams)
    forced, place = torch.zeros(1, 12, dtype=torch.int64), constants.exchange_names(SMALL).index("logits")
    stopped = []
    for number in range(0, 160, 4):
        hidden, history = subject.initial()
        with pytest.raises(KernelError) as caught:
            settings = Settings(time_limit=200_000, schedule=number, lose_store=number)
            subject.run(hidden, history, 0, 12, forced, want_logits=True, settings=settings)
        if caught.value.args[2] == place:
            stopped.append((subject.made[0] >= 0).sum().item() - caught.value.args[4])
    assert stopped and set(stopped) == {2 - teams}


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_block_that_owns_no_logits_reads_no_rows_for_them(dtype):
    """The memory behind the matrix, whose rows do not stay in shared memory, is not the kernel's."""
    config = SampleRNNConfig(dim=64, emb_size=4, q_levels=2, frame_sizes=(2, 2, 4), n_rnn=1)
    subject = ShimKernel(pack(make_model(config)), dtype, blocks=16, threads=32, shared_bytes=64)
    hidden, history = subject.initial()
    levels, _ = subject.run(hidden, history, 0, 6, settings=Settings(seed=1))
    assert set(levels[0].tolist()) == {0, 1}


@every_exchange
def test_blocks_that_are_done_leave_others_what_they_still_read(exchange):
    """One forced sample where a frame begins: nobody waits for anybody, and a slow block still reads the old states."""
    weights, levels = pack(make_model(SMALL)), random_levels(SMALL, 1, SMALL.lookback + 1)
    shared_out = ShimKernel(weights, batch=1, blocks=4, threads=32, exchange=exchange)
    alone = ShimKernel(weights, batch=1, blocks=1, threads=32, exchange="alone")
    history, forced = levels.split([SMALL.lookback, 1], dim=1)
    states = []
    for kernel, schedule in [(alone, 0), *((shared_out, schedule) for schedule in range(8))]:
        hidden = kernel.initial()[0]
        hidden += torch.linspace(-1, 1, len(hidden))
        kernel.run(hidden, history, 2, 1, forced, settings=Settings(schedule=schedule))
        states.append(hidden)
    assert all(torch.equal(state, states[0]) for state in states[1:])


@every_exchange
def test_blocks_without_a_stream_to_draw_do_not_stand_for_others(exchange):
    weights = pack(make_model(SMALL))
    many = ShimKernel(weights, batch=9, blocks=16, threads=32, exchange=exchange)
    few = ShimKernel(weights, batch=9, blocks=4, threads=32, exchange="tagged")
    made = []
    for kernel, schedule in ((few, 0), (many, 1), (many, 2), (many, 3)):
        hidden, history = kernel.initial()
        made.append(kernel.run(hidden, history, 0, 6, settings=Settings(schedule=schedule, seed=3))[0])
    assert all(torch.equal(levels, made[0]) for levels in made[1:])


@pytest.mark.parametrize(
    ("name", "exchange", "batch", "teams"),
    [("paper-3tier", "tagged", 3, 1), ("paper-3tier", "tagged", 1, 2), ("prism-skips", "cluster", 3, 1)],
)
def test_a_profile_accounts_for_all_of_a_launch(name, exchange, batch, teams):
    config, steps = CASES[name], 2 * CASES[name].lookback
    plain, timed = (kernel(name, exchange=exchange, profile=on, batch=batch, teams=teams) for on in (0, 1))
    levels = [free_run(subject, [steps], Settings())[0] for subject in (plain, timed)]
    assert torch.equal(*levels) and plain.profile.size == 0
    *stages, whole = timed.profile.reshape(-1, 3).tolist()
    rows = dict(zip(constants.phase_names(config), stages, strict=True))
    assert sum(ticks for ticks, _, _ in stages) == whole[0] == whole[1] and whole[2] == steps
    for name, (ticks, exchanging, _) in rows.items():
        assert 0 <= exchanging <= ticks, name
    assert rows["draw"][2] == rows["output layer"][2] == rows["input of the MLP"][2] == steps
    # It waits for the hidden layer of the others, and for their logits.
    assert rows["output layer"][1] > 0 and rows["draw"][1] > 0
    for tier, size in enumerate(config.frame_sizes[1:]):
        assert rows[f"cells of tier {tier}"][2] == steps // size * config.n_rnn


@every_exchange
def test_logits_of_many_streams_are_read_before_others_take_their_place(exchange):
    """Each block draws more streams than it reads logits of at a time."""
    weights = pack(make_model(SampleRNNConfig(dim=8, emb_size=4, q_levels=64, frame_sizes=(2, 2, 4), n_rnn=1)))
    made = []
    for streams, blocks, schedule in ((40, 8, 0), (40, 2, 1), (40, 2, 2)):
        subject = ShimKernel(weights, batch=streams, blocks=blocks, exchange=exchange)
        hidden, history = subject.initial()
        made.append(subject.run(hidden, history, 0, 6, want_logits=True, settings=Settings(schedule=schedule, seed=3)))
    for levels, logits in made[1:]:
        assert torch.equal(levels, made[0][0]) and torch.equal(logits, made[0][1])


@pytest.mark.parametrize("q_levels", [256, 511, 512, 1024])
def test_equally_likely_levels_are_drawn_evenly(q_levels):
    """The sum of their weights is the largest that there is."""
    config = SampleRNNConfig(dim=8, emb_size=4, q_levels=q_levels, frame_sizes=(2, 2, 4), n_rnn=1)
    weights = pack(make_model(config))
    even = {name: np.zeros_like(weights[name]) for name in ("mlp.output", "mlp.output_bias")}
    subject = ShimKernel(PackedWeights(config, weights.arrays | even), exchange="tagged")
    hidden, history = subject.initial()
    levels, _ = subject.run(hidden, history, 0, 12, settings=Settings(seed=7))
    draws = randomness.draws(7, np.zeros(1, np.uint32), 0, 12).astype(np.int64)
    assert np.array_equal(levels.numpy(), draws * q_levels >> 32)
