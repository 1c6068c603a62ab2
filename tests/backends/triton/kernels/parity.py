"""Scores, states and levels of the triton backend equal the reference in float64, for every shape in cases.py."""

import numpy as np
import pytest
import torch
from cases import random_levels
from mode_oracle import mode_logits
from triton_device import DEVICE, DTYPES, INTERPRETED, MODELS, STYLES, engine, every_style, exact, packed

from samplernn_fast.backends.triton import TritonBackend

NAMES = list(MODELS)
# Each shape runs in one style, in turn, because the interpreter is slow, and on a GPU every shape is compiled.
TURNS = [(name, STYLES[at % 3]) for at, name in enumerate(NAMES)]
WIDE = {"dim-130-lstm", "reset-before-256"}  # shapes that the interpreter is slowest with
EVERYWHERE = [(name, style) for name in ("paper-3tier", "theano-lstm-skips") for style in STYLES]
STREAMS = 2 if INTERPRETED else 3
every_turn = pytest.mark.parametrize(("name", "style"), sorted({*TURNS, *EVERYWHERE}))


@every_turn
def test_scores_and_states_equal_the_reference(name, style):
    config = MODELS[name]
    levels = random_levels(config, STREAMS, config.lookback * (2 if INTERPRETED else 5)).numpy()
    wanted, hidden = exact(name).score(levels), exact(name).backend.init_hidden(STREAMS)
    exact(name).backend.prime(hidden, *np.split(levels, [config.lookback], axis=1))
    backend = engine(name, style).backend
    mine = backend.init_hidden(STREAMS)
    scores = backend.score(mine, levels)
    torch.testing.assert_close(scores.astype(np.float64), wanted, rtol=0, atol=1e-4)
    for one, other in zip(mine, hidden, strict=True):
        torch.testing.assert_close(one.astype(np.float64), other, rtol=0, atol=1e-5)


@every_turn
def test_levels_and_states_of_a_run_equal_the_reference(name, style):
    """A run of single steps, whole periods (replayed, on a GPU) and single steps again, with some levels forced."""
    config = MODELS[name]
    lookback = config.lookback
    steps = (4 if name in WIDE else min(lookback + 3, 11)) if INTERPRETED else 3 * lookback + 5
    prompt = random_levels(config, STREAMS, 3 + lookback, seed=5)[:, lookback:]
    forced = random_levels(config, STREAMS, steps, seed=4)
    forced[torch.rand(forced.shape, generator=torch.Generator().manual_seed(1)) < 0.7] = -1
    settings = {"seed": 2**63 + 3, "temperature": [0.7, 1.3, 0.0][:STREAMS], "first_stream": 7, "prompt": prompt}
    slow, fast = exact(name), engine(name, style)
    state, mine = slow.init_state(STREAMS, **settings), fast.init_state(STREAMS, **settings)
    wanted, levels = slow.run(state, steps, forced=forced), fast.run(mine, steps, forced=forced)
    assert np.array_equal(levels, wanted)
    for one, other in zip(mine.hidden, state.hidden, strict=True):
        torch.testing.assert_close(one.astype(np.float64), other, rtol=0, atol=1e-5)


def test_states_stay_on_the_device_between_two_calls():
    """A memory that was kept is as it was, whatever the device has made of it since."""
    slow, fast = exact("paper-3tier"), engine("paper-3tier", STYLES[-1])
    state, mine = slow.init_state(STREAMS, seed=1), fast.init_state(STREAMS, seed=1)
    for steps in (3, 2):
        assert np.array_equal(fast.run(mine, steps), slow.run(state, steps))
    memory, other = mine.memory(), state.memory()
    assert all(isinstance(one, torch.Tensor) and one.device.type == DEVICE for one in memory.hidden)
    expected = slow.run(state, 5)
    assert np.array_equal(fast.run(mine, 5), expected)
    for one, kept in zip(memory.arrays, other.arrays, strict=True):
        torch.testing.assert_close(one.astype(np.float64), kept, rtol=0, atol=1e-5)
    mine.recall(memory, go_back=True)
    assert np.array_equal(fast.run(mine, 5), expected)


@every_style
def test_a_batch_that_fills_no_block(style):
    """37 streams are two tiles, of which the second one is not full. The interpreter gets fewer in style "vector",
    because it is slow."""
    batch, steps = (5, 2) if style == "vector" and INTERPRETED else (37, 5)
    slow, fast = exact("paper-3tier"), engine("paper-3tier", style)
    state, mine = slow.init_state(batch, seed=1), fast.init_state(batch, seed=1)
    assert np.array_equal(fast.run(mine, steps), slow.run(state, steps))


@pytest.mark.skipif(INTERPRETED, reason="Triton's interpreter rounds bfloat16 wrongly")
@every_turn
def test_bfloat16_computes_what_it_defines(name, style):
    """Matrices and inputs of products are rounded to bfloat16, and sums are float32. The bounds are those of
    tests/backends/cpu/test_modes.py."""
    config = MODELS[name]
    levels = random_levels(config, 3, config.lookback * 4, seed=1)
    backend = TritonBackend(packed(name), DEVICE, "bfloat16", style=style)
    scores = torch.from_numpy(backend.score(backend.init_hidden(3), levels.numpy())).double()
    worst = (scores - torch.log_softmax(mode_logits(packed(name), "bfloat16", levels), dim=-1)).abs().amax(dim=-1)
    assert torch.quantile(worst.flatten(), 0.1) < 1e-4
    assert worst.max() < 0.15


@pytest.mark.skipif(INTERPRETED, reason="needs a GPU: the interpreter is too slow for many streams")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 7, 8, 15, 16, 127, 128, 4096])
def test_every_number_of_streams(batch, dtype):
    """Forcing levels that were drawn changes nothing, and scores are right, in each style that `style_for` chooses."""
    name, steps = "dim-96", 64
    fast = engine(name, "", dtype)
    levels = fast.run(fast.init_state(batch, seed=4), steps)
    both = np.concatenate((np.full((batch, 4), fast.config.q_zero), levels), axis=1)
    forced = np.where(np.arange(steps) % 2 == 0, -1, levels)  # no whole frame, because it would be primed
    other = fast.run(fast.init_state(batch, seed=4), steps, forced=forced)
    assert np.array_equal(other, levels)
    if dtype == "float32":
        wanted = exact(name).score(both[:8])
        torch.testing.assert_close(fast.score(both[:8]).astype(np.float64), wanted, rtol=0, atol=1e-4)
