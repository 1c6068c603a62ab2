"""Intervals: known values, and how often they hold the truth."""

import numpy as np
import pytest

from samplernn_fast.evaluation.intervals import bootstrap, wilson


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (83, 100, 0.7445, 0.8911)],
)
def test_wilson_has_the_values_of_its_formula_in_textbooks(count, total, low, high):
    found = wilson(count, total)
    assert found.value == count / total
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 10), (10, 10), (81, 263), (1, 1)])
def test_wilson_is_that_of_scipy(count, total):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(count, total).proportion_ci(method="wilson")
    found = wilson(count, total)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-12)


def test_wilson_of_nothing_says_nothing():
    found = wilson(0, 0)
    assert np.isnan(found.value) and (found.low, found.high) == (0, 1)


def test_the_bootstrap_weighs_recordings_by_their_samples():
    found = bootstrap([1.0] * 5 + [3.0] * 5, [300] * 5 + [100] * 5)
    assert found.value == 1.5 and 1.0 <= found.low < 1.5 < found.high <= 3.0


@pytest.mark.parametrize("count", [1, 3, 9])
def test_few_recordings_have_no_interval(count):
    found = bootstrap([2.5] * count, [10] * count)
    assert found.value == 2.5 and np.isnan(found.low) and np.isnan(found.high)


def test_equal_recordings_have_no_width():
    found = bootstrap([2.5] * 10, [10] * 10)
    assert (found.value, found.low, found.high) == pytest.approx((2.5, 2.5, 2.5))


def test_the_same_recordings_give_the_same_interval():
    assert bootstrap(range(12), [5] * 12) == bootstrap(range(12), [5] * 12)


def test_an_interval_holds_the_true_mean_about_as_often_as_it_says():
    draw = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        found = bootstrap(draw.normal(2.0, 0.5, size=40), [1] * 40)
        held += found.low <= 2.0 <= found.high
    assert 0.90 <= held / 300 <= 0.98
