"""Checkpoints of many shapes, made from our own models in other projects' names and files, come back bit for bit."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from cases import random_levels
from command_line import run
from exporters import deepsound_state, float32_model, prism_arrays, theano_arrays, write_bundle, write_theano
from foreign_configs import DEEPSOUND, PRISM, S4, THEANO, prism_config, theano_config, torch_config

import samplernn_fast as srnn
from samplernn_fast.audio.quantize import for_config
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.importing.foreign import read_checkpoint
from samplernn_fast.importing.parity import Parity, check_parity
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference import backend as reference_backend


def cases(table):
    return pytest.mark.parametrize("name", table)


def assert_same_model(got: srnn.SampleRNN, wanted: srnn.SampleRNN) -> None:
    """The same config, and the same logits to 1e-12 in float64."""
    assert got.config == wanted.config
    levels = random_levels(wanted.config, 3, wanted.config.lookback * 3)
    with torch.no_grad():
        expected = copy.deepcopy(wanted).double()(levels)[0]
        found = copy.deepcopy(got).double()(levels)[0]
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def kind(config: SampleRNNConfig) -> str:
    return config.quantization.rsplit("-", 1)[0]


@cases(DEEPSOUND)
def test_deepsound(name, tmp_path):
    config, prefix, new_style = DEEPSOUND[name]
    model = float32_model(config)
    torch.save(deepsound_state(model, prefix, new_style=new_style), tmp_path / "best-ep1-it2")
    assert_same_model(read_checkpoint(tmp_path / "best-ep1-it2").model, model)
    assert_same_model(read_checkpoint(tmp_path).model, model)


@cases(S4)
def test_s4(name, tmp_path):
    config, prefix = S4[name]
    model = float32_model(config)
    state = deepsound_state(model, prefix, h0_in_gru=True)
    torch.save(state, tmp_path / "model.pt")
    assert_same_model(read_checkpoint(tmp_path / "model.pt", quantization=kind(config)).model, model)
    torch.save({"epoch": 3, "state_dict": state, "optimizer_states": [{"lr": 0.1}]}, tmp_path / "model.ckpt")
    found = read_checkpoint(tmp_path / "model.ckpt", config={"quantization": kind(config)})
    assert_same_model(found.model, model)
    hydra = {"dataset": {"quantization": kind(config)}, "model": {"quantization": "${dataset.quantization}"}}
    (tmp_path / "config.json").write_text(json.dumps(hydra))
    assert_same_model(read_checkpoint(tmp_path / "model.pt").model, model)


@cases(PRISM)
def test_prism(name, tmp_path):
    config, shards = PRISM[name]
    model = float32_model(config)
    write_bundle(tmp_path / "model.ckpt-3", prism_arrays(model, "model/" if shards > 1 else ""), shards)
    settings = {"q_type": kind(config), "frame_sizes": list(config.frame_sizes[1:]), "num_rnn_layers": config.n_rnn}
    settings |= {"dim": config.dim, "rnn_type": config.rnn, "skip_conn": config.skip == "prism", "emb_size": 3}
    (tmp_path / "mine.config.json").write_text(json.dumps(settings))
    assert_same_model(read_checkpoint(tmp_path).model, model)
    assert_same_model(read_checkpoint(tmp_path / "model.ckpt-3.index").model, model)
    (tmp_path / "mine.config.json").unlink()
    assert_same_model(read_checkpoint(tmp_path / "model.ckpt-3", quantization=kind(config)).model, model)


@cases(THEANO)
def test_theano(name, tmp_path):
    config, protocol = THEANO[name]
    model = float32_model(config)
    write_theano(tmp_path / "params_e1.pkl", theano_arrays(model), protocol)
    assert_same_model(read_checkpoint(tmp_path / "params_e1.pkl", quantization=kind(config)).model, model)


def test_theano_settings_come_from_the_run_folder(tmp_path):
    model = float32_model(theano_config(4, mu=True))
    params = tmp_path / "exp" / "params"
    params.mkdir(parents=True)
    write_theano(params / "params.pkl", theano_arrays(model))
    with pytest.raises(ConfigError, match="give linear or mu-law as quantization"):
        read_checkpoint(params / "params.pkl")
    words = "two_tier.py --frame_size 4 --dim 16 --n_rnn 1 --rnn_type GRU --skip_conn F --q_type mu-law"
    write_theano(tmp_path / "exp" / "args.pkl", words.split(), protocol=0)
    found = read_checkpoint(params / "params.pkl")
    assert_same_model(found.model, model)
    assert found.notes == ["settings read from args.pkl"]
    named = tmp_path / "two_tier.py-frame_size4-q_typemu-law-batch_size128" / "params"
    named.mkdir(parents=True)
    write_theano(named / "params.pkl", theano_arrays(model))
    assert_same_model(read_checkpoint(named / "params.pkl").model, model)


@pytest.mark.parametrize(
    ("script", "rate"),
    [
        ("models/two_tier/two_tier.py", 16000),
        ("models/three_tier/three_tier.py", 16000),
        ("two_tier32k.py", 32000),
        ("models/two_tier/two_tier16k_conditioning.py", 16000),
        ("two_tier_generate32k.py", 32000),
    ],
)
def test_theano_scripts_tell_the_sample_rate(script, rate, tmp_path):
    write_theano(tmp_path / "params.pkl", theano_arrays(float32_model(theano_config(4))))
    write_theano(tmp_path / "args.pkl", [script, "--q_type=linear", "--dim=16"], protocol=0)
    assert read_checkpoint(tmp_path / "params.pkl").model.config.sample_rate == rate
    assert read_checkpoint(tmp_path / "params.pkl", sample_rate=8000).model.config.sample_rate == 8000


@pytest.mark.parametrize("dtype", ["f8", "f2"])
def test_other_precisions_are_read(dtype, tmp_path):
    """float64 is rounded to our float32, float16 kept exactly."""
    model = float32_model(prism_config(2, 4, q=9, dim=8))
    rounded = copy.deepcopy(model)
    if dtype == "f2":
        rounded.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    arrays = prism_arrays(rounded)
    write_bundle(tmp_path / "c", {n: a.astype(dtype) if a.dtype == "f4" else a for n, a in arrays.items()})
    assert_same_model(read_checkpoint(tmp_path / "c").model, rounded)


def test_a_run_folder_like_any_other(tmp_path, capsys):
    config, prefix, _ = DEEPSOUND["odd"]
    torch.save(deepsound_state(float32_model(config), prefix), tmp_path / "ep1-it2")
    assert run("import", tmp_path / "ep1-it2", "-o", tmp_path / "run", "--sample-rate", "8000") == 0
    printed = capsys.readouterr().out
    assert "parity" in printed and "linear-deepsound" in printed and "assumed" not in printed
    assert (tmp_path / "run" / checkpoint.CONFIG_FILE).is_file()
    assert srnn.load(tmp_path / "run").config.sample_rate == 8000
    prompt = np.sin(np.arange(400) / 10).astype(np.float32)
    for backend in ("cpu", "reference"):
        audio = srnn.generate(tmp_path / "run", duration=0.05, num_samples=2, prompt=prompt, backend=backend)
        assert audio.samples.shape == (2, 400) and audio.sample_rate == 8000
    assert next(srnn.stream(tmp_path / "run", block_seconds=0.01)).shape == (1, 80)
    assert run("import", tmp_path / "ep1-it2", "-o", tmp_path / "run") == 1
    assert "--overwrite" in capsys.readouterr().err
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "a.wav").touch()
    assert run("import", tmp_path / "ep1-it2", "-o", tmp_path / "songs", "--overwrite") == 2
    assert "songs holds something else than a model (a.wav)" in capsys.readouterr().err
    (tmp_path / "run" / checkpoint.LAST_FILE).touch()
    before = (tmp_path / "run" / checkpoint.MODEL_FILE).read_bytes()
    assert run("import", tmp_path / "ep1-it2", "-o", tmp_path / "run", "--overwrite") == 2
    assert "run holds a training run, which is never overwritten" in capsys.readouterr().err
    assert (tmp_path / "run" / checkpoint.MODEL_FILE).read_bytes() == before


def test_an_assumed_sample_rate_is_said(tmp_path):
    config, prefix, _ = DEEPSOUND["odd"]
    torch.save(deepsound_state(float32_model(config), prefix), tmp_path / "ep1-it2")
    with pytest.warns(UserWarning, match="16000 Hz is assumed"):
        assert srnn.import_checkpoint(tmp_path / "ep1-it2").config.sample_rate == 16000
    (tmp_path / "mine.yaml").write_text("sample_rate: 44100\n")
    assert srnn.import_checkpoint(tmp_path / "ep1-it2", config=tmp_path / "mine.yaml").config.sample_rate == 44100


def test_parity_notices_a_wrong_path(monkeypatch):
    model = float32_model(DEEPSOUND["odd"][0])
    assert check_parity(model, "x").reference < 1e-12

    monkeypatch.setattr(reference_backend, "gru_cell_ref", lambda gates, h, w_hh, b_n: h)
    with pytest.raises(CheckpointError, match="nothing was imported: parity"):
        check_parity(model, "x")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("ratios", "n_rnn", "dim", "learn_h0", "q_levels", "normed"),
    [((16, 4), 2, 40, True, 256, True), ((3, 2, 5), 1, 17, False, 50, False), ((2,), 3, 9, True, 31, True)],
)
def test_deepsounds_own_class(peer, monkeypatch, tmp_path, ratios, n_rnn, dim, learn_h0, q_levels, normed):
    torch.manual_seed(3)
    theirs = peer.SampleRNN(list(ratios), n_rnn, dim, learn_h0, q_levels, normed)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.dim() == 1 or name.endswith(("h0", "upsampling.bias")):
                parameter.normal_(0, 0.3)
            elif name.endswith("weight_g"):
                parameter.mul_(torch.rand_like(parameter) + 0.5)
    # Theirs divides in float32; everything else of it runs in float64.
    monkeypatch.setattr(peer.utils, "linear_dequantize", lambda samples, levels: samples.double() / (levels / 2) - 1)
    predictor = peer.Predictor(theirs)
    torch.save(predictor.state_dict(), tmp_path / "ep1-it1")
    model = read_checkpoint(tmp_path / "ep1-it1").model.double()
    levels = random_levels(model.config, 3, theirs.lookback * 4)
    with torch.no_grad():
        wanted = predictor.double()(levels[:, :-1], reset=True)
        found = model(levels)[0].log_softmax(dim=-1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("project", ["deepsound", "theano", "s4"])
def test_models_whose_rule_takes_the_peaks_of_a_file_are_evaluated(project, make_data, tmp_path):
    """Each recording has the levels that the project gives the whole file, wherever a batch is cut."""
    config = {
        "deepsound": torch_config((2, 4), q=64, dim=8),
        "theano": theano_config(2, 8, q=51, dim=8),
        "s4": torch_config((2, 4), dim=8, emb=3, quantization="mu-law-s4"),
    }[project]
    model = float32_model(dataclasses.replace(config, sample_rate=8000))
    folder = make_data(tmp_path, (0.3, 0.11, 0.7, 0.2), test=(0, 1, 2))
    found = srnn.evaluate(model, folder, "test", batch_size=2, backend="forward")
    data = AudioData.open(folder)
    for recording, file in zip(data.recordings("test"), found.per_file, strict=True):
        samples = data.audio[recording.offset : recording.offset + recording.length] / 32768.0
        levels = np.concatenate((np.full(config.lookback, config.q_zero), for_config(config).encode(samples)))
        wanted = model.nll_bits(torch.from_numpy(levels)[None].long()).item()
        assert file.path == recording.path and file.nll_bits == pytest.approx(wanted, abs=1e-5)


def test_a_warning_in_python_speaks_of_no_flag(tmp_path):
    config, prefix, _ = DEEPSOUND["odd"]
    torch.save(deepsound_state(float32_model(config), prefix), tmp_path / "ep1-it2")
    with pytest.warns(UserWarning, match="is assumed, .* give it as sample_rate") as caught:
        srnn.import_checkpoint(tmp_path / "ep1-it2")
    assert "--" not in str(caught[0].message)


def test_a_limit_that_was_raised_says_why():
    found = Parity(96, 1e-12, 1e-6, "", 1.0)
    assert [line.rsplit("(", 1)[1] for line in found.lines()] == ["limit 1e-09)", "limit 1e-04)"]
    raised = dataclasses.replace(found, scale=2.5).lines()
    assert "(limit 1e-09 times 2.5, as the largest logit is 25)" in raised[0]


def test_the_help_of_import_says_what_a_path_may_be(capsys):
    assert run("import", "--help") == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Checkpoint file, or a folder that holds one; for PRiSM also the prefix" in shown
