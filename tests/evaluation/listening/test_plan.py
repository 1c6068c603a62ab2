"""Which pairs listeners hear: balanced over pairs of systems, whatever the numbers, and random otherwise."""

from collections import Counter
from pathlib import Path

import pytest

from samplernn_fast.evaluation.listening.folder import Clip, ListeningTest, System
from samplernn_fast.evaluation.listening.plan import pairs_of


def drawn(systems: int, clips: int, trials: int, seed: int = 0) -> ListeningTest:
    """A test without files."""
    names = [f"system {number}" for number in range(systems)]
    named = {f"{number:08x}{clip:08x}": Clip(name, "") for number, name in enumerate(names) for clip in range(clips)}
    of = tuple(System(name, "", 0, 0) for name in names)
    return ListeningTest(Path("nowhere"), "key", "title", "question", seed, trials, -23.0, of, named)


def pairs_of_systems(test: ListeningTest, listeners: range) -> Counter[frozenset[str]]:
    heard = [pair for listener in listeners for pair in pairs_of(test, listener)]
    return Counter(frozenset(test.clips[clip].system for clip in pair) for pair in heard)


@pytest.mark.parametrize(("systems", "trials"), [(2, 20), (3, 20), (4, 20), (4, 5), (7, 20), (5, 1)])
def test_pairs_of_systems_are_heard_equally_often(systems: int, trials: int) -> None:
    test = drawn(systems, 4, trials)
    kinds = systems * (systems - 1) // 2
    for listeners in (range(1, 2), range(2, 3), range(1, 8), range(1, 32)):
        counts = pairs_of_systems(test, listeners)
        assert sum(counts.values()) == trials * len(listeners)
        assert all(len(pair) == 2 for pair in counts)
        assert max(counts.values()) - min(counts[pair] if len(counts) == kinds else 0 for pair in counts) <= 1


def test_both_sides_and_all_orders_come_up() -> None:
    test = drawn(3, 4, 20)
    heard = [[tuple(test.clips[clip].system for clip in pair) for pair in pairs_of(test, one)] for one in range(1, 101)]
    sides = Counter(pair for pairs in heard for pair in pairs)
    assert len(sides) == 6
    # Each of 2,000 trials has a fair coin: 6.5 standard deviations of a count of about 333.
    assert all(abs(sides[one, other] - sides[other, one]) < 6.5 * 667**0.5 for one, other in sides)
    assert len({tuple(pairs) for pairs in heard}) == 100


def test_a_listener_hears_no_clip_twice_before_all_of_its_system() -> None:
    test = drawn(3, 14, 20)
    for listener in range(1, 20):
        clips = [clip for pair in pairs_of(test, listener) for clip in pair]
        assert len(set(clips)) == len(clips)


def test_the_plan_depends_on_the_seed_and_the_listener_alone() -> None:
    test = drawn(3, 4, 20)
    assert pairs_of(test, 3) == pairs_of(drawn(3, 4, 20), 3)
    assert pairs_of(test, 3) != pairs_of(test, 4)
    assert pairs_of(test, 3) != pairs_of(drawn(3, 4, 20, seed=1), 3)
