"""A backend that makes levels which are not the model's is found out before anybody hears them."""

import copy
import itertools
import threading

import numpy as np
import pytest
import torch
from cases import CASES, make_model
from small import assert_one_line

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.first_use import compared_rows
from samplernn_fast.errors import DeviceError
from samplernn_fast.reference.backend import ReferenceBackend


@pytest.fixture
def sampler(monkeypatch):
    """An engine whose backend counts as compiled on this machine."""
    monkeypatch.setattr(ReferenceBackend, "compiled_here", True)
    return Engine(make_model(CASES["paper-3tier"], dtype=torch.float32), backend="reference", device="cpu")


@pytest.mark.parametrize("settings", [{}, {"temperature": [0.7, 0.0]}, {"top_k": 5, "top_p": 0.9}])
def test_right_levels_pass_and_are_checked_once(sampler, settings):
    plain = copy.copy(sampler)
    plain._first_use = None
    wanted = plain.run(plain.init_state(2, seed=3, **settings), 100)
    assert sampler._first_use is not None
    assert np.array_equal(sampler.run(sampler.init_state(2, seed=3, **settings), 100), wanted)
    assert sampler._first_use is None


def test_few_or_forced_samples_leave_it_for_later(sampler):
    state = sampler.init_state(1, prompt=np.zeros(16, np.int64))
    sampler.run(state, 4)
    sampler.run(state, 60, forced=np.where(np.arange(60) % 20, 1, -1)[None])
    assert sampler._first_use is not None
    sampler.run(state, 40)
    assert sampler._first_use is None


def test_many_small_blocks_are_checked_together(sampler):
    state = sampler.init_state(1)
    for block in range(10):
        assert (sampler._first_use is None) == (block >= 2)  # eight samples are enough
        sampler.run(state, 4)


def test_threads_may_make_the_first_levels_at_once(sampler, monkeypatch):
    plain = copy.copy(sampler)
    plain._first_use = None
    wanted = [plain.run(plain.init_state(1, seed=seed), 40) for seed in range(3)]
    made, right, together = {}, sampler.backend.generate, threading.Barrier(3)

    def generate(*arguments):
        levels = right(*arguments)
        together.wait(60)  # all are checked at the same time
        return levels

    monkeypatch.setattr(sampler.backend, "generate", generate)

    def work(seed):
        made[seed] = sampler.run(sampler.init_state(1, seed=seed), 40)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [seed for seed in range(3) if seed in made and np.array_equal(made[seed], wanted[seed])] == [0, 1, 2]
    assert sampler._first_use is None


@pytest.mark.parametrize("settings", [{}, {"temperature": [0.7, 0.0, 0.2]}, {"top_k": 5}, {"top_p": 0.5}])
@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
@pytest.mark.parametrize("name", ["paper-3tier", "theano-lstm-skips", "prism-skips"])
def test_rounded_weights_of_an_untrained_model_pass(name, dtype, settings, monkeypatch):
    """Its levels are nearly equally likely, so rounding draws another one often."""
    monkeypatch.setattr(CpuBackend, "compiled_here", True)
    sampler = Engine(make_model(CASES[name], dtype=torch.float32), backend="cpu", dtype=dtype, device="cpu")
    assert sampler._first_use is not None
    sampler.run(sampler.init_state(3, seed=2, **settings), 64)
    assert sampler._first_use is None


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
@pytest.mark.parametrize("settings", [{}, {"top_k": 5}])
def test_wrong_weights_are_found_in_modes_that_round(dtype, settings, monkeypatch):
    monkeypatch.setattr(CpuBackend, "compiled_here", True)
    model, other = (make_model(CASES["paper-3tier"], dtype=torch.float32, seed=seed) for seed in (0, 1))
    sampler = Engine(model, backend="cpu", dtype=dtype, device="cpu")
    sampler.backend = Engine(other, backend="cpu", dtype=dtype, device="cpu").backend
    with pytest.raises(DeviceError, match="are not the model's"):
        sampler.run(sampler.init_state(3, seed=2, **settings), 64)


@pytest.mark.parametrize("what", ["draws", "weights", "hidden"])
def test_wrong_levels_are_an_error(sampler, what, monkeypatch):
    right = sampler.backend.generate
    if what == "weights":
        sampler.backend.weights.tensors["mlp.output"].neg_()

    def wrong(hidden, history, t, drawing, forced):
        if what == "hidden":
            hidden[:] = [1 - 3 * h for h in hidden]
        return right(hidden, history, t + (what == "draws") * sampler.config.lookback, drawing, forced)

    monkeypatch.setattr(sampler.backend, "generate", wrong)
    state = sampler.init_state(2)
    before = [h.copy() for h in state.hidden]
    with pytest.raises(
        DeviceError, match=r"the reference backend made levels that are not the model's: \d+ of 128"
    ) as caught:
        sampler.run(state, 200)
    assert_one_line(caught)
    assert state.t == 0
    assert all(np.array_equal(h, old) for h, old in zip(state.hidden, before, strict=True))


def test_streams_of_the_whole_batch_are_compared():
    assert compared_rows(1, 1) == [0]
    assert compared_rows(3, 3) == [0, 1, 2]
    assert compared_rows(50, 50) == list(range(50))
    chosen = compared_rows(4096, 4096)
    assert len(set(chosen)) == 64 and (chosen[0], chosen[-1]) == (0, 4095)
    assert max(later - former for former, later in itertools.pairwise(chosen)) < 80


def test_both_ends_of_every_group_are_compared():
    chosen = compared_rows(1021, 11)
    assert len(chosen) == 2 * 93
    assert set(chosen) >= {0, 10, 11, 21, 22, 1011, 1012, 1020}
    thinned = compared_rows(4096, 8, 64, 64)  # more ends than there is room for
    assert len(set(thinned)) == 64 and (thinned[0], thinned[-1]) == (0, 4095)
    assert {row % 8 for row in thinned} == {0, 7}


@pytest.mark.parametrize("wrong", [0, 129, 599])
def test_one_wrong_stream_of_many_is_found(sampler, wrong, monkeypatch):
    right = sampler.backend.generate

    def generate(hidden, history, t, drawing, forced):
        levels = right(hidden, history, t, drawing, forced).copy()
        levels[wrong] = (levels[wrong] + 100) % sampler.config.q_levels
        return levels

    monkeypatch.setattr(sampler.backend, "generate", generate)
    monkeypatch.setattr(sampler.backend, "group_streams", lambda streams: 130)
    with pytest.raises(DeviceError, match=rf"[01] of 16 of stream {wrong} are as plain torch draws them"):
        sampler.run(sampler.init_state(600, seed=3), 16)
