"""samplernn_fast.reference.randomness and draw, against exact integers and the exact distribution."""

import hashlib
import math

import numpy as np
import pytest
import torch
from philox_answers import known_answers

from samplernn_fast.errors import ConfigError
from samplernn_fast.reference import draw as definition
from samplernn_fast.reference import limits, randomness

FULL = 0xFFFFFFFF
TEMPERATURES = (0.001, 0.01, 0.5, 1.0, 2.0, 100.0, 1000.0)
every_temperature = pytest.mark.parametrize("temperature", TEMPERATURES)


def one_row(logits, draws, temperature=1.0, top_k=0, top_p=1.0):
    """The levels that several draws take from one row of logits."""
    rows = torch.as_tensor(np.asarray(logits, np.float32)).expand(len(draws), -1)
    heat = torch.full((len(draws),), temperature)
    return definition.sample_ref(rows, torch.tensor(draws), heat, top_k, top_p).tolist()


def weights(logits, temperature=1.0):
    """Integer weights (Q,) of one row."""
    row = torch.as_tensor(np.asarray(logits, np.float32))[None]
    return definition.weights_ref(row, torch.tensor([temperature]))[0].numpy()


def as_tensor(draws):
    """32-bit draws as the draw takes them."""
    return torch.from_numpy(draws.astype(np.int64))


def random_logits(seed, q_levels, spread=1.0):
    return (np.random.default_rng(seed).standard_normal(q_levels) * spread).astype(np.float32)


@known_answers
def test_philox_known_answers(counter, key, expected):
    assert tuple(randomness.philox(np.array(counter, np.uint32), key).tolist()) == expected


def test_a_draw_depends_on_seed_stream_and_time_alone():
    whole = randomness.draws(5, np.arange(7), 0, 100)
    assert whole.dtype == np.uint32 and whole.shape == (7, 100)
    for streams, start, steps in [([0], 0, 100), ([6, 2], 13, 50), ([3], 99, 1), ([1, 1], 7, 0)]:
        part = randomness.draws(5, np.array(streams), start, steps)
        assert np.array_equal(part, whole[streams, start : start + steps])


def test_randomness_is_what_the_draws_of_a_call_depend_on():
    streams = np.array([2, 9], np.uint32)
    given = randomness.Randomness(2**40 + 1, streams)
    for start, steps in [(0, 3), (2**33, 2), (5, 0)]:
        assert np.array_equal(given.draws(start, steps), randomness.draws(2**40 + 1, streams, start, steps))


def test_draws_use_every_bit_of_seed_stream_and_time():
    base = randomness.draws(0, np.array([0]), 0, 8)
    for bit in range(64):
        assert not np.array_equal(randomness.draws(1 << bit, np.array([0]), 0, 8), base)
        assert not np.array_equal(randomness.draws(0, np.array([0]), 1 << bit, 8), base)
    for bit in range(32):
        assert not np.array_equal(randomness.draws(0, np.array([1 << bit]), 0, 8), base)


def test_draws_continue_beyond_32_bits_of_time():
    seed, stream, start = 0x0123456789ABCDEF, 0xFFFFFFFE, 2**32 - 2
    got = randomness.draws(seed, np.array([stream]), start, 4)[0].tolist()
    for draw, t in zip(got, range(start, start + 4), strict=True):
        counter = np.array([t & FULL, t >> 32, stream, 0], np.uint32)
        assert draw == randomness.philox(counter, (seed & FULL, seed >> 32))[0]


def test_bytes_of_a_million_draws_are_uniform():
    draws = randomness.draws(11, np.arange(100), 0, 10_000).flatten()
    for shift in (0, 8, 16, 24):
        counts = np.bincount(draws >> shift & 0xFF, minlength=256)
        expected = len(draws) / 256
        # 255 degrees of freedom: mean 255, standard deviation 22.6.
        assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * 22.6


def test_multiply_high_is_exact():
    rng = np.random.default_rng(0)
    draws = [0, 1, FULL, FULL - 1, 0xFFFF, 0x10000, *rng.integers(0, 2**32, 500).tolist()]
    totals = [1, 2, 2**23, 2**31, 2**39, 2**47 - 1, *rng.integers(1, 2**47, 500).tolist()]
    grid = torch.cartesian_prod(torch.tensor(draws), torch.tensor(totals))
    got = definition.multiply_high(grid[:, 0], grid[:, 1]).tolist()
    assert got == [draw * total >> 32 for draw, total in grid.tolist()]


def test_the_power_of_two_is_right_to_two_in_ten_million():
    """With T = log2(e) the exponent is the logit itself, so that nothing but the polynomial and the floor is left."""
    fractions = np.arange(1 << 20, dtype=np.float64) / (1 << 20)
    for whole in (1, 5, 23):
        logits = np.concatenate(([0.0], fractions - whole)).astype(np.float32)
        got = weights(logits, math.log2(math.e))
        exact = 2.0**23 * 2.0 ** logits.astype(np.float64)
        assert got[0] == 2**23
        assert (got <= exact * (1 + 2e-7)).all() and (got > exact * (1 - 2e-7) - 1).all()


