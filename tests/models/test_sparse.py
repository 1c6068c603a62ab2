"""Sparse models: they compute what the model does that they were folded from, and their files have the blocks alone."""

import numpy as np
import pytest
import torch
from cases import CASES, make_model, random_levels
from safetensors.numpy import load_file, save_file

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import SparseSampleRNNConfig
from samplernn_fast.models.layout import Field
from samplernn_fast.models.registry import build_model
from samplernn_fast.models.sparse import blocks
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


def damaged(tmp_path, change):
    """A file of a sparse model in which `change` changed arrays."""
    from safetensors import safe_open

    file = tmp_path / "model.safetensors"
    checkpoint.save_model(file, pruned())
    with safe_open(file, framework="np") as content:
        metadata = content.metadata()
    arrays = load_file(file)
    change(arrays)
    save_file(arrays, file, {KEY: metadata[KEY]})
    return file


MATRIX = "tier0.recurrent"


def _set(name, index, value):
    def change(arrays):
        arrays[f"{MATRIX}.{name}"][index] = value

    return change


def _drop(name):
    return lambda arrays: arrays.pop(f"{MATRIX}.{name}")


def _cut(arrays):
    arrays[f"{MATRIX}.blocks"] = arrays[f"{MATRIX}.blocks"][:-1]


def _floats(arrays):
    arrays[f"{MATRIX}.columns"] = arrays[f"{MATRIX}.columns"].astype(np.float32)


@pytest.mark.parametrize(
    "change, message",
    [
        (_set("counts", 0, -1), "other blocks than its counts"),
        (_set("counts", 0, 2**31 - 1), "other blocks than its counts"),
        (_set("columns", 0, -1), "ascend"),
        (_set("columns", 0, 12), "ascend"),
        (_set("columns", 1, 0), "ascend"),
        (_set("blocks", (0, 0, 0), np.nan), "not finite"),
        (_cut, "other blocks than its counts"),
        (_floats, "whole numbers"),
        (_drop("counts"), "tier0.recurrent"),
        (_drop("blocks"), "tier0.recurrent"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, change, message):
    file = damaged(tmp_path, change)
    with pytest.raises(CheckpointError, match=message) as error:
        checkpoint.load_model(file)
    assert "\n" not in str(error.value) and str(file) in str(error.value)


def test_a_file_of_a_model_that_would_not_fit_memory_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    checkpoint.save_model(file, pruned())
    from safetensors import safe_open

    with safe_open(file, framework="np") as content:
        text = content.metadata()[KEY]
    save_file(load_file(file), file, {KEY: text.replace('"dim": 45', '"dim": 16384')})
    with pytest.raises(CheckpointError, match="holds"):
        read_model(file)


@pytest.mark.parametrize(
    "values", [{"density": 0.0}, {"density": 1.5}, {"density": float("nan")}, {"weight_norm": "all"}]
)
def test_settings_that_mean_nothing_are_refused(values):
    with pytest.raises(ConfigError):
        SparseSampleRNNConfig(**values)
