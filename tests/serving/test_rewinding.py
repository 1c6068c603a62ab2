"""Sound that is made ahead and made again where a change falls into it: what is heard is what its score makes."""

import random
from typing import Any

import numpy as np
import pytest

from samplernn_fast.engine.engine import Engine
from samplernn_fast.serving.live import slot as module
from samplernn_fast.serving.live.settings import Settings
from samplernn_fast.serving.live.slot import Report, Slot, advance

pytest.importorskip("samplernn_fast._C", reason="the C++ engine is not built")
GRAIN = 64
CHANGES = [{"temperature": 0.5}, {"top_k": 9}, {"frozen": True}, {"frozen": False}, {"reset": True}]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("demo", num_threads=1)


class Stream:
    """A slot whose player keeps snapshots, and the sound of it that counts."""

    def __init__(self, engine: Engine, seed: int, score: list[Any] | None = None, kept: int = 1 << 30) -> None:
        self.slot, self.seed, self.kept = Slot(engine, seed, Settings(), score=score or []), seed, kept
        self.sound = np.empty(0, np.float32)
        self.reports: list[Report] = []

    def play(self, grains: int) -> None:
        """Makes a block, as a player does."""
        self.slot.rewind()
        self.slot.keep(self.slot.position - self.kept)
        self.sound = self.sound[: self.slot.position]
        self.sound = np.concatenate([self.sound, advance(self.slot.engine, [self.slot], grains * GRAIN)[0]])
        self.reports += self.slot.take_reports()

    def check(self) -> None:
        """Fails where the sound is not that of a slot that knew all changes from the beginning."""
        # The score comes first where it and the listener change settings at one position.
        changes = [*self.slot.score, *((report.at, report.changes) for report in self.reports)]
        score = sorted(changes, key=lambda change: change[0])
        again = Slot(self.slot.engine, self.seed, Settings(), score=score)
        assert np.array_equal(self.sound, advance(again.engine, [again], len(self.sound))[0])


@pytest.mark.parametrize("changes", CHANGES)
def test_a_change_goes_before_sound_that_was_made(engine: Engine, changes: dict[str, Any]) -> None:
    stream = Stream(engine, 5, [(3 * GRAIN, {"frozen": True}), (7 * GRAIN, {"temperature": 0.9})])
    for _ in range(12):
        stream.play(1)
    before = stream.sound
    stream.slot.ask(1, changes, since=4 * GRAIN + 1)
    for _ in range(80):  # beyond the time after which a frozen model returns
        stream.play(1)
    assert stream.reports == [Report(1, 5 * GRAIN, changes)] and stream.slot.obeys == 1
    assert np.array_equal(stream.sound[: 5 * GRAIN], before[: 5 * GRAIN])
    same = np.array_equal(stream.sound[5 * GRAIN : 12 * GRAIN], before[5 * GRAIN :])
    assert same == ("frozen" in changes)  # which is heard when the model returns, or does not
    stream.check()


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_asked_for_and_when_the_score_makes_the_same(
    engine: Engine, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_JOINT_SECONDS", 0.03)  # several grains, so that snapshots fall into fades
    chance = random.Random(seed)
    stream = Stream(
        engine, seed, [(chance.randrange(100) * GRAIN, chance.choice(CHANGES)) for _ in range(8)], 20 * GRAIN
    )
    asked, rewound = 0, 0
    while stream.slot.position < 120 * GRAIN:
        rewound += stream.slot.must_rewind
        stream.play(chance.choice([1, 2, 5]))
        if chance.random() < 0.3:
            asked += 1
            since = max(0, stream.slot.position + chance.randrange(-15 * GRAIN, 5 * GRAIN))
            stream.slot.ask(asked, chance.choice(CHANGES), since if chance.random() < 0.8 else None)
    positions = [report.at for report in stream.reports]
    assert positions == sorted(positions) and len(positions) >= asked - 3
    assert rewound
    stream.check()


def test_a_reported_change_stays(engine: Engine) -> None:
    stream = Stream(engine, 1)
    for number, since in enumerate([6 * GRAIN, 2 * GRAIN, 7 * GRAIN], 1):
        for _ in range(5):
            stream.play(2)
        stream.slot.ask(number, {"temperature": 1 - number / 10}, since)
    stream.play(1)
    assert [report.at // GRAIN for report in stream.reports] == [6, 6, 8]
    stream.check()


def test_a_change_for_later_waits(engine: Engine) -> None:
    stream = Stream(engine, 1)
    stream.play(3)
    stream.slot.ask(1, {"temperature": 0.5}, since=10 * GRAIN + 1)
    stream.slot.ask(2, {"top_k": 3})  # changes hold in the order in which they were asked for
    stream.play(20)
    assert [(report.number, report.at) for report in stream.reports] == [(1, 11 * GRAIN), (2, 11 * GRAIN)]
    stream.check()


def test_only_what_is_kept_is_made_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_KEPT", 4)
    for stream, at in ((Stream(engine, 1), 16), (Stream(engine, 1, kept=2 * GRAIN), 17)):
        for _ in range(20):
            stream.play(1)
        stream.slot.ask(1, {"temperature": 0.5}, since=0)
        stream.play(1)
        assert [report.at for report in stream.reports] == [at * GRAIN]
        stream.check()


def test_large_memories_are_not_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Slot(engine, 1, Settings()).rewinds
    monkeypatch.setattr(module, "_KEPT_BYTES", 50_000)
    stream = Stream(engine, 1)
    assert not stream.slot.rewinds
    stream.play(4)
    stream.slot.ask(1, {"temperature": 0.5}, since=0)
    stream.play(4)
    assert [report.at for report in stream.reports] == [4 * GRAIN]
    stream.check()
