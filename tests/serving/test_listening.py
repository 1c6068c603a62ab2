"""The server of a listening test: what it gives, what it refuses, and that answers outlive it."""

import asyncio
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from listening import Server, make_test, served

from samplernn_fast.errors import ConfigError
from samplernn_fast.evaluation.listening.answers import open_book, read_book
from samplernn_fast.evaluation.listening.folder import ListeningTest

pytest.importorskip("starlette", reason="needs starlette, of the extra `serve`")

from samplernn_fast.serving import connections, listening, sockets
from samplernn_fast.serving.joining import JOINS, Joins

TRIALS = 4


@pytest.fixture(scope="module")
def test(tmp_path_factory: pytest.TempPathFactory) -> ListeningTest:
    return make_test(tmp_path_factory.mktemp("listening"), trials=TRIALS)


@pytest.fixture(scope="module")
def server(test: ListeningTest) -> Iterator[Server]:
    with served(test.folder) as running:
        yield running


def join(server: Server) -> str:
    status, told = server.ask("api/listeners", {})
    assert status == 201 and (told["trial"], told["trials"]) == (1, TRIALS)
    return str(told["token"])


def answer(server: Server, token: str, trial: Any, choice: Any = "a", seconds: Any = 1.5) -> tuple[int, Any]:
    return server.ask(f"api/listeners/{token}/answers", {"trial": trial, "choice": choice, "seconds": seconds})


def kept(test: ListeningTest) -> list[tuple[int, int, str]]:
    return [(one.listener, one.trial, one.choice) for one in read_book(test).answers]


def test_a_listener_answers_trial_after_trial(server: Server, test: ListeningTest) -> None:
    token, before = join(server), kept(test)
    number = len(read_book(test).listeners) + 1
    for trial, choice in enumerate(("a", "b", "none", "a"), 1):
        status, told = answer(server, token, trial, choice)
        assert status == 201 and told["trial"] == (trial + 1 if trial < TRIALS else None)
        assert kept(test) == [*before, (number, trial, choice)]
        before = kept(test)
    assert server.ask(f"api/listeners/{token}") == (200, {"trial": None, "trials": TRIALS})


def test_the_clips_are_those_of_the_trial_that_is_due(server: Server, test: ListeningTest) -> None:
    token = join(server)
    assert server.ask(f"api/listeners/{token}/trials/1/a")[0] == 200
    listener = read_book(test).listeners[-1]
    for trial in (1, 2):
        for side, clip in zip("ab", listener.pairs[trial - 1], strict=True):
            status, content = server.ask(f"api/listeners/{token}/trials/{trial}/{side}")
            assert status == 200 and content == test.clip_path(clip).read_bytes()
        for foreign in (trial - 1, trial + 1, 99):
            assert server.ask(f"api/listeners/{token}/trials/{foreign}/a")[0] == 404
        assert server.ask(f"api/listeners/{token}/trials/{trial}/c")[0] == 404
        answer(server, token, trial)


def test_no_answer_of_the_server_names_a_system_or_a_clip(server: Server, test: ListeningTest) -> None:
    token = join(server)
    paths = ("", "page.js", "base.css", "page.css", "icon.svg", "api/test", f"api/listeners/{token}")
    secrets = [*test.clips, *(system.source for system in test.systems), "low", "middle", "high"]
    for path in paths:
        status, told = server.ask(path)
        text = told.decode() if isinstance(told, bytes) else json.dumps(told)
        assert status == 200
        # CSS and words of the page have letters of their own, so names are looked for as whole JSON values there.
        found = [one for one in secrets if (f'"{one}"' if len(one) < 8 else one) in text]
        assert not found, path
    for path in ("test.json", "clips/" + next(iter(test.clips)) + ".wav", "answers.jsonl", "..%2ftest.json"):
        assert server.ask(path)[0] == 404


def test_a_trial_is_answered_once_and_in_order(server: Server, test: ListeningTest) -> None:
    token, before = join(server), len(kept(test))
    assert answer(server, token, 2)[0] == 400
    assert answer(server, token, 1, "a")[0] == 201
    for choice in ("a", "b"):
        status, told = answer(server, token, 1, choice)
        assert status == 409 and told["trial"] == 2 and "already" in told["detail"]
    assert len(kept(test)) == before + 1


