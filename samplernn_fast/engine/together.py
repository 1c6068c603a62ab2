"""Many states that play the same model, advanced by the same call of its backend: streams that are computed together
cost less than one after another."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.memory import arrays_of
from samplernn_fast.engine.state import EngineState
from samplernn_fast.errors import CheckpointError, DeviceError, as_ours
from samplernn_fast.reference.randomness import MixedDrawing

_FIRST_SAMPLES = 64  # the comparison of a backend's first levels is sure to have enough of them
_MOST_MIXED = 128  # streams; kernels for the next number would make 256 rows, which cost about two calls of 128


def run_together(engine: Engine, states: Sequence[EngineState], n: int) -> list[np.ndarray]:
    """The next n levels of the streams of every state, (B, n) int64 each; advances the states.

    They are those that `engine.run` gives each state alone, whose seed, time and settings stay its own. States whose
    times lie at different places of a top frame, and those on a backend that does not mix streams, take turns.
    Where one fails, all states are left as they were.
    """
    before = [state.memory() for state in states]
    made: dict[int, np.ndarray] = {}
    try:
        for group in _groups(engine, states):
            if len(group) == 1 or not engine.mixes:
                made |= {id(state): engine.run(state, n) for state in group}
            else:
                made |= zip(map(id, group), _run_mixed(engine, group, n), strict=True)
    except BaseException:
        for state, kept in zip(states, before, strict=True):
            state.recall(kept, go_back=True)
        raise
    return [made[id(state)] for state in states]


def warm_up(engine: Engine, most: int) -> str | None:
    """Has kernels that are compiled on this machine compiled and checked for up to `most` states together.

    Otherwise all states wait when the number of them grows: seconds for each power of two. The levels of one state are
    compared with plain torch, those of 2, 4, ... states with what each gets alone. Returns None, or why a number cannot
    share a call: it has no kernels, or they fail or are wrong. `engine.most_mixed` is then less than that number.
    Raises what `Engine.run` raises where one state alone cannot be played.
    """
    if not engine.backend.compiled_here:
        return None
    engine.run(engine.init_state(), _FIRST_SAMPLES)
    if not engine.mixes:
        return None
    most = engine.most_mixed = min(most, _MOST_MIXED)
    alone = [_trial(engine, [seed])[0] for seed in range(most)]
    numbers = [min(1 << power, most) for power in range((most - 1).bit_length() + 1)]
    found = None
    # A GPU that refuses the kernels of one number gets another kind, also for numbers that had their turn before.
    for number in numbers * 2:
        if number > engine.most_mixed:
            continue
        # Another program may have had the GPU for a moment, so a number has a second chance.
        trouble = _trouble(engine, alone[:number]) and _trouble(engine, alone[:number])
        if trouble and number == 1:
            raise DeviceError(f"one stream is not what it was a moment ago: {trouble}")
        if trouble:
            found, engine.most_mixed = trouble, 1 << (number - 1).bit_length() - 1
    return found


class _Trial(NamedTuple):
    """It holds what a state made, and its hidden states behind that."""

    levels: np.ndarray
    """(n,) int64."""
    hidden: list[np.ndarray]


def _trial(engine: Engine, seeds: Sequence[int]) -> list[_Trial]:
    """Advances states together that differ in all that a listener chooses; every second one began earlier."""
    frame, levels = engine.config.top_frame, engine.config.q_levels
    states = []
    for seed in seeds:
        top_k, top_p = levels // 2 if seed % 2 else None, 0.9 if seed % 3 else None
        states.append(engine.init_state(1, seed, 0.5 + seed % 8 / 8, top_k, top_p, first_stream=seed))
        if seed % 2:
            engine.run(states[-1], frame)
    # The second call goes on from hidden states that no two of the states share.
    first, second = (run_together(engine, states, samples) for samples in (frame + 1, frame))
    heard = [np.concatenate(both, axis=1)[0] for both in zip(first, second, strict=True)]
    return [_Trial(levels, state.hidden) for levels, state in zip(heard, states, strict=True)]


def _trouble(engine: Engine, alone: list[_Trial]) -> str | None:
    """Why so many states cannot share a call; None where each gets what it gets alone, bit for bit."""
    try:
        together = _trial(engine, range(len(alone)))
    except CheckpointError:  # alone each of them is finite, so it is not the model
        together = []
    except Exception as error:  # torch and the system have errors of their own
        return str(as_ours(error))
    if together and all(_equal(one, two) for one, two in zip(together, alone, strict=True)):
        return None
    return f"{len(alone)} streams in a call of the {engine.backend.name} backend are not what each is alone"


def _equal(one: _Trial, two: _Trial) -> bool:
    hidden = zip(one.hidden, two.hidden, strict=True)
    return np.array_equal(one.levels, two.levels) and all(np.array_equal(h, g) for h, g in hidden)


def _groups(engine: Engine, states: Sequence[EngineState]) -> Iterator[list[EngineState]]:
    """The states of each call: those whose tiers have frames that begin together, and no more than a call may have."""
    groups: dict[int, list[EngineState]] = {}
    for state in states:
        groups.setdefault(state.t % engine.config.top_frame, []).append(state)
    for group in groups.values():
        first = streams = 0
        for place, state in enumerate(group):
            streams += state.num_streams
            if streams > engine.most_mixed and place > first:
                yield group[first:place]
                first, streams = place, state.num_streams
        yield group[first:]


def _run_mixed(engine: Engine, states: list[EngineState], n: int) -> list[np.ndarray]:
    for state in states:
        engine.check_state(state)
    tiers = zip(*(arrays_of(state.kept) for state in states), strict=True)
    hidden = [np.concatenate(tier, axis=1, dtype=engine.state_dtype, casting="same_kind") for tier in tiers]
    history = np.concatenate([state.history for state in states])
    drawing = MixedDrawing.together([MixedDrawing.of(state.drawing(n), state.t) for state in states])
    levels = engine.generated(hidden, history, states[0].t, drawing, np.full((len(history), n), -1))
    newest = engine.newest_of(history, levels)
    ends = np.cumsum([state.num_streams for state in states])[:-1]
    parts = zip(*(np.split(tier, ends, axis=1) for tier in hidden), strict=True)
    for state, part, past in zip(states, parts, np.split(newest, ends), strict=True):
        # Copies, because whoever keeps the memory of one state would keep the whole call's arrays otherwise.
        state.advance([tier.copy() for tier in part], past.copy(), n)
    return np.split(levels, ends)
