"""The wait before warps look for packets: how the best one is found and kept. Times are made up."""

import numpy as np
import pytest

from samplernn_fast.backends import cache
from samplernn_fast.backends.cuda import first_look


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder in which waits are kept."""
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path))
    return tmp_path / "first-looks"


def with_least_at(ticks, noise=lambda: 0.0):
    """The time of a launch on a GPU on which a wait of so many ticks is best."""
    return lambda tried: 5.0 + abs(tried - ticks) / 400 + noise()


@pytest.mark.parametrize(
    ("least", "found"), [(0, 0), (140, 150), (310, 300), (349, 350), (650, 650), (760, 750), (1150, 1150), (4000, 1300)]
)
def test_the_best_wait_is_found(least, found):
    assert first_look.best(650, with_least_at(least)) == found


@pytest.mark.parametrize("usual", [0, 350, 650])
def test_where_waits_make_no_difference_the_usual_one_stays(usual):
    assert first_look.best(usual, lambda ticks: 5.0) == usual
    slightly = {ticks: 5.0 - ticks / 1e5 for ticks in range(0, 2000)}
    assert first_look.best(usual, slightly.__getitem__) == usual


def test_launches_that_something_else_delays_do_not_count():
    """Two of three launches take longer, by chance, than the worst wait could make them, and not always the same."""
    random, tried = np.random.default_rng(3), []

    def seconds(ticks):
        tried.append(ticks)
        turn = tried.count(ticks) + ticks // 150
        return with_least_at(310)(ticks) + (random.exponential(20) + 5 if turn % 3 and ticks != 650 else 0)

    assert first_look.best(650, seconds) == 300
    assert tried[:2] == [650, 650]  # one that warms up, and one that counts
    turns = [tried[1 + 10 * turn :][:10] for turn in range(3)]
    assert turns[0] == turns[1] == turns[2] and len(set(turns[0])) == 10
    assert sorted(tried[31:37]) == [200, 250, 300, 350, 400, 650] and len(tried) == 31 + 3 * 6


def test_where_another_program_has_the_gpu_nothing_is_kept(kept):
    """Then launches of one wait differ by much, and which is the least tells little."""
    random = np.random.default_rng(1)
    assert first_look.best(650, lambda ticks: 1 + random.exponential(0.5)) is None
    assert first_look.kept_or_best("a", 650, lambda ticks: 1 + random.exponential(0.5)) == 650
    assert not kept.exists()


def test_a_clock_that_gets_faster_does_not_matter():
    """A GPU that was idle begins with a slow clock."""
    speeds = iter([0.5 + 0.01 * min(launch, 25) for launch in range(100)])
    assert first_look.best(650, lambda ticks: with_least_at(300)(ticks) / next(speeds)) == 300


def test_what_was_found_is_kept_for_each_program(kept):
    assert first_look.kept_or_best("a", 650, with_least_at(300)) == 300
    assert first_look.kept_or_best("a", 650, pytest.fail) == 300
    assert first_look.kept_or_best("b", 650, with_least_at(0)) == 0
    assert first_look.kept_or_best("b", 650, pytest.fail) == 0
    for path in kept.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert first_look.kept_or_best("a", 650, with_least_at(450)) == 450


@pytest.mark.parametrize("content", [b"\1", bytes(100), b"\xff" * 4, (1301).to_bytes(4, "little")])
def test_a_kept_wait_that_is_none_is_measured_anew(monkeypatch, content):
    """A kernel that waits for ever would stop the GPU."""
    monkeypatch.setattr(cache.Store, "read", lambda *about: content)
    assert first_look.kept_or_best("a", 650, with_least_at(300)) == 300


def test_the_longest_wait_is_kept():
    assert first_look.kept_or_best("a", 650, with_least_at(4000)) == 1300
    assert first_look.kept_or_best("a", 650, pytest.fail) == 1300


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "file"))
    assert first_look.kept_or_best("a", 650, with_least_at(300)) == 300