@pytest.mark.parametrize("body", [{}, [], None, 7, "a", {"trial": 1}, {"choice": "a"}])
def test_malformed_answers_are_refused(server: Server, test: ListeningTest, body: Any) -> None:
    token, before = join(server), kept(test)
    status, told = server.ask(f"api/listeners/{token}/answers", raw=json.dumps(body).encode())
    assert status == 400 and told["detail"] and "Traceback" not in told["detail"]
    assert kept(test) == before


@pytest.mark.parametrize(
    ("trial", "choice", "seconds"), [(0, "a", 1), (5, "a", 1), ("1", "a", 1), (1, "c", 1), (1, None, 1), (1, "a", -1)]
)
def test_absurd_answers_are_refused(server: Server, test: ListeningTest, trial: Any, choice: Any, seconds: Any) -> None:
    before = kept(test)
    assert answer(server, join(server), trial, choice, seconds)[0] == 400
    assert kept(test) == before


def test_foreign_and_hostile_requests_are_refused(server: Server, test: ListeningTest) -> None:
    token, before = join(server), kept(test)
    path = f"api/listeners/{token}/answers"
    assert answer(server, "somebody", 1)[0] == 404
    assert server.ask("api/listeners/somebody")[0] == 404
    assert server.ask(path, raw=b"{")[0] == 400
    assert server.ask(path, raw=b"\xff\xfe")[0] == 400
    assert server.ask(path, raw=b"[" * 1900)[0] == 400
    assert server.ask(path, raw=b" " * (listening.BODY_BYTES + 1))[0] == 413
    good = json.dumps({"trial": 1, "choice": "a", "seconds": 1}).encode()
    assert server.ask(path, raw=good, **{"content-type": "text/plain"})[0] == 415  # what a page elsewhere could send
    assert server.ask("api/listeners", raw=b"", **{"content-type": "text/plain"})[0] == 415
    assert kept(test) == before


def test_two_listeners_at_once_keep_their_answers_apart(server: Server, test: ListeningTest) -> None:
    before, numbers = len(kept(test)), len(read_book(test).listeners)
    statuses: list[int] = []

    def listen(choice: str) -> None:
        token = join(server)
        statuses.extend(answer(server, token, trial, choice)[0] for trial in range(1, TRIALS + 1))

    threads = [threading.Thread(target=listen, args=(choice,)) for choice in ("a", "b", "none")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 3 * TRIALS
    added = kept(test)[before:]
    assert len(added) == len({one[:2] for one in added}) == 3 * TRIALS
    of_each = [{choice for who, _, choice in added if who == numbers + 1 + one} for one in range(3)]
    assert sorted(map(sorted, of_each)) == [["a"], ["b"], ["none"]]


def test_one_of_many_equal_answers_is_taken(server: Server, test: ListeningTest) -> None:
    token, before = join(server), len(kept(test))
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(answer(server, token, 1)[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] + [409] * 7 and len(kept(test)) == before + 1


def test_a_confirmed_answer_outlives_a_crash_of_the_server(tmp_path: Path) -> None:
    test = make_test(tmp_path, trials=TRIALS)
    with served(test.folder) as first:
        token = join(first)
        assert answer(first, token, 1, "b")[0] == 201
        first.kill()
    with open(test.folder / "answers.jsonl", "a") as file:
        file.write('{"listener": 1, "tri')  # what a crash in the middle of a line leaves
    with served(test.folder) as second:
        assert second.ask(f"api/listeners/{token}") == (200, {"trial": 2, "trials": TRIALS})
        assert answer(second, token, 2, "none")[0] == 201
        assert second.stop() == 130
    assert kept(test) == [(1, 1, "b"), (1, 2, "none")]


def test_no_more_listeners_than_allowed(tmp_path: Path) -> None:
    test = make_test(tmp_path, trials=TRIALS)
    with served(test.folder, "--max-listeners", "2") as running:
        tokens = [join(running) for _ in range(20)]
        assert not (test.folder / "listeners.jsonl").exists()  # who asks for no clip takes no place
        assert running.ask(f"api/listeners/{tokens[0]}") == (200, {"trial": 1, "trials": TRIALS})
        assert running.ask(f"api/listeners/{tokens[0]}/trials/1/b")[0] == 200
        assert answer(running, tokens[1], 1)[0] == 201
        assert [one.token for one in read_book(test).listeners] == tokens[:2]
        for path, body in (("api/listeners", {}), (f"api/listeners/{tokens[2]}/trials/1/a", None)):
            status, told = running.ask(path, body)
            assert status == 403 and "as many listeners as it takes" in told["detail"]
        assert answer(running, tokens[1], 2)[0] == 201


def test_one_address_cannot_start_without_end(tmp_path: Path) -> None:
    test = make_test(tmp_path, trials=TRIALS)
    with served(test.folder) as running:
        for _ in range(JOINS):
            join(running)
        status, told = running.ask("api/listeners", {})
        assert status == 429 and "from this address" in told["detail"]
        elsewhere = {"x-forwarded-for": "192.0.2.7"}  # what a web server on this machine tells of the listener
        assert running.ask("api/listeners", {}, **elsewhere)[0] == 201


def test_joins_are_counted_by_address_and_for_an_hour() -> None:
    now = [0.0]
    joins = Joins(lambda: now[0])
    assert all(joins.new(f"2001:db8::{number:x}") for number in range(JOINS))
    assert joins.new("2001:db8::ffff") is None and joins.new("2001:db8:0:1::1") and joins.new("192.0.2.1")
    now[0] = 3600.0
    token = joins.new("2001:db8::1")
    assert token and joins.waits(token) and not joins.waits("somebody")
    joins.seated(token)
    assert not joins.waits(token)


def test_connections_that_send_nothing_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.8)
    test, listening_socket = make_test(tmp_path, trials=TRIALS), sockets.bind("127.0.0.1", 0)
    with open_book(test) as book:
        import uvicorn

        server = uvicorn.Server(listening.config(book, 10))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening_socket]})
        thread.start()
        head = b"POST /api/listeners HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n"
        address = listening_socket.getsockname()
        clients = [socket.create_connection(address, timeout=30) for _ in range(4)]
        try:
            for client, sent in zip(clients, (b"", head, head + b"\r\n{", b"GET /api/test HTTP/1.1\r\n"), strict=True):
                client.sendall(sent)
            for client in clients:
                try:
                    while client.recv(1000):  # until the server has closed the connection
                        pass
                except ConnectionResetError:
                    pass
        finally:
            for client in clients:
                client.close()
            server.should_exit = True
            thread.join(30)


