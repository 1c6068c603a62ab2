"""Sparse models: they compute what the model does that they were folded from, and their files have the blocks alone."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from cases import CASES, make_model, random_levels
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import SparseSampleRNNConfig
from samplernn_fast.models.layout import Field
from samplernn_fast.models.registry import build_model
from samplernn_fast.models.sparse import blocks
from samplernn_fast.models.stored import blocks as stored_blocks
from samplernn_fast.models.stored.arrays import describe, read_model
from samplernn_fast.models.stored.header import KEY
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.weights import pack

SMALL = SparseSampleRNNConfig(dim=45, q_levels=32, frame_sizes=(2, 2, 4), density=0.3)


def folded(name: str):
    """A dense model, and the sparse one with its folded matrices, both in float64."""
    dense = make_model(CASES[name])
    sparse = build_model(SparseSampleRNNConfig.of(dense.config, 1.0), seed=None).double()
    weights = pack(dense)
    sparse.load_state_dict({key: torch.from_numpy(weights[key]) for key in sparse.state_dict()})
    return dense, sparse


def pruned(config: SparseSampleRNNConfig = SMALL, seed: int = 0):
    """A model whose blocks are zero but for as many as its density means."""
    model, rng = build_model(config, seed=seed), np.random.default_rng(seed)
    for one in blocks.sparse_fields(config):
        weight = model.get_parameter(one.name)
        every = blocks.to_blocks(weight.detach().numpy(), config.dim)
        rank = rng.random(every.shape[:3]).argsort(axis=2).argsort(axis=2)
        every = np.where((rank < blocks.kept(config, one, config.density)[:, None, None])[..., None, None], every, 0)
        weight.data = torch.from_numpy(blocks.from_blocks(every, one.shape, config.dim))
    return model


@pytest.mark.parametrize("name", CASES)
def test_the_folded_network_is_the_same_network(name):
    dense, sparse = folded(name)
    levels = random_levels(dense.config, 3, dense.config.lookback * 6)
    outputs, state = dense(levels)
    found, after = sparse(levels)
    torch.testing.assert_close(found, outputs, rtol=0, atol=1e-9)
    for one, other in zip(after, state, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_packing_takes_the_matrices_as_they_are(name):
    dense, sparse = folded(name)
    wanted, found = pack(dense).arrays, pack(sparse).arrays
    assert wanted.keys() == found.keys()
    assert all(np.array_equal(wanted[key], found[key]) for key in wanted)


@pytest.mark.parametrize("name", CASES)
def test_every_array_means_the_same_to_training_and_to_samplers(name):
    """Each changes by itself in training, so none may be read in another way there."""
    _, sparse = folded(name)
    with torch.no_grad():
        for seed, parameter in enumerate(sparse.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            parameter.add_(noise, alpha=0.05)
    levels = random_levels(sparse.config, 3, sparse.config.lookback * 6)
    wanted = sparse(levels)[0].log_softmax(dim=-1).detach().numpy()
    weights = pack(sparse)
    exact = ReferenceBackend(weights, "cpu", "float64")
    np.testing.assert_allclose(exact.score(exact.init_hidden(3), levels.numpy()), wanted, rtol=0, atol=1e-9)
    steps = sparse.stepper(sparse.init_hidden(3), 0)
    for t in range(sparse.config.lookback * 2 + 1):
        found = steps.step(levels[:, t : t + sparse.config.lookback]).log_softmax(dim=-1)[:, 0]
        np.testing.assert_allclose(found.detach().numpy(), wanted[:, t], rtol=0, atol=1e-9)
    for name, array in weights.float32().items():
        assert np.array_equal(array, weights[name].astype(np.float32)), name


def test_gradients_are_the_same_in_every_run_on_several_threads():
    config = SparseSampleRNNConfig(dim=64, q_levels=64, frame_sizes=(2, 2, 8), density=0.5)
    levels = torch.randint(0, 64, (8, 8 + 512), generator=torch.Generator().manual_seed(1))
    threads, found = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        for _ in range(8):
            model = build_model(config, seed=0)
            model(levels)[0].log_softmax(dim=-1)[..., 3].sum().backward()
            found.append({name: parameter.grad for name, parameter in model.named_parameters()})
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        different = [name for name, grad in found[0].items() if not torch.equal(grad, other[name])]
        assert not different, different


@pytest.mark.parametrize("dim, columns", [(8, 4), (45, 45), (3, 2), (16, 7), (12, 24)])
def test_a_matrix_comes_back_from_its_blocks(dim, columns):
    matrix = np.random.default_rng(0).normal(size=(2, 3 * dim, columns))
    found = blocks.to_blocks(matrix, dim)
    assert found.shape == (6, -(-dim // 8), -(-columns // 4), 8, 4)
    assert found.sum() == pytest.approx(matrix.sum())
    assert np.array_equal(found[4, 0, 0, 1, 1], matrix[1, dim + 1, 1])
    assert np.array_equal(blocks.from_blocks(found, matrix.shape, dim), matrix)


@pytest.mark.parametrize("density", [0.01, 0.1, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rnn", ["gru", "lstm"])
def test_candidates_keep_more_blocks_and_all_units_together_the_density(rnn, density):
    config = SparseSampleRNNConfig(dim=1024, rnn=rnn, density=density)
    for one in blocks.sparse_fields(config):
        counts, (_, _, columns) = blocks.kept(config, one, density), blocks.grid(one.shape, 1024)
        assert counts.min() >= 1 and counts.max() <= columns
        if density >= 0.1:
            assert counts.mean() / columns == pytest.approx(density, abs=0.5 / columns)
        gates = 3 if rnn == "gru" else 4
        if blocks.is_gated(one.name) and 0.1 <= density <= 0.25:
            assert counts[2::gates].min() >= 1.9 * counts[0::gates].max()
    recurrent = Field("tier0.recurrent", (1, 3 * 1024, 1024), "")
    assert blocks.on_diagonal(config, recurrent).sum(axis=2).max() == 2


@pytest.mark.parametrize(
    "config", [SMALL, SparseSampleRNNConfig(dim=20, q_levels=16, rnn="lstm", n_rnn=2, skip="full")]
)
def test_a_file_holds_the_blocks_alone_and_gives_the_model_back(tmp_path, config):
    model, file = pruned(config), tmp_path / "model.safetensors"
    checkpoint.save_model(file, model)
    stored = load_file(file)
    assert not {one.name for one in blocks.sparse_fields(config)} & set(stored)
    values = sum(stored[f"{one.name}.blocks"].size for one in blocks.sparse_fields(config))
    assert values < 0.6 * sum(np.prod(one.shape) for one in blocks.sparse_fields(config))
    again = checkpoint.load_model(file)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert read_model(file).sha256 == checkpoint.model_sha256(model) == describe(file)["model_sha256"]


def test_a_description_says_how_many_blocks_there_are(tmp_path):
    """Which is more than the density means, where a run ended before its pruning did."""
    shares = {}
    for name, model in (("pruned", pruned()), ("whole", build_model(SMALL, seed=0))):
        checkpoint.save_model(tmp_path / name, model)
        shares[name] = describe(tmp_path / name)["block_share"]
    assert shares["pruned"] == pytest.approx(0.3, abs=0.03) and shares["whole"] == 1
    checkpoint.save_model(tmp_path / "dense", make_model(next(iter(CASES.values()))))
    assert "block_share" not in describe(tmp_path / "dense")


def damaged(tmp_path, change):
    """A file of a sparse model in which `change` changed arrays."""
    file = tmp_path / "model.safetensors"
    checkpoint.save_model(file, pruned())
    metadata, arrays = metadata_of(file), load_file(file)
    change(arrays)
    save_file(arrays, file, {KEY: metadata})
    return file


def metadata_of(file) -> str:
    """What a file says of its model."""
    with safe_open(file, framework="np") as content:
        return content.metadata()[KEY]


MATRIX = "tier0.recurrent"


def _set(name, index, value):
    def change(arrays):
        arrays[f"{MATRIX}.{name}"][index] = value

    return change


def _drop(name):
    return lambda arrays: arrays.pop(f"{MATRIX}.{name}")


def _cut(arrays):
    """One block less, and one column, where the counts speak of more."""
    for name in ("blocks", "columns"):
        arrays[f"{MATRIX}.{name}"] = arrays[f"{MATRIX}.{name}"][:-1]


def _cut_blocks(arrays):
    arrays[f"{MATRIX}.blocks"] = arrays[f"{MATRIX}.blocks"][:-1]


def _floats(arrays):
    arrays[f"{MATRIX}.columns"] = arrays[f"{MATRIX}.columns"].astype(np.float32)


def _uneven(arrays):
    """The same number of blocks in all, of which the second group has one more than the first."""
    arrays[f"{MATRIX}.counts"][:2] += (-1, 1)


def _twice(arrays):
    arrays[MATRIX] = np.zeros((1, 3 * 45, 45), np.float32)


def _whole_numbers(arrays):
    arrays[f"{MATRIX}.blocks"] = arrays[f"{MATRIX}.blocks"].astype(np.int32)


def _matrix_is(array):
    def change(arrays):
        for name in ("counts", "columns", "blocks"):
            arrays.pop(f"{MATRIX}.{name}")
        arrays[MATRIX] = array

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (_set("counts", 0, -1), "other numbers of blocks"),
        (_set("counts", 0, 2**31 - 1), "other numbers of blocks"),
        (_set("columns", 0, -1), "ascend"),
        (_set("columns", 0, 12), "ascend"),
        (_set("columns", 1, 0), "ascend"),
        (_set("blocks", (0, 0, 0), np.nan), "not finite"),
        (_cut, "at least"),
        (_cut_blocks, "a block for each"),
        (_floats, "whole numbers"),
        (_uneven, "other numbers of blocks"),
        (_twice, "twice"),
        (_whole_numbers, "must hold weights"),
        (_matrix_is(np.zeros((1, 3 * 45, 44), np.float32)), r"must be \(1, 135, 45\), found \(1, 135, 44\)"),
        (_matrix_is(np.zeros((1, 3 * 45, 45), np.int32)), "must hold weights"),
        (lambda arrays: arrays.update(junk=np.zeros(3, np.float32)), "does not belong to this model: junk"),
        (lambda arrays: arrays.pop("tier0.h0"), "tier0.h0 is missing"),
        (_drop("counts"), "tier0.recurrent"),
        (_drop("columns"), "tier0.recurrent"),
        (_drop("blocks"), "tier0.recurrent"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, change, message):
    file = damaged(tmp_path, change)
    with pytest.raises(CheckpointError, match=message) as error:
        checkpoint.load_model(file)
    assert "\n" not in str(error.value) and str(file) in str(error.value)


@pytest.mark.parametrize("seed", range(200))
def test_damage_at_random_is_refused_or_gives_a_model(tmp_path, seed):
    """Indices anywhere and of any value, arrays cut and stretched: a CheckpointError, or weights that are finite."""
    rng = np.random.default_rng(seed)

    def change(arrays):
        for _ in range(rng.integers(1, 4)):
            name = rng.choice([name for name in arrays if name.endswith((".counts", ".columns", ".blocks"))])
            array = arrays[name]
            match rng.integers(3):
                case 0:
                    index = rng.integers(len(array), size=min(1, len(array)))
                    array[index] = rng.choice([-1, 0, 1, 5, 11, 12, 2**31 - 1]) if array.dtype == np.int32 else 0
                case 1:
                    arrays[name] = array[: rng.integers(len(array) + 1)].copy()
                case 2:
                    arrays[name] = np.concatenate((array, array[: rng.integers(1, 9)]))

    file = damaged(tmp_path, change)
    try:
        model = read_model(file)
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert all(np.isfinite(array).all() for array in model.arrays.values())


def test_blocks_that_came_to_be_zero_are_stored_so_that_every_group_has_its_share(tmp_path):
    model, file = pruned(), tmp_path / "model.safetensors"
    with torch.no_grad():
        model.get_parameter(MATRIX)[:, :20] = 0
        model.get_parameter("mlp.hidden0").zero_()
    checkpoint.save_model(file, model)
    stored = load_file(file)
    for one in blocks.sparse_fields(SMALL):
        least = np.repeat(blocks.kept(SMALL, one, SMALL.density), blocks.grid(one.shape, SMALL.dim)[1])
        assert (stored[f"{one.name}.counts"] == least).all(), one.name
    again = checkpoint.load_model(file)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def settings_changed(file, **values) -> None:
    """Changes settings of the model in a file, and none of its arrays."""
    header = json.loads(metadata_of(file))
    header["config"] |= values
    save_file(load_file(file), file, {KEY: json.dumps(header)})


@pytest.mark.parametrize("settings", [{"dim": 16384}, {"dim": 16384, "density": 0.01, "skip": "full", "n_rnn": 64}])
def test_a_small_file_takes_no_more_memory_than_it_has_blocks_for(tmp_path, settings):
    """The sizes that its settings speak of are compared with those of its arrays before memory is taken."""
    file = tmp_path / "model.safetensors"
    checkpoint.save_model(file, pruned())
    arrays = load_file(file)
    arrays |= {f"junk{number}": np.zeros(10**6, np.float16) for number in range(3)}
    save_file(arrays, file, {KEY: metadata_of(file)})
    settings_changed(file, **settings)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="must be"):
            read_model(file)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_matrix_with_more_than_65536_blocks_in_a_group_is_stored(tmp_path):
    """Columns are 32-bit numbers; so many lie in the map of many layers' outputs."""
    config = SparseSampleRNNConfig(dim=8, density=0.01)
    only = [Field("tier0.skip_out", (8, 4 * 65_540), "")]
    matrix = np.zeros(only[0].shape, np.float32)
    matrix[3, ::404], matrix[7, -1] = 2, 3
    arrays = {"tier0.skip_out": matrix}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stored_blocks, "sparse_fields", lambda config: only)
        encoded = stored_blocks.encoded(config, arrays)
        assert encoded["tier0.skip_out.columns"].max() == 65_539
        found = stored_blocks.decoded(config, encoded, "here")
    assert np.array_equal(found["tier0.skip_out"], matrix)


@pytest.mark.parametrize(
    "values", [{"density": 0.0}, {"density": 1.5}, {"density": float("nan")}, {"weight_norm": "all"}]
)
def test_settings_that_mean_nothing_are_refused(values):
    with pytest.raises(ConfigError):
        SparseSampleRNNConfig(**values)
