"""This makes what listeners of a live server should have heard: the sound of the same streams without a server."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from samplernn_fast.engine.engine import Engine
from samplernn_fast.serving.live.settings import Settings
from samplernn_fast.serving.live.slot import MOST_CHANGES, Slot, advance


class Stream(NamedTuple):
    """A stream as somebody heard it."""

    listener: int
    seed: int
    sound: np.ndarray
    """(n,) float32."""
    score: list[tuple[int, dict[str, Any]]]
    """The changes that the server reported."""
    prompt: np.ndarray | None = None
    """(m,) levels from which it went on."""


def check(engine: Engine, streams: Iterable[Stream]) -> None:
    """Raises SystemExit where a listener did not hear what its slot makes, from the changes that the server reported.

    The slots go through long blocks together; whoever gives one stream at a time compares with slots that are alone. A
    score takes no more than `MOST_CHANGES`, so the sound behind those is not compared.
    """
    heard = sorted(((stream, _compared(stream)) for stream in streams), key=lambda pair: len(pair[1]))
    slots = [Slot(engine, one.seed, Settings(), one.prompt, one.score[:MOST_CHANGES]) for one, _ in heard]
    made: list[list[np.ndarray]] = [[] for _ in heard]
    for first, ((stream, sound), slot) in enumerate(zip(heard, slots, strict=True)):
        grains = -(-(len(sound) - slot.position) // slot.grain)
        for parts, more in zip(made[first:], advance(engine, slots[first:], grains * slot.grain), strict=True):
            parts.append(more)
        if slot.error is not None:
            raise slot.error
        if not np.array_equal(sound, np.concatenate(made[first])[: len(sound)]):
            raise SystemExit(f"listener {stream.listener} did not hear the sound of seed {stream.seed}")


def _compared(stream: Stream) -> np.ndarray:
    if len(stream.score) > MOST_CHANGES:
        return stream.sound[: stream.score[MOST_CHANGES][0]]
    return stream.sound
