"""What must be right before a backend is timed: its draws for the past that it made itself."""

import numpy as np
import torch

from samplernn_fast import sampling
from samplernn_fast.engine import Engine

SEED = 1
# Share of the levels drawn that must be the reference's for the same past; the rest lie on an edge between two levels.
DRAWN_ALIKE = {"float32": 0.99, "bfloat16": 0.9, "int8": 0.9}
DRAWN_STREAMS, DRAWN_STEPS = 4, 32


def check_draws(engine: Engine, exact: Engine, batch_size: int) -> None:
    """SystemExit where too few of an engine's levels are those that the reference in float64, `exact`, would draw."""
    config = engine.config
    steps = config.lookback * -(-DRAWN_STEPS // config.lookback)
    poison(engine.device)
    levels = engine.run(engine.init_state(batch_size, seed=SEED), steps)[:DRAWN_STREAMS]
    streams = len(levels)
    silence = torch.full((streams, config.lookback), config.q_zero)
    scores = exact.score(torch.cat((silence, levels), dim=1)).flatten(0, 1)
    draws = sampling.draws(SEED, np.arange(streams), 0, steps).flatten()
    alike = (sampling.sample_ref(scores, draws, torch.ones(len(draws))) == levels.flatten()).double().mean().item()
    if alike < DRAWN_ALIKE[engine.dtype] or len(levels.unique()) < 2:
        raise SystemExit(
            f"{engine.backend.name} {engine.dtype}, dim {config.dim}, {batch_size} streams: {alike:.1%} of its levels "
            "are the reference's; nothing was timed"
        )


def poison(device: torch.device) -> None:
    """Leave NaN in memory that is handed out next, so that a result that was never written shows."""
    if device.type == "cuda":
        for size in (1 << 12, 1 << 16, 1 << 20, 1 << 24):
            torch.full((size,), float("nan"), device=device)
