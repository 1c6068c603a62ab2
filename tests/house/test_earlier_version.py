"""Files that version 0.1.0 wrote: prepared data, run folders, an engine's state; and the levels that it made."""

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import samplernn_fast as srnn
from samplernn_fast.models.other_configs import config_from_dict
from samplernn_fast.models.stored.arrays import describe

FOLDER = Path(__file__).parent / "earlier_version"
EXPECTED = np.load(FOLDER / "expected.npz")
REFERENCE = np.load(FOLDER / "expected-reference.npz")
MAKE = runpy.run_path(str(FOLDER / "make.py"))


def saved_settings(run: str, **changes: object) -> srnn.TrainConfig:
    """The settings that a run folder was trained with, as its config.json has them."""
    values = json.loads((FOLDER / run / "config.json").read_text())
    model = values.pop("model")
    return srnn.TrainConfig(**values | {"model": config_from_dict(model)} | changes)


@pytest.fixture
def int8_engine() -> srnn.Engine:
    try:
        return srnn.Engine(srnn.load(FOLDER / "run"), backend="cpu", dtype="int8", device="cpu")
    except srnn.BackendUnavailable as error:
        pytest.skip(str(error))


def test_a_run_folder_is_the_same_model(int8_engine):
    assert int8_engine.model_sha256 == str(EXPECTED["model_sha256"])


def test_a_seed_makes_the_same_levels(int8_engine):
    settings = {"seed": 7, "temperature": (0.9, 1.1), "top_k": 40, "top_p": 0.98, "first_stream": 5}
    levels = int8_engine.run(int8_engine.init_state(2, **settings), 200)
    assert np.array_equal(levels, np.concatenate((EXPECTED["first"], EXPECTED["then"]), axis=1))


def test_an_engine_state_goes_on_with_the_same_levels(int8_engine):
    state = int8_engine.init_state(2)
    state.load_state_dict(torch.load(FOLDER / "engine-state.pt", weights_only=True))
    assert np.array_equal(int8_engine.run(state, EXPECTED["then"].shape[1]), EXPECTED["then"])


def test_the_reference_makes_the_same_levels():
    engine = srnn.Engine(srnn.load(FOLDER / "run"), backend="reference", dtype="float64", device="cpu")
    levels = engine.run(engine.init_state(2, seed=7), EXPECTED["exact"].shape[1])
    assert np.array_equal(levels, EXPECTED["exact"])


@pytest.mark.parametrize("name", MAKE["SHAPES"])
def test_the_reference_in_float32_makes_the_same_levels_and_is_as_exact(name, monkeypatch):
    """Models of several tiers behind a prompt: 600 levels of two streams. Scores in float32 depend on the processor,
    whose products torch adds in an order of its own, so both versions are compared with scores in float64."""
    levels, scores = MAKE["by_the_reference"](name)
    assert np.array_equal(levels, REFERENCE[name])
    engine = srnn.Engine
    monkeypatch.setattr(srnn, "Engine", lambda model, **how: engine(model, **(how | {"dtype": "float64"})))
    _, exact = MAKE["by_the_reference"](name)
    assert exact.dtype == np.float64
    earlier = np.abs(REFERENCE[name + "_scores"] - exact).max()
    assert np.abs(scores - exact).max() < 1.5 * earlier < 1e-5


def test_the_one_tier_baseline_keeps_its_hash():
    assert describe(FOLDER / "rnn-run")["model_sha256"] == str(REFERENCE["rnn_sha256"])


def test_the_model_that_was_bundled_makes_the_same_levels(int8_engine):
    made = srnn.generate(
        FOLDER / "demo.safetensors", duration=0.02, num_samples=2, seed=3, backend="cpu", dtype="int8", device="cpu"
    )
    assert np.array_equal(made.tokens, EXPECTED["demo"])


@pytest.mark.parametrize(("run", "place"), [("run", 0), ("rnn-run", 1)])
def test_prepared_data_and_a_run_score_as_before(run, place):
    result = srnn.evaluate(FOLDER / run, FOLDER / "data", backend="forward", device="cpu")
    assert result.nll_bits == pytest.approx(float(EXPECTED["nll_bits"][place]), abs=1e-5)


@pytest.mark.parametrize("run", ["run", "rnn-run"])
def test_a_run_is_resumed(run, tmp_path):
    out = tmp_path / run
    shutil.copytree(FOLDER / run, out)
    settings = saved_settings(run, data=FOLDER / "data", out=out, max_steps=8)
    result = srnn.train(settings)
    assert (result.steps, result.stopped) == (8, "max_steps")
    before = (FOLDER / run / "log.csv").read_text()
    assert (out / "log.csv").read_text().startswith(before)


@pytest.mark.parametrize("run", ["run", "rnn-run"])
def test_a_finished_run_stays_as_it_is(run, tmp_path):
    out = tmp_path / run
    shutil.copytree(FOLDER / run, out)
    srnn.train(saved_settings(run, data=FOLDER / "data", out=out))
    for name in ("model.safetensors", "last.safetensors", "log.csv"):
        assert (out / name).read_bytes() == (FOLDER / run / name).read_bytes(), name
