"""Threads whose sound must not be late go before ordinary programs, and no other threads do."""

import errno
import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import run

from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import ConfigError
from samplernn_fast.serving import priority
from samplernn_fast.serving.priority import MAKING, SENDING, RealTime


@pytest.fixture
def allowed() -> None:
    try:
        priority.check()
    except ConfigError as error:
        pytest.skip(f"no real-time priority here: {error}")


def in_a_thread(job: Callable[[], Any]) -> Any:
    """What a job returns in a thread of its own."""
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(job()))
    thread.start()
    thread.join()
    return got[0]


def priority_of(thread: int = 0) -> int:
    """Its real-time priority, 0 where it is ordinary."""
    is_realtime = os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
    return os.sched_getparam(thread).sched_priority if is_realtime else 0


def all_priorities() -> list[int]:
    """Those of all threads of this process that have one."""
    return sorted(filter(None, (priority_of(int(one.name)) for one in Path("/proc/self/task").iterdir())))


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("inherited", [False, True])
def test_a_thread_has_it_within_the_block_and_hands_it_on_where_it_shall(inherited: bool) -> None:
    with RealTime(MAKING, inherited=inherited):
        assert priority_of() == MAKING
        assert in_a_thread(priority_of) == (MAKING if inherited else 0)
    assert priority_of() == in_a_thread(priority_of) == 0


def test_who_wants_none_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = played(monkeypatch)
    monkeypatch.setattr(priority, "_PERIOD", 0.0)
    with RealTime(MAKING, wanted=False) as realtime:
        for rested in (0.0, 60.0):
            realtime.watch(rested)
    assert asked == []


@pytest.mark.usefixtures("allowed")
def test_checking_takes_nothing() -> None:
    before = all_priorities()
    priority.check()
    assert all_priorities() == before


@pytest.mark.usefixtures("allowed")
def test_the_threads_of_the_engine_take_over_that_of_their_caller() -> None:
    pytest.importorskip("samplernn_fast._C", reason="the C++ engine is not built")
    engine = Engine("demo", backend="cpu", num_threads=2)
    engine.run(engine.init_state(4), 64)  # four streams, so that each thread has some of its own
    assert all_priorities() == []
    with RealTime(MAKING):
        engine.run(engine.init_state(4), 64)
        assert all_priorities() == [MAKING, MAKING]
    engine.run(engine.init_state(4), 64)
    assert all_priorities() == []


def test_a_thread_that_never_rests_is_ordinary_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(wall=100.0)
    monkeypatch.setattr(priority, "time", SimpleNamespace(monotonic=lambda: clock.wall))
    asked = played(monkeypatch)
    with RealTime(MAKING) as realtime:
        for wall, rested, priorities in [
            (0.4, 0.0, [MAKING]),  # too short to tell
            (0.2, 0.15, [MAKING]),  # a quarter of 0.6 s
            (0.6, 0.1, [MAKING, 0]),
            (0.6, 0.1, [MAKING, 0]),
            (0.6, 0.3, [MAKING, 0, MAKING]),
        ]:
            clock.wall += wall
            realtime.watch(rested)
            assert asked == priorities
    assert asked == [MAKING, 0, MAKING, 0]


