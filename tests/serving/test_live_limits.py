"""What the live server bears: clients who want too much, send too much, leave too early, or ask in odd ways."""

import http.client
import io
import json
import signal
import socket as socket_module
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

pytest.importorskip("samplernn_fast._C", reason="the C++ engine is not built")
pytest.importorskip("websockets", reason="needs websockets, of the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs prometheus-client, of the extra `serve`")

from command_line import run
from live import PATIENCE, Address, LiveServer, served_here, served_live, until
from websockets.exceptions import InvalidStatus

from samplernn_fast.engine.engine import Engine
from samplernn_fast.serving import connections
from samplernn_fast.serving.live import slot, studio

RATE = 8000


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with served_live() as served:
        yield served


@pytest.fixture(scope="module")
def here() -> Iterator[Address]:
    with served_here(Engine("demo", num_threads=1)) as served:
        yield served


@pytest.fixture(autouse=True)
def no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The server in this process may fail at nothing either."""
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def raw(server: Address, head: str, body: bytes = b"") -> socket_module.socket:
    """A connection over which a request was sent, of which `{host}` is the server's name."""
    opened = socket_module.create_connection(("127.0.0.1", server.port), PATIENCE)
    lines = head.format(host=f"127.0.0.1:{server.port}").split("\n")
    opened.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    return opened


def status_of(opened: socket_module.socket) -> int:
    """The status of the answer."""
    with opened, opened.makefile("rb") as answer:
        return int(answer.readline().split()[1])


