"""Many states that play the same model, advanced by the same call of its backend: streams that are computed together
cost less than one after another."""

from collections.abc import Iterable, Sequence

import numpy as np

from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.state import EngineState
from samplernn_fast.reference.randomness import MixedDrawing

_CHECKED = 64  # samples, of which the comparison of a backend's first levels is sure to have enough


def run_together(engine: Engine, states: Sequence[EngineState], n: int) -> list[np.ndarray]:
    """The next n levels of the streams of every state, (B, n) int64 each; advances the states.

    They are those that `engine.run` gives each state alone, whose seed, time and settings stay its own. States whose
    times lie at different places of a top frame, and those on a backend that does not mix streams, take turns.
    Where one fails, all states are left as they were.
    """
    before = [(state.hidden, state.history, state.t) for state in states]
    made: dict[int, np.ndarray] = {}
    try:
        for group in _groups(engine, states):
            if len(group) == 1 or not engine.mixes:
                made |= {id(state): engine.run(state, n) for state in group}
            else:
                made |= zip(map(id, group), _run_mixed(engine, group, n), strict=True)
    except BaseException:
        for state, kept in zip(states, before, strict=True):
            state.hidden, state.history, state.t = kept  # `advance` replaces arrays and changes none
        raise
    return [made[id(state)] for state in states]


def warm_up(engine: Engine, most: int) -> None:
    """Has kernels that are compiled on this machine compiled and checked for up to `most` states together.

    Otherwise all states wait when the number of them grows: seconds for each power of two. The largest number comes
    first: where a GPU refuses its kernels, the backend goes on with another kind, for smaller numbers too.
    """
    if not engine.backend.compiled_here:
        return
    engine.run(engine.init_state(), _CHECKED)
    for power in reversed(range((most - 1).bit_length() + 1 if engine.mixes else 0)):
        run_together(engine, [engine.init_state() for _ in range(min(1 << power, most))], 1)


def _groups(engine: Engine, states: Sequence[EngineState]) -> Iterable[list[EngineState]]:
    """The states whose tiers have frames that begin together."""
    groups: dict[int, list[EngineState]] = {}
    for state in states:
        groups.setdefault(state.t % engine.config.top_frame, []).append(state)
    return groups.values()


def _run_mixed(engine: Engine, states: list[EngineState], n: int) -> list[np.ndarray]:
    hidden = [np.concatenate(tiers, axis=1) for tiers in zip(*(state.hidden for state in states), strict=True)]
    history = np.concatenate([state.history for state in states])
    drawing = MixedDrawing.together([MixedDrawing.of(state.drawing(n), state.t) for state in states])
    levels = engine.generated(hidden, history, states[0].t, drawing, np.full((len(history), n), -1))
    newest = np.concatenate((history, levels), axis=1)[:, -engine.config.lookback :]
    ends = np.cumsum([state.num_streams for state in states])[:-1]
    parts = zip(*(np.split(tier, ends, axis=1) for tier in hidden), strict=True)
    for state, part, past in zip(states, parts, np.split(newest, ends), strict=True):
        state.advance([np.ascontiguousarray(tier) for tier in part], past.copy(), n)
    return np.split(levels, ends)