def test_the_bits_of_the_weights_stay_what_they_are():
    """Every backend and every stored seed rests on them: a polynomial that is merely as good makes other audio."""
    logits = np.append(0.0, -np.arange(1, 65536) / 4096)
    got = weights(logits, 0.8)
    assert got[[1, 100, 1234, 4321, 50000]].tolist() == [8386048, 8136476, 5756259, 2243888, 1]
    digest = hashlib.sha256(got.astype("<i8").tobytes()).hexdigest()
    assert digest == "18f3aeb65911a5352258992db20a37779bcd7504c1c3d298aa10123b03a8e8a8"


@every_temperature
def test_weights_are_the_softmax_at_every_temperature(temperature):
    logits = random_logits(1, 4096, spread=3 * temperature)
    got = weights(logits, temperature)
    exponent = (logits.astype(np.float64) - logits.max()) / np.float64(np.float32(temperature))
    exact = 2.0**23 * np.exp(exponent)
    rounding = 2e-7 + 2.0**-22 * np.abs(exponent)  # of the float32 exponent
    assert (np.abs(got - exact) <= exact * rounding + 1).all()
    assert np.count_nonzero(got) > 2000


@every_temperature
def test_a_larger_logit_never_weighs_less(temperature):
    logits = np.sort(random_logits(2, 100_000, spread=4 * temperature))
    assert (np.diff(weights(logits, temperature)) >= 0).all()


def test_the_largest_logit_weighs_a_whole_and_25_octaves_less_weigh_nothing():
    assert weights([3.5, 3.5, -1e30, -np.inf]).tolist() == [2**23, 2**23, 0, 0]
    assert weights([0, -23 * math.log(2) + 1e-5, -24 * math.log(2) - 1e-5]).tolist() == [2**23, 1, 0]


@pytest.mark.parametrize(("temperature", "count"), [(0.8, 1_000_000), (0.3, 200_000), (2.0, 200_000)])
def test_draws_have_the_softmax_frequencies(temperature, count):
    q_levels, block = 256, 500
    row = random_logits(3, q_levels, spread=0.8 * temperature)
    logits = torch.from_numpy(row).expand(block, -1)
    counts = np.zeros(q_levels)
    for start in range(0, count, block):
        draws = as_tensor(randomness.draws(7, np.array([3]), start, block)[0])
        levels = definition.sample_ref(logits, draws, torch.full((block,), temperature))
        counts += np.bincount(levels.numpy(), minlength=q_levels)
    # 255 degrees of freedom: mean 255, standard deviation 22.6.
    assert chi_square(counts, row / temperature) < 255 + 6 * 22.6
    assert chi_square(counts, row / (temperature * 1.05)) > 255 + 6 * 22.6, "the test cannot tell distributions apart"


def chi_square(counts, logits):
    expected = np.exp(logits.astype(np.float64))
    expected *= counts.sum() / expected.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("q_levels", [2, 3, 256, 1000, 65536])
def test_equal_logits_are_uniform_to_the_last_draw(q_levels):
    draws = [0, 1, 2**31 - 1, 2**31, FULL - 2**16, FULL, *range(12345, 2**32, 2**27)]
    for temperature in (0.01, 1.0, 100.0):
        assert one_row([-7.25] * q_levels, draws, temperature) == [draw * q_levels >> 32 for draw in draws]


