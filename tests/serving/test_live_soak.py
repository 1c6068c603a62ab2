"""Live sound for a long time: memory stays, listeners come and go, and every stream is what it is alone."""

import multiprocessing
from pathlib import Path

import pytest

pytest.importorskip("samplernn_fast._C", reason="the C++ engine is not built")
pytest.importorskip("websockets", reason="needs websockets, of the extra `serve`")

from live import served_here

from bench.live import machine, visitor
from bench.live.expected import Stream, check
from bench.live_soak import soak
from samplernn_fast.engine.engine import Engine
from samplernn_fast.serving.live.settings import Settings
from samplernn_fast.serving.live.slot import Slot, advance


def test_a_listener_hears_a_block_where_rounding_left_less_than_a_sample() -> None:
    pytest.importorskip("prometheus_client", reason="needs prometheus_client, of the extra `serve`")
    heard: list[visitor.Visit] = []
    with served_here(Engine("demo", dtype="int8", num_threads=1)) as server:
        visitor.stay(visitor.Party(f"127.0.0.1:{server.port}", "demo", "", range(1), 1e-14), heard.append)
    (visit,) = heard
    assert len(visit.sound) > 0


@pytest.mark.parametrize("wrong", [None, 0, 1])
def test_a_wrong_sample_of_one_of_several_streams_is_noticed(wrong: int | None) -> None:
    engine = Engine("demo", dtype="int8", num_threads=1)
    scores = [[], [(128, {"temperature": 0.5})]]
    streams = []
    for seed, (score, count) in enumerate(zip(scores, (640, 1000), strict=True)):
        sound = advance(engine, [Slot(engine, seed, Settings(), score=score)], 1024)[0][:count]
        sound[-1] += seed == wrong
        streams.append(Stream(seed, seed, sound, score))
    if wrong is None:
        check(engine, streams)
    else:
        with pytest.raises(SystemExit, match=f"listener {wrong} did not hear the sound of seed {wrong}"):
            check(engine, streams)


def test_a_late_wake_is_found_near_an_underrun() -> None:
    first = machine.Wakes(10.0, [machine.Late(12.0, 0.02), machine.Late(15.0, 0.05)])
    both = machine.merged([machine.Wakes(10.5, [machine.Late(12.05, 0.03)]), first])
    assert both.began == 10.0 and both.latest() == 0.05
    assert [both.latest(near) for near in (12.08, 12.12, 14.95, 13.0)] == [0.03, 0.03, 0.05, 0.0]


def test_busy_processes_end_with_the_block() -> None:
    before = set(multiprocessing.active_children())
    with machine.busy(2):
        busy = set(multiprocessing.active_children()) - before
        assert len(busy) == 2
    assert not any(one.is_alive() for one in busy)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux, to see the memory of a process")
def test_eight_listeners_for_three_minutes_of_sound() -> None:
    row = soak("demo", hours=0.05, listeners=8, dtype="int8")
    assert row["streams"] >= 16 and row["changes"] > 1000 and row["samples"] >= 8 * 180 * 8000
    memory = row["memory_mb"]
    assert max(memory[2:]) < max(memory[:2]) + 8
