"""How soon a live server obeys, and how even its sound is: block sizes and listeners, on loopback.

    python bench/live_latency.py [MODEL] [--listeners 1 4 16 64] [--blocks 64 128 256] [--seconds 10]
        [--flags '--dtype fastest'] [--json FILE]

Each listener is a WebSocket client that plays in real time as the page does: it wants what was played, and `--lead`
blocks besides, and moves the temperature twice a second. Three times are reported.

  block       how long the engine took for a block, in the time that it sounds; below 1 sound can go on
  to block    from a setting that is sent to the arrival of the first block that obeys it
  to sound    from there to the moment at which that block's first sample is played; the page's audio device comes
              on top of it

An underrun is a moment at which a client has to play a sample that it does not have yet. Every client's sound is
compared with that of a slot that is alone, made from the changes that the server reported. What a call of the engine
costs beside its samples is measured first, without the server.
"""

import argparse
import asyncio
import json
import re
import shlex
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

sys.path.append(str(Path(__file__).resolve().parents[1]))

from bench.common import record
from samplernn_fast.engine.engine import Engine
from samplernn_fast.reference.randomness import MixedDrawing
from samplernn_fast.serving.live.settings import Settings
from samplernn_fast.serving.live.slot import Slot, advance

_HEADER = struct.Struct("<dII")
_CHECKED = 4096  # samples of each client that are compared


class Player:
    """A client that plays in real time, and what it noticed."""

    def __init__(self, socket: ClientConnection, model: str, seed: int, block: int, lead: int) -> None:
        self.socket, self.model, self.seed, self.block, self.lead = socket, model, seed, block, lead
        self.to_block: list[float] = []
        self.to_sound: list[float] = []
        self.underruns, self.received = 0, 0
        self.sound: list[np.ndarray] = []
        self.score: list[tuple[int, dict[str, Any]]] = []
        self.began: float | None = None
        self._asked: dict[int, float] = {}

    def played(self) -> int:
        """How many samples were played by now. An underrun moves the rest, as silence does in a real player."""
        if self.began is None:
            return 0
        at = int((time.perf_counter() - self.began) * self.rate)
        if at > self.received:
            self.underruns += 1
            self.began += (at - self.received) / self.rate
            at = self.received
        return at

    async def play(self, seconds: float) -> None:
        """Plays for so long."""
        await self.socket.recv()
        await self._say(do="play", model=self.model, seed=self.seed, block=self.block)
        answer = json.loads(await self.socket.recv())
        if answer["is"] != "playing":
            raise SystemExit(answer["message"])
        self.rate, self.block = answer["rate"], answer["block"]
        parts = [asyncio.ensure_future(part) for part in (self._receive(), self._want(), self._move())]
        done, _ = await asyncio.wait(parts, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        for part in done:
            part.result()

    async def _receive(self) -> None:
        async for message in self.socket:
            if isinstance(message, str):
                event = json.loads(message)
                if event["is"] == "set":
                    self.score.append((event["at"], event["changes"]))
                continue
            now, (position, obeys, _) = time.perf_counter(), _HEADER.unpack(message[: _HEADER.size])
            self.sound.append(np.frombuffer(message[_HEADER.size :], "<f4"))
            played = self.played()
            self.received = int(position) + len(self.sound[-1])
            if self.began is None and self.received >= self.lead * self.block:
                self.began = now
            sent = self._asked.pop(obeys, None)
            if sent is not None:
                self.to_block.append(now - sent)
                self.to_sound.append(now - sent + max(0.0, (position - played) / self.rate))

    async def _want(self) -> None:
        wanted = 0
        while True:
            until = (self.played() // self.block + self.lead) * self.block  # no less than a block is ever made
            if until > wanted:
                wanted = until
                await self._say(do="want", until=until)
            await asyncio.sleep(self.block / self.rate / 4)

    async def _move(self) -> None:
        generator = np.random.default_rng(self.seed)
        for number in range(1, 1 << 20):
            await asyncio.sleep(float(generator.uniform(0.3, 0.7)))
            self._asked[number] = time.perf_counter()
            await self._say(do="set", id=number, temperature=round(float(generator.uniform(0.7, 1.0)), 2))

    async def _say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))


