"""A line for whoever makes many pieces on a GPU: another backend is faster."""

import importlib.util
from typing import TYPE_CHECKING

from samplernn_fast import terminal
from samplernn_fast.backends import registry

if TYPE_CHECKING:
    from samplernn_fast.engine.engine import Engine


def tell_of_faster(engine: "Engine", backend: str, pieces: int) -> None:
    """Says that `triton` makes many pieces faster, where "auto" has taken `cuda` for them.

    "auto" does not take it by itself: a piece must not depend on how many are made with it.
    """
    many = backend == "auto" and engine.backend.name == "cuda" and pieces >= registry.MANY_STREAMS
    if many and importlib.util.find_spec("triton"):
        terminal.say(
            f"--backend triton makes {pieces} pieces several times as fast on a GPU; it makes other takes than cuda,"
            " and they also depend on how many are made together"
        )
