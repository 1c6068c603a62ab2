"""The formulas, against values from tables and from scipy, and their intervals against many simulated tests."""

import math

import numpy as np
import pytest

from samplernn_fast.evaluation.intervals import wilson
from samplernn_fast.evaluation.listening.statistics import bradley_terry, holm, sign_test


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 5), (9, 1), (15, 5), (60, 40), (900, 1100)])
def test_the_sign_test_is_that_of_scipy(wins: int, losses: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)
    assert sign_test(wins, losses) == sign_test(losses, wins)


def test_the_sign_test_of_many_answers_is_exact() -> None:
    assert sign_test(10_000, 0) == 0.0 or sign_test(10_000, 0) < 1e-300
    assert sign_test(10, 0) == 2 / 1024
    assert sign_test(5000, 5000) == 1


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


def test_two_systems_have_the_odds_of_their_answers() -> None:
    one, other = bradley_terry(np.array([[0, 300.0], [100.0, 0]]))
    assert one.value - other.value == pytest.approx(math.log(300.5 / 100.5), abs=1e-9)
    assert one.value == -other.value
    # The standard error of the log odds is sqrt(1/300.5 + 1/100.5), and that of each strength half of it.
    half = 1.96 * math.sqrt(1 / 300.5 + 1 / 100.5) / 2
    assert one.high - one.value == pytest.approx(half, rel=1e-3) == one.value - one.low


def test_one_that_never_loses_has_a_finite_strength() -> None:
    found = bradley_terry(np.array([[0, 20.0, 20], [0, 0, 20], [0, 0, 0]]))
    assert all(math.isfinite(number) for one in found for number in (one.value, one.low, one.high))
    assert found[0].low > found[1].value > found[2].high


def test_systems_that_nothing_links_have_no_interval() -> None:
    wins = np.zeros((4, 4))
    wins[0, 1] = wins[2, 3] = 5
    found = bradley_terry(wins)
    assert all(math.isinf(one.low) and math.isinf(one.high) and math.isfinite(one.value) for one in found)
    assert all(one.value == 0 and math.isinf(one.high) for one in bradley_terry(np.zeros((3, 3))))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """2,000 tests of three systems with 100 answers a pair: 95 % of the intervals, within 1.5 %."""
    true = np.array([0.8, -0.1, -0.7])
    draw = np.random.default_rng(0)
    likely = 1 / (1 + np.exp(true[None, :] - true[:, None]))
    held, shares = np.zeros(3), 0
    for _ in range(2000):
        above = np.triu(draw.binomial(100, likely).astype(float), 1)
        wins = above + np.tril(100 - above.T, -1)
        held += [one.low <= truth <= one.high for one, truth in zip(bradley_terry(wins), true, strict=True)]
        share = wilson(int(wins[0, 1]), 100)
        shares += share.low <= likely[0, 1] <= share.high
    assert np.all(np.abs(held / 2000 - 0.95) < 0.015), held
    assert abs(shares / 2000 - 0.95) < 0.015
