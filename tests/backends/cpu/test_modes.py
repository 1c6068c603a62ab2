"""The numeric modes of the cpu backend: their numbers against float64 and against their definition, and the bits that
must not depend on the batch, the block, the threads or, in int8 and int4, the instruction set."""

import functools

import numpy as np
import pytest
import torch
from cases import PACKED_CASES, make_model, random_levels
from mode_oracle import mode_logits

from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.state import EngineState
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.registry import PackedModel
from samplernn_fast.reference import draw, randomness
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.modes import FourBits
from samplernn_fast.reference.weights import pack

_C = pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

from samplernn_fast.backends.cpu import CpuBackend, model_dims  # noqa: E402
from samplernn_fast.backends.int4.making import four_bits_of  # noqa: E402

MODES = CpuBackend.dtypes
ISAS = _C.available_isas()
SHAPES = PACKED_CASES | {
    "dim-40": SampleRNNConfig(dim=40, emb_size=8, q_levels=37, frame_sizes=(3, 3, 6), n_rnn=2, skip="prism"),
    "16-bit": SampleRNNConfig(dim=17, emb_size=4, q_levels=65536, frame_sizes=(1, 2, 4)),
}
every_shape = pytest.mark.parametrize("name", SHAPES)
every_mode = pytest.mark.parametrize("mode", MODES)


@functools.cache
def packed(name: str) -> tuple[PackedModel, PackedWeights]:
    """A model and its packed weights."""
    model = make_model(SHAPES[name])
    return model, pack(model)


@functools.cache
def four_bits(name: str) -> dict[str, FourBits]:
    """The four-bit weights of a model, chosen on any levels."""
    return four_bits_of(packed(name)[1], random_levels(SHAPES[name], 2, SHAPES[name].lookback * 6, seed=9).numpy())


def engine_of(name: str, mode: str, threads: int | None = 1, isa: str = "") -> Engine:
    model, weights = packed(name)
    chosen = four_bits(name) if mode == "int4" else None
    return Engine.of(model, CpuBackend(weights, "cpu", mode, threads, isa, chosen))


def exact_scores(name: str, mode: str, levels: np.ndarray) -> np.ndarray:
    """The scores in float64 of the model, for int4 of the model that has the four-bit weights."""
    weights = packed(name)[1]
    if mode == "int4":
        shown = {
            key: one.weights().astype(np.float64).reshape(weights[key].shape) for key, one in four_bits(name).items()
        }
        weights = PackedWeights(weights.config, weights.arrays | shown, weights.sums)
    backend = ReferenceBackend(weights, "cpu", "float64")
    return backend.score(backend.init_hidden(len(levels)), levels)


def assert_same_state(one: EngineState, two: EngineState, rows: slice = slice(None)) -> None:
    """The hidden states of `one` have the bits of those rows of `two`."""
    for mine, theirs in zip(one.hidden, two.hidden, strict=True):
        assert np.array_equal(mine.view(np.int32), np.ascontiguousarray(theirs[:, rows]).view(np.int32))


@pytest.mark.parametrize("isa", ISAS)
@every_mode
@every_shape
def test_scores_are_close_to_float64(name, mode, isa):
    """float32 keeps 1e-4. In bfloat16 a weight and an input each err by 2^-9 of themselves at most, 0.1 % on average,
    and in int8 a weight by half of a 127th of its row's largest, 0.5 % on average; five products in a row make that
    0.4 % and 1.2 % of the logits, twice as much where rows are short. A wrong scale, gate or bias is beyond them. int4
    is compared with the weights that it has, so what is left is what int8 leaves."""
    config = SHAPES[name]
    levels = random_levels(config, 3, config.lookback * (2 if config.q_levels > 1000 else 5)).numpy()
    exact = exact_scores(name, mode, levels)
    backend = engine_of(name, mode, isa=isa).backend
    error = backend.score(backend.init_hidden(3), levels) - exact
    if mode == "float32":
        assert np.abs(error).max() < 1e-4
    else:
        assert np.sqrt(np.square(error).mean()) < {"bfloat16": 0.016, "int8": 0.024, "int4": 0.024}[mode] * exact.std(
            ddof=1
        )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("mode", MODES[1:])
