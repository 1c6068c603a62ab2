"""What must be right before an engine is timed: its scores, and its draws for the past that it made itself."""

import numpy as np
import torch

from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.first_use import compared_rows
from samplernn_fast.reference import randomness

SCORED_STEPS, SCORED_STREAMS = 64, 2
"""How many samples of how many streams are scored and compared with the reference."""
PARITY_BOUNDS = {"float32": 1e-4, "bfloat16": 0.05, "int8": 0.05, "int4": 0.1}
"""The largest distance between log-probabilities and the reference's in float64. In float32 it is the largest absolute
difference. In modes that round weights it is the root of the mean square, in standard deviations of the
log-probabilities; 8-bit weights of an untrained model make 0.01, 4-bit ones 0.03."""

SEED = 1
DRAWN_STREAMS, AVERAGED_STREAMS, DRAWN_LEVELS = 64, 16, 256
"""How many streams of a batch are compared at most, over how many of them an average is taken, so that one wrong stream
cannot hide in it, and how many levels of them all together are compared at least."""
OUTSIDE = {"float32": 1e-7, "bfloat16": 2e-4, "int8": 1e-3, "int4": 1e-2}
"""How far outside its level a draw may lie in the reference's distribution, on average. Rounded weights move the edges
between levels a little; the draws of a wrong kernel lie some hundredths outside."""
FARTHEST = {"bfloat16": 0.05, "int8": 0.1, "int4": 0.3}
"""The same for the one draw that lies farthest outside, in modes that round weights: seven times the farthest of 2,048
draws on every one of eleven models, the bundled one among them (0.007 and 0.015)."""


class CheckFailed(Exception):
    """An engine does not play the model, so it must not be timed. The message is one line."""


def farthest(dtype: str, q_levels: int) -> float:
    """How far outside its level any one draw may lie. In float32 that follows from what the mode promises: logits are
    off by at most 1e-4, and each level's weight is cut to a multiple of 2^-23 of the largest."""
    return FARTHEST.get(dtype, PARITY_BOUNDS["float32"] + q_levels * 2.0**-23)


def check_scores(engine: Engine, levels: np.ndarray, exact: np.ndarray, streams: int) -> None:
    """CheckFailed where an engine's scores of levels (B, L + T) are not `exact`, the reference's (B, T, Q) in float64.

    streams: the size of a batch that is timed too, so that no kernel is compiled for the check alone.
    """
    compared = min(streams, len(levels))
    scores = engine.score(levels[np.arange(streams) % compared])[:compared]
    gap = difference(scores.astype(np.float64), exact[:compared], engine.dtype)
    if not gap <= PARITY_BOUNDS[engine.dtype]:
        raise CheckFailed(f"scores differ by {gap:.2g} from the reference's; nothing was timed")


def difference(scores: np.ndarray, exact: np.ndarray, dtype: str) -> float:
    """The distance of log-probabilities from the exact ones, in the unit of PARITY_BOUNDS."""
    if dtype == "float32":
        return float(np.abs(scores - exact).max())
    return float(np.sqrt(np.square(scores - exact).mean()) / exact.std(ddof=1))


def check_draws(engine: Engine, exact: Engine, batch_size: int) -> None:
    """CheckFailed where an engine's levels are not those that the reference in float64, `exact`, would draw.

    Every level has an interval of the reference's distribution, given the engine's own past, and its draw must lie in
    it. The distance from the interval is bounded on average and at its worst.
    """
    config, group = engine.config, engine.backend.group_streams(batch_size)
    chosen = np.array(compared_rows(batch_size, group, DRAWN_STREAMS, DRAWN_STREAMS))
    steps = max(DRAWN_LEVELS // len(chosen), 2 * config.lookback)
    poison(engine.device)
    levels = engine.run(engine.init_state(batch_size, seed=SEED), steps)[chosen]
    silence = np.full((len(chosen), config.lookback), config.q_zero)
    shares = np.exp(exact.score(np.concatenate((silence, levels), axis=1)))
    draws = randomness.draws(SEED, chosen.astype(np.uint32), 0, steps) / 2**32
    upper = np.take_along_axis(shares.cumsum(axis=-1), levels[..., None], axis=-1)[..., 0]
    lower = upper - np.take_along_axis(shares, levels[..., None], axis=-1)[..., 0]
    outside = np.maximum(lower - draws, 0) + np.maximum(draws - upper, 0)
    parts = [outside[first : first + AVERAGED_STREAMS] for first in range(0, len(outside), AVERAGED_STREAMS)]
    for what, found, bound in (
        ("lie on average", max(float(part.mean()) for part in parts), OUTSIDE[engine.dtype]),
        ("lie at the farthest", float(outside.max()), farthest(engine.dtype, config.q_levels)),
    ):
        if not found <= bound:
            raise CheckFailed(
                f"{engine.backend.name} {engine.dtype}, {batch_size} streams: its draws {what}"
                f" {found:.2g} of the distribution outside the reference's levels, at most {bound:.2g} was expected;"
                " nothing was timed"
            )


def poison(device: str) -> None:
    """Leaves NaN in GPU memory that is handed out next, so that a result that was never written shows."""
    if device.startswith("cuda"):
        for size in (1 << 12, 1 << 16, 1 << 20, 1 << 24):
            torch.full((size,), float("nan"), device=device)
