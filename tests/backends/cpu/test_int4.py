"""The int4 mode's weights: how they are chosen, what they cost, how they are kept. `test_modes` has its products."""

import math

import numpy as np
import pytest
import torch
from cases import PACKED_CASES, make_model, random_levels

from samplernn_fast.backends import registry
from samplernn_fast.backends.int4 import kept
from samplernn_fast.backends.int4.activations import grams_of
from samplernn_fast.backends.int4.choosing import choose
from samplernn_fast.backends.int4.making import four_bits_of
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable, ConfigError
from samplernn_fast.models.checkpoint import arrays_of, save_model
from samplernn_fast.models.layout import OUTPUT, is_matrix
from samplernn_fast.models.stored.arrays import read_model
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.modes import GROUP, FourBits
from samplernn_fast.reference.weights import as_tensor, pack

_C = pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

from samplernn_fast.backends.cpu import CpuBackend, model_dims  # noqa: E402


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "cache"))


def tame_model(factor: float = 0.05):
    """A model whose logits are small, so that rounding its weights costs next to nothing."""
    model = make_model(PACKED_CASES["paper-3tier"], dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.mlp.output.parameters():
            parameter.mul_(factor)
    return model


def inputs(rng: np.random.Generator, count: int, columns: int) -> np.ndarray:
    """Inputs of a product that depend on each other, as those of a network do."""
    return rng.normal(size=(count, columns // 4)) @ rng.normal(size=(columns // 4, columns)) + rng.normal(size=columns)


@pytest.mark.parametrize("columns", [17, 32, 100, 256])
def test_chosen_weights_change_products_less_than_rounded_ones(columns):
    rng = np.random.default_rng(columns)
    weight, x = rng.normal(size=(40, columns)), inputs(rng, 500, columns)
    found = choose(weight, x.T @ x)
    plain = choose(weight, np.eye(columns))
    errors = [np.square(x @ (one.weights() - weight).T).sum() for one in (found, plain)]
    assert errors[0] < 0.5 * errors[1]
    assert found.codes.min() >= -8 and found.codes.max() <= 7 and np.abs(found.factors).max() <= 15
    assert found.factors.shape == (40, math.ceil(columns / GROUP))


def test_every_code_is_the_best_one_while_all_others_stay():
    rng = np.random.default_rng(3)
    weight, x = rng.normal(size=(6, 48)), inputs(rng, 300, 48)
    gram = x.T @ x + 0.01 * np.eye(48) * np.square(x).sum() / 48
    found = choose(weight, x.T @ x)
    steps = np.repeat(found.factors, GROUP, axis=1)[:, :48] * found.scales[:, None]
    error = found.weights() - weight
    best = np.einsum("ij,jk,ik->i", error, gram, error)
    better = 0
    for row in range(6):
        for column in range(48):
            for change in (-1, 1):
                if -8 <= found.codes[row, column] + change <= 7:
                    other = error[row].copy()
                    other[column] += change * steps[row, column]
                    better += other @ gram @ other < best[row] * (1 - 1e-4)
    assert better <= 3  # of 576: the sweeps end before the last code has settled


@pytest.mark.parametrize("weight", [np.zeros((3, 40)), np.full((2, 5), 1e-38), np.full((1, 64), 1e30)])
def test_odd_weights_stay_finite(weight):
    found = choose(weight, np.zeros((weight.shape[1], weight.shape[1])))
    assert np.isfinite(found.weights()).all()
    assert np.abs(found.weights() - weight).max() <= max(np.abs(weight).max() / 8, 1e-30)


def test_weights_that_four_bits_can_say_are_kept():
    rng = np.random.default_rng(0)
    codes, factors = rng.integers(-8, 8, (5, 64)).astype(np.int8), rng.integers(1, 16, (5, 2)).astype(np.int8)
    codes[:, 0], factors[:, 0] = -8, 15  # the largest magnitude there is, by which the scale is found
    exact = FourBits(codes, factors, rng.uniform(0.5, 2, 5).astype(np.float32))
    found = choose(exact.weights(), np.eye(64))
    np.testing.assert_allclose(found.weights(), exact.weights(), rtol=1e-6)


class Recording(ReferenceBackend):
    """Keeps the inputs of products by the place of their matrix."""

    seen: dict[int, torch.Tensor]

    def linear(self, x, w, bias=None):
        self.seen[w.data_ptr()] = x.reshape(-1, x.shape[-1])
        return super().linear(x, w, bias)


@pytest.mark.parametrize("name", PACKED_CASES)
def test_inputs_are_those_of_the_reference(name):
    config = PACKED_CASES[name]
    weights, levels = pack(make_model(config)), random_levels(config, 3, config.lookback * 6).numpy()
    exact = Recording(weights, "cpu", "float64")
    exact.seen = {}
    exact.log_probabilities([torch.from_numpy(h) for h in exact.init_hidden(3)], as_tensor(levels, "cpu"))
    grams, compared = grams_of(weights, levels), 0
    for (matrix, layer), gram in grams.items():
        tensor = exact.weights.tensors.get(matrix)
        place = None if tensor is None else (tensor[layer] if matrix.endswith("stack") else tensor).data_ptr()
        if place in exact.seen:
            x = exact.seen[place].numpy()
            np.testing.assert_allclose(gram, x.T @ x, rtol=1e-3, atol=1e-3 * np.abs(x.T @ x).max())
            compared += 1
    assert compared >= len(config.ratios)
    matrices = {matrix for matrix in weights.arrays if is_matrix(matrix)} - {OUTPUT}
    assert {matrix for matrix, _ in grams if not matrix.endswith("candidate")} == matrices
    assert set(four_bits_of(weights, levels)) == matrices


def test_what_a_recurrence_reads_is_the_state_before():
    config = PACKED_CASES["rnn"]
    weights, levels = pack(make_model(config)), random_levels(config, 2, 40).numpy()
    exact = ReferenceBackend(weights, "cpu", "float64")
    states, hidden = [], exact.init_hidden(2)
    for t in range(39):
        states.append(hidden[0][0].copy())
        exact.prime(hidden, levels[:, t : t + 1], levels[:, t + 1 : t + 2])
    x = np.concatenate(states)
    np.testing.assert_allclose(grams_of(weights, levels)["tier0.recurrent", 0], x.T @ x, rtol=1e-4, atol=1e-4)


def test_a_choice_is_made_once_and_kept(monkeypatch, tmp_path):
    model = tame_model()
    first = Engine(model, backend="cpu", dtype="int4")
    (file,) = (tmp_path / "cache" / "int4").iterdir()
    monkeypatch.setattr("samplernn_fast.backends.promise.four_bits_of", None)
    again = Engine(model, backend="cpu", dtype="int4")
    levels = [engine.run(engine.init_state(3, seed=4), 200) for engine in (first, again)]
    assert np.array_equal(*levels)
    with pytest.raises(TypeError):
        Engine(tame_model(0.04), backend="cpu", dtype="int4")  # other weights, for which nothing was chosen
    assert file.stat().st_mode & 0o077 == 0 or file.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["empty", "other", "short", "one bit"])
def test_a_damaged_choice_is_made_again(damage, tmp_path):
    model = tame_model()
    wanted = Engine(model, backend="cpu", dtype="int4").run
    (file,) = (tmp_path / "cache" / "int4").iterdir()
    content = file.read_bytes()
    flipped = content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]
    file.write_bytes({"empty": b"", "other": b"nothing", "short": content[:-7], "one bit": flipped}[damage])
    engine = Engine(model, backend="cpu", dtype="int4")
    assert file.read_bytes() == content
    assert np.array_equal(engine.run(engine.init_state(1), 50), wanted(engine.init_state(1), 50))


def test_what_does_not_fit_the_weights_is_not_read(tmp_path):
    weights = pack(tame_model())
    levels = random_levels(weights.config, 2, 80).numpy()
    good = four_bits_of(weights, levels)
    kept.write("good", kept.Chosen(good, 0.001))
    found = kept.read("good", weights)
    assert found is not None and found.cost == 0.001 and set(found.four_bits) == set(good)
    one = good["mlp.hidden0"]
    for name, bad in {
        "codes": FourBits(one.codes + np.int8(8), one.factors, one.scales),
        "factors": FourBits(one.codes, np.full_like(one.factors, 16), one.scales),
        "scales": FourBits(one.codes, one.factors, np.full_like(one.scales, np.nan)),
        "shape": FourBits(one.codes[:-1], one.factors, one.scales),
        "type": FourBits(one.codes.astype(np.int16), one.factors, one.scales),
    }.items():
        kept.write(name, kept.Chosen(good | {"mlp.hidden0": bad}, 0.001))
        assert kept.read(name, weights) is None, name
    kept.write("name", kept.Chosen({"mlp.hidden9": one}, 0.001))
    kept.write("cost", kept.Chosen(good, math.nan))
    assert kept.read("name", weights) is None and kept.read("cost", weights) is None


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "file"))
    assert Engine(tame_model(), backend="cpu", dtype="int4").dtype == "int4"


