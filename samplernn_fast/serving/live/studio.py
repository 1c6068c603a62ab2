"""`Studio`: the models that a live server plays, their players, and who has a place."""

import asyncio
import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any

from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import ConfigError, SampleRNNError, as_ours, did_you_mean, quoted
from samplernn_fast.reference import limits
from samplernn_fast.serving.live.messages import Play
from samplernn_fast.serving.live.metrics import Metrics
from samplernn_fast.serving.live.player import Delivery, Player, Seat
from samplernn_fast.serving.live.prompts import SECONDS, Prompts
from samplernn_fast.serving.live.settings import Settings
from samplernn_fast.serving.live.slot import Slot

AHEAD_SECONDS = 2.0
"""How far the sound that is made may be ahead of what has left the server, however much a client wants."""


class Full(SampleRNNError):
    """All places are taken."""


class Studio:
    """Plays models for listeners. Its methods may be called from any thread."""

    def __init__(self, engines: Mapping[str, Engine], places: int, realtime_priority: bool = False) -> None:
        """engines: by the names that listeners choose from. places: how many streams are played at once.

        realtime_priority: whether the players' threads take one, which `priority.check` has allowed.
        """
        for name, engine in engines.items():
            if not engine.config.sample_rate:
                raise ConfigError(f"{name}: this model has no sample rate yet: train it, or give its config one")
        self.metrics, self.prompts, self.places = Metrics(), Prompts(), places
        self.over = False  # whether the server ends
        self._opening = threading.Lock()
        self._turn = asyncio.Semaphore(1)  # of those who begin with a prompt, which takes seconds of all processors
        self.players = {name: Player(name, engine, self.metrics, realtime_priority) for name, engine in engines.items()}
        for player in self.players.values():
            player.start()

    def close(self) -> None:
        """Ends all players."""
        for player in self.players.values():
            player.end()

    def player(self, model: str) -> Player:
        """The player of a model. Raises ConfigError where no model has that name."""
        if model not in self.players:
            raise ConfigError(f"there is no model {quoted(model)} here{did_you_mean(model, self.players)}")
        return self.players[model]

    def open(self, wanted: Play, deliver: Callable[[Delivery], None]) -> tuple[Player, Seat, int]:
        """Begins a stream; it may take seconds where a prompt is long. Returns its player, its seat and its seed.

        Raises ConfigError for what cannot be, and Full.
        """
        player = self.player(wanted.model)
        config = player.engine.config
        self._refuse_where_full()
        seed = limits.random_seed() if wanted.seed is None else wanted.seed
        settings = Settings().changed(wanted.changes, config)
        prompt = None if wanted.prompt is None else self.prompts.levels(wanted.prompt, config)
        try:
            slot = Slot(player.engine, seed, settings, prompt, wanted.score)
        except Exception as error:  # such as one of torch
            raise as_ours(error) from error
        with self._opening:
            self._refuse_where_full()
            return player, player.open(slot, wanted.block, deliver), seed

    async def opened(self, wanted: Play, deliver: Callable[[Delivery], None]) -> tuple[Player, Seat, int]:
        """The same beside an event loop. What begins too late, because the caller has gone, ends at once."""
        if wanted.prompt is not None:
            await self._turn.acquire()  # who leaves meanwhile leaves the queue too
        opening = asyncio.ensure_future(asyncio.to_thread(self.open, wanted, deliver))
        if wanted.prompt is not None:
            opening.add_done_callback(lambda _: self._turn.release())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    def _refuse_where_full(self) -> None:
        if sum(player.seats for player in self.players.values()) >= self.places:
            self.metrics.refused.inc()
            taken = "the only place is" if self.places == 1 else f"all {self.places} places are"
            raise Full(f"{taken} taken; try again when somebody has stopped")

    @functools.cached_property
    def models(self) -> list[dict[str, Any]]:
        """What a client needs to know of every model."""
        return [
            {
                "name": name,
                "sha256": player.engine.model_sha256,
                "rate": player.engine.config.sample_rate,
                "levels": player.engine.config.q_levels,
                "system": player.engine.config.system,
                "truncates": not player.engine.config.mixture,
                "grain": player.grain,
            }
            for name, player in self.players.items()
        ]

    def hello(self) -> dict[str, Any]:
        """The first message to a client."""
        return {"is": "hello", "version": 1, "models": self.models, "most_prompt_seconds": SECONDS}


def _close(opening: "asyncio.Future[tuple[Player, Seat, int]]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        player, seat, _ = opening.result()
        player.close(seat)