def test_a_system_that_refuses_later_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(wall=100.0)
    monkeypatch.setattr(priority, "time", SimpleNamespace(monotonic=lambda: clock.wall))
    asked = played(monkeypatch)
    with RealTime(MAKING) as realtime:
        played(monkeypatch, PermissionError(1, "no"))
        clock.wall += 1
        realtime.watch(0.0)
    assert asked == [MAKING]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of rest that whoever plays tells."""
    played(monkeypatch)
    told: list[float] = []
    monkeypatch.setattr(RealTime, "watch", lambda _, rested: told.append(rested))
    return told


def test_the_player_tells_how_long_nobody_wanted_sound(told: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prometheus_client", reason="needs prometheus-client, of the extra `serve`")
    from samplernn_fast.serving.live import player as module
    from samplernn_fast.serving.live.metrics import Metrics
    from samplernn_fast.serving.live.settings import Settings
    from samplernn_fast.serving.live.slot import Slot

    waits, came = threading.Event(), threading.Event()

    def monotonic() -> float:
        now = time.monotonic()
        waits.set()
        return now

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic, perf_counter=time.perf_counter))
    player = module.Player("demo", Engine("demo", num_threads=1), Metrics(), realtime_priority=True)
    seat = player.open(Slot(player.engine, 1, Settings()), 64, lambda _: came.set())
    player.start()
    assert waits.wait(60)
    time.sleep(0.2)
    player.want(seat, 64)
    assert came.wait(60)
    player.end()
    (rested,) = told
    assert 0.2 <= rested < 60


def test_the_instrument_tells_how_long_its_output_wanted_nothing(
    told: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from samplernn_fast.serving.playing.outputs import Clock

    waits = itertools.cycle([0.01, 0.0])
    monkeypatch.setattr(Clock, "wait", lambda _: next(waits))
    words = ["play", "demo", "-o", tmp_path / "take.wav", "--pace", "--duration", "0.3", "--realtime-priority"]
    assert run(*words) == 0
    assert len(told) > 2
    assert all(0.01 <= rested < 60 for rested in told[::2]) and not any(told[1::2])


def played(monkeypatch: pytest.MonkeyPatch, error: OSError | None = None) -> list[int]:
    """The priorities that are asked for, on any system; error: what it answers."""
    asked: list[int] = []

    def schedule(thread: int, policy: int, wanted: int) -> None:
        assert thread == 0
        asked.append(wanted)
        if error is not None:
            raise error

    names = {"SCHED_RESET_ON_FORK": 1 << 30, "SCHED_RR": 2, "sched_param": int, "sched_setscheduler": schedule}

    def told(_: int) -> Any:
        if error is not None and error.errno != errno.EPERM:  # a system that has none of these calls
            raise error
        return 0

    names |= {"sched_getscheduler": told, "sched_getparam": lambda _: SimpleNamespace(sched_priority=0)}
    names |= {"SCHED_OTHER": 0}
    for name, value in names.items():
        monkeypatch.setattr(os, name, value, raising=False)
    return asked


@pytest.mark.parametrize(
    ("number", "told"), [(1, "this user may not .*rtprio 4` in /etc"), (38, "this system gives no .*not implemented")]
)
def test_who_gets_none_is_told_why(number: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    played(monkeypatch, OSError(number, os.strerror(number)))
    for words in (("serve", "--port", "0"), ("play", "-o", "-", "--pace")):
        assert run(*words, "--realtime-priority") == 2
        shown = capsys.readouterr()
        assert "leave out --realtime-priority" in shown.err and not shown.out
        assert len(shown.err.splitlines()) == 1
    with pytest.raises(ConfigError, match=f"(?i){told}"):
        priority.check()


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "SCHED_RESET_ON_FORK", raising=False)
    with pytest.raises(ConfigError, match="needs Linux"):
        priority.check()


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("wanted", [False, True])
def test_the_server_gives_it_to_what_makes_and_sends_sound(wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("uvicorn", "websockets", "prometheus_client"):
        pytest.importorskip(name, reason=f"needs {name}, of the extra `serve`")
    from samplernn_fast.serving.live import application

    seen: list[Any] = []

    def serve(studio: Any, *_: Any) -> None:
        (player,) = studio.players.values()
        end = time.monotonic() + 60
        while wanted and not priority_of(player.native_id) and time.monotonic() < end:
            time.sleep(0.01)  # the player's thread may not run yet
        seen.extend([priority_of(), priority_of(player.native_id), in_a_thread(priority_of)])

    monkeypatch.setattr(application, "run", serve)
    assert run("serve", "demo", "--port", "0", *(["--realtime-priority"] if wanted else [])) == 0
    assert seen == ([SENDING, MAKING, 0] if wanted else [0, 0, 0])
    assert priority_of() == 0


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("wanted", [False, True])
def test_the_instrument_takes_it_with_the_thread_of_the_sound_card(
    wanted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from samplernn_fast.serving.playing.instrument import Instrument

    seen: list[int] = []
    make = Instrument.make

    def made(instrument: Instrument, samples: int) -> Any:
        seen.extend([priority_of(), in_a_thread(priority_of)])
        return make(instrument, samples)

    monkeypatch.setattr(Instrument, "make", made)
    words = ["play", "demo", "-o", tmp_path / "take.wav", "--pace", "--duration", "0.1"]
    assert run(*words, *(["--realtime-priority"] if wanted else [])) == 0
    assert set(seen) == {MAKING if wanted else 0} and priority_of() == 0


def test_a_file_that_nobody_hears_meanwhile_needs_none(tmp_path: Path, capsys: Any) -> None:
    assert run("play", "demo", "-o", tmp_path / "take.wav", "--duration", "1", "--realtime-priority") == 2
    assert "--realtime-priority is for sound that is heard as it is made" in capsys.readouterr().err