def test_matrices_that_cost_too_much_keep_eight_bits(tmp_path):
    Engine(tame_model(0.6), backend="cpu", dtype="int4")
    (file,) = (tmp_path / "cache" / "int4").iterdir()
    weights = pack(tame_model(0.6))
    chosen = kept.read(file.stem, weights)
    every = {matrix for matrix in weights.arrays if is_matrix(matrix)} - {OUTPUT}
    assert chosen is not None and chosen.cost <= 0.0035
    assert set() < set(chosen.four_bits) < every


def test_a_model_for_which_it_costs_too_much_is_not_offered_it():
    with pytest.raises(BackendUnavailable, match=r"cpu does not offer int4 for this model: it would cost .* bit"):
        Engine(tame_model(40), backend="cpu", dtype="int4")


def test_fastest_takes_it_for_large_models_from_files_alone(tmp_path, monkeypatch):
    model = tame_model()
    save_model(tmp_path / "model.safetensors", model)
    assert Engine(tmp_path / "model.safetensors", backend="cpu", dtype="fastest").dtype == "int8"
    monkeypatch.setattr(registry, "_LARGE", 1000)
    assert Engine(tmp_path / "model.safetensors", backend="cpu", dtype="fastest").dtype == "int4"
    assert Engine(arrays_of(model), backend="cpu", dtype="fastest").dtype == "int4"
    assert Engine(model, backend="cpu", dtype="fastest").dtype == "int8"  # it may be trained on