@every_shape
def test_a_mode_computes_what_it_defines(name, mode, isa):
    """Against the definition in `mode_oracle`. A bias left out, gates swapped, a scale wrong by half a per cent, 126
    codes for 127 or 8,192 for 8,191 each move every step by 5e-4 or more."""
    config = SHAPES[name]
    levels = random_levels(config, 3, config.lookback * (2 if config.q_levels > 1000 else 4), seed=1)
    backend = engine_of(name, mode, isa=isa).backend
    scores = torch.from_numpy(backend.score(backend.init_hidden(3), levels.numpy())).double()
    wanted = torch.log_softmax(
        mode_logits(packed(name)[1], mode, levels, four_bits(name) if mode == "int4" else None), dim=-1
    )
    worst = (scores - wanted).abs().amax(dim=-1).flatten()
    # The longer the vectors, the more steps in which an input lies on the edge between two codes.
    assert torch.quantile(worst, 0.1) < 1e-4
    assert worst.max() < {"bfloat16": 0.15, "int8": 0.03, "int4": 0.03}[mode]


@every_mode
@every_shape
def test_bits_do_not_depend_on_batch_blocks_or_threads(name, mode):
    lookback = SHAPES[name].lookback
    steps = lookback + lookback // 2 + 1
    engine = engine_of(name, mode)
    whole_state = engine.init_state(7, seed=1)
    whole = engine.run(whole_state, steps)
    assert len(np.unique(whole)) > 1
    for threads in (2, 5):  # fewer than streams: each thread takes some of them
        split = engine_of(name, mode, threads)
        state = split.init_state(7, seed=1)
        assert np.array_equal(split.run(state, steps), whole)
        assert_same_state(state, whole_state)
    for threads in (1, 2, 5):  # at least as many as streams: one team makes them together
        team = engine_of(name, mode, threads)
        for first in (0, 6):
            state = team.init_state(1, seed=1, first_stream=first)
            blocks = [team.run(state, n) for n in (1, lookback, steps - lookback - 1)]
            assert np.array_equal(np.concatenate(blocks, axis=1)[0], whole[first])
            assert_same_state(state, whole_state, slice(first, first + 1))


@every_mode
@every_shape
def test_priming_and_scoring_are_stepping_bit_for_bit(name, mode):
    config = SHAPES[name]
    engine, team = engine_of(name, mode, 1), engine_of(name, mode, 5)
    prompt = random_levels(config, 2, config.lookback * 2 + 1).numpy()
    stepped = engine.init_state(2)
    for t in range(prompt.shape[1]):
        engine.run(stepped, 1, forced=prompt[:, t : t + 1])
    for other in (engine, team):
        primed = other.init_state(2, prompt=prompt)
        assert_same_state(primed, stepped)
    levels = random_levels(config, 7, config.lookback * 3).numpy()
    hidden = [one.backend.init_hidden(7) for one in (engine, team)]
    scores = engine.backend.score(hidden[0], levels)
    assert np.array_equal(team.backend.score(hidden[1], levels), scores)
    for row in (0, 6):
        alone = engine.backend.init_hidden(1)
        assert np.array_equal(team.backend.score(alone, levels[row : row + 1])[0], scores[row])
        for mine, theirs in zip(alone, hidden[0], strict=True):
            assert np.array_equal(mine[:, 0], theirs[:, row])


@pytest.mark.parametrize("mode", ["int8", "int4"])
@every_shape
def test_whole_numbers_have_the_same_bits_on_every_instruction_set(name, mode):
    config = SHAPES[name]
    levels = random_levels(config, 3, config.lookback * 3).numpy()
    results = []
    for isa in ISAS:
        engine = engine_of(name, mode, isa=isa)
        state = engine.init_state(3, seed=4)
        results.append([engine.score(levels), engine.run(state, config.lookback * 2), *state.hidden])
    for result in results[1:]:
        assert all(np.array_equal(mine, first) for mine, first in zip(result, results[0], strict=True))


