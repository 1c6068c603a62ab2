"""The triton backend keeps what an engine's state promises: blocks of any size, restarts, streams that do not depend on
each other, forced levels."""

import threading

import numpy as np
import pytest
from cases import random_levels
from triton_device import DEVICE, INTERPRETED, MODELS, engine, model, packed

from samplernn_fast.backends import registry
from samplernn_fast.backends.triton import TritonBackend
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable, CheckpointError, ConfigError
from samplernn_fast.reference.folding import PackedWeights

# Styles whose sums have one order for any number of streams. A library may choose another algorithm for another shape.
ORDERED = ("vector", "tiles")
SMALL, STEPS, CUTS = ("two-levels", 7, (1, 5, 0, 1)) if INTERPRETED else ("paper-3tier", 200, (1, 36, 0, 8, 55, 100))
settings = {"seed": 8, "temperature": [0.5, 1.0]}


def run(sampler, n):
    """n levels of two streams, and the state after them."""
    state = sampler.init_state(2, **settings)
    return sampler.run(state, n), state


def same_states(one, other, rows=slice(None)):
    """Whether the hidden states of `one` have the bits of those streams (rows) of `other`."""
    return all(np.array_equal(mine, theirs[:, rows]) for mine, theirs in zip(one.hidden, other.hidden, strict=True))


@pytest.mark.parametrize("style", ORDERED)
def test_blocks_of_any_size_are_one_run(style):
    sampler = engine(SMALL, style)
    state = sampler.init_state(2, **settings)
    parts = np.concatenate([sampler.run(state, n) for n in CUTS], axis=1)
    whole, after = run(sampler, STEPS)
    assert np.array_equal(parts, whole) and state.t == STEPS and same_states(state, after)


@pytest.mark.parametrize("style", ORDERED)
def test_a_stream_does_not_depend_on_those_beside_it(style):
    sampler = engine(SMALL, style)
    together, after = run(sampler, STEPS)
    for stream in range(2):
        state = sampler.init_state(
            1, **settings | {"temperature": settings["temperature"][stream], "first_stream": stream}
        )
        assert np.array_equal(sampler.run(state, STEPS)[0], together[stream])
        assert same_states(state, after, slice(stream, stream + 1))


def test_a_saved_state_goes_on_in_another_engine(tmp_path):
    sampler = engine(SMALL, "tiles")
    state = sampler.init_state(2, **settings)
    sampler.run(state, 5)  # a time at which no top frame begins
    state.save(tmp_path / "state")
    rest = sampler.run(state, STEPS - 5)
    fresh = Engine.of(model(SMALL), TritonBackend(packed(SMALL), DEVICE, "float32", style="tiles"))
    restored = fresh.init_state(2)
    restored.load(tmp_path / "state")
    assert np.array_equal(fresh.run(restored, STEPS - 5), rest) and same_states(restored, state)


def test_two_threads_share_an_engine():
    sampler = engine("paper-3tier", "library")
    expected = [sampler.run(sampler.init_state(2, seed=seed), STEPS) for seed in range(2)]
    results = {}

    def work(seed):
        results[seed] = sampler.run(sampler.init_state(2, seed=seed), STEPS)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(results[seed], expected[seed]) for seed in range(2))


def test_what_was_drawn_may_be_forced():
    """Some samples are forced in all streams and need no draw, others are forced in one stream only, and a whole period
    lies in between."""
    sampler = engine("paper-3tier", "library")
    levels, _ = run(sampler, 26)
    forced = levels.copy()
    forced[:, 3:6] = -1
    forced[0, 8:17] = -1
    state = sampler.init_state(2, **settings)
    assert np.array_equal(sampler.run(state, 26, forced=forced), levels)
    other = random_levels(MODELS["paper-3tier"], 2, 26)
    assert np.array_equal(sampler.run(sampler.init_state(2, **settings), 26, forced=other), other)


def test_settings_may_change_between_two_runs():
    sampler = engine("paper-3tier", "library")
    state = sampler.init_state(2, seed=1, temperature=0.5)
    first = sampler.run(state, 8)
    state.temperature = [1.5, 0.0]
    state.set_truncation(5, 0.9)
    second = sampler.run(state, 3)
    other = sampler.init_state(2, seed=1, temperature=[1.5, 0.0], top_k=5, top_p=0.9)
    forced = np.concatenate((first, np.full((2, 3), -1)), axis=1)
    assert np.array_equal(sampler.run(other, 11, forced=forced)[:, 8:], second)
    assert not np.array_equal(sampler.run(sampler.init_state(2, seed=1, temperature=0.5), 11)[:, 8:], second)


def test_few_walks_are_kept():
    sampler = engine("paper-3tier", "library")
    for streams in range(1, 8):
        sampler.run(sampler.init_state(streams), 1)
    assert list(sampler.backend._walks) == [4, 5, 6, 7]


def test_long_calls_are_cut_where_the_buffers_end():
    backend = TritonBackend(packed("two-levels"), DEVICE, "float32", style="library")
    sampler = engine("two-levels", "library")
    sampler.backend, whole = backend, sampler.run(sampler.init_state(2, seed=3), 25)
    with backend._alone():
        walk = backend._walk(2)
    walk.columns = 6  # two periods of three samples
    assert np.array_equal(sampler.run(sampler.init_state(2, seed=3), 25), whole)


def test_logits_that_are_not_finite_are_an_error():
    broken = {name: array.copy() for name, array in packed("paper-3tier").arrays.items()}
    broken["mlp.output_bias"][3] = float("nan")
    weights = PackedWeights(packed("paper-3tier").config, broken)
    sampler = Engine.of(model("paper-3tier"), TritonBackend(weights, DEVICE, "float32"))
    with pytest.raises(CheckpointError, match="not finite"):
        sampler.run(sampler.init_state(1), 2)


def test_threads_are_refused_in_one_line():
    with pytest.raises(ConfigError, match="num_threads is for the cpu backend"):
        TritonBackend(packed("two-levels"), DEVICE, "float32", num_threads=2)


def test_where_it_runs():
    reasons = TritonBackend.unavailable_reasons(MODELS["paper-3tier"], DEVICE)
    assert reasons == []
    chosen = registry.resolve("triton", MODELS["paper-3tier"], DEVICE)
    assert chosen is TritonBackend
    if not INTERPRETED:
        with pytest.raises(BackendUnavailable, match="runs on NVIDIA GPUs, not on cpu"):
            registry.resolve("triton", MODELS["paper-3tier"], "cpu")
