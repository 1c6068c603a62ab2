"""Small listening tests, and their server in a process of its own, which can be killed."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sounds import tone

from samplernn_fast.audio import writing
from samplernn_fast.evaluation.listening.folder import ListeningTest
from samplernn_fast.evaluation.listening.making import Settings, make
from samplernn_fast.evaluation.listening.sources import named_systems

RATE = 8000
SYSTEMS = ("low", "middle", "high")


def make_test(folder: Path, names: tuple[str, ...] = SYSTEMS, clips: int = 4, trials: int = 20) -> ListeningTest:
    """A test of half-second tones: each system has a pitch of its own, each clip an amplitude of its own."""
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for clip in range(clips):
            sound = tone(0.5, RATE, 220 * 2**number, 0.1 * (1 + clip))
            writing.write(folder / name / f"{clip}.wav", sound, RATE)
    words = tuple(f"{name}={folder / name}" for name in names)
    return make(named_systems(words), folder / "test", Settings(clips, 0.5, trials))


class Server:
    """`samplernn-fast abtest serve` in a process of its own."""

    def __init__(self, folder: Path, port: int = 0, *flags: str) -> None:
        command = [sys.executable, "-m", "samplernn_fast", "abtest", "serve", folder, "--port", port, *flags]
        self.process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"(http://[^/]+:(\d+)/)", line)
        assert found, line
        self.address, self.port = found[1], int(found[2])

    def kill(self) -> None:
        """Ends the process as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ends the process as ctrl-C or another signal does, and returns its status."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def ask(self, path: str, body: Any = None, raw: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """The status and the value of an answer. body: is sent as JSON; raw: as it is."""
        data = raw if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"content-type": "application/json"} | headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, kind, content = answer.status, answer.headers["content-type"], answer.read()
        except urllib.error.HTTPError as error:
            status, kind, content = error.code, error.headers["content-type"], error.read()
        return status, json.loads(content) if kind == "application/json" else content


@contextmanager
def served(folder: Path, *flags: str) -> Iterator[Server]:
    """A server for the block."""
    server = Server(folder, 0, *flags)
    try:
        yield server
    finally:
        server.kill()