def test_a_clip_that_is_missing_is_told_in_a_sentence(tmp_path: Path) -> None:
    test = make_test(tmp_path, trials=TRIALS)
    with served(test.folder) as running:
        token = join(running)
        for name in test.clips:
            test.clip_path(name).unlink()
        for _ in range(2):
            status, told = running.ask(f"api/listeners/{token}/trials/1/a")
            assert status == 404 and told["detail"].startswith("A clip of this test is missing")
            for name in test.clips:
                test.clip_path(name).mkdir(exist_ok=True)  # what is no file is missing too


def test_a_fault_of_the_program_has_the_headers_too(test: ListeningTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "page_file", None)
    application, told = listening.application(read_book(test), 1), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}
    with pytest.raises(TypeError):  # which goes on to the server's log
        asyncio.run(application({"root_path": "", "scheme": "http", **scope}, receive, send))
    assert told[0]["status"] == 500 and (b"x-content-type-options", b"nosniff") in told[0]["headers"]


def test_every_answer_has_the_headers(server: Server) -> None:
    import urllib.request

    with urllib.request.urlopen(server.address) as page:
        headers = page.headers
    assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer" and "default-src 'self'" in headers["content-security-policy"]
    assert "server" not in headers


def test_the_page_is_seen_on_this_machine_only_unless_told_otherwise(tmp_path: Path) -> None:
    test = make_test(tmp_path, trials=TRIALS)
    with served(test.folder) as running:
        assert running.address.startswith("http://127.0.0.1:")
        assert running.stop(signal.SIGTERM) == 143
    for host, here in {
        "127.0.0.1": True,
        "::1": True,
        "localhost": True,
        "0.0.0.0": False,
        "example.org": False,
    }.items():
        assert sockets.is_loopback(host) == here


def test_a_taken_port_is_refused_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^port must be a free one, and {port} of 127.0.0.1 is taken; 0 finds"):
            sockets.bind("127.0.0.1", port)
    with pytest.raises(ConfigError, match="cannot be used"):
        sockets.bind("no.such.host.invalid", 0)
