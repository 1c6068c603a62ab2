"""What must be right before a backend is timed: its draws for the past that it made itself."""

import numpy as np
import torch

from samplernn_fast.engine.engine import Engine
from samplernn_fast.reference import draw

SEED = 1
# How far outside its level a draw may lie in the reference's distribution, on average: rounded weights move the edges
# between levels a little. A wrong kernel's draws lie some hundredths outside.
OUTSIDE = {"float32": 1e-7, "bfloat16": 2e-4, "int8": 1e-3}
DRAWN_STREAMS, DRAWN_LEVELS = 16, 256


class CheckFailed(Exception):
    """What is not the model must not be timed. The message is one line."""


def check_draws(engine: Engine, exact: Engine, batch_size: int) -> None:
    """CheckFailed where an engine's levels are not those that the reference in float64, `exact`, would draw."""
    config = engine.config
    steps = DRAWN_LEVELS // min(batch_size, DRAWN_STREAMS)
    poison(engine.device)
    levels = engine.run(engine.init_state(batch_size, seed=SEED), steps)[:DRAWN_STREAMS]
    streams = len(levels)
    silence = torch.full((streams, config.lookback), config.q_zero)
    scores = exact.score(torch.cat((silence, levels), dim=1))
    draws = draw.draws(SEED, np.arange(streams), 0, steps).double() / 2**32
    shares, drawn = scores.exp(), levels.unsqueeze(-1)
    upper = shares.cumsum(dim=-1).gather(-1, drawn).squeeze(-1)
    lower = upper - shares.gather(-1, drawn).squeeze(-1)
    outside = (lower - draws).clamp(min=0) + (draws - upper).clamp(min=0)
    mean = outside.mean().item()
    if not mean <= OUTSIDE[engine.dtype] or len(levels.unique()) < 2:
        raise CheckFailed(
            f"{engine.backend.name} {engine.dtype}, dim {config.dim}, {batch_size} streams: its draws lie {mean:.2g} of"
            f" the distribution outside the reference's levels, at most {OUTSIDE[engine.dtype]:.2g} was expected; "
            "nothing was timed"
        )


def poison(device: torch.device) -> None:
    """Leave NaN in memory that is handed out next, so that a result that was never written shows."""
    if device.type == "cuda":
        for size in (1 << 12, 1 << 16, 1 << 20, 1 << 24):
            torch.full((size,), float("nan"), device=device)
