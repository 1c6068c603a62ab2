"""The one-tier baseline: its equations, and the same training, evaluation and files as any other model."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from cases import random_levels
from command_line import assert_one_line_error, run
from runs import assert_same_run, tiny

from samplernn_fast.audio.quantize import for_config
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import ConfigError
from samplernn_fast.evaluation.likelihood import evaluate
from samplernn_fast.models import checkpoint
from samplernn_fast.models.base import bits_per_sample
from samplernn_fast.models.config import OneTierConfig, SampleRNNConfig
from samplernn_fast.models.one_tier import OneTierRNN
from samplernn_fast.models.other_configs import config_from_dict
from samplernn_fast.training.trainer import Trainer, train

SMALL = {"dim": 16, "emb_size": 8, "q_levels": 64}
CELLS = {
    "gru": OneTierConfig(**SMALL, mlp_hidden=3),
    "reset-before": OneTierConfig(**SMALL, mlp_hidden=2, n_rnn=2, reset_after=False),
    "lstm-skips": OneTierConfig(**SMALL, mlp_hidden=2, rnn="lstm", n_rnn=3, skip="full"),
}
every_cell = pytest.mark.parametrize("name", CELLS)


def double(config):
    return OneTierRNN(config, seed=3).double()


def test_it_is_an_embedding_a_gru_and_an_mlp():
    """Equations 2 and 3 in torch's own layers, with weights copied."""
    model = double(replace(CELLS["gru"], n_rnn=2))
    gru = torch.nn.GRU(8, 16, num_layers=2, batch_first=True).double()
    with torch.no_grad():
        for index, layer in enumerate(model.rnn.layers):
            layer.b_hh.normal_()
            names = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
            for theirs, ours in names.items():
                getattr(gru, f"{theirs}_l{index}").copy_(getattr(layer, ours))
        levels = random_levels(model.config, 3, 41)
        x, last = gru(model.embedding.weight[levels[:, :40]])
        for layer in model.hidden:
            x = (x @ layer.weight.t() + layer.bias).clamp(min=0)
        logits, (state,) = model(levels)
    assert len(model.hidden) == 3
    torch.testing.assert_close(logits, x @ model.output.weight.t() + model.output.bias, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-12)


@every_cell
def test_logits_depend_on_earlier_samples_only(name):
    model = double(CELLS[name])
    levels = random_levels(model.config, 1, 12)
    changed = levels.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 64
    with torch.no_grad():
        before, after = model(levels)[0], model(changed)[0]
    assert torch.equal(before[:, :5], after[:, :5]) and not torch.equal(before[:, 5], after[:, 5])


@every_cell
def test_the_state_is_carried_and_reset(name):
    model = double(CELLS[name])
    levels = random_levels(model.config, 3, 31)
    with torch.no_grad():
        whole, _ = model(levels)
        first, state = model(levels[:, :11])
        second, _ = model(levels[:, 10:], state, torch.tensor([False, True, False]))
        fresh, _ = model(levels[:, 10:])
    torch.testing.assert_close(first, whole[:, :10], rtol=0, atol=1e-12)
    torch.testing.assert_close(second[[0, 2]], whole[[0, 2], 10:], rtol=0, atol=1e-12)
    torch.testing.assert_close(second[1], fresh[1], rtol=0, atol=1e-12)
    assert not torch.allclose(second[1], whole[1, 10:])


@every_cell
def test_every_parameter_learns(name):
    model = OneTierRNN(CELLS[name])
    model.nll_bits(random_levels(model.config, 2, 30)).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name


def baseline(data, out, steps):
    config = OneTierConfig(**SMALL, mlp_hidden=2, sample_rate=0, gain=0.0)
    return tiny(data, out, steps=steps, model=config, sample_every=0)


def test_an_interrupted_run_ends_as_one_that_was_not(data_folder, tmp_path, monkeypatch):
    whole, parts = (baseline(data_folder, tmp_path / name, 17) for name in ("whole", "parts"))
    train(whole)
    update = Trainer.update

    def interrupted(self, batch):
        update(self, batch)
        if self.step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "update", interrupted)
        assert train(parts).stopped == "signal"
    assert train(parts).stopped == "max_steps"
    assert_same_run(parts.out, whole.out)


def test_evaluation_is_the_mean_over_whole_recordings(data_folder, tmp_path):
    train(baseline(data_folder, tmp_path / "run", 3))
    result = evaluate(tmp_path / "run", data_folder, "test")
    model, data = checkpoint.load_model(tmp_path / "run"), AudioData.open(data_folder)
    total = 0.0
    for recording in data.recordings("test"):
        heard = torch.from_numpy(for_config(model.config).encode(data.samples(recording) / 32768))
        levels = torch.cat((torch.tensor([model.config.q_zero]), heard.long()))[None]
        with torch.no_grad():
            total += bits_per_sample(model(levels)[0], levels[:, 1:]).double().sum().item()
    assert result.n_samples == sum(recording.length for recording in data.recordings("test"))
    assert result.nll_bits == pytest.approx(total / result.n_samples, abs=1e-5)


def test_by_the_command_line(data_folder, tmp_path, capsys):
    small = "--dim 16 --emb-size 8 --q-levels 64 --batch-size 4 --seq-len 64 --device cpu --max-steps 2"
    out = tmp_path / "run"
    assert run("train", "rnn", "--data", data_folder, "--out", out, *small.split()) == 0
    assert "test NLL" in capsys.readouterr().out
    assert run("evaluate", out, "--data", data_folder) == 0
    capsys.readouterr()
    assert run("info", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["config"]["system"] == "rnn"
    assert run("generate", out, "--duration", "0.01", "-o", tmp_path / "made.wav") == 0
    assert (tmp_path / "made.wav").is_file()
    capsys.readouterr()
    assert run("evaluate", out, "--data", data_folder, "--backend", "triton") == 1
    assert "triton" in assert_one_line_error(capsys)


def test_an_unknown_setting_of_an_early_checkpoint_is_refused():
    early = {"frame_sizes": [1], "dim": 16, "frame_gain": 2.0}
    assert config_from_dict(early) == OneTierConfig(dim=16)
    with pytest.raises(ConfigError, match="unknown model settings"):
        config_from_dict(early | {"foo": 3})


def test_what_it_does_not_do_is_said_at_once():
    with pytest.raises(ConfigError, match="emb_size"):
        replace(CELLS["gru"], emb_size=0)
    for sizes in ((1,), (2,)):
        with pytest.raises(ConfigError, match=r"2 to 16 tiers, .* the one-tier baseline is OneTierConfig"):
            SampleRNNConfig(frame_sizes=sizes)


@pytest.mark.parametrize("config", [CELLS["gru"], SampleRNNConfig(dim=16)])
def test_a_config_is_read_back_by_its_systems_name(config):
    assert config_from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match=r"system must be one of samplernn, .*, got 'drum'"):
        config_from_dict(config.to_dict() | {"system": "drum"})
    other = OneTierConfig if isinstance(config, SampleRNNConfig) else SampleRNNConfig
    with pytest.raises(ConfigError, match="settings of another system"):
        other.from_dict(config.to_dict())
