"""Clients that play a live server in real time, as the page does, and note how late its sound comes.

Nothing here needs torch, so a process of clients begins at once and takes little from the server beside it.
"""

import asyncio
import json
import math
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from samplernn_fast.serving import priority
from samplernn_fast.serving.priority import RealTime

HEADER = struct.Struct("<dII")
_LEAST_SLEEP = 0.001  # seconds
_SOON = 0.05  # seconds of sound that are made behind a change at once; the reserve is made when so much was played


class Session(NamedTuple):
    """It tells a process of clients what to do."""

    place: str
    """HOST:PORT of the server."""
    model: str
    seeds: range
    """One for each client."""
    block: int
    """Samples."""
    lead: int
    """A client wants so many blocks ahead of the ears, and puts changes there."""
    reserve: float
    """Seconds that it has made ahead all the same, which are made again where a change falls into them."""
    seconds: float
    realtime_priority: bool
    """It says whether the clients have one, as the audio thread of a browser does."""


class Heard(NamedTuple):
    """It holds what a client noticed."""

    seed: int
    rate: int
    block: int
    to_block: list[float]
    """For each change, the seconds from the setting that was sent to the arrival of the first block that obeys it."""
    to_sound: list[float]
    """For each change, the seconds until that block's first sample was due."""
    underruns: list[float]
    """The moments at which a sample was due that had not come, on the clock of `time.perf_counter`."""
    late: int
    """How often old samples were played because those that take their place had not come."""
    sound: np.ndarray
    score: list[tuple[int, dict[str, Any]]]
    """The changes that the server reported."""


