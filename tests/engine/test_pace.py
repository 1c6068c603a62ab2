"""Blocks follow the speed of the machine; the levels do not follow the blocks."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from cases import make_model, random_levels
from engines import MODELS, Sized, every_mode, every_model

from samplernn_fast.engine import pace
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.pace import Pace


class Clock:
    """A clock that stands still unless it is told."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def make(self, subject, streams, samples, seconds):
        with subject.timed(streams, samples):
            self.now += seconds


@pytest.mark.parametrize(("streams", "samples"), [(1, 256), (64, 256), (65, 248), (128, 128), (5000, 8), (10**6, 8)])
def test_the_first_block_of_many_streams_is_short(streams, samples):
    assert Pace(8).samples(streams) == samples


def test_a_block_takes_a_quarter_of_a_second(monkeypatch):
    clock, subject = Clock(monkeypatch), Pace(8)
    assert subject.samples(1) == 256
    clock.make(subject, 1, 256, 0.5)
    assert subject.samples(1) == 128
    clock.make(subject, 1, 128, 2**-11)
    assert subject.samples(1) == 128 << 9
    assert subject.samples(2) == 256  # another number of streams has another speed
    clock.make(subject, 1, 100, 1.0)
    assert subject.samples(1) == 24  # whole top frames
    clock.make(subject, 1, 1, 3600)
    assert subject.samples(1) == 8
    clock.make(subject, 1, 8, 0)
    assert 0 < subject.samples(1) < 10**7


def test_a_block_that_failed_tells_nothing(monkeypatch):
    clock, subject = Clock(monkeypatch), Pace(8)
    clock.make(subject, 1, 256, 0.5)
    with pytest.raises(ValueError, match="no"), subject.timed(1, 8):
        clock.now += 100
        raise ValueError("no")
    assert subject.samples(1) == 128


@pytest.mark.parametrize("speed", [200, 16000, 800_000])
@pytest.mark.parametrize("call", [1, 4000, None], ids=["sample by sample", "short calls", "one call"])
def test_what_a_block_costs_is_a_hundredth(monkeypatch, speed, call):
    """A backend that takes 2 ms for a block beside its samples: the share of them from the fifth block on, and how long
    nobody looks at the keyboard."""
    clock, sampler, blocks = Clock(monkeypatch), Engine(make_model(MODELS["paper-3tier"]), backend="reference"), []

    def generate(hidden, history, t, drawing, forced):
        blocks.append((forced.shape[1], forced.shape[1] / speed))
        clock.now += 0.002 + blocks[-1][1]
        return np.zeros_like(forced)

    monkeypatch.setattr(sampler.backend, "generate", generate)
    state, steps = sampler.init_state(1), 6 * speed
    for _ in range(20 if call else 0):
        blocks.clear()
        sampler.run(state, call)
    if call and speed > 200:  # a caller's own block is kept where it takes no longer
        assert [samples for samples, _ in blocks] == [call]
    blocks.clear()
    assert sampler.run(state, steps).shape == (1, steps)
    seconds = [taken for _, taken in blocks[4:]]
    assert max(seconds) <= 0.5 and 0.002 * len(seconds) < 0.01 * sum(seconds)
    assert sum(taken for _, taken in blocks[:4]) < 2.5


@every_mode
@every_model
def test_levels_do_not_depend_on_the_pace(name, backend, dtype):
    config, sampler = MODELS[name], Engine(make_model(MODELS[name]), backend=backend, dtype=dtype)
    forced = random_levels(config, 2, 200, seed=1).numpy()
    forced[:, ::3] = -1
    forced[:, 40:120] = -1
    forced[1, 150:] = -1
    made = []
    for sizes in ([10**6], [1], [config.lookback], [1, 37, 3, 8], [50]):
        sampler.pace = Sized(*sizes)
        state = sampler.init_state(
            2, seed=1, temperature=lambda seconds: 1 - 0.2 * seconds, top_k=min(20, sampler.config.q_levels)
        )
        made.append(np.concatenate((sampler.run(state, 200, forced=forced), sampler.run(state, 77)), axis=1))
        assert sampler.pace.asked > 200 / max(sizes)
    assert all(np.array_equal(*pair) for pair in itertools.pairwise(made))


def test_a_slow_function_of_temperature_counts(monkeypatch):
    clock, sampler = Clock(monkeypatch), Engine(make_model(MODELS["paper-3tier"]), backend="reference")
    monkeypatch.setattr(sampler.backend, "generate", lambda *arguments: np.zeros_like(arguments[-1]))

    def temperature(seconds):
        clock.now += 2**-10
        return 1.0

    sampler.run(sampler.init_state(1, temperature=temperature), 256)
    assert sampler.pace.samples(1) == 256  # a quarter of a second


@pytest.mark.parametrize("forced", [False, True], ids=["drawn", "known"])
@every_mode
def test_an_interrupted_run_leaves_a_whole_state(backend, dtype, forced, monkeypatch):
    """Ctrl-C during a native call is raised as soon as the call returns: what it made is not taken over by half."""
    config = MODELS["paper-3tier"]
    sampler, name = Engine(make_model(config), backend=backend, dtype=dtype), "prime" if forced else "generate"
    sampler.pace, right, calls = Sized(16), getattr(sampler.backend, name), itertools.count()
    known = random_levels(config, 2, 64, seed=1).numpy() if forced else None
    expected = sampler.init_state(2, seed=1)
    wanted = np.concatenate((sampler.run(expected, 64, forced=known), sampler.run(expected, 40)), axis=1)

    def interrupted(*arguments):
        made = right(*arguments)
        if forced or next(calls) == 2:
            raise KeyboardInterrupt
        return made

    state = sampler.init_state(2, seed=1)
    monkeypatch.setattr(sampler.backend, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        sampler.run(state, 64, forced=known)
    monkeypatch.setattr(sampler.backend, name, right)
    assert state.t == (0 if forced else 32)
    rest = None if known is None else known[:, state.t :]
    again = np.concatenate((sampler.run(state, 64 - state.t, forced=rest), sampler.run(state, 40)), axis=1)
    assert np.array_equal(again, wanted[:, 104 - again.shape[1] :])
