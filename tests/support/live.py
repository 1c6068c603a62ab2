"""A live server in a process of its own, which can be killed, or in this one; and a client that does what the page
does."""

import json
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from websockets.sync.client import ClientConnection, connect

from samplernn_fast.engine.engine import Engine

HEADER = struct.Struct("<dII")
PATIENCE = 60.0  # seconds that a busy machine may take


class Address:
    """A live server as its clients know it."""

    def __init__(self, address: str, port: int, query: str) -> None:
        self.address, self.port, self.query = address, port, query

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """The status and the content of an answer. body: is posted."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, body, named)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def metric(self, name: str) -> float:
        """What a counter of `/metrics` shows, summed over its labels."""
        _, text = self.ask("metrics" + self.query)
        rows = re.findall(rf"^samplernn_{name}(?:{{[^}}]*}})? (\S+)$", text.decode(), re.MULTILINE)
        return sum(map(float, rows))

    def client(self, **options: Any) -> "Client":
        """A connection, behind the server's first message."""
        return Client(self, **options)


class LiveServer(Address):
    """`samplernn-fast serve` in a process of its own."""

    def __init__(self, models: tuple[str, ...], *flags: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "samplernn_fast", "serve", *models, "--port", str(port), *flags]
        # A pipe that nobody reads would hold up a server that complains a lot.
        self._complaints = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._complaints, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"(http://[^/]+:(\d+)/)(\?token=\S+)?;", line)
        if not found:
            self.process.wait(PATIENCE)
            raise AssertionError(line + self.errors())
        super().__init__(found[1], int(found[2]), found[3] or "")

    def errors(self) -> str:
        """What the process has said of errors."""
        self._complaints.seek(0)
        return self._complaints.read()

    def kill(self) -> None:
        """Ends the process as a crash would."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Ends the process as ctrl-C or another signal does. Returns its status and what it said of errors."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE), self.errors()


@contextmanager
def served_live(models: tuple[str, ...] = ("demo",), *flags: str) -> Iterator[LiveServer]:
    """A server for the block, in which nothing may fail that it does not expect."""
    server = LiveServer(models, *flags)
    try:
        yield server
    finally:
        server.kill()
    assert "Traceback" not in server.errors(), server.errors()


@contextmanager
def served_here(engine: Engine, places: int = 8) -> Iterator[Address]:
    """A server of the model `demo` in this process, where a test can change its parts."""
    from samplernn_fast.serving import sockets
    from samplernn_fast.serving.live import application
    from samplernn_fast.serving.live.studio import Studio

    with sockets.bind("127.0.0.1", 0) as listening:
        studio, port = Studio({"demo": engine}, places), listening.getsockname()[1]
        server = uvicorn.Server(application.config(studio, None, "127.0.0.1"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Address(f"http://127.0.0.1:{port}/", port, "")
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            studio.close()


def until(reached: Any) -> None:
    """Waits until something is so; fails where that takes too long."""
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


class Client:
    """One listener."""

    def __init__(self, server: Address, **options: Any) -> None:
        address = server.address.replace("http", "ws", 1) + "ws" + server.query
        # A client that leaves sound unread gets no answer to its goodbye.
        self._opened = connect(address, open_timeout=PATIENCE, close_timeout=1, max_size=None, **options)
        self.socket: ClientConnection = self._opened.__enter__()
        self.hello = self.said()
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, **message: Any) -> None:
        """Sends a message."""
        self.socket.send(json.dumps(message))

    def said(self) -> dict[str, Any]:
        """The next text message; sound before it is lost."""
        while True:
            message = self.socket.recv(timeout=PATIENCE)
            if isinstance(message, str):
                return dict(json.loads(message))

    def play(self, **settings: Any) -> dict[str, Any]:
        """Begins a stream, and returns the answer."""
        self.say(do="play", **{"model": "demo"} | settings)
        self.position = 0
        return self.said()

    def hear(self, samples: int, ahead: int = 0) -> np.ndarray:
        """The next samples of the stream, of which so many more are wanted. Text messages go into `events`."""
        begin, parts = self.position, []
        self.say(do="want", until=begin + samples + ahead)
        while self.position < begin + samples:
            message = self.socket.recv(timeout=PATIENCE)
            if isinstance(message, str):
                self.events.append(json.loads(message))
                if self.events[-1]["is"] == "error":
                    raise AssertionError(self.events[-1]["message"])
                continue
            position, self.obeys, self.number = HEADER.unpack(message[: HEADER.size])
            assert position == self.position
            parts.append(np.frombuffer(message[HEADER.size :], "<f4"))
            self.position += len(parts[-1])
        return np.concatenate(parts)
