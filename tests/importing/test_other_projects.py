"""Checkpoints as other projects wrote them, imported: they give the logits and the audio those projects computed."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import samplernn_fast as srnn
from samplernn_fast.audio.quantize import for_config
from samplernn_fast.importing.foreign import read_checkpoint
from samplernn_fast.models.checkpoint import load_model, save_model

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="no fixtures beside the repository")

# Every way to name each checkpoint, by its folder.
CHECKPOINTS = {
    "deepsound/rnn2_fs4x2_d32_q256_wn_h0": ["ep3-it450", "."],
    "deepsound/rnn1_fs2x2x3_d24_q64_nown_noh0_legacyfile": ["best-ep3-it450", "."],
    "deepsound/rnn1_fs3x2_d16_q32_wn_h0_torch02file": ["ep3-it450", "ep3-it450.torch02"],
    "s4/rnn1_fs8x2x2_d24_mulaw": ["checkpoint.pt", "checkpoint.ckpt"],
    "s4/rnn2_fs4x2_d32_linear": ["checkpoint.pt", "checkpoint.ckpt"],
    "prism/gru2_fs2-8_d24_mulaw": [".", "checkpoint", "model.ckpt-1"],
    "prism/gru3skip_fs4-16_d32_linear64": ["model.ckpt-1.index", "model.ckpt-1.data-00000-of-00001"],
    "prism/lstm2_fs3-6_d24_linear128": ["model.ckpt-1"],
    "theano/three_tier_gru1_8-2_d24_q64_wn_h0": ["params_e2_i1500_t0.75_tr3.2100_v3.3400_best.pkl", "."],
    "theano/two_tier_gru2_4_d32_q51_nown_noh0": ["params_e2_i1500_t0.75_tr3.2100_v3.3400.pkl"],
    "theano/two_tier_lstm2skip_6_d24_mulaw_wn_h0": ["params_e2_i1500_t0.75_tr3.2100_v3.3400.pkl"],
}
FILES = [(folder, file) for folder, files in CHECKPOINTS.items() for file in files]


def expected_of(folder: str) -> tuple[dict, dict[str, np.ndarray]]:
    path = FIXTURES / folder
    return json.loads((path / "meta.json").read_text()), dict(np.load(path / "expected.npz"))


@pytest.fixture(scope="module", params=FILES, ids=["/".join(names) for names in FILES])
def imported(request, tmp_path_factory):
    """A model that went through a run folder, and what its project computed from the same file."""
    if not FIXTURES.is_dir():
        pytest.skip("no fixtures beside the repository")
    folder, file = request.param
    run = tmp_path_factory.mktemp("run") / "model.safetensors"
    save_model(run, read_checkpoint(FIXTURES / folder / file).model)
    return load_model(run), *expected_of(folder)


def test_structure(imported):
    model, meta, _ = imported
    config, common = model.config, meta["common"]
    assert config.frame_sizes == (common["frame_samples"][0], *common["frame_samples"])
    assert list(config.ratios) == common["ratios"]
    for name in ("q_levels", "n_rnn", "dim", "emb_size", "learn_h0"):
        assert getattr(config, name) == common[name], name
    assert config.rnn == common["rnn_type"]
    assert config.rnn == "lstm" or config.reset_after == (common["gru_form"] == "reset_after")
    assert (config.skip != "none") == common["skip_conn"]
    assert (config.weight_norm != "none") == common["weight_norm"]
    assert config.quantization == f"{common['q_type']}-{meta['project']}"


def test_float64_logits_and_states(imported):
    model, _, expected = imported
    exact, tokens = copy.deepcopy(model).double(), torch.from_numpy(expected["tokens"]).long()
    with torch.no_grad():
        logits, state = exact(tokens)
    if "logits_f64" in expected:
        torch.testing.assert_close(logits, torch.from_numpy(expected["logits_f64"]), rtol=0, atol=1e-9)
    for tier, hidden in enumerate(state):
        theirs = torch.from_numpy(expected[f"tier{tier}_state_f64"])
        torch.testing.assert_close(hidden, theirs.flatten(2), rtol=0, atol=1e-9)


def their_log_probabilities(expected: dict[str, np.ndarray]) -> torch.Tensor:
    values = expected["logprobs_f64"] if "logprobs_f64" in expected else expected["logits_f64"]
    return torch.log_softmax(torch.from_numpy(values), dim=-1)


@pytest.mark.parametrize(
    ("backend", "dtype", "limit"),
    [("reference", "float64", 1e-9), ("reference", "float32", 1e-4), ("cpu", "float32", 1e-4)],
)
def test_scores(imported, backend, dtype, limit):
    model, _, expected = imported
    scored = torch.from_numpy(srnn.Engine(model, backend=backend, dtype=dtype).score(expected["tokens"]))
    torch.testing.assert_close(scored.double(), their_log_probabilities(expected), rtol=0, atol=limit)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_native_float32_scores(imported, backend):
    model, meta, expected = imported
    values = expected["logprobs_f32"] if "logprobs_f32" in expected else expected["logits_f32"]
    tokens = expected["tokens"][meta["f32_rows"]]
    scored = torch.from_numpy(srnn.Engine(model, backend=backend, dtype="float32").score(tokens))
    theirs = torch.log_softmax(torch.from_numpy(values).double(), dim=-1)
    torch.testing.assert_close(scored.double(), theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_greedy_from_silence(imported, backend):
    model, _, expected = imported
    engine = srnn.Engine(model, backend=backend)
    made = engine.run(engine.init_state(1, temperature=0), len(expected["greedy"]))
    assert made[0].tolist() == expected["greedy"].tolist()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_greedy_from_a_prompt(imported, backend):
    """What stands in the window before the first frame is context only: no state has heard it."""
    model, _, expected = imported
    if "primed" not in expected:
        pytest.skip("the project cannot be primed")
    engine = srnn.Engine(model, backend=backend)
    lead, prefix, primed = (expected[f"primed{part}"].astype(np.int64) for part in ("_lead", "_prefix", ""))
    state = engine.init_state(len(lead), temperature=0)
    state.history = lead
    engine.run(state, prefix.shape[1], forced=prefix)
    assert np.array_equal(engine.run(state, primed.shape[1]), primed)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_likeliest_level_after_a_prompt(imported, backend):
    """Row 0 starts from silence: its first t samples as a prompt, then the level that the project thinks likeliest."""
    model, _, expected = imported
    engine, lookback = srnn.Engine(model, backend=backend), model.config.lookback
    row, likeliest = expected["tokens"][0, lookback:], their_log_probabilities(expected)[0].argmax(dim=-1)
    for length in (1, lookback - 1, lookback, lookback + 1, 2 * lookback + 1, len(row) - 1):
        state = engine.init_state(1, temperature=0, prompt=row[:length])
        assert engine.run(state, 1).item() == likeliest[length].item(), length


def test_quantizer(imported):
    model, _, expected = imported
    quantizer = for_config(model.config)
    assert np.array_equal(quantizer.encode(expected["wave"]), expected["wave_tokens"])
    if "decode" in expected:
        np.testing.assert_allclose(quantizer.decode_table(), expected["decode"], rtol=0, atol=1e-6)


@needs_fixtures
def test_every_fixture_is_read():
    folders = {str(meta.parent.relative_to(FIXTURES)) for meta in FIXTURES.glob("*/*/meta.json")}
    assert folders == set(CHECKPOINTS)
