"""States of several listeners in one call: each gets the very levels that it would get alone."""

from dataclasses import replace

import numpy as np
import pytest
from cases import CASES, PACKED_CASES, make_model

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.state import EngineState
from samplernn_fast.engine.together import run_together, warm_up
from samplernn_fast.errors import BackendUnavailable, CheckpointError, DeviceError, NotFinite
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


def engine_that_compiles(monkeypatch: pytest.MonkeyPatch, mixes: bool = True) -> tuple[Engine, list[int]]:
    """An engine whose backend seems to compile its kernels, and the streams of each call that it gets."""
    monkeypatch.setattr(CpuBackend, "compiled_here", True)
    monkeypatch.setattr(CpuBackend, "mixes", mixes)
    engine, calls = Engine(make_model(CASES["paper-3tier"]), backend="cpu"), []
    generate = engine.backend.generate
    monkeypatch.setattr(engine.backend, "generate", lambda *given: (calls.append(len(given[1])), generate(*given))[1])
    return engine, calls


@pytest.mark.parametrize(
    ("mixes", "most", "expected"),
    [(True, 1, []), (True, 5, [2, 4, 5]), (False, 5, []), (True, 150, [2, 4, 8, 16, 32, 64, 128])],
)
def test_kernels_for_most_states_are_made_ready_first(
    mixes: bool, most: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, calls = engine_that_compiles(monkeypatch, mixes)
    assert not engine.mixes
    assert warm_up(engine, most) is None
    one_turn = [number for number in expected for _ in range(2)]
    assert [streams for streams in calls if streams > 1] == 2 * one_turn
    assert calls[0] == 1 and engine.mixes == mixes
    if mixes:
        assert engine.most_mixed == min(most, 128)


@pytest.mark.parametrize(
    "failure", [BackendUnavailable("no room"), DeviceError("no answer"), RuntimeError("no memory"), NotFinite]
)
@pytest.mark.parametrize(("refused", "most", "works"), [(6, 8, 4), (3, 5, 2), (2, 5, 1), (9, 8, 8)])
def test_numbers_of_states_without_kernels_are_left_out(
    refused: int, most: int, works: int, failure: Exception | type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, calls = engine_that_compiles(monkeypatch)
    generate = engine.backend.generate

    def fails(*given):
        if 1 << (len(given[1]) - 1).bit_length() >= refused:
            raise failure
        return generate(*given)

    monkeypatch.setattr(engine.backend, "generate", fails)
    found = warm_up(engine, most)
    assert engine.most_mixed == works
    if works == most:
        assert found is None
    else:
        said = "are not what each is alone" if failure is NotFinite else str(failure)
        assert found is not None and found.endswith(said)
    calls.clear()
    states = [engine.init_state(seed=seed) for seed in range(most)]
    made = run_together(engine, states, 20)
    assert max(calls) <= works and sum(calls) == most
    alone = [engine.run(engine.init_state(seed=seed), 20) for seed in range(most)]
    assert all(np.array_equal(one, two) for one, two in zip(made, alone, strict=True))


@pytest.mark.parametrize("what", ["levels", "hidden", "seeds", "streams", "times", "temperature", "top_k", "top_p"])
def test_wrong_kernels_for_several_states_are_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that err in the last call of a comparison only, or take what the first stream has for all."""
    engine, calls = engine_that_compiles(monkeypatch)
    generate = engine.backend.generate

    def errs(hidden, history, t, drawing, forced):
        if len(history) <= 2 or what in ("levels", "hidden"):
            levels = generate(hidden, history, t, drawing, forced)
        else:
            first = getattr(drawing, what)[:1]
            wrong = replace(drawing, **{what: np.repeat(first, len(history), axis=0)})
            levels = generate(hidden, history, t, wrong, forced)
        last = len(history) > 2 and calls.count(len(history)) % 2 == 0
        if last and what == "levels":
            levels[2, -1] ^= 1
        elif last and what == "hidden":
            hidden[-1][:] = hidden[-1][:, [1, 0, *range(2, len(levels))]]
        return levels

    monkeypatch.setattr(engine.backend, "generate", errs)
    assert "4 streams in a call of the cpu backend are not what each is alone" in (warm_up(engine, 8) or "")
    assert engine.most_mixed == 2


def test_a_number_that_fails_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, calls = engine_that_compiles(monkeypatch)
    generate = engine.backend.generate

    def fails(*given):
        levels = generate(*given)
        if len(given[1]) == 4 and calls.count(4) == 1:
            raise DeviceError("another program has the GPU")
        return levels

    monkeypatch.setattr(engine.backend, "generate", fails)
    assert warm_up(engine, 4) is None and engine.most_mixed == 4


def test_a_state_that_is_not_what_it_was_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It happens when the backend took kernels of another kind meanwhile, and those are wrong."""
    engine, calls = engine_that_compiles(monkeypatch)
    generate = engine.backend.generate

    def errs(*given):
        levels = generate(*given)
        return levels ^ 1 if 4 in calls and len(levels) == 1 else levels

    monkeypatch.setattr(engine.backend, "generate", errs)
    with pytest.raises(DeviceError, match="one stream is not what it was"):
        warm_up(engine, 4)


def test_a_call_has_no_more_streams_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, calls = engine_that_compiles(monkeypatch)
    engine.run(engine.init_state(), 64)
    engine.most_mixed = 3
    calls.clear()
    run_together(engine, [engine.init_state(streams) for streams in (1, 1, 2, 5, 1, 2, 1)], 8)
    assert calls == [2, 2, 5, 3, 1]


def test_a_backend_that_does_not_mix_takes_turns() -> None:
    model = make_model(CASES["paper-3tier"])
    engine = Engine(model, backend="reference")
    expected = [engine.run(state, 20) for state in listeners(engine)]
    made = run_together(engine, listeners(engine), 20)
    assert all(np.array_equal(one, two) for one, two in zip(made, expected, strict=True))


def test_a_state_of_another_model_is_refused() -> None:
    mine, other = (Engine(make_model(CASES["paper-3tier"], seed=seed), backend="cpu") for seed in (5, 6))
    states = [mine.init_state(), other.init_state(), mine.init_state()]
    with pytest.raises(CheckpointError, match="it is of another model"):
        run_together(mine, states, 64)
    assert all(state.t == 0 for state in states)


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