@pytest.mark.parametrize("q_levels", [2, 51, 256, 65536])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 1.0), (1, 1.0), (7, 1.0), (0, 0.9), (0, 1e-12), (7, 0.5), (10**5, 1.0)]
)
def test_levels_are_those_of_exact_integers(q_levels, top_k, top_p):
    rng = np.random.default_rng(q_levels)
    for spread in (0.01, 1.0, 30.0):
        logits = np.round(rng.standard_normal(q_levels) * 2) / 2 * spread  # rounded: ties
        draws = rng.integers(0, 2**32, 5).tolist()
        kept = kept_by_definition(weights(logits).tolist(), top_k, top_p)
        prefix = np.cumsum(kept)
        expected = [int(np.argmax(prefix > draw * sum(kept) // 2**32)) for draw in draws]
        assert one_row(logits, draws, 1.0, min(top_k, 65536), top_p) == expected


def kept_by_definition(all_weights, top_k, top_p):
    """In Python integers: the top_k largest, then the fewest that reach top_p; of equal ones the lowest levels."""
    order = sorted(range(len(all_weights)), key=lambda level: (-all_weights[level], level))
    if top_k:
        order = order[:top_k]
    if top_p < 1:
        target, reached, used = int(top_p * 2**32) * sum(all_weights[level] for level in order) >> 32, 0, 0
        while used == 0 or reached < target:
            reached += all_weights[order[used]]
            used += 1
        order = order[:used]
    kept = [0] * len(all_weights)
    for level in order:
        kept[level] = all_weights[level]
    return kept


def test_temperature_zero_takes_the_lowest_of_equal_maxima():
    assert one_row([1, 5, 5, 2], [0, 2**31, FULL], temperature=0) == [1, 1, 1]
    assert one_row([-np.inf, -3, -np.inf], [0, FULL], temperature=0) == [1, 1]


def test_temperatures_of_one_batch_do_not_meet():
    logits = torch.from_numpy(random_logits(4, 64)).expand(200, -1)
    draws = as_tensor(randomness.draws(1, np.array([0]), 0, 200)[0])
    heat = torch.tensor([0.0, 0.5, 1.0, 2.0]).repeat(50)
    together = definition.sample_ref(logits, draws, heat)
    for row in range(200):
        alone = definition.sample_ref(logits[:1], draws[row : row + 1], heat[row : row + 1])
        assert int(alone) == int(together[row])
    assert len(set(together[heat == 0].tolist())) == 1 < len(set(together[heat == 2].tolist()))


def test_top_k_keeps_the_lowest_of_equal_levels():
    draws = [0, 2**31 - 1, 2**31, FULL]
    assert one_row([0, 3, 3, 3], draws, top_k=1) == [1, 1, 1, 1]
    assert one_row([0, 3, 3, 3], draws, top_k=2) == [1, 1, 2, 2]


def test_top_k_of_all_levels_is_off():
    logits, draws = random_logits(5, 32), list(range(0, 2**32, 2**25))
    free = one_row(logits, draws)
    assert one_row(logits, draws, top_k=32) == one_row(logits, draws, top_k=65536) == free
    assert one_row(logits, draws, top_k=4) != free


def test_top_p_keeps_at_least_one_and_1_is_off():
    logits, draws = random_logits(6, 32), list(range(0, 2**32, 2**25))
    assert set(one_row(logits, draws, top_p=1e-12)) == {int(logits.argmax())}
    assert one_row(logits, draws, top_p=1.0) == one_row(logits, draws) != one_row(logits, draws, top_p=0.6)


def test_top_p_stops_as_soon_as_the_share_is_reached():
    # Four equal levels: a share of one half is two of them, anything more is three.
    assert one_row([2, 2, 2, 2], [FULL], top_p=0.5) == [1]
    assert one_row([2, 2, 2, 2], [FULL], top_p=0.5 + 2**-20) == [2]


def test_top_p_measures_what_top_k_left():
    # Of the two levels that top-k keeps, the first holds 0.73 of the mass; of all three it holds 0.58.
    logits = [1.0, 0.0, -0.2]
    assert set(one_row(logits, [0, FULL], top_p=0.7)) == {0, 1}
    assert set(one_row(logits, [0, FULL], top_k=2, top_p=0.7)) == {0}


def test_impossible_levels_are_never_drawn():
    draws = [0, 1, 2**31, FULL]
    assert one_row([-np.inf, 0, -np.inf], draws) == [1, 1, 1, 1]
    assert one_row([-50, 0, 0, -50], draws) == [1, 1, 2, 2]
    assert one_row([-np.inf, 0, -np.inf], draws, temperature=1000.0) == [1, 1, 1, 1]


def test_float64_logits_draw_as_their_float32():
    logits = torch.from_numpy(random_logits(8, 256)).double()[None] + 1e-12
    draw = as_tensor(randomness.draws(0, np.array([0]), 0, 50)[0])
    for one in draw:
        levels = [definition.sample_ref(kind, one[None], torch.ones(1)) for kind in (logits, logits.float())]
        assert levels[0] == levels[1]


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1", None, True, float("nan")])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ConfigError, match="seed must be a whole number from 0 to"):
        limits.check_seed(seed)


def test_seeds_of_64_bits_are_taken():
    assert [limits.check_seed(seed) for seed in (0, 2**64 - 1, np.uint64(2**63))] == [0, 2**64 - 1, 2**63]


@pytest.mark.parametrize("temperature", [-1, -1e-9, 1e-9, 1001, math.nan, math.inf, -math.inf, "1", None])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(ConfigError, match="temperature must be 0 or between"):
        limits.check_temperature(temperature)


def test_temperatures_of_every_kind_of_number_are_taken():
    assert [limits.check_temperature(heat) for heat in (0, 1, np.float32(0.5), 1e-3, 1e3)] == [0, 1, 0.5, 1e-3, 1e3]


@pytest.mark.parametrize("top_k", [0, -1, 1.5, 2.0, "3", True, math.nan])
def test_bad_top_k_is_refused(top_k):
    with pytest.raises(ConfigError, match=r"top_k must be (1 to 65536 levels|a whole number), got"):
        limits.check_truncation(top_k, None)


@pytest.mark.parametrize("top_p", [0, -0.1, 1.0001, math.nan, math.inf])
def test_bad_top_p_is_refused(top_p):
    with pytest.raises(ConfigError, match="top_p must be above 0 and at most 1, got"):
        limits.check_truncation(None, top_p)


def test_truncation_that_is_off():
    assert limits.check_truncation(None, None) == (0, 1.0)
    assert limits.check_truncation(65536, 1) == (65536, 1.0)


def test_more_levels_than_the_model_has_are_refused():
    assert limits.check_truncation(256, None, 256) == (256, 1.0)
    with pytest.raises(ConfigError, match="top_k must be 1 to 256 levels, got 9999"):
        limits.check_truncation(9999, None, 256)
