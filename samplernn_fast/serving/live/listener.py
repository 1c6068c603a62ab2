"""One WebSocket connection: what a client asks for, and the sound that it gets (docs/live.md)."""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from samplernn_fast.errors import ConfigError, SampleRNNError
from samplernn_fast.serving.live.messages import Play, RefusedPlay, Set, Stop, Underrun, Want, parse
from samplernn_fast.serving.live.player import Block, Delivery, Failed, Player, Seat
from samplernn_fast.serving.live.settings import RESET
from samplernn_fast.serving.live.slot import Report
from samplernn_fast.serving.live.studio import AHEAD_SECONDS, Full, Studio

SEND_SECONDS = 10.0
"""How long a message may take until the client's connection has room for it."""
SILENT_SECONDS = 60.0
"""How long a stream waits for a client that wants nothing, before its place becomes free."""
IDLE_SECONDS = 600.0
"""How long a connection may stay that plays nothing and says nothing."""
MESSAGES_PER_SECOND = 200.0
"""How many short messages a client may send on average; a long one counts as several."""
_BURST = 400.0  # messages that may come at once
_WAITING = 100  # messages that a client may send while its stream begins
_UNSENT = 5000  # messages that may wait for a client that reads too slowly
_HEADER = struct.Struct("<dII")  # position, the change that is obeyed, the number of the play
_POLICY, _TOO_SLOW = 1008, 1013  # codes of a closed WebSocket


class _Ended(Exception):
    """The connection must end; the text is for the listener."""


