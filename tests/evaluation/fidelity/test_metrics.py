"""The four scores, against their formulas written out over clips and pairs, and against closed forms."""

import itertools
import math

import numpy as np
import pytest

from samplernn_fast.evaluation.fidelity import metrics


def distributions(count, classes, seed=0, sharpness=3.0):
    logits = sharpness * np.random.default_rng(seed).standard_normal((count, classes))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def sure_of(labels, classes):
    """Log-probabilities of clips that are surely of these classes."""
    logs = np.full((len(labels), classes), -np.inf)
    logs[np.arange(len(labels)), labels] = 0
    return logs


def test_the_scores_are_their_formulas():
    logs, data = distributions(7, 4), distributions(9, 4, seed=1)
    p, q = np.exp(logs), np.exp(data)
    inception = math.exp(np.mean([divergence(one, p.mean(axis=0)) for one in p]))
    modified = math.exp(np.mean([divergence(one, other) for one, other in itertools.product(p, p)]))
    entropies = np.mean([-sum(a * math.log(a) for a in one) for one in p])
    assert metrics.inception_score(logs) == pytest.approx(inception, rel=1e-12)
    assert metrics.modified_inception_score(logs) == pytest.approx(modified, rel=1e-12)
    am = divergence(q.mean(axis=0), p.mean(axis=0)) + entropies
    assert metrics.am_score(logs, data) == pytest.approx(am, rel=1e-12)


def test_clips_that_are_sure_and_even_have_the_best_scores():
    logs = sure_of([0, 1, 2, 3, 4] * 3, 5)
    assert metrics.inception_score(logs) == pytest.approx(5)
    assert metrics.modified_inception_score(logs) == math.inf
    assert metrics.am_score(logs, logs) == 0


def test_a_class_that_no_clip_can_be_of_takes_no_part():
    logs, more = distributions(7, 4), np.full((7, 5), -np.inf)
    more[:, :4] = logs
    assert metrics.inception_score(more) == pytest.approx(metrics.inception_score(logs))
    assert metrics.modified_inception_score(more) == pytest.approx(metrics.modified_inception_score(logs))
    assert metrics.modified_inception_score(sure_of([0, 1] * 5, 3)) == math.inf
    assert metrics.modified_inception_score(sure_of([0] * 5, 3)) == 1


def test_what_is_no_number_has_no_score():
    nothing = np.full((4, 3), np.nan)
    assert math.isnan(metrics.inception_score(nothing)) and math.isnan(metrics.am_score(nothing, nothing))
    assert math.isnan(metrics.modified_inception_score(nothing))


def test_clips_that_are_all_judged_alike_have_the_worst():
    logs = np.log(np.full((6, 5), 0.2))
    assert metrics.inception_score(logs) == pytest.approx(1)
    assert metrics.modified_inception_score(logs) == pytest.approx(1)
    assert metrics.am_score(logs, sure_of([0, 1, 2, 3, 4], 5)) == pytest.approx(math.log(5))


def test_a_class_that_never_comes_is_infinitely_far_from_the_data():
    assert metrics.am_score(sure_of([0, 1], 3), sure_of([0, 1, 2], 3)) == math.inf
    assert metrics.am_score(sure_of([0, 1, 2], 3), sure_of([0, 1], 3)) == pytest.approx(math.log(1.5))


def test_a_collapse_to_one_class_costs_inception_and_am():
    one, all_of_them = sure_of([2] * 10, 5), sure_of([0, 1, 2, 3, 4] * 2, 5)
    assert metrics.inception_score(one) == pytest.approx(1)
    assert metrics.am_score(one, all_of_them) == math.inf


def test_the_distance_of_normal_distributions_is_the_closed_form():
    # Two points on each axis have exactly these means and covariances.
    def cloud(mean, deviations):
        axes = np.diag(np.sqrt(np.asarray(deviations, float) ** 2 * (2 * len(deviations) - 1) / 2))
        return np.concatenate((axes, -axes)) + np.asarray(mean, float)

    a, b = cloud([1, 2, 3], [1, 2, 0]), cloud([1, 0, 3], [4, 2, 0.5])
    assert np.cov(a, rowvar=False) == pytest.approx(np.diag([1, 4, 0]))
    expected = 2**2 + (1 - 4) ** 2 + 0 + 0.5**2
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    assert metrics.frechet_distance(a @ rotation, b @ rotation) == pytest.approx(expected, rel=1e-9)


def test_the_distance_equals_the_trace_of_the_root_of_the_product():
    draw = np.random.default_rng(0)
    a, b = draw.standard_normal((200, 8)) @ draw.standard_normal((8, 8)), draw.standard_normal((150, 8)) + 0.3
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # C D has the eigenvalues of a symmetric matrix, so its root has their roots on the diagonal.
    root = np.sqrt(np.linalg.eigvals(c @ d).real).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * root
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert metrics.frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_data_has_no_distance_to_itself_and_little_to_more_of_the_same():
    draw = np.random.default_rng(0)
    clips = draw.standard_normal((4000, 16))
    assert metrics.frechet_distance(clips, clips) == pytest.approx(0, abs=1e-9)
    halves = metrics.frechet_distance(clips[:2000], clips[2000:])
    fewer = metrics.frechet_distance(clips[:100], clips[100:200])
    assert 0 < halves < 0.2 < fewer


def test_fewer_clips_than_features_still_have_a_distance():
    draw = np.random.default_rng(0)
    few, many = draw.standard_normal((3, 50)), draw.standard_normal((500, 50))
    assert 0 < metrics.frechet_distance(few, many) < math.inf