class Client:
    """A listener that plays in real time, and what it noticed."""

    def __init__(self, socket: ClientConnection, session: Session, seed: int) -> None:
        self.socket, self.session, self.seed = socket, session, seed
        self.rate, self.block = 1, session.block
        self.to_block: list[float] = []
        self.to_sound: list[float] = []
        self.underruns: list[float] = []
        self.late = 0
        self.sound: list[tuple[int, np.ndarray]] = []
        self.score: list[tuple[int, dict[str, Any]]] = []
        self._received = 0  # where the newest sound ends,
        self._there = 0  # and where all sound does: behind the newest there may be old sound, whose place will be taken
        self._plays_old = False
        self._began: float | None = None  # when the first sample would have been played without any gap
        self._rests_at: int | None = 0  # the sample before which nothing plays until `lead` blocks are there
        self._asked: dict[int, float] = {}
        self._wanted = 0
        self._changed = -(1 << 53)  # what was played when the last change was made

    def played(self) -> int:
        """Returns how many samples were played by now.

        Behind an underrun there is silence until the lead is there, as on the page.
        """
        if self._rests_at is not None or self._began is None:
            return self._rests_at or 0
        now = time.perf_counter()
        at = int((now - self._began) * self.rate)
        if at > self._there:
            self.underruns.append(now)
            self._rests_at = at = self._there
        return at

    async def begin(self) -> None:
        """Has the server begin a stream."""
        await self.socket.recv()
        await self._say(do="play", model=self.session.model, seed=self.seed, block=self.session.block)
        answer = json.loads(await self.socket.recv())
        if answer["is"] != "playing":
            raise SystemExit(answer["message"])
        self.rate, self.block = answer["rate"], answer["block"]

    async def play(self) -> Heard:
        """Plays as long as the session lasts."""
        parts = [asyncio.ensure_future(part) for part in (self._receive(), self._want(), self._move())]
        done, _ = await asyncio.wait(parts, timeout=self.session.seconds, return_when=asyncio.FIRST_EXCEPTION)
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        for part in done:
            part.result()
        times = self.to_block, self.to_sound, self.underruns
        return Heard(self.seed, self.rate, self.block, *times, self.late, self._whole(), self.score)

    def _whole(self) -> np.ndarray:
        """Returns the stream as the server made it last."""
        whole = np.empty(max((at + len(part) for at, part in self.sound), default=0), np.float32)
        end = 0
        for at, part in self.sound:
            end = at + len(part)  # what was behind a change is no longer part of the stream
            whole[at:end] = part
        return whole[:end]

    async def _receive(self) -> None:
        async for message in self.socket:
            if isinstance(message, str):
                event = json.loads(message)
                if event["is"] == "set":
                    self.score.append((event["at"], event["changes"]))
                elif event["is"] in ("error", "stopped"):
                    raise SystemExit(f"the server ended the stream: {message}")
                continue
            now, (position, obeys, _) = time.perf_counter(), HEADER.unpack(message[: HEADER.size])
            self.sound.append((int(position), np.frombuffer(message[HEADER.size :], "<f4")))
            played = self.played()
            self.late += position < played and not self._plays_old
            self._received = int(position) + len(self.sound[-1][1])
            self._there = max(self._there, self._received)
            self._plays_old = self._received < played
            rest = self._rests_at
            enough = self.session.lead + (0 if rest else self._blocks(min(_SOON, self.session.reserve)))
            if rest is not None and self._received >= rest + enough * self.block:
                self._began, self._rests_at = now - rest / self.rate, None
            sent = self._asked.pop(obeys, None)
            if sent is not None:
                self.to_block.append(now - sent)
                self.to_sound.append(now - sent + max(0.0, (position - played) / self.rate))

    async def _want(self) -> None:
        while True:
            played = self.played()
            # A block is made as a whole. Behind a gap, which may lie within one, all of the lead is needed to go on.
            blocks = played // self.block if self._rests_at is None else -(-played // self.block)
            until = (blocks + self._ahead(played)) * self.block
            if until > self._wanted:
                self._wanted = until
                await self._say(do="want", until=until, **({"keep": played} if self.session.reserve else {}))
            until_next = self.block / 4 if self._rests_at is not None else self.block - self.played() % self.block
            await asyncio.sleep(max(_LEAST_SLEEP, until_next / self.rate))

    async def _move(self) -> None:
        generator = np.random.default_rng(self.seed)
        for number in range(1, 1 << 20):
            await asyncio.sleep(float(generator.uniform(0.3, 0.7)))
            self._asked[number] = time.perf_counter()
            temperature = round(float(generator.uniform(0.7, 1.0)), 2)
            await self._say(do="set", id=number, temperature=temperature, **self._where())

    def _ahead(self, played: int) -> int:
        """Returns how many blocks are wanted ahead of the ears."""
        changed_now = played - self._changed < self._blocks(_SOON) * self.block
        behind = _SOON if changed_now else self.session.reserve
        return self.session.lead + self._blocks(min(behind, self.session.reserve))

    def _blocks(self, seconds: float) -> int:
        return math.ceil(seconds * self.rate / self.block)

    def _where(self) -> dict[str, int]:
        """Says where a change shall be, if there is a reserve that it may fall into."""
        if not self.session.reserve:
            return {}
        self._changed = self.played()
        since = (-(-self._changed // self.block) + self.session.lead) * self.block
        self._wanted = since + self._blocks(_SOON) * self.block
        return {"from": since, "until": self._wanted}

    async def _say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))


def play(session: Session, wait: Callable[[], object]) -> list[Heard]:
    """Plays a session. `wait` is called when all its streams have begun, and returns when all processes are there."""
    with RealTime(priority.SENDING, session.realtime_priority):
        return asyncio.run(_play(session, wait))


async def _play(session: Session, wait: Callable[[], object]) -> list[Heard]:
    sockets = [await connect(f"ws://{session.place}/ws", max_size=None, compression=None) for _ in session.seeds]
    try:
        clients = [Client(socket, session, seed) for socket, seed in zip(sockets, session.seeds, strict=True)]
        for client in clients:
            await client.begin()
        wait()
        return list(await asyncio.gather(*(client.play() for client in clients)))
    finally:
        for socket in sockets:
            await socket.close()