class Connection:
    """Serves one client from the first message to the last."""

    def __init__(self, socket: WebSocket, studio: Studio) -> None:
        self._socket, self._studio = socket, studio
        self._inbox: asyncio.Queue[str] = asyncio.Queue(_WAITING)
        self._outbox: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self._player: Player | None = None
        self._seat: Seat | None = None
        self._play = 0  # how many streams this client has begun
        self._wanted = self._sent = 0  # positions
        self._credit, self._credit_at = _BURST, time.monotonic()
        self._heard = time.monotonic()

    async def serve(self) -> None:
        """Runs until the client leaves or must leave."""
        await self._socket.accept()
        self._studio.metrics.listeners.inc()
        self._say(self._studio.hello())
        tasks = [asyncio.create_task(part()) for part in (self._read, self._work, self._write, self._watch)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await self._end(next(filter(None, (task.exception() for task in done)), None))
        finally:
            self._leave()
            self._studio.metrics.listeners.dec()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, reason: BaseException | None) -> None:
        """Says why the connection ends, where the server ends it."""
        if reason is None or isinstance(reason, (WebSocketDisconnect, RuntimeError)):
            return  # the client has left
        if not isinstance(reason, (_Ended, TimeoutError)):
            raise reason
        self._studio.metrics.closed.inc()
        slow = isinstance(reason, TimeoutError)
        with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            async with asyncio.timeout(1):
                if not slow:
                    await self._socket.send_text(json.dumps({"is": "error", "message": str(reason), "fatal": True}))
                await self._socket.close(_TOO_SLOW if slow else _POLICY)

    async def _read(self) -> None:
        """Takes what the client says, also while a stream begins, or nobody would see that the client has left."""
        async for text in self._texts():
            if self._outbox.qsize() > _UNSENT:
                raise TimeoutError
            if self._inbox.full():
                raise _Ended("too many messages came before they could be obeyed")
            self._inbox.put_nowait(text)
            await asyncio.sleep(0)  # so that they are obeyed between those that came at once

    async def _work(self) -> None:
        while True:
            text = await self._inbox.get()
            try:
                await self._obey(parse(text))
            except RefusedPlay as error:
                self._leave_for_another()
                self._refuse(error, {"play": self._play})
            except ConfigError as error:
                self._refuse(error, {})

    def _refuse(self, error: SampleRNNError, of: dict[str, int]) -> None:
        """of: the number of the play, where that is refused."""
        known = isinstance(error, (ConfigError, Full))
        words = str(error) if known else f"this model cannot play: {error}"
        self._say({"is": "error", "message": words, "fatal": False} | of)

    async def _texts(self) -> AsyncIterator[str]:
        """The text messages of the client, as fast as it may send them."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                raise _Ended("messages to this server are text")
            now = time.monotonic()
            earned = (now - self._credit_at) * MESSAGES_PER_SECOND
            self._credit = min(_BURST, self._credit + earned) - 1 - len(text) / 1024
            self._credit_at = self._heard = now
            if self._credit < 0:
                self._studio.metrics.refused.inc()
                raise _Ended(f"more than {MESSAGES_PER_SECOND:g} messages a second came")
            yield text

    async def _obey(self, message: Any) -> None:
        if isinstance(message, Play):
            self._leave_for_another()
            try:
                await self._begin(message)
            except SampleRNNError as error:
                self._refuse(error, {"play": self._play})
        elif isinstance(message, Stop):
            self._leave()
            self._say({"is": "stopped", "play": self._play})
        elif isinstance(message, Underrun):
            self._studio.metrics.underruns.inc(message.count)
        elif self._seat is None and self._play and isinstance(message, (Want, Set)):
            pass  # it was on its way when the stream ended
        elif self._seat is None:
            raise ConfigError("nothing is played; the message play comes first")
        elif isinstance(message, Want):
            self._wanted = max(self._wanted, message.until)
            self._grant(message.keep)
        elif isinstance(message, Set):
            self._change(message)

    async def _begin(self, wanted: Play) -> None:
        number, loop = self._play, asyncio.get_running_loop()

        def deliver(delivery: Delivery) -> None:
            with suppress(RuntimeError):  # the loop is closed when the server ends
                loop.call_soon_threadsafe(self._take, number, delivery)

        player, seat, seed = await self._studio.opened(wanted, deliver)
        self._player, self._seat, self._wanted, self._sent = player, seat, 0, 0
        self._heard = time.monotonic()  # it may have taken longer than a client may be silent
        settings = seat.slot.settings
        self._say(
            {
                "is": "playing",
                "play": number,
                "model": wanted.model,
                "sha256": player.engine.model_sha256,
                "rate": player.engine.config.sample_rate,
                "seed": seed,
                "block": seat.block,
                "grain": player.grain,
                "rewinds": seat.slot.rewinds,
                "kept": seat.slot.most_kept,
                "temperature": settings.temperature,
                "top_k": settings.top_k,
                "top_p": settings.top_p,
                "frozen": settings.frozen,
                "prompt": wanted.prompt,
            }
        )

    def _take(self, number: int, delivery: Delivery) -> None:
        """Puts a delivery behind those that wait, but for sound in whose place other sound will come."""
        if isinstance(delivery, Report):
            for waiting in [self._outbox.get_nowait() for _ in range(self._outbox.qsize())]:
                play, item = waiting
                if not (play == number and isinstance(item, Block) and item.position >= delivery.at):
                    self._outbox.put_nowait(waiting)
        self._outbox.put_nowait((number, delivery))

    def _leave_for_another(self) -> None:
        self._leave()
        self._play += 1

    def _leave(self) -> None:
        """Gives the place back."""
        if self._player is not None and self._seat is not None:
            self._player.close(self._seat)
        self._player = self._seat = None

    def _grant(self, keep: int | None = None) -> None:
        """Lets the player make what is wanted, but not far beyond what has left the server."""
        if self._player is not None and self._seat is not None:
            self._player.want(self._seat, min(self._wanted, self._most(self._player, self._seat)), keep)

    def _change(self, message: Set) -> None:
        """Asks for a change, behind which perhaps less is wanted than before."""
        if self._player is not None and self._seat is not None:
            most = self._most(self._player, self._seat)
            if message.since is not None and message.since > most:
                raise ConfigError(f"a change may be at most {AHEAD_SECONDS:g} s ahead of the sound that was sent")
            until = None if message.until is None else min(message.until, most)
            self._player.ask(self._seat, message.number, message.changes, message.since, until)
            self._wanted = self._wanted if message.until is None else message.until

    def _most(self, player: Player, seat: Seat) -> int:
        """The position up to which samples may be made by now."""
        return self._sent + max(int(AHEAD_SECONDS * player.engine.config.sample_rate), seat.block)

    def _say(self, value: dict[str, Any]) -> None:
        self._outbox.put_nowait((0, value))

    async def _write(self) -> None:
        while True:
            number, item = await self._outbox.get()
            if number not in (0, self._play):
                continue  # of a stream that has ended
            async with asyncio.timeout(SEND_SECONDS):
                if isinstance(item, Block):
                    await self._socket.send_bytes(_packed(item, number))
                else:
                    await self._socket.send_text(json.dumps(_said(item)))
            if isinstance(item, Block) and number == self._play:
                self._sent = item.position + len(item.samples)
                self._grant()
            elif isinstance(item, Failed) and number == self._play:
                self._leave()
                self._say({"is": "stopped", "play": self._play})

    async def _watch(self) -> None:
        """Ends a stream that nobody wants, and a connection over which nothing comes."""
        while True:
            await asyncio.sleep(min(5.0, SILENT_SECONDS))
            silent = time.monotonic() - self._heard
            if silent > IDLE_SECONDS:
                raise _Ended("nothing has come over this connection for a long time")
            if silent > SILENT_SECONDS and self._seat is not None:
                self._leave()
                self._say({"is": "stopped", "play": self._play})


def _said(item: dict[str, Any] | Report | Failed) -> dict[str, Any]:
    """A delivery as a client reads it."""
    if isinstance(item, Report):
        changes = {name: value for name, value in item.changes.items() if name != RESET or value}
        return {"is": "set", "id": item.number, "at": item.at, "changes": changes}
    if isinstance(item, Failed):
        return {"is": "error", "message": f"the stream has ended: {item.error}", "fatal": False}
    return item


def _packed(block: Block, play: int) -> bytes:
    return _HEADER.pack(block.position, block.obeys, play) + block.samples.astype("<f4", copy=False).tobytes()
