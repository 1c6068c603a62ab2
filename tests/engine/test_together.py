"""States of several listeners in one call: each gets the very levels that it would get alone."""

import numpy as np
import pytest
from cases import CASES, PACKED_CASES, make_model

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.state import EngineState
from samplernn_fast.engine.together import run_together, warm_up
from samplernn_fast.errors import CheckpointError
from samplernn_fast.reference.modes import MODES

pytest.importorskip("samplernn_fast._C", reason="the C++ engine is not built")


def listeners(engine: Engine) -> list[EngineState]:
    """States that differ in all that a listener may choose, at times that differ by whole top frames or by less."""
    frame = engine.config.top_frame
    states = [
        engine.init_state(seed=1, temperature=0.5),
        engine.init_state(seed=2**64 - 1, temperature=1.2, top_k=3, first_stream=7),
        engine.init_state(2, seed=3, temperature=[0.0, 1.0], top_p=0.8),
        engine.init_state(seed=1, temperature="0:0.3,0.01:1.5", top_k=5, top_p=0.5),
        engine.init_state(seed=4, prompt=np.arange(2 * frame + 1) % engine.config.q_levels),
    ]
    engine.run(states[1], 3 * frame)
    engine.run(states[3], 1)
    return states


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["paper-3tier", "reset-before-256", "dim-130-lstm", "multi-softmax", "rnn-lstm"])
def test_each_state_gets_what_it_gets_alone(case: str, mode: str) -> None:
    engine = Engine(make_model(PACKED_CASES[case]), backend="cpu", dtype=mode, num_threads=1)
    alone, together = listeners(engine), listeners(engine)
    for n in (engine.config.top_frame, 1, 64):
        expected = [engine.run(state, n) for state in alone]
        made = run_together(engine, together, n)
        assert all(np.array_equal(one, two) for one, two in zip(made, expected, strict=True))
    for one, two in zip(together, alone, strict=True):
        saved, wanted = one.state_dict(), two.state_dict()
        assert all(np.array_equal(h, g) for h, g in zip(saved.pop("hidden"), wanted.pop("hidden"), strict=True))
        assert np.array_equal(saved.pop("history"), wanted.pop("history"))
        assert saved == wanted


def test_they_are_one_call_where_their_frames_begin_together(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, calls = Engine(make_model(CASES["paper-3tier"]), backend="cpu"), []
    states = [engine.init_state(seed=seed) for seed in range(5)]
    engine.run(states[0], engine.config.top_frame)
    engine.run(states[4], 1)
    generate = engine.backend.generate
    monkeypatch.setattr(engine.backend, "generate", lambda *given: (calls.append(len(given[1])), generate(*given))[1])
    run_together(engine, states, 8)
    assert sorted(calls) == [1, 4]
    assert run_together(engine, [], 8) == []


@pytest.mark.parametrize(
    ("mixes", "most", "expected"), [(True, 1, [1, 1]), (True, 5, [1, 5, 4, 2, 1]), (False, 5, [1])]
)
def test_kernels_for_most_states_are_made_ready_first(
    mixes: bool, most: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuBackend, "compiled_here", True)
    monkeypatch.setattr(CpuBackend, "mixes", mixes)
    engine, calls = Engine(make_model(CASES["paper-3tier"]), backend="cpu"), []
    generate = engine.backend.generate
    monkeypatch.setattr(engine.backend, "generate", lambda *given: (calls.append(len(given[1])), generate(*given))[1])
    assert not engine.mixes
    warm_up(engine, most)
    assert calls == expected and engine.mixes == mixes


def test_a_backend_that_does_not_mix_takes_turns() -> None:
    model = make_model(CASES["paper-3tier"])
    engine = Engine(model, backend="reference")
    expected = [engine.run(state, 20) for state in listeners(engine)]
    made = run_together(engine, listeners(engine), 20)
    assert all(np.array_equal(one, two) for one, two in zip(made, expected, strict=True))


def test_a_failure_leaves_the_states_as_they_were() -> None:
    engine = Engine(make_model(CASES["paper-3tier"]), backend="cpu")
    states = [engine.init_state(seed=seed) for seed in range(3)]
    states[1].hidden[0][:] = np.nan
    before = [state.state_dict() for state in states]
    with pytest.raises(CheckpointError, match="not finite"):
        run_together(engine, states, 64)
    for state, old in zip(states, before, strict=True):
        assert state.t == old["t"] == 0
        assert all(np.array_equal(h, g, equal_nan=True) for h, g in zip(state.hidden, old["hidden"], strict=True))
