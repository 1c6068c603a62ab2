"""An endless Ogg/Opus stream of a slot, for players that know nothing of this server."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import replace

from samplernn_fast.errors import ConfigError, did_you_mean, quoted
from samplernn_fast.serving.live.encoding import OpusStream
from samplernn_fast.serving.live.messages import Play
from samplernn_fast.serving.live.player import Block, Delivery, Failed
from samplernn_fast.serving.live.studio import AHEAD_SECONDS, Studio

_BLOCK_SECONDS = 0.1
_NUMBERS = {"seed": int, "temperature": float, "top_k": int, "top_p": float}
_WORDS = ("model", *_NUMBERS)


def wanted_by(query: Mapping[str, str], usual_model: str) -> Play:
    """The stream that the query of an address asks for. Raises ConfigError for an unknown word, and where a value
    is no number."""
    for word in query:
        if word not in (*_WORDS, "token"):
            guess = did_you_mean(word, _WORDS)
            raise ConfigError(f"a stream has no {quoted(word)}{guess or '; it may have ' + ', '.join(_WORDS)}")
    values = {}
    for name, number in _NUMBERS.items():
        text = query.get(name, "")
        try:
            if text:
                values[name] = number(text)
        except ValueError:
            raise ConfigError(f"{name} must be a number") from None
    seed = values.pop("seed", None)
    if seed is not None and not 0 <= seed < 2**64:
        raise ConfigError("seed must be a whole number from 0 to 2^64 - 1")
    return Play(query.get("model") or usual_model, seed, values, None, 1, [])


async def broadcast(studio: Studio, wanted: Play) -> AsyncGenerator[bytes, None]:
    """The bytes of an endless stream, as time passes: a client that reads slower than it sounds misses nothing, and the
    server waits for it.

    It begins a little ahead, so that a player has something in hand. Raises what `Studio.open` does, and ConfigError
    where the model's rate needs soxr.
    """
    inbox: asyncio.Queue[Delivery] = asyncio.Queue()
    rate, loop = studio.player(wanted.model).engine.config.sample_rate, asyncio.get_running_loop()
    encoder = OpusStream(rate)

    def deliver(delivery: Delivery) -> None:
        with suppress(RuntimeError):  # the loop is closed when the server ends
            loop.call_soon_threadsafe(inbox.put_nowait, delivery)

    player, seat, _ = await studio.opened(replace(wanted, block=max(1, round(_BLOCK_SECONDS * rate))), deliver)
    began, sent = time.monotonic(), 0
    try:
        while not studio.over:
            ahead = sent / rate - (time.monotonic() - began)
            await asyncio.sleep(max(0.0, ahead - AHEAD_SECONDS))
            player.want(seat, sent + seat.block)
            item = await inbox.get()
            if isinstance(item, Failed):
                break
            if isinstance(item, Block):
                sent = item.position + len(item.samples)
                data = await asyncio.to_thread(encoder.add, item.samples)
                if data:
                    yield data
        yield encoder.close()
    finally:
        player.close(seat)
