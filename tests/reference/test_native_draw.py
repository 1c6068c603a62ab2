"""samplernn_fast._C: Philox and the integer sampler, against their definitions here, in NumPy and in torch."""

import numpy as np
import pytest
import torch
from philox_answers import known_answers

from samplernn_fast.reference import draw as definition
from samplernn_fast.reference import randomness

_C = pytest.importorskip("samplernn_fast._C", reason="the native extension is not built: no C++ compiler?")

FULL = 0xFFFFFFFF


def levels_by_definition(logits, draws, temperature, top_k=0, top_p=1.0):
    return [
        level_by_definition(row, int(draw), heat, top_k, top_p)
        for row, draw, heat in zip(logits, draws, temperature, strict=True)
    ]


def level_by_definition(logits, draw, temperature, top_k, top_p):
    if temperature == 0:
        return int(np.argmax(logits))
    kept = kept_weights(weights_by_definition(logits, temperature), top_k, top_p)
    rank = draw * sum(kept) >> 32
    return next(level for level in range(len(kept)) if sum(kept[: level + 1]) > rank)


def weights_by_definition(logits, temperature):
    """Integer weights as Python ints: every float32 step rounded on its own."""
    scale = np.float32(np.log2(np.e) / np.float64(temperature))
    y = np.maximum((logits - logits.max()) * scale, np.float32(-25))
    f = y - np.floor(y)
    p = np.full_like(f, np.float32(0.001880902680568397))
    for coefficient in (
        0.0089864581823349,
        0.05582338199019432,
        0.24015720188617706,
        0.6931520700454712,
        1.0,
    ):
        p = p * f + np.float32(coefficient)
    assert p.dtype == np.float32
    mantissas = (p * np.float32(2**23)).astype(np.int64)
    return [int(m) >> int(-w) for m, w in zip(mantissas, np.floor(y), strict=True)]


def kept_weights(weights, top_k, top_p):
    kept = list(weights)
    order = sorted(range(len(kept)), key=lambda level: (-kept[level], level))
    for level in order[top_k:] if top_k else ():
        kept[level] = 0
    if top_p < 1:
        target = int(top_p * 2**32) * sum(kept) >> 32
        reached, used = 0, 0
        while used == 0 or reached < target:
            reached += kept[order[used]]
            used += 1
        for level in order[used:]:
            kept[level] = 0
    return kept


def random_case(seed, batch, q_levels, spread):
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((batch, q_levels)) * spread).astype(np.float32)
    draws = rng.integers(0, 2**32, batch, dtype=np.uint32)
    temperature = rng.choice([0.0, 0.05, 0.8, 1.0, 3.0], batch).astype(np.float32)
    return logits, draws, temperature


@known_answers
def test_philox_block_known_answers(counter, key, expected):
    assert tuple(_C.philox_block(counter, key)) == expected


def test_philox_counts_samples_beyond_32_bits():
    seed, stream, start = 0x0123456789ABCDEF, 0xFFFFFFFE, 2**32 - 2
    draws = _C.philox(seed, stream, start, 4)
    assert draws.dtype == np.uint32
    for draw, t in zip(draws, range(start, start + 4), strict=True):
        block = _C.philox_block((t & FULL, t >> 32, stream, 0), (seed & FULL, seed >> 32))
        assert draw == block[0]


@pytest.mark.parametrize("arguments", [(-1, 0, 0, 1), (2**64, 0, 0, 1), (0, 2**32, 0, 1), (0, 0, 2**64, 1)])
def test_philox_refuses_numbers_that_do_not_fit(arguments):
    with pytest.raises((TypeError, ValueError)):
        _C.philox(*arguments)


def test_philox_refuses_negative_count():
    with pytest.raises(ValueError, match="n must be 0 or more, got -1"):
        _C.philox(0, 0, 0, -1)