class Server:
    """`samplernn-fast serve` for the measurement."""

    def __init__(self, model: str, listeners: int, flags: list[str]) -> None:
        words = ["serve", model, "--port", "0", "--max-listeners", str(listeners), *flags]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "samplernn_fast", *words], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        found = re.search(r"^(\S+) at http://(\S+:\d+)/", self.process.stdout.readline())
        if not found:
            raise SystemExit("the server did not begin")
        self.model, self.place = found[1], found[2]

    def loads(self) -> np.ndarray:
        """The counts of the classes of load, and the bounds of these, (2, classes)."""
        import urllib.request

        with urllib.request.urlopen(f"http://{self.place}/metrics") as answer:
            text = answer.read().decode()
        rows = re.findall(r'samplernn_load_bucket{le="([^"]+)",[^}]*} (\S+)', text)
        return np.array([[float(bound), float(count)] for bound, count in rows]).T

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


async def measure(args: argparse.Namespace, listeners: int, block: int) -> dict[str, Any]:
    """One row of the table: so many listeners with blocks of this size."""
    server = Server(args.model, listeners, args.flags)
    try:
        sockets = [await connect(f"ws://{server.place}/ws", max_size=None) for _ in range(listeners)]
        players = [Player(one, server.model, seed, block, args.lead) for seed, one in enumerate(sockets)]
        await asyncio.gather(*(player.play(args.seconds) for player in players))
        bounds, counts = server.loads()
        for one in sockets:
            await one.close()
    finally:
        server.close()
    check(args, players)
    loads = {f"load_p{part}": float(bounds[np.searchsorted(counts, counts[-1] * part / 100)]) for part in (50, 99)}
    return {
        "model": args.model,
        "listeners": listeners,
        "block": players[0].block,
        "block_ms": round(1e3 * players[0].block / players[0].rate, 2),
        "seconds": args.seconds,
        "changes": sum(len(player.to_block) for player in players),
        **loads,
        **percentiles("to_block_ms", [one for player in players for one in player.to_block]),
        **percentiles("to_sound_ms", [one for player in players for one in player.to_sound]),
        "underruns": sum(player.underruns for player in players),
    }


def check(args: argparse.Namespace, players: list[Player]) -> None:
    """Ends the program where a client did not hear what its slot sounds like alone."""
    engine = Engine(args.model, dtype=flag(args.flags, "--dtype"), num_threads=1)
    for player in players:
        sound = np.concatenate(player.sound)[:_CHECKED]
        slot = Slot(engine, player.seed, Settings(), score=player.score)
        alone = advance(engine, [slot], -(-len(sound) // slot.grain) * slot.grain)[0][: len(sound)]
        if not np.array_equal(sound, alone):
            raise SystemExit(f"listener {player.seed} did not hear its own sound")


def flag(flags: list[str], name: str) -> str:
    """The value of a flag, or "auto"."""
    return flags[flags.index(name) + 1] if name in flags else "auto"


def percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    """The median and the 99th percentile, in milliseconds."""
    if not seconds:
        return {}
    return {f"{name}_p{part}": round(1e3 * float(np.percentile(seconds, part)), 2) for part in (50, 99)}


def cost_of_a_call(args: argparse.Namespace, block: int) -> dict[str, Any]:
    """What a call of `Engine.run` takes beside its samples: in all, and in the time of a block."""
    engine = Engine(args.model, dtype=flag(args.flags, "--dtype"), num_threads=1)
    state = engine.init_state()
    whole, none = [], []
    for _ in range(200):
        began = time.perf_counter()
        engine.run(state, block)
        whole.append(time.perf_counter() - began)
    native = engine.backend.native  # type: ignore[attr-defined]
    how = MixedDrawing.of(state.drawing(0), state.t)
    arrays = how.seeds, how.streams, how.times, how.temperature, how.top_k, how.top_p

    class Nothing:
        """Takes the place of the C++ engine: its fixed cost, and no samples."""

        def generate(self, hidden: Any, levels: np.ndarray, t: int, *_: Any) -> None:
            native.generate(hidden, np.ascontiguousarray(levels[:, : engine.config.lookback]), t, *arrays)
            levels[levels < 0] = 0

    engine.backend.native = Nothing()  # type: ignore[attr-defined]
    for _ in range(200):
        began = time.perf_counter()
        engine.run(state, block)
        none.append(time.perf_counter() - began)
    took, beside = statistics.median(whole), statistics.median(none)
    return {"block": block, "call_us": round(1e6 * took, 1), "beside_samples_us": round(1e6 * beside, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--listeners", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--blocks", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--lead", type=int, default=2, help="blocks that are wanted ahead of the ears")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--flags", type=shlex.split, default=[], help="for serve, as one word: '--dtype fastest'")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for row in (cost_of_a_call(args, block) for block in args.blocks):
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        rows.append(row)
    for listeners in args.listeners:
        for block in args.blocks:
            row = asyncio.run(measure(args, listeners, block))
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            rows.append(row)
    if args.json:
        record.append(args.json, rows)


if __name__ == "__main__":
    main()
