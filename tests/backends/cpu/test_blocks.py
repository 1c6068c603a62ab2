"""Sparse matrices of the cpu backend, packed as blocks: their bits are those of the same matrix packed whole.

The mode int4 without matrices of four bits packs every matrix whole, as int8 codes. In float32 zeros become the
smallest number there is, which is too small to change a sum, and not zero.
"""

import numpy as np
import pytest
from cases import PACKED_CASES, make_model, random_levels
from mode_oracle import mode_logits

from samplernn_fast.models.config import SparseSampleRNNConfig
from samplernn_fast.models.layout import is_matrix
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.weights import pack

_C = pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

from samplernn_fast.backends.cpu import CpuBackend  # noqa: E402

ISAS = _C.available_isas()
TINY = 1e-45
SHAPES = PACKED_CASES | {
    "long": SparseSampleRNNConfig(dim=264, q_levels=32, frame_sizes=(2, 2, 4)),
    "odd": SparseSampleRNNConfig(dim=45, q_levels=37, frame_sizes=(3, 3, 6), n_rnn=2, skip="prism"),
}
every_shape = pytest.mark.parametrize("name", SHAPES)


def with_zeros(name: str, density: float, seed: int = 0) -> PackedWeights:
    """A model of which about this share of blocks is left, another number in every group of outputs."""
    weights, rng = pack(make_model(SHAPES[name])), np.random.default_rng(seed)
    arrays = dict(weights.arrays)
    for field, array in arrays.items():
        if not is_matrix(field) or field == "mlp.output":
            continue
        units = array.reshape(-1, weights.config.dim, array.shape[-1]).copy()
        for unit in units:
            for row in range(0, len(unit), 8):
                for column in range(0, unit.shape[1], 4):
                    if rng.random() > density:
                        unit[row : row + 8, column : column + 4] = 0
        arrays[field] = units.reshape(array.shape)
    return PackedWeights(weights.config, arrays, weights.sums)


def without_zeros(weights: PackedWeights) -> PackedWeights:
    """The same model, no block of which is zero."""
    filled = {name: np.where(one == 0, TINY, one) if is_matrix(name) else one for name, one in weights.arrays.items()}
    return PackedWeights(weights.config, filled, weights.sums)


def scores(backend: CpuBackend, levels: np.ndarray) -> np.ndarray:
    return backend.score(backend.init_hidden(len(levels)), levels).view(np.int32)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("isa", ISAS)
@every_shape
def test_blocks_have_the_bits_of_whole_matrices(name, isa, density):
    config, weights = SHAPES[name], with_zeros(name, density)
    levels = random_levels(config, 5, config.lookback * 4).numpy()
    for mode, whole in (
        ("int8", CpuBackend(weights, "cpu", "int4", 1, isa, {})),
        ("float32", CpuBackend(without_zeros(weights), "cpu", "float32", 1, isa)),
    ):
        wanted = scores(whole, levels)
        for threads in (1, 2, 3):
            blocks = CpuBackend(weights, "cpu", mode, threads, isa)
            assert blocks.native.weight_bytes < whole.native.weight_bytes
            assert np.array_equal(scores(blocks, levels), wanted), (mode, threads)
            for row in (0, 4):
                assert np.array_equal(scores(blocks, levels[row : row + 1])[0], wanted[row]), (mode, threads)


@every_shape
def test_int8_has_the_same_bits_on_every_instruction_set(name):
    config, weights = SHAPES[name], with_zeros(name, 0.3)
    levels = random_levels(config, 3, config.lookback * 4).numpy()
    found = [scores(CpuBackend(weights, "cpu", "int8", 1, isa), levels) for isa in ISAS]
    assert all(np.array_equal(found[0], one) for one in found)


def test_blocks_compute_what_int8_defines():
    weights = with_zeros("long", 0.2)
    levels = random_levels(weights.config, 3, 16)
    backend = CpuBackend(weights, "cpu", "int8", 1)
    got = backend.score(backend.init_hidden(3), levels.numpy())
    wanted = mode_logits(weights, "int8", levels).log_softmax(dim=-1).numpy()
    assert np.quantile(np.abs(got - wanted).max(axis=-1), 0.1) < 1e-4
    assert np.abs(got - wanted).max() < 0.03


def test_a_matrix_with_most_of_its_blocks_is_packed_whole():
    whole = CpuBackend(with_zeros("long", 1.0), "cpu", "int8", 1).native.weight_bytes
    assert CpuBackend(with_zeros("long", 0.8), "cpu", "int8", 1).native.weight_bytes == whole
    assert CpuBackend(with_zeros("long", 0.2), "cpu", "int8", 1).native.weight_bytes < 0.6 * whole


@pytest.mark.parametrize("mode", ["float32", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_told(mode, value):
    weights = with_zeros("long", 0.2)
    row, column = np.argwhere(weights["mlp.hidden0"] != 0)[0]
    weights["mlp.hidden0"][row, column] = value
    backend = CpuBackend(weights, "cpu", mode, 1)
    with pytest.raises(ValueError, match="not a number"):
        from samplernn_fast.reference.randomness import Drawing, Randomness

        drawing = Drawing(Randomness(0, np.zeros(1, np.uint32)), np.ones((1, 8), np.float32))
        history = np.full((1, weights.config.lookback), 16)
        backend.generate(backend.init_hidden(1), history, 0, drawing, np.full((1, 8), -1))