@pytest.mark.parametrize("q_levels", [1, 2, 64, 256, 1000])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (1, 1.0), (7, 1.0), (0, 0.9), (0, 1e-12), (7, 0.5)])
@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_sample_levels_follow_the_definition(q_levels, top_k, top_p, spread):
    logits, draws, temperature = random_case(q_levels, 8, q_levels, spread)
    logits[::2] = np.round(logits[::2] / spread * 2) / 2  # many equal logits: ties
    got = _C.sample_levels(logits, draws, temperature, top_k, top_p)
    assert got.dtype == np.int32
    assert got.tolist() == levels_by_definition(logits, draws, temperature, top_k, top_p)


def test_sample_levels_sum_in_64_bits():
    q_levels = 65536  # equal logits: the weights add up to 2^39
    logits = np.zeros((5, q_levels), np.float32)
    draws = np.array([0, 1, 2**31, FULL - 2**16, FULL], np.uint32)
    got = _C.sample_levels(logits, draws, np.ones(5, np.float32), 0, 1.0)
    assert got.tolist() == [int(draw) * q_levels >> 32 for draw in draws]


@pytest.mark.parametrize("seed", [0, 1, 0x0123456789ABCDEF, 2**64 - 1])
def test_philox_equals_the_numpy_twin(seed):
    streams = [0, 1, 77, 2**32 - 1]
    for start in (0, 1, 12345, 2**32 - 50, 2**40):
        twin = randomness.draws(seed, np.array(streams), start, 100)
        for stream, row in zip(streams, twin.tolist(), strict=True):
            assert _C.philox(seed, stream, start, 100).tolist() == row


@pytest.mark.parametrize("q_levels", [2, 3, 51, 64, 256, 1000, 65536])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 1.0), (1, 1.0), (5, 1.0), (0, 0.8), (0, 1e-9), (40, 0.3), (65536, 1.0)]
)
def test_sample_levels_equal_the_torch_twin(q_levels, top_k, top_p):
    batch = 12 if q_levels > 1000 else 120
    rng = np.random.default_rng(q_levels + top_k)
    for spread in (0.001, 0.3, 4.0, 1e4):
        logits = (rng.standard_normal((batch, q_levels)) * spread).astype(np.float32)
        logits[::3] = np.round(logits[::3] / spread) * spread  # ties
        logits[1::3, ::2] = -np.inf
        draws = rng.integers(0, 2**32, batch, dtype=np.uint32)
        draws[:2] = 0, FULL
        temperature = np.resize(np.array([0, 0.01, 0.5, 1, 2, 100], np.float32), batch)
        torch_inputs = [torch.from_numpy(one) for one in (logits, draws.astype(np.int64), temperature)]
        twin = definition.sample_ref(*torch_inputs, top_k, top_p)
        assert _C.sample_levels(logits, draws, temperature, top_k, top_p).tolist() == twin.tolist()


def test_a_million_draws_have_the_softmax_frequencies():
    q_levels, batch, rounds = 64, 20_000, 50
    row = np.random.default_rng(1).standard_normal(q_levels).astype(np.float32)
    logits = np.tile(row, (batch, 1))
    heat = np.full(batch, 0.8, np.float32)
    counts = np.zeros(q_levels)
    for block in range(rounds):
        draws = _C.philox(7, 3, block * batch, batch)
        counts += np.bincount(_C.sample_levels(logits, draws, heat, 0, 1.0), minlength=q_levels)

    # Mean 63 and standard deviation 11.2 for the right distribution.
    assert chi_square(counts, row / 0.8) < 63 + 6 * 11.2
    assert chi_square(counts, row / 0.81) > 63 + 6 * 11.2, "the test cannot tell distributions apart"


def chi_square(counts, logits):
    expected = np.exp(logits.astype(np.float64))
    expected *= counts.sum() / expected.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def one_row(logits, draw, temperature=1.0, top_k=0, top_p=1.0):
    arrays = np.array([logits], np.float32), np.array([draw], np.uint32), np.array([temperature], np.float32)
    return _C.sample_levels(*arrays, top_k, top_p)[0]


