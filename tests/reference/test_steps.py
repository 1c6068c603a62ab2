"""The first link of the chain of truth: the sampler's weights and steps equal the training forward."""

import numpy as np
import pytest
import torch
from cases import PACKED_CASES, make_model, random_levels

from samplernn_fast.engine.engine import Engine
from samplernn_fast.importing.parity import step_logits
from samplernn_fast.models.layout import layout
from samplernn_fast.reference import draw, randomness
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.weights import pack

every_case = pytest.mark.parametrize("name", PACKED_CASES)


@every_case
def test_steps_equal_the_training_forward(name):
    config = PACKED_CASES[name]
    model = make_model(config)
    levels = random_levels(config, 3, config.lookback * 4)
    with torch.no_grad():
        expected, _ = model(levels)
    got = step_logits(ReferenceBackend(pack(model), "cpu", "float64"), levels)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


@every_case
def test_score_equals_the_training_forward(name):
    config = PACKED_CASES[name]
    model = make_model(config)
    levels = random_levels(config, 3, config.lookback * 4 + 1)  # T need not be whole frames
    with torch.no_grad():
        padded = torch.nn.functional.pad(levels, (0, config.lookback - 1))
        expected = torch.log_softmax(model(padded)[0], dim=-1)[:, : levels.shape[1] - config.lookback]
    got = torch.from_numpy(Engine(model, dtype="float64").score(levels))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


@every_case
def test_float32_stays_within_its_promise(name):
    config = PACKED_CASES[name]
    model = make_model(config)
    levels = random_levels(config, 3, config.lookback * 4)
    with torch.no_grad():
        expected = torch.log_softmax(model(levels)[0], dim=-1)
    got = torch.from_numpy(Engine(model, dtype="float32").score(levels)).double()
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@every_case
def test_priming_in_parallel_equals_stepping(name):
    config = PACKED_CASES[name]
    model = make_model(config)
    engine = Engine(model, dtype="float64")
    prompt = random_levels(config, 3, config.lookback * 3 + config.lookback // 2 + 1, seed=5)
    primed, stepped = engine.init_state(3), engine.init_state(3)
    engine.run(primed, prompt.shape[1], forced=prompt)
    for t in range(prompt.shape[1]):
        engine.run(stepped, 1, forced=prompt[:, t : t + 1])
    for left, right in zip(primed.hidden, stepped.hidden, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-9)
    assert np.array_equal(engine.run(primed, 40), engine.run(stepped, 40))


@every_case
def test_generated_levels_are_the_draws_of_their_own_logits(name):
    """Sampling freely, then scoring what was made, gives the very levels that the draws select."""
    config = PACKED_CASES[name]
    model = make_model(config)
    engine = Engine(model, dtype="float64")
    state = engine.init_state(2, seed=3)
    levels = engine.run(state, config.lookback * 3)
    silence = np.full((2, config.lookback), config.q_zero)
    logits = torch.from_numpy(engine.score(np.concatenate((silence, levels), axis=1)))
    draws = torch.from_numpy(randomness.draws(3, np.arange(2), 0, levels.shape[1]).astype(np.int64))
    for t in range(levels.shape[1]):
        assert np.array_equal(draw.sample_ref(logits[:, t], draws[:, t], torch.ones(2)).numpy(), levels[:, t])


def test_layout_names_every_packed_tensor_once():
    for config in PACKED_CASES.values():
        names = [field.name for field in layout(config)]
        assert len(names) == len(set(names))
        assert list(pack(make_model(config)).arrays) == names