def test_other_backends_do_not_have_it():
    with pytest.raises(ConfigError, match="dtype must be auto, fastest or one of float32, float64 on reference"):
        Engine("demo", backend="reference", dtype="int4")
    with pytest.raises(ConfigError, match="four_bits are for the mode int4"):
        CpuBackend(pack(tame_model()), "cpu", "int4")
    with pytest.raises(ConfigError, match="four_bits are for the mode int4"):
        CpuBackend(pack(tame_model()), "cpu", "int8", four_bits={})


def test_the_bundled_model_keeps_the_promise():
    assert Engine(read_model("demo"), backend="cpu", dtype="int4").dtype == "int4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda codes, factors, scales: (codes - 9, factors, scales), "must be -8 to 7, and its factors -15 to 15"),
        (lambda codes, factors, scales: (codes, factors + 16, scales), "must be -8 to 7, and its factors -15 to 15"),
        (lambda codes, factors, scales: (codes[:-1], factors, scales), "codes must be C-contiguous int8"),
        (lambda codes, factors, scales: (codes, factors[:, :0], scales), "factors must be C-contiguous int8"),
        (lambda codes, factors, scales: (codes, factors, scales.astype(float)), "scales must be C-contiguous float32"),
        (lambda codes, factors, scales: (codes, factors), "must be codes, factors, scales"),
    ],
)
def test_the_engine_refuses_what_is_no_matrix_of_four_bits(change, message):
    weights = pack(tame_model())
    dims, arrays = model_dims(weights.config), weights.float32()
    parts = [np.zeros((32, 32), np.int8), np.ones((32, 1), np.int8), np.ones(32, np.float32)]
    _C.CpuEngine(dims, arrays, "", "int4", 1, {"mlp.hidden0": tuple(parts)})
    with pytest.raises(ValueError, match=message):
        _C.CpuEngine(dims, arrays, "", "int4", 1, {"mlp.hidden0": change(*parts)})
    with pytest.raises(ValueError, match="four_bits must be matrices of this model, for the mode int4"):
        _C.CpuEngine(dims, arrays, "", "int4", 1, {"mlp.hidden7": tuple(parts)})
    with pytest.raises(ValueError, match="four_bits must be matrices of this model, for the mode int4"):
        _C.CpuEngine(dims, arrays, "", "int8", 1, {"mlp.hidden0": tuple(parts)})


def test_a_choice_that_cannot_be_touched_is_taken(tmp_path, monkeypatch):
    weights = pack(tame_model())
    good = four_bits_of(weights, random_levels(weights.config, 2, 80).numpy())
    kept.write("good", kept.Chosen(good, 0.001))

    def refuse(path):
        raise PermissionError("another user's file")

    monkeypatch.setattr("os.utime", refuse)
    assert kept.read("good", weights) is not None


def test_the_margin_counts_for_the_last_matrix_too(monkeypatch):
    monkeypatch.setattr(kept, "read", lambda name, weights: kept.Chosen({}, 0.004))
    with pytest.raises(BackendUnavailable, match=r"it would cost 0.004 bit a sample, more than 0.0035"):
        Engine(tame_model(), backend="cpu", dtype="int4")
