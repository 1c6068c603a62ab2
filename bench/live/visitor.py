"""Listeners who come and go: they take their sound as fast as it comes, and do all that a page can ask for.

Nothing here needs torch, as in client.py.
"""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from bench.live.client import HEADER

_SECONDS = 5, 120  # of the sound of a stream, before its listener leaves
_BLOCKS = 64, 128, 256, 1024  # samples
_CHANGES = 2.0  # for each second of sound
_PROMPTED = 0.25  # the part of the streams that go on from a recording
_REWINDING = 0.5  # the part of the changes that fall into sound that was heard already


class Party(NamedTuple):
    """It tells a process of listeners what to do."""

    place: str
    """HOST:PORT of the server."""
    model: str
    prompt: str
    """The name of a recording that the server has."""
    seeds: range
    """One for each listener."""
    seconds: float
    """The sound that each listener hears, in all its streams."""


class Visit(NamedTuple):
    """A stream from its beginning until its listener left."""

    listener: int
    seed: int
    prompted: bool
    sound: np.ndarray
    score: list[tuple[int, dict[str, Any]]]
    """The changes that the server reported."""


class _Visitor:
    """One listener, who begins stream after stream."""

    def __init__(self, party: Party, number: int, heard: Callable[[Visit], object]) -> None:
        self._party, self._number, self._heard = party, number, heard
        self._chance = random.Random(number)
        self._socket: ClientConnection | None = None
        self._plays = 0  # streams of this connection
        self._asked = 0  # changes

    async def stay(self) -> None:
        """Hears as much as the party says."""
        left = self._party.seconds
        while left > 0:
            left -= await self._visit(min(left, self._chance.uniform(*_SECONDS)))
        if self._socket is not None:
            await self._socket.close()

    async def _visit(self, seconds: float) -> float:
        """Hears one stream. Returns the seconds of its sound."""
        socket = await self._connected()
        seed, prompted = self._chance.getrandbits(64), self._chance.random() < _PROMPTED
        play: dict[str, Any] = {"model": self._party.model, "seed": seed, "block": self._chance.choice(_BLOCKS)}
        await self._say(do="play", **play, **({"prompt": self._party.prompt} if prompted else {}))
        self._plays += 1
        answer = await self._text(socket)
        if answer["is"] != "playing":
            raise SystemExit(f"listener {self._number} could not play: {answer}")
        rate = answer["rate"]
        # Rounding may leave a listener less time than one sample takes.
        sound, score = await self._hear(socket, max(1, round(seconds * rate)), rate)
        self._heard(Visit(self._number, seed, prompted, sound, score))
        await self._leave(socket)
        return len(sound) / rate

    async def _hear(
        self, socket: ClientConnection, length: int, rate: int
    ) -> tuple[np.ndarray, list[tuple[int, dict[str, Any]]]]:
        """Takes at least `length` samples, and all that the server says of its changes until then."""
        sound: list[np.ndarray] = []
        score: list[tuple[int, dict[str, Any]]] = []
        received = wanted = 0
        while received < length:
            if received >= wanted - rate // 2:
                wanted = received + rate
                await self._say(do="want", until=wanted, keep=max(0, received - rate // 4))
            message = await socket.recv()
            if isinstance(message, str):
                event = json.loads(message)
                if event["is"] == "set":
                    score.append((event["at"], event["changes"]))
                else:
                    raise SystemExit(f"the server ended the stream: {message}")
                continue
            position, _, play = HEADER.unpack(message[: HEADER.size])
            if play != self._plays:
                raise SystemExit(f"listener {self._number} got sound of stream {play} in stream {self._plays}")
            if position != received and not (position < received and score and position == score[-1][0]):
                raise SystemExit(f"listener {self._number} got sample {position:.0f} behind {received}")
            if position < received:  # what is behind a change comes again
                sound = [np.concatenate(sound)[: int(position)]]
            sound.append(np.frombuffer(message[HEADER.size :], "<f4"))
            received = int(position) + len(sound[-1])
            if self._chance.random() < _CHANGES * len(sound[-1]) / rate:
                await self._change(received - self._chance.randrange(rate // 4))
        return np.concatenate(sound), score

    async def _change(self, since: int) -> None:
        self._asked += 1
        where = {"from": max(0, since)} if self._chance.random() < _REWINDING else {}
        settings: list[dict[str, Any]] = [
            {"temperature": round(self._chance.uniform(0.5, 1.2), 3)},
            {"top_k": self._chance.choice([None, 9, 40])},
            {"top_p": self._chance.choice([None, 0.9])},
            {"frozen": self._chance.random() < 0.3},
        ]
        if self._chance.random() < 0.1:
            await self._say(do="reset", id=self._asked, **where)
        else:
            await self._say(do="set", id=self._asked, **self._chance.choice(settings), **where)

    async def _leave(self, socket: ClientConnection) -> None:
        """Leaves as listeners do: for another stream, by closing the page, or as a machine that is switched off."""
        way = self._chance.choice(["another", "close", "abort"])
        if way == "another":
            return
        self._socket = None
        if way == "close":
            await socket.close()
        else:
            socket.transport.abort()

    async def _connected(self) -> ClientConnection:
        if self._socket is None:
            self._socket = await connect(f"ws://{self._party.place}/ws", max_size=None, compression=None)
            self._plays = 0
            await self._text(self._socket)  # the server's first message
        return self._socket

    async def _text(self, socket: ClientConnection) -> dict[str, Any]:
        """The next answer. Sound and changes of a stream before it are lost."""
        while True:
            message = await socket.recv()
            if isinstance(message, str) and (event := json.loads(message))["is"] != "set":
                return dict(event)

    async def _say(self, **message: Any) -> None:
        assert self._socket is not None
        await self._socket.send(json.dumps(message))


def stay(party: Party, heard: Callable[[Visit], object]) -> None:
    """Lets all listeners of a party hear what they came for. heard: takes each stream when its listener left it."""

    async def together() -> None:
        await asyncio.gather(*(_Visitor(party, number, heard).stay() for number in party.seeds))

    asyncio.run(together())
