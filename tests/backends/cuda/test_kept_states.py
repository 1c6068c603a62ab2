"""Between two calls a GPU keeps hidden states in its own memory; all that asks for them gets arrays."""

import copy
import pickle

import numpy as np
import pytest
from cases import make_model
from engines import MODELS
from played_gpu import engines
from small import assert_one_line
from torch import Tensor

from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.together import run_together, warm_up
from samplernn_fast.errors import CheckpointError, DeviceError

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")


def are_tensors(state):
    return all(isinstance(one, Tensor) for one in state.memory().hidden)


def both(streams=3):
    """An engine on the GPU and the reference, each with a state of some streams that has made some samples."""
    pairs = [(sampler, sampler.init_state(streams, seed=4, temperature=0.8)) for sampler in engines()]
    levels = [sampler.run(state, 21) for sampler, state in pairs]
    assert np.array_equal(*levels)
    return pairs


def test_a_call_goes_on_from_what_the_last_one_left_on_the_gpu(gpu):
    (engine, state), (exact, wanted) = both()
    assert are_tensors(state) and state.memory().hidden[0].shape == (1, 3, engine.config.dim)
    given, generate = [], engine.backend.generate
    engine.backend.generate = lambda hidden, *rest: (given.append(hidden[0]), generate(hidden, *rest))[1]
    kept = state.memory().hidden[0]
    assert np.array_equal(engine.run(state, 30), exact.run(wanted, 30))
    assert given[0] is kept and are_tensors(state)
    forced = np.full((3, 8), 2)  # whole top frames, which are primed
    assert np.array_equal(engine.run(state, 8, forced=forced), exact.run(wanted, 8, forced=forced))
    assert np.array_equal(engine.run(state, 30), exact.run(wanted, 30))
    assert are_tensors(state)
    for mine, theirs in zip(state.hidden, wanted.hidden, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)


def test_a_state_of_fewer_streams_than_the_kernel_makes(cluster_gpu):
    """Two clusters make four streams each, so five streams have three more beside them."""
    (engine, state), (exact, wanted) = both(5)
    assert engine.backend.launcher.program(5).group.streams > 5
    assert np.array_equal(engine.run(state, 30), exact.run(wanted, 30))
    assert are_tensors(state) and {one.shape[1] for one in state.memory().hidden} == {5}
    for mine, theirs in zip(state.hidden, wanted.hidden, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)


def test_a_state_that_is_refused_leaves_the_tensors_where_they_are(gpu):
    (_, state), _ = both()
    before = state.memory().hidden
    with pytest.raises(CheckpointError, match="history"):
        state.load_state_dict(state.state_dict() | {"history": None})
    assert state.memory().hidden is before


def test_a_gpu_that_gives_nothing_back_is_told_in_one_line(gpu, monkeypatch):
    (_, state), _ = both()

    def dead(*_):
        raise RuntimeError("CUDA error: unspecified launch failure\nmore lines")

    monkeypatch.setattr(Tensor, "cpu", dead)
    for ask in (lambda: state.hidden, state.state_dict):
        with pytest.raises(DeviceError, match="does not give the hidden states back") as caught:
            ask()
        assert_one_line(caught)


def test_whoever_changes_the_arrays_is_heard(gpu):
    (engine, state), (exact, wanted) = both()
    for one in (state, wanted):
        one.hidden[1][:, 1] = 0.5
    assert np.array_equal(engine.run(state, 30), exact.run(wanted, 30))
    assert are_tensors(state)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))])
def test_a_copy_holds_arrays_and_goes_on_anywhere(gpu, copied):
    (engine, state), (exact, wanted) = both()
    other = copied(state)
    assert are_tensors(state) and all(isinstance(one, np.ndarray) for one in other.memory().hidden)
    expected = exact.run(wanted, 30)
    assert np.array_equal(engine.run(state, 30), expected)
    elsewhere = copy.deepcopy(other)
    assert np.array_equal(engine.run(other, 30), expected)
    assert np.array_equal(exact.run(elsewhere, 30), expected)


def test_a_state_goes_from_a_gpu_to_the_cpu_and_back(gpu):
    (engine, state), (exact, wanted) = both()
    on_cpu = Engine(make_model(MODELS["paper-3tier"]), backend="cpu", dtype="float32")
    for sampler in (on_cpu, engine, exact, engine):
        assert np.array_equal(sampler.run(state, 19), exact.run(wanted, 19))


def test_an_earlier_memory_is_as_it_was(gpu):
    (engine, state), _ = both()
    memory, first = state.memory(), engine.run(state, 30)
    hidden = [np.array(one) for one in memory.arrays]
    state.recall(memory, go_back=True)
    assert np.array_equal(engine.run(state, 30), first)
    assert all(np.array_equal(one, other) for one, other in zip(memory.arrays, hidden, strict=True))
    assert memory.nbytes == memory.history.nbytes + sum(one.nbytes for one in hidden)


def test_a_call_that_fails_leaves_the_state_where_it_was(gpu):
    (engine, state), (exact, wanted) = both()
    memory = state.memory()
    gpu.fail("cuLaunchKernelEx", 719)
    with pytest.raises(DeviceError):
        engine.run(state, 30)
    gpu.succeed()
    assert all(one is other for one, other in zip(state.memory().hidden, memory.hidden, strict=True))
    assert np.array_equal(engine.run(state, 30), exact.run(wanted, 30))


def test_states_that_ran_alone_share_a_call_and_part_again(gpu):
    engine, exact = engines()
    warm_up(engine, 2)
    made = []
    for sampler in (engine, exact):
        states = [sampler.init_state(seed=seed) for seed in (1, 2)]
        parts = [[sampler.run(state, 8) for state in states]]
        parts += [run_together(sampler, states, 16), [sampler.run(state, 8) for state in states]]
        made.append(np.concatenate([np.concatenate(part) for part in parts], axis=1))
    assert np.array_equal(*made)