@every_mode
@pytest.mark.parametrize("name", ["paper-3tier", "theano-lstm-skips", "rnn", "multi-softmax"])
def test_draws_are_those_of_the_scores(name, mode):
    """Temperatures, top-k, top-p, forced levels and stream numbers: sampling by the definition from the logits of
    `score` gives the very levels that were generated."""
    config = SHAPES[name]
    engine = engine_of(name, mode)
    temperatures = [0.0, 0.4, 1.0, 1.7, 1.0]
    for top_k, top_p in ((None, None), (5, None), (None, 0.8), (9, 0.9)):
        state = engine.init_state(5, 11, temperatures, top_k, top_p, first_stream=3)
        steps = config.lookback * 8
        forced = random_levels(config, 5, steps, seed=2)
        forced[torch.rand(forced.shape, generator=torch.Generator().manual_seed(3)) < 0.7] = -1
        levels = engine.run(state, steps, forced=forced)
        both = np.concatenate((np.full((5, config.lookback), config.q_zero), levels), axis=1)
        logits = engine.backend.native.score(engine.backend.init_hidden(5), both)
        draws = torch.from_numpy(randomness.draws(11, np.arange(3, 8), 0, steps).astype(np.int64))
        rows = torch.from_numpy(logits).flatten(0, 1)
        heat = torch.tensor(temperatures).repeat_interleave(steps)
        drawn = draw.sample_ref(rows, draws.flatten(), heat, state.top_k, state.top_p).view(5, steps)
        assert np.array_equal(levels, torch.where(forced >= 0, forced, drawn).numpy())
    assert len({tuple(row) for row in levels.tolist()}) == 5


@every_mode
@pytest.mark.parametrize("name", ["paper-3tier", "theano-lstm-skips", "rnn", "multi-softmax"])
def test_a_saved_state_goes_on_with_the_same_bits(name, mode, tmp_path):
    lookback = SHAPES[name].lookback
    engine = engine_of(name, mode, 2)
    state = engine.init_state(3, seed=8, temperature=0.9, top_k=20)
    engine.run(state, lookback + lookback // 2 + 1)  # not where a frame begins
    state.save(tmp_path / "state")
    rest = engine.run(state, 2 * lookback)
    later = engine_of(name, mode, 1)
    restored = later.init_state(3)
    restored.load(tmp_path / "state")
    assert np.array_equal(later.run(restored, 2 * lookback), rest)
    assert_same_state(restored, state)


def zero_engine(dim: int, mode: str, isa: str, **filled: float) -> "_C.CpuEngine":
    """A two-tier model of zeros, but for the tensors that are named (dots as underscores) and filled with a number."""
    dims = model_dims(SampleRNNConfig(dim=dim, emb_size=1, q_levels=4, frame_sizes=(1, 1), mlp_hidden=1))
    tensors = {name: np.zeros(shape, np.float32) for name, shape in _C.layout_fields(dims)}
    for name, value in filled.items():
        tensors[name.replace("__", ".")].fill(value)
    return _C.CpuEngine(dims, tensors, isa, mode, 1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dim", [17, 2064, 2065, 4100])
def test_int8_sums_of_long_rows_do_not_overflow(dim, isa):
    """The largest sum there is: every weight and every input has its largest code. With 14-bit codes it passes 2^31
    from 2065 inputs on, where codes get smaller."""
    engine = zero_engine(dim, "int8", isa, mlp__input_bias=3.0, mlp__output=-0.5)
    logits = engine.score([np.zeros((1, 1, dim), np.float32)], np.zeros((1, 3), np.int64))
    np.testing.assert_allclose(logits, -1.5 * dim, rtol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_int8_of_a_model_with_long_rows(isa):
    """2,100 inputs a row: codes up to 8,052. One frame of one sample is one step of the recurrence, from h0."""
    config = SampleRNNConfig(dim=2100, emb_size=1, q_levels=8, frame_sizes=(1, 1), mlp_hidden=1)
    generator = torch.Generator().manual_seed(0)
    shapes = {name: shape for name, shape in _C.layout_fields(model_dims(config))}
    tensors = {name: torch.randn(shape, generator=generator) / shape[-1] ** 0.5 for name, shape in shapes.items()}
    weights = PackedWeights(config, {name: tensor.numpy() for name, tensor in tensors.items()})
    levels = random_levels(config, 2, 3)
    backend = CpuBackend(weights, "cpu", "int8", 1, isa)
    scores = torch.from_numpy(backend.score(backend.init_hidden(2), levels.numpy())).double()
    wanted = torch.log_softmax(mode_logits(weights, "int8", levels), dim=-1)
    torch.testing.assert_close(scores, wanted, rtol=0, atol=2e-3)