@pytest.mark.parametrize("draw", [0, 2**31, FULL])
def test_temperature_zero_takes_the_lowest_of_equal_maxima(draw):
    assert one_row([1, 5, 5, 2], draw, temperature=0) == 1


@pytest.mark.parametrize("draw", [0, 2**31, FULL])
def test_top_k_breaks_ties_by_lowest_level(draw):
    assert one_row([0, 3, 3, 3], draw, top_k=1) == 1
    assert one_row([0, 3, 3, 3], draw, top_k=2) == (1 if draw < 2**31 else 2)


@pytest.mark.parametrize("draw", [0, 2**31, FULL])
def test_top_p_keeps_at_least_one_level(draw):
    assert one_row([0, 1, 9, 1], draw, top_p=0.0) == 2


def test_top_p_stops_as_soon_as_the_share_is_reached():
    # Four equal levels: a share of one half is two levels, anything more is three.
    assert one_row([2, 2, 2, 2], FULL, top_p=0.5) == 1
    assert one_row([2, 2, 2, 2], FULL, top_p=0.5 + 2**-20) == 2


def test_extreme_draws_give_first_and_last_possible_level():
    assert one_row([-50, 0, 0, -50], 0) == 1
    assert one_row([-50, 0, 0, -50], FULL) == 2


def test_minus_infinity_is_never_drawn_and_tiny_temperature_is_the_maximum():
    assert one_row([-np.inf, 0, -np.inf], 0) == 1
    assert one_row([-np.inf, 0, -np.inf], FULL) == 1
    assert one_row([0, 1, 0], 2**31, temperature=1e-40) == 1


@pytest.mark.parametrize("bad", [[0, np.nan], [np.nan, 0], [0, np.inf], [-np.inf, -np.inf]])
def test_logits_that_are_no_distribution_are_refused(bad):
    with pytest.raises(ValueError, match="row 0"):
        one_row(bad, 0)


@pytest.mark.parametrize("temperature", [-1.0, np.nan, np.inf])
def test_bad_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be finite and 0 or more"):
        one_row([0, 1], 0, temperature=temperature)


LOGITS = np.zeros((2, 4), np.float32)
DRAWS = np.zeros(2, np.uint32)
HEAT = np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LOGITS.astype(np.float64), DRAWS, HEAT), r"logits must be .* got float64 \(2, 4\)"),
        ((LOGITS[0], DRAWS, HEAT), r"logits must be .* got float32 \(4,\)"),
        ((LOGITS[:, ::2], DRAWS, HEAT), r"logits must be .* got strided float32 \(2, 2\)"),
        ((LOGITS[:, :0], DRAWS, HEAT), r"logits must be .* got float32 \(2, 0\)"),
        ((LOGITS, DRAWS.astype(np.int64), HEAT), r"draws must be uint32 \(B,\) = \(2,\), got int64 \(2,\)"),
        ((LOGITS, DRAWS[:1], HEAT), r"draws must be uint32 \(B,\) = \(2,\), got uint32 \(1,\)"),
        ((LOGITS, DRAWS, HEAT[:1]), r"temperature must be float32 \(B,\) = \(2,\), got float32 \(1,\)"),
        ((LOGITS, DRAWS, HEAT, -1), "top_k must be 0 .* got -1"),
        ((LOGITS, DRAWS, HEAT, 0, float("nan")), "top_p must be 0 or more, got nan"),
    ],
)
def test_sample_levels_refuses_wrong_arrays(arguments, message):
    with pytest.raises(ValueError, match=message):
        _C.sample_levels(*arguments)


def test_build_info_names_the_compiler():
    assert _C.build_info()["cxx_standard"] >= 17
    assert _C.build_info()["compiler"]
