"""The thread that plays a model: whose blocks it makes when, and what it hands on."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("samplernn_fast._C", reason="the C++ engine is not built")
pytest.importorskip("prometheus_client", reason="needs prometheus-client, of the extra `serve`")

from samplernn_fast.engine import together
from samplernn_fast.engine.engine import Engine
from samplernn_fast.serving.live.listener import Connection
from samplernn_fast.serving.live.metrics import Metrics
from samplernn_fast.serving.live.player import Block, Delivery, Failed, Player, Seat
from samplernn_fast.serving.live.settings import Settings
from samplernn_fast.serving.live.slot import Report, Slot, advance

GRAIN = 64


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("demo", num_threads=1)


@pytest.fixture
def player(engine: Engine) -> Iterator[Player]:
    opened = Player("demo", engine, Metrics())
    yield opened
    opened.end()


class Listener:
    """A seat and all that was delivered to it."""

    def __init__(self, player: Player, seed: int, block: int = GRAIN) -> None:
        self.player, self.got = player, list[Delivery]()
        self.seat: Seat = player.open(Slot(player.engine, seed, Settings()), block, self.got.append)

    @property
    def blocks(self) -> list[Block]:
        return [one for one in self.got if isinstance(one, Block)]

    @property
    def sound(self) -> np.ndarray:
        return np.concatenate([np.empty(0, np.float32), *(block.samples for block in self.blocks)])

    def want(self, until: int) -> None:
        self.player.want(self.seat, until)


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.005)


def alone(engine: Engine, seed: int, samples: int) -> np.ndarray:
    return advance(engine, [Slot(engine, seed, Settings())], samples)[0]


def test_whole_blocks_are_made_up_to_what_is_wanted(player: Player, engine: Engine) -> None:
    one = Listener(player, 1, block=100)
    assert one.seat.block == 128
    one.want(127)
    player.start()
    time.sleep(0.1)
    assert one.got == []
    one.want(600)
    until(lambda: len(one.sound) == 512)
    one.want(3)  # nothing is taken back
    time.sleep(0.1)
    assert [block.position for block in one.blocks] == [0, 128, 256, 384]
    assert np.array_equal(one.sound, alone(engine, 1, 512))


def test_what_is_due_together_is_made_by_one_call(
    player: Player, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners, sizes = [Listener(player, seed, GRAIN << seed % 2) for seed in range(5)], []
    run_mixed = together._run_mixed
    monkeypatch.setattr(
        together,
        "_run_mixed",
        lambda engine, states, n: (sizes.append((len(states), n)), run_mixed(engine, states, n))[1],
    )
    for one in listeners:
        one.want(128)
    player.start()
    until(lambda: all(len(one.sound) == 128 for one in listeners))
    assert sizes == [(5, 64), (5, 64)]
    assert all(np.array_equal(one.sound, alone(engine, seed, 128)) for seed, one in enumerate(listeners))


def test_reports_come_before_the_sound_that_obeys(player: Player) -> None:
    one = Listener(player, 1)
    player.start()
    one.want(GRAIN)
    until(lambda: len(one.got) == 1)
    one.seat.slot.ask(9, {"temperature": 0.5})
    one.want(2 * GRAIN)
    until(lambda: len(one.got) == 3)
    assert one.got[1] == Report(9, GRAIN, {"temperature": 0.5})
    assert [block.obeys for block in one.blocks] == [0, 9]


def test_a_change_is_made_before_sound_that_waits(player: Player, engine: Engine) -> None:
    one = Listener(player, 1)
    player.start()
    player.want(one.seat, 10 * GRAIN, keep=2 * GRAIN)
    until(lambda: len(one.sound) == 10 * GRAIN)
    player.ask(one.seat, 5, {"temperature": 0.5}, since=0, until=6 * GRAIN)  # nothing is kept before the second block
    until(lambda: len(one.got) == 15)
    time.sleep(0.1)
    assert one.got[10] == Report(5, 2 * GRAIN, {"temperature": 0.5})
    assert [block.position for block in one.blocks[10:]] == [at * GRAIN for at in (2, 3, 4, 5)]
    assert {block.obeys for block in one.blocks[10:]} == {5}
    again = Slot(engine, 1, Settings(), score=[(2 * GRAIN, {"temperature": 0.5})])
    made = np.concatenate([one.sound[: 2 * GRAIN], one.sound[10 * GRAIN :]])
    assert np.array_equal(made, advance(engine, [again], 6 * GRAIN)[0])


def test_sound_that_comes_again_does_not_wait_twice() -> None:
    connection = Connection(None, None)  # type: ignore[arg-type]
    blocks = [Block(at * GRAIN, 0, np.zeros(GRAIN, np.float32)) for at in range(4)]
    for play, block in [*((2, block) for block in blocks), (1, blocks[3])]:
        connection._take(play, block)
    report = Report(1, 2 * GRAIN, {"top_k": 2})
    connection._take(2, report)
    left = [connection._outbox.get_nowait() for _ in range(connection._outbox.qsize())]
    assert left == [(2, blocks[0]), (2, blocks[1]), (1, blocks[3]), (2, report)]


def test_a_block_that_was_begun_is_given_up(player: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "_most", GRAIN)
    one = Listener(player, 1, block=4 * GRAIN)
    player.want(one.seat, 8 * GRAIN, keep=0)
    own, asked = player._make, []

    def make(due: list[Seat]) -> None:
        own(due)
        if one.seat.slot.position == 6 * GRAIN and not asked:
            asked.append(player.ask(one.seat, 3, {"top_k": 2}, since=1))

    monkeypatch.setattr(player, "_make", make)
    player.start()
    until(lambda: len(one.blocks) == 10)
    assert [block.position // GRAIN for block in one.blocks] == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]


def test_a_stream_that_fails_ends_alone(player: Player, engine: Engine) -> None:
    good, bad = Listener(player, 1), Listener(player, 2)
    bad.seat.slot.state.hidden[0][:] = np.nan
    player.start()
    good.want(4 * GRAIN)
    bad.want(4 * GRAIN)
    until(lambda: len(good.sound) == 4 * GRAIN and len(bad.got) == 1)
    assert isinstance(bad.got[0], Failed) and "not finite" in str(bad.got[0].error)
    assert not bad.seat.due
    assert np.array_equal(good.sound, alone(engine, 1, 4 * GRAIN))


def test_a_closed_seat_gets_nothing_and_its_place_is_free(player: Player) -> None:
    one, two = Listener(player, 1), Listener(player, 2)
    assert player.seats == 2
    player.close(one.seat)
    player.close(one.seat)  # twice does no harm
    assert player.seats == 1
    player.start()
    one.want(10 * GRAIN)
    two.want(10 * GRAIN)
    until(lambda: len(two.sound) == 10 * GRAIN)
    assert one.got == []


def test_it_ends_in_the_middle_of_much_work(player: Player) -> None:
    one = Listener(player, 1)
    player.start()
    one.want(1 << 40)
    until(lambda: len(one.got) > 3)
    began = time.monotonic()
    player.end()
    assert time.monotonic() - began < 60 and not player.is_alive()  # all of it would take years
