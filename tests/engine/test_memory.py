"""`EngineState.memory` and `recall`: what a model remembers, kept without copies and given back."""

import copy
import threading
import time

import numpy as np
import pytest
from engines import engine

from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.together import run_together
from samplernn_fast.errors import CheckpointError, ConfigError

BACKENDS = [("cpu", "float32"), ("reference", "float64")]


@pytest.fixture(params=BACKENDS, ids=[name for name, _ in BACKENDS])
def sampler(request):
    return engine(backend=request.param[0], dtype=request.param[1])


def test_a_memory_keeps_what_it_had(sampler):
    state = sampler.init_state(2, seed=3)
    sampler.run(state, 9)
    memory, expected = state.memory(), sampler.run(state, 20)
    kept = copy.deepcopy(memory.arrays)
    state.recall(memory, go_back=True)
    state.hidden[0][:] = 0.5
    sampler.run(state, 5)
    assert all(np.array_equal(one, other) for one, other in zip(memory.arrays, kept, strict=True))
    state.recall(memory, go_back=True)
    assert state.t == 9 and np.array_equal(sampler.run(state, 20), expected)


def test_what_readers_change_is_heard_and_changes_no_memory(sampler):
    state, other = (sampler.init_state(2, seed=3) for _ in range(2))
    for one in (state, other):
        sampler.run(one, 8)
    before = state.memory()
    arrays = state.hidden
    after = state.memory()
    kept = [copy.deepcopy(memory.arrays) for memory in (before, after)]
    copied, saved = copy.copy(state), state.state_dict()
    arrays[0][:] = 0.5
    other.hidden[0][:] = 0.5
    for memory, expected in zip((before, after), kept, strict=True):
        assert all(np.array_equal(one, wanted) for one, wanted in zip(memory.arrays, expected, strict=True))
    assert not np.array_equal(copied.hidden[0], arrays[0]) and not np.array_equal(saved["hidden"][0], arrays[0])
    assert state.hidden is arrays
    assert np.array_equal(sampler.run(state, 20), sampler.run(other, 20))


def test_a_memory_without_its_time_draws_other_numbers(sampler):
    state, frame = sampler.init_state(2, seed=3), sampler.config.top_frame
    memory, first = state.memory(), sampler.run(state, 3 * frame)
    state.recall(memory)
    assert state.t == 3 * frame
    again = sampler.run(state, 3 * frame)
    assert not np.array_equal(again, first)
    other = sampler.init_state(2, seed=3)
    other.t = 3 * frame
    assert np.array_equal(sampler.run(other, 3 * frame), again)


def test_memories_that_do_not_fit_are_refused(sampler):
    state, frame = sampler.init_state(2), sampler.config.top_frame
    sampler.run(state, frame + 1)
    before, expected = state.memory(), sampler.run(copy.deepcopy(state), 20)
    with pytest.raises(CheckpointError, match="number of streams"):
        state.recall(sampler.init_state(3).memory())
    with pytest.raises(
        CheckpointError,
        match=f"{frame + 1} samples away, which is no multiple of a top frame's {frame}; with go_back=True",
    ):
        state.recall(sampler.init_state(2).memory())
    for wrong in (None, "x", {}, (before.hidden, before.history, 0)):
        with pytest.raises(ConfigError, match=r"^recall: memory must be what"):
            state.recall(wrong)
    assert state.memory().hidden is before.hidden and np.array_equal(sampler.run(state, 20), expected)


def test_the_arrays_stay_the_same_until_the_state_moves_on(sampler):
    state = sampler.init_state(2)
    sampler.run(state, 8)
    assert state.hidden is state.hidden
    kept = state.hidden
    sampler.run(state, 8)
    assert state.hidden is not kept


def test_what_is_saved_changes_with_nothing(sampler):
    state = sampler.init_state(2)
    sampler.run(state, 8)
    saved = state.state_dict()
    before = copy.deepcopy(saved["hidden"])
    state.hidden[0][:] = 0.5
    assert all(np.array_equal(one, other) for one, other in zip(saved["hidden"], before, strict=True))


def test_a_thread_that_looks_on_changes_no_sound(sampler):
    def play(watched):
        state, ended = sampler.init_state(1, seed=5), threading.Event()

        def look():
            while not ended.is_set():
                assert len(state.hidden) == len(state.memory().arrays)
                time.sleep(1e-4)

        watcher = threading.Thread(target=look)
        if watched:
            watcher.start()
        levels = []
        for _ in range(100):
            levels.append(sampler.run(state, 8))
            time.sleep(0)
        ended.set()
        if watched:
            watcher.join()
        return np.concatenate(levels, axis=1)

    assert np.array_equal(play(True), play(False))


def test_states_go_back_where_a_later_group_fails(monkeypatch):
    sampler: Engine = engine(backend="cpu", dtype="float32")
    states = [sampler.init_state(seed=seed) for seed in range(2)]
    sampler.run(states[1], 1)  # so that each is a group of its own
    before, made = [state.memory() for state in states], []
    run = sampler.run

    def fails_second(state, n):
        if made:
            raise MemoryError
        made.append(state)
        return run(state, n)

    monkeypatch.setattr(sampler, "run", fails_second)
    with pytest.raises(MemoryError):
        run_together(sampler, states, 16)
    assert made == [states[0]] and [state.t for state in states] == [0, 1]
    assert all(state.memory().hidden is one.hidden for state, one in zip(states, before, strict=True))


def test_a_state_that_shared_a_call_keeps_its_own_part_alone():
    sampler = engine(backend="cpu", dtype="float32")
    states = [sampler.init_state(seed=seed) for seed in range(3)]
    run_together(sampler, states, 16)
    assert all(one.base is None for state in states for one in (*state.memory().hidden, state.history))


def test_a_state_goes_back_behind_its_prompt(sampler):
    state = sampler.init_state(1, prompt=np.arange(20) % 64)
    state.recall(sampler.init_state(1).memory(), go_back=True)
    assert state.t == 0
    sampler.init_state(1).load_state_dict(state.state_dict())