def recording(seconds: float, rate: int = RATE, kind: str = "WAV") -> bytes:
    """A file of silence."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.zeros(round(seconds * rate), np.int16), rate, format=kind)
    return file.getvalue()


def test_an_error_that_is_not_ours_ends_its_stream_alone(here: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    run_together = slot.run_together

    def failing(engine: Any, states: list[Any], steps: int) -> Any:
        if any(state.temperature == 1.5 for state in states):
            raise RuntimeError("CUDA error: out of luck\nand much more")
        return run_together(engine, states, steps)

    monkeypatch.setattr(slot, "run_together", failing)
    with here.client() as good, here.client() as bad:
        good.play(seed=1)
        bad.play(seed=2, temperature=1.5)
        good.say(do="want", until=4096)
        bad.say(do="want", until=4096)
        message = "the stream has ended: RuntimeError: CUDA error: out of luck"
        assert bad.said() == {"is": "error", "message": message, "fatal": False}
        assert bad.said() == {"is": "stopped", "play": 1}
        assert len(good.hear(4096)) == 4096
        assert bad.play(seed=2)["play"] == 2 and len(bad.hear(256)) >= 256


def test_an_error_that_is_not_ours_refuses_a_play(here: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> None:
        raise RuntimeError("CUDA error: out of luck\nand much more")

    with here.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(studio, "Slot", failing)
            message = "this model cannot play: RuntimeError: CUDA error: out of luck"
            assert client.play(seed=1) == {"is": "error", "message": message, "fatal": False, "play": 1}
            assert here.ask("stream.ogg")[0] == 503
        assert client.play(seed=1)["play"] == 2 and len(client.hear(256)) >= 256


def test_a_large_block_leaves_others_their_turn(here: Address) -> None:
    with here.client() as large, here.client() as small:
        assert large.play(seed=1, block=1 << 16)["block"] == 1 << 16
        large.say(do="want", until=1 << 16)
        small.play(seed=2, block=64)
        small.hear(640)
        large.say(do="want", until=1 << 16)
        first = large.socket.recv(timeout=PATIENCE)
        assert isinstance(first, bytes) and (len(first) - 16) // 4 <= 0.02 * RATE


def test_a_small_file_of_hours_is_refused(here: Address) -> None:
    file = recording(3 * 3600, 1000, "FLAC")
    assert len(file) < 1 << 16
    began = time.monotonic()
    status, content = here.ask("api/prompts?name=long.flac", file)
    assert status == 400 and "30 minutes" in json.loads(content)["detail"]
    assert time.monotonic() - began < 30
    assert here.ask("api/prompts", recording(1799, 1000, "FLAC"))[0] == 201


@pytest.mark.parametrize("path", ["api/prompts", f"api/flac?rate={RATE}"])
def test_who_leaves_within_a_body_leaves_no_trace(server: LiveServer, path: str) -> None:
    head = f"POST /{path} HTTP/1.1\nHost: {{host}}\nContent-Length: 1000"
    before, opened = server.errors(), [raw(server, head, b"RIFF") for _ in range(4)]
    if path == "api/prompts":  # of which there are no more at once
        until(lambda: server.ask(path, recording(0.1))[0] == 503)
    for one in opened:
        one.close()
    until(lambda: server.ask(path, recording(0.1))[0] != 503)
    assert server.ask("api/prompts", recording(0.1))[0] == 201
    assert server.errors() == before


def test_who_leaves_the_queue_of_prompts_takes_no_place(here: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate, own = [], threading.Event(), studio.Slot

    def slow(engine: Any, seed: int, *rest: Any) -> Any:
        begun.append(seed)
        assert gate.wait(PATIENCE)
        return own(engine, seed, *rest)

    monkeypatch.setattr(studio, "Slot", slow)
    prompt = json.loads(here.ask("api/prompts", recording(0.1))[1])["prompt"]
    clients = [here.client() for _ in range(4)]
    for seed, client in enumerate(clients):
        client.say(do="play", model="demo", seed=seed, prompt=prompt)
        until(lambda: begun)
    before = here.metric("listeners")
    for gone in clients[:3]:
        gone.socket.socket.close()
    until(lambda: here.metric("listeners") == before - 3)
    assert begun == [0]
    gate.set()
    assert clients[3].said()["is"] == "playing"
    assert begun == [0, 3] and here.metric("slots") == 1
    clients[3].socket.close()


def test_pages_are_answered_however_many_listen(here: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    until(lambda: here.metric("listeners") == 0)
    monkeypatch.setattr(connections, "MOST_SOCKETS", 3)
    clients: list[Any] = []
    with pytest.raises(InvalidStatus) as refused:
        while len(clients) < 9:
            clients.append(here.client())
    assert refused.value.response.status_code == 503 and 0 < len(clients) <= 3
    assert here.ask("healthz") == (200, b"ok")
    for client in clients:
        assert client.play(seed=1)["is"] == "playing"
        client.socket.close()


def test_who_does_not_read_the_answers_to_pings_is_cut_off(here: Address) -> None:
    narrow = socket_module.socket()
    narrow.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, 1 << 12)
    narrow.settimeout(PATIENCE)
    narrow.connect(("127.0.0.1", here.port))
    key = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        + "A" * 22
        + "=="
    )
    narrow.sendall(f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{here.port}\r\n{key}\r\n\r\n".encode())
    assert narrow.recv(12) == b"HTTP/1.1 101"
    ping, sent = (b"\x89\xfd" + bytes(4 + 125)) * 500, 0
    with narrow, pytest.raises(ConnectionError):
        while sent < 1 << 23:
            narrow.sendall(ping)
            sent += len(ping)
    until(lambda: here.metric("listeners") == 0)


def test_changes_for_sound_that_nobody_wants_come_to_an_end(here: Address) -> None:
    with here.client() as client:
        client.play(seed=1)
        for number in range(1, 402):
            client.say(do="set", id=number, temperature=0.5 + number / 1000)
            if number % 100 == 0:  # or it would be too many messages
                client.say(do="fly")
                assert "called 'fly'" in client.said()["message"]  # so the server has read all of them
                time.sleep(0.6)
        answer = client.said()
        assert answer["is"] == "error" and "400 changes wait" in answer["message"] and not answer["fatal"]
        client.hear(128)
        assert client.obeys == 400
        client.say(do="set", id=402, temperature=0.5)
        client.hear(128)
        assert client.obeys == 402


def test_an_empty_token_is_none(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from samplernn_fast.serving.live import application

    tokens = []
    monkeypatch.setattr(application, "run", lambda studio, socket, token, host: tokens.append(token))
    assert run("serve", "--host", "0.0.0.0", "--port", "0", "--token", "") == 0
    assert run("serve", "--port", "0", "--token", "") == 0
    assert len(tokens[0]) >= 16 and tokens[1] is None
    assert f"?token={tokens[0]};" in capsys.readouterr().out


def test_a_token_of_any_letters_works_as_it_is_printed() -> None:
    token = "a&b#c d+%é/"
    with served_live(("demo",), "--token", token) as server:
        assert parse_qs(urlsplit(server.address + server.query).query) == {"token": [token]}
        assert server.ask("metrics" + server.query)[0] == 200 and server.ask("metrics?token=a")[0] == 401
        with server.client() as client:
            assert client.play(seed=1)["is"] == "playing"


def test_the_head_of_an_endless_stream_ends(server: LiveServer) -> None:
    until(lambda: server.metric("slots") == 0)  # the listeners of earlier tests leave theirs
    asked = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    asked.request("HEAD", "/stream.ogg")
    answer = asked.getresponse()
    assert answer.status == 200 and answer.getheader("content-type") == "audio/ogg" and answer.read() == b""
    asked.request("GET", "/healthz")  # over the same connection
    assert asked.getresponse().read() == b"ok"
    asked.close()
    assert server.metric("slots") == 0


def test_what_ends_a_stream_says_which(server: LiveServer) -> None:
    with server.client() as client:
        for number, wrong in enumerate(({"model": "no"}, {"model": 5}, {"block": 0}, {"score": "x"}), 1):
            answer = client.play(**wrong)
            assert answer["is"] == "error" and answer["play"] == number
        assert client.play(seed=1)["play"] == 5
        assert client.play(seed=-1)["play"] == 6  # which ends the one before, as any play does
        until(lambda: server.metric("slots") == 0)
        assert client.play(seed=1)["play"] == 7
        client.say(do="fly")
        assert "play" not in client.said()
        client.hear(128)
        client.say(do="stop")
        client.say(do="want", until=10_000)
        client.say(do="set", id=1, temperature=0.5)
        client.say(do="stop")
        assert [client.said(), client.said()] == [{"is": "stopped", "play": 7}] * 2


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [
        ("/", "Host: [", 421),
        ("/", "Host: [::1", 421),
        ("/", "Host: 127.0.0.1:no:9", 200),
        ("/", "Host: \xe9//@?#", 421),
        ("/", "Host: {host}\nOrigin: http://[", 403),
        ("/", "Host: {host}\nOrigin: nothing", 403),
        ("/", "Host: {host}\nOrigin: http://{host}", 200),
        ("/" + "a" * 300 + ".html", "Host: {host}", 404),
        ("/" + "a" * 300, "Host: {host}", 404),
        ("/%00.html", "Host: {host}", 404),
    ],
)
def test_odd_requests_are_answered(server: LiveServer, path: str, header: str, status: int) -> None:
    before = server.errors()
    assert status_of(raw(server, f"GET {path} HTTP/1.1\n{header}")) == status
    assert server.errors() == before


def test_ctrl_c_ends_who_listens_to_an_endless_stream() -> None:
    with served_live() as server, urllib.request.urlopen(f"{server.address}stream.ogg?seed=1") as answer:
        assert answer.read(4) == b"OggS"
        began = time.monotonic()
        status, errors = server.stop(signal.SIGINT)
        assert time.monotonic() - began < 30
        # What is not over by itself after two seconds is cut off, of which the server would complain here.
        assert status == 130 and errors == "samplernn-fast: the server has ended\n"
        answer.read()  # to a proper end
