"""The second link of the chain of truth, for C++: the cpu backend equals the reference."""

import numpy as np
import pytest
import torch
from cases import PACKED_CASES, make_model, random_levels

from samplernn_fast.engine.engine import Engine
from samplernn_fast.models.layout import layout, packed_hidden
from samplernn_fast.reference.weights import pack

_C = pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

from samplernn_fast.backends.cpu import CpuBackend, model_dims  # noqa: E402

every_case = pytest.mark.parametrize("name", PACKED_CASES)
every_isa = pytest.mark.parametrize("isa", _C.available_isas())


def test_layout_equals_the_table_of_weights():
    for config in PACKED_CASES.values():
        ours = [(field.name, list(field.shape)) for field in layout(config)]
        assert _C.layout_fields(model_dims(config)) == ours, packed_hidden(config)


@every_isa
@every_case
def test_scores_equal_the_reference(name, isa):
    config = PACKED_CASES[name]
    model = make_model(config)
    levels = random_levels(config, 3, config.lookback * 5).numpy()
    exact = Engine(model, backend="reference", dtype="float64")
    expected = exact.score(levels).astype(np.float32)
    backend = CpuBackend(pack(model), "cpu", "float32", isa=isa)
    hidden = backend.init_hidden(3)
    got = backend.score(hidden, levels)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    primed = exact.backend.init_hidden(3)
    exact.backend.prime(primed, *np.split(levels, [config.lookback], axis=1))
    for mine, theirs in zip(hidden, primed, strict=True):
        torch.testing.assert_close(mine, theirs.astype(np.float32), rtol=0, atol=1e-5)


@every_case
def test_draws_equal_the_reference_for_equal_logits(name):
    """Forced to the same history, both backends draw the same level wherever the draw is not on an edge."""
    config = PACKED_CASES[name]
    model = make_model(config)
    fast, slow = Engine(model, backend="cpu"), Engine(model, backend="reference")
    state = slow.init_state(3, seed=9)
    levels = slow.run(state, config.lookback * 4)
    again = fast.run(fast.init_state(3, seed=9), config.lookback * 4)
    different = np.flatnonzero((levels != again).any(axis=0))
    first = int(different[0]) if len(different) else levels.shape[1]
    assert first >= config.lookback, "the very first draws differ"


@every_case
def test_a_stream_does_not_depend_on_its_batch_or_blocks(name):
    config = PACKED_CASES[name]
    engine = Engine(make_model(config), backend="cpu")
    steps = config.lookback * 3 + 1
    whole_state = engine.init_state(7, seed=1)
    whole = engine.run(whole_state, steps)
    for stream in (0, 3, 6):
        alone = engine.init_state(1, seed=1, first_stream=stream)
        parts = [engine.run(alone, n) for n in (1, 2, config.lookback, steps - config.lookback - 3)]
        assert np.array_equal(np.concatenate(parts, axis=1)[0], whole[stream])
        for mine, theirs in zip(alone.hidden, whole_state.hidden, strict=True):
            assert np.array_equal(mine[:, 0], theirs[:, stream])


@every_case
def test_priming_equals_stepping_bit_for_bit(name):
    config = PACKED_CASES[name]
    engine = Engine(make_model(config), backend="cpu")
    prompt = random_levels(config, 2, config.lookback * 3 + 1)
    primed, stepped = engine.init_state(2), engine.init_state(2)
    engine.run(primed, prompt.shape[1], forced=prompt)
    for t in range(prompt.shape[1]):
        engine.run(stepped, 1, forced=prompt[:, t : t + 1])
    for left, right in zip(primed.hidden, stepped.hidden, strict=True):
        assert np.array_equal(left, right)
    assert np.array_equal(engine.run(primed, 9), engine.run(stepped, 9))


def test_wrong_arrays_are_errors_not_crashes():
    config = PACKED_CASES["paper-3tier"]
    weights = pack(make_model(config))
    tensors = weights.float32()
    dims = model_dims(config)
    with pytest.raises(ValueError, match=r"tier0\.up is missing"):
        _C.CpuEngine(dims, {name: tensor for name, tensor in tensors.items() if name != "tier0.up"})
    with pytest.raises(ValueError, match=r"mlp\.output"):
        _C.CpuEngine(dims, tensors | {"mlp.output": tensors["mlp.output"][:-1]})
    with pytest.raises(ValueError, match=r"must be C-contiguous float32 \(64, 32\), got float64"):
        _C.CpuEngine(dims, tensors | {"mlp.output": tensors["mlp.output"].astype(np.float64)})
    engine = _C.CpuEngine(dims, tensors)
    hidden = [np.zeros((1, 1, 32), np.float32) for _ in range(2)]
    good = np.full((1, 16), 32, np.int64)
    bad = good.copy()
    bad[0, 3] = 64
    with pytest.raises(ValueError, match="levels must be 0 to 63, got 64"):
        engine.score(hidden, bad)
    with pytest.raises(ValueError, match="whole top frames"):
        engine.prime(hidden, good[:, :-1], 0)
    with pytest.raises(ValueError, match="hidden"):
        engine.score(hidden[:1], good)
    with pytest.raises(ValueError, match="hidden"):
        engine.score([hidden[0], np.zeros((1, 2, 32), np.float32)], good)
    with pytest.raises(ValueError, match="instruction set"):
        _C.CpuEngine(dims, tensors, "z80")
    with pytest.raises(ValueError, match="no model"):
        _C.ModelDims(
            dim=32,
            q_levels=64,
            n_rnn=1,
            taps=2,
            hidden=1,
            lstm=False,
            reset_after=True,
            skips=False,
            readers_all=False,
            reads_levels=False,
            frame_sizes=[2, 3],
        )
