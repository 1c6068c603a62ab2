"""A live server in a process of its own, and what it says and takes."""

import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np


class Server:
    """`samplernn-fast serve` for a measurement; a context manager of the main thread that ends it, also where SIGTERM
    ends the measurement."""

    def __init__(self, model: str, listeners: int, flags: list[str]) -> None:
        words = ["serve", model, "--port", "0", "--max-listeners", str(listeners), *flags]
        self._on_sigterm = signal.signal(signal.SIGTERM, signal.default_int_handler)  # which unwinds the stack
        self.process = subprocess.Popen(
            [sys.executable, "-m", "samplernn_fast", *words], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        try:
            found = re.search(r"^(\S+) at http://(\S+:\d+)/", self.process.stdout.readline())
            if not found:
                raise SystemExit("the server did not begin")
        except BaseException:
            self.process.kill()
            signal.signal(signal.SIGTERM, self._on_sigterm)
            raise
        self.model, self.place = found[1], found[2]
        self.memory: list[float] = []
        """The MB that the process held, once a second; empty where the system does not tell."""
        self._over = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watching.join()
        self.process.kill()
        self.process.wait()
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def memory_by_quarter(self) -> list[int]:
        """Returns the largest memory in each quarter of the time, in MB; nothing of a time of less than 4 seconds."""
        quarter = len(self.memory) // 4
        parts = [self.memory[part * quarter : (part + 1) * quarter] for part in range(4)]
        return [round(max(part)) for part in parts] if quarter else []

    def load(self, part: float) -> float | None:
        """A percentile of the load: the time that a block took in the time that it sounds, rounded up to a class.

        None where it lies above the last class.
        """
        with urllib.request.urlopen(f"http://{self.place}/metrics") as answer:
            text = answer.read().decode()
        rows = re.findall(r'samplernn_load_bucket{le="([^"]+)",[^}]*} (\S+)', text)
        bounds, counts = np.array([[float(bound), float(count)] for bound, count in rows]).T
        if not counts[-1]:
            raise SystemExit("the server made no sound")
        found = float(bounds[np.searchsorted(counts, counts[-1] * part / 100)])
        return found if np.isfinite(found) else None

    def _watch(self) -> None:
        status = Path(f"/proc/{self.process.pid}/status")
        while not self._over.wait(1):
            found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.exists() else None
            if found:
                self.memory.append(int(found[1]) / 1e3)
