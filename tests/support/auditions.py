"""Auditions: small checkpoints, and a server in a process of its own, which can be killed."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.registry import build_model
from samplernn_fast.serving.audition.favourites import Favourite
from samplernn_fast.serving.audition.grid import Grid, Making

RATE = 8000
PATIENCE = 60.0  # seconds that a busy machine may take
SMALL = {"dim": 16, "emb_size": 8, "q_levels": 64, "frame_sizes": (2, 2, 4), "sample_rate": RATE}

SHORT = Making((0.5, 1.0), seeds=2, seconds=0.2)
"""Four clips of each checkpoint."""


def favourite(grid: Grid, number: int) -> Favourite:
    """A cell of a grid as a favourite."""
    return Favourite.of(grid, grid.cells[number])


def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def make_checkpoint(file: Path, seed: int) -> Path:
    """A model whose weights are random."""
    file.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save_model(file, build_model(SampleRNNConfig(**SMALL), seed=seed), {})
    return file


def make_run(run: Path, *steps: str, seed: int = 0) -> Path:
    """A run folder with models of those steps, as in "000100-4.123", of which the last is the best."""
    for place, step in enumerate(steps):
        make_checkpoint(run / "models" / f"step-{step}.safetensors", seed + place)
    make_checkpoint(run / "model.safetensors", seed + len(steps) - 1)
    return run


class AuditionServer:
    """`samplernn-fast audition` in a process of its own."""

    def __init__(self, *words: object, port: int = 0) -> None:
        command = [sys.executable, "-m", "samplernn_fast", "audition", *map(str, words), "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stderr is not None
        self.line = self.process.stdout.readline()
        found = re.search(r"(http://[^/]+:(\d+)/)(\?token=\S+)?;", self.line)
        if not found:
            self.process.wait(PATIENCE)
            raise AssertionError(self.line + self.process.stderr.read())
        self.port, self.query = int(found[2]), found[3] or ""
        self.address = f"http://127.0.0.1:{self.port}/"

    def kill(self) -> str:
        """Ends the process as a crash would. Returns what it said of errors."""
        self.process.kill()
        return self.process.communicate()[1]

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Ends the process as ctrl-C or another signal does. Returns its status and what it said of errors."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """The status and the value of an answer. body: is posted as JSON, or as it is where it is bytes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, named)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                status, kind, content = answer.status, answer.headers["content-type"], answer.read()
        except urllib.error.HTTPError as error:
            status, kind, content = error.code, error.headers["content-type"], error.read()
        return status, json.loads(content) if kind == "application/json" else content

    def grid(self) -> dict[str, Any]:
        """Checkpoints, temperatures and seeds."""
        return dict(self.ask("api/grid" + self.query)[1])

    def name(self) -> str:
        """The name of the newest grid."""
        return str(self.grid()["grid"])

    def wanted(self, grid: str, *clips: int, now: int | None = None, since: int = 0) -> tuple[int, Any]:
        """The status and the answer where a page with that grid asks for clips."""
        body = {"page": "test", "grid": grid, "clips": clips, "now": now, "since": since}
        return self.ask("api/wanted" + self.query, body)

    def want(self, *clips: int, now: int | None = None, since: int = 0) -> dict[int, dict[str, Any]]:
        """Asks for clips of the newest grid; returns the newest status of all that have changed."""
        status, told = self.wanted(self.name(), *clips, now=now, since=since)
        assert status == 200, told
        return {row["clip"]: row for row in told["changed"]}

    def clip(self, number: int, grid: str | None = None) -> tuple[int, Any]:
        """The file of a clip, of the newest grid where none is named."""
        return self.ask(f"api/clips/{number}?grid={grid or self.name()}")

    def ready(self, *clips: int) -> dict[int, dict[str, Any]]:
        """Waits until clips are ready, or have failed; returns their statuses."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            known = self.want(*clips)
            if all(known.get(clip, {}).get("state") in ("ready", "failed") for clip in clips):
                return {clip: known[clip] for clip in clips}
            time.sleep(0.1)
        raise AssertionError(f"clips {clips} were not made: {known}")

    def favour(self, clip: int, favourite: bool = True, grid: str | None = None) -> tuple[int, Any]:
        """Makes a clip a favourite, or no more; of the newest grid where none is named."""
        body = {"grid": grid or self.name(), "clip": clip, "favourite": favourite}
        return self.ask("api/favourites" + self.query, body)


@contextmanager
def served_audition(*words: object, port: int = 0) -> Iterator[AuditionServer]:
    """A server for the block."""
    server = AuditionServer(*words, port=port)
    try:
        yield server
    finally:
        server.kill()
