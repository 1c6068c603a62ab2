"""Threads whose sound must not be late go before ordinary programs, and no other threads do."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import run

from samplernn_fast.errors import ConfigError
from samplernn_fast.serving import priority


def allowed() -> None:
    try:
        priority.check()
    except ConfigError as error:
        pytest.skip(f"no real-time priority here: {error}")


def in_a_thread(job: Callable[[], Any]) -> Any:
    """What a job returns in a thread of its own, so that this one keeps its priority."""
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(job()))
    thread.start()
    thread.join()
    return got[0]


def policy() -> int:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


@pytest.mark.parametrize("inherited", [False, True])
def test_a_thread_takes_it_and_hands_it_on_where_it_shall(inherited: bool) -> None:
    allowed()

    def both() -> tuple[int, int, int]:
        priority.take(inherited)
        return policy(), os.sched_getparam(0).sched_priority, in_a_thread(policy)

    before = policy()
    assert in_a_thread(both) == (os.SCHED_RR, 4, os.SCHED_RR if inherited else os.SCHED_OTHER)
    assert policy() == before == os.SCHED_OTHER


def test_checking_takes_nothing() -> None:
    allowed()
    priority.check()
    assert policy() == os.SCHED_OTHER


def test_who_may_not_take_it_is_told_how(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refused, raising=False)
    monkeypatch.setattr(os, "SCHED_RESET_ON_FORK", 1 << 30, raising=False)
    monkeypatch.setattr(os, "SCHED_RR", 2, raising=False)
    monkeypatch.setattr(os, "sched_param", int, raising=False)
    for words in (("serve", "--port", "0"), ("play", "-o", "-")):
        assert run(*words, "--realtime-priority") == 2
        told = capsys.readouterr()
        assert "leave out --realtime-priority" in told.err and "rtprio 4" in told.err and not told.out
        assert len(told.err.splitlines()) == 1


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "SCHED_RESET_ON_FORK", raising=False)
    with pytest.raises(ConfigError, match="needs Linux"):
        priority.check()


def test_the_server_gives_it_to_what_makes_and_sends_sound() -> None:
    pytest.importorskip("samplernn_fast._C", reason="the C++ engine is not built")
    for name in ("uvicorn", "websockets"):
        pytest.importorskip(name, reason=f"needs {name}, of the extra `serve`")
    from live import served_live

    allowed()
    with served_live(("demo",), "--realtime-priority", "--num-threads", "1") as server:
        assert server.ask("healthz")[0] == 200  # the loop runs
        threads = [int(one.name) for one in Path(f"/proc/{server.process.pid}/task").iterdir()]
        first = [one for one in threads if os.sched_getscheduler(one) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR]
        assert server.process.pid in first and len(first) == 2  # and the only player
        assert server.stop(signal.SIGINT)[0] == 130


def test_the_instrument_takes_it_with_the_thread_of_the_sound_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(priority, "check", lambda: asked.append("check"))
    monkeypatch.setattr(priority, "take", lambda inherited: asked.append(f"take {inherited}"))
    file = tmp_path / "take.wav"
    assert run("play", "demo", "-o", file, "--duration", "0.1", "--realtime-priority") == 0
    assert file.exists() and asked == ["check", "take True"]
