"""What an update consists of: parts that fit into memory, AdamW, and averages of the weights."""

import os
import re
import signal
from dataclasses import replace

import pytest
import torch
from command_line import run as command
from runs import DENSE, TINY, assert_equal, assert_same_run, everything, sparse_settings, tiny, trainer, weights

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import SampleRNNConfig, SparseSampleRNNConfig
from samplernn_fast.models.other_configs import OneTierConfig, WaveNetConfig
from samplernn_fast.models.registry import build_model
from samplernn_fast.training import memory
from samplernn_fast.training import trainer as trainer_module
from samplernn_fast.training.trainer import Trainer, train
from samplernn_fast.training.updates.averaging import Average
from samplernn_fast.training.updates.gradients import parts
from samplernn_fast.training.updates.optimizer import decays

WAVENET = WaveNetConfig(sample_rate=0, gain=0.0, dim=8, q_levels=64, blocks=1, layers=4)


def stop_at(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """This process sends itself a SIGTERM inside these updates."""
    update = Trainer.update

    def interrupted(self: Trainer, batch: object) -> None:
        update(self, batch)
        if self.step in steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "update", interrupted)


def test_parts_are_all_rows_once():
    assert parts(4, 1) == [slice(0, 4)] and parts(2, 8) == [slice(0, 1), slice(1, 2)]
    for rows in (1, 5, 8, 17):
        for count in (1, 2, 3, 8):
            sizes = [part.stop - part.start for part in parts(rows, count)]
            assert sum(sizes) == rows and max(sizes) - min(sizes) <= 1 and len(sizes) == min(rows, count)
            assert max(sizes) == -(-rows // count)  # what the estimate of memory takes for the largest


@pytest.mark.parametrize("kind", ["lstm", "wavenet", "sparse"])
@pytest.mark.parametrize("rows", [8, 7])
def test_an_update_in_parts_is_that_of_the_whole_batch(kind, rows, data_folder, tmp_path, dense_run):
    """The same gradients, states and bits up to rounding, over updates in which states go on and rows start anew."""

    def of(count: int) -> Trainer:
        model = {"lstm": {"rnn": "lstm", "n_rnn": 2}, "wavenet": WAVENET}.get(kind)
        settings = {"accumulate": count, "batch_size": rows, "lr": 1e-5}
        if kind == "sparse":
            run = trainer(sparse_settings(data_folder, tmp_path / "run", dense_run, **settings))
            with torch.no_grad():  # as long as it equals its teacher, its gradients are rounding and nothing else
                run.model.get_parameter("mlp.output").mul_(1.5)
            return run
        return trainer(tiny(data_folder, tmp_path / "run", steps=9, model=model, **settings))

    whole, made = of(1), of(4)
    assert (made.teacher is not None) == (kind == "sparse")
    for _ in range(6):
        whole.update(next(whole.batches))
        made.update(next(made.batches))
        for (name, one), other in zip(whole.model.named_parameters(), made.model.parameters(), strict=True):
            scale = one.grad.abs().max().item()
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-4 * scale + 1e-9, msg=name)
        for one, other in zip(whole.state, made.state, strict=True):
            assert one.shape == other.shape and not other.requires_grad
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(made.sums, whole.sums, rtol=1e-5, atol=0)


def test_a_part_is_all_that_the_model_reads_at_a_time(data_folder, tmp_path):
    run = trainer(tiny(data_folder, tmp_path / "run", steps=1, accumulate=2))
    read = []
    run.model.register_forward_hook(lambda module, given, result: read.append(len(given[0])))
    run.update(next(run.batches))
    assert read == [2, 2]


def test_the_estimate_of_memory_is_that_of_a_part(data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=1, seq_len=2**16, batch_size=16)
    needed = memory.update_bytes(config, 16)
    monkeypatch.setattr(memory, "_free_bytes", lambda device: needed // 3)
    with pytest.raises(ConfigError, match=r"or raise accumulate \(now 1\), which makes an update in parts"):
        memory.check_memory(config, 1, torch.device("cpu"))
    assert memory.check_memory(replace(config, accumulate=2), 1, torch.device("cpu")).startswith("an update needs")
    assert memory.check_memory(replace(config, accumulate=4), 1, torch.device("cpu")) == ""
    averaged = memory.update_bytes(replace(config, ema=0.9), 16)
    assert averaged - needed == 4 * config.model.least_values


def test_a_run_with_all_of_it_that_is_interrupted_ends_as_one_that_was_not(data_folder, tmp_path, monkeypatch):
    settings = {"accumulate": 3, "weight_decay": 0.1, "ema": 0.9, "warmup_steps": 5}
    whole = tiny(data_folder, tmp_path / "whole", steps=25, **settings)
    train(whole)
    broken = replace(whole, out=tmp_path / "parts")
    with monkeypatch.context() as patched:
        stop_at(patched, 3, 14)
        assert [train(broken).steps for _ in range(2)] == [3, 14]
    train(broken)
    assert_same_run(broken.out, whole.out)


def test_adamw_shrinks_matrices_and_nothing_else(data_folder, tmp_path):
    """Behind one update, what decays is that of Adam less lr times the decay of what was there before."""
    runs = [trainer(tiny(data_folder, tmp_path / "run", steps=1, lr=0.01, weight_decay=decay)) for decay in (0.0, 0.5)]
    assert [type(run.optimizer) for run in runs] == [torch.optim.Adam, torch.optim.AdamW]
    before = {name: one.detach().clone() for name, one in runs[0].model.named_parameters()}
    for run in runs:
        run.update(next(run.batches))
    adam, adamw = (dict(run.model.named_parameters()) for run in runs)
    for name, one in adam.items():
        shrunk = one - (0.01 * 0.5 * before[name] if decays(runs[0].model, name) else 0)
        torch.testing.assert_close(adamw[name], shrunk, rtol=1e-5, atol=1e-7, msg=name)
    assert any(not torch.equal(adam[name], adamw[name]) for name in adam)


@pytest.mark.parametrize(
    ("config", "decayed"),
    [
        (
            SampleRNNConfig(**TINY | {"sample_rate": 8000, "gain": 1.0}),
            r"mlp\.(input|hidden\.\d|output)\.parametrizations\.weight\.original1"
            r"|tiers\.\d\.(expand|up)\.parametrizations\.weight\.original1"
            r"|tiers\.\d\.rnn\.layers\.0\.parametrizations\.w_[ih]h\.original1",
        ),
        (
            SampleRNNConfig(**TINY | {"sample_rate": 8000, "gain": 1.0, "weight_norm": "none", "rnn": "lstm"}),
            r"mlp\.(input|hidden\.\d|output)\.weight|tiers\.\d\.(expand|up)\.weight|tiers\.\d\.rnn\.layers\.0\.w_[ih]h",
        ),
        (
            SparseSampleRNNConfig.of(replace(DENSE, sample_rate=8000, gain=1.0), 0.5),
            r"tier\d\.(frame|recurrent|up)|mlp\.(hidden0|output)",
        ),
        (
            OneTierConfig(sample_rate=8000, dim=8, q_levels=64, emb_size=8),
            r"rnn\.layers\.0\.parametrizations\.w_[ih]h\.original1"
            r"|(output|hidden\.\d)\.parametrizations\.weight\.original1",
        ),
        (
            replace(WAVENET, sample_rate=8000, gain=1.0),
            r"stack\.(gate|residual|skip)_weight|head\.(hidden|output)\.weight",
        ),
    ],
)
def test_matrices_decay(config, decayed):
    model = build_model(config, seed=None)
    names = [name for name, _ in model.named_parameters()]
    found = {name for name in names if decays(model, name)}
    assert found == {name for name in names if re.fullmatch(decayed, name)} and 2 < len(found) < len(names)


def test_an_average_is_that_of_the_formula(data_folder, tmp_path):
    run = trainer(tiny(data_folder, tmp_path / "run", steps=8, ema=0.3))
    assert [run.average.decay_at(step) for step in (1, 2, 3, 100)] == [2 / 11, 3 / 12, 0.3, 0.3]
    average = {name: one.double().clone() for name, one in run.model.state_dict().items()}
    for step in range(1, 5):
        run.update(next(run.batches))
        run.average.after_update(run.model, step, None)
        stays = run.average.decay_at(step)
        for name, one in run.model.state_dict().items():
            average[name] = stays * average[name] + (1 - stays) * one.double()
    for name, one in run.result.state_dict().items():
        torch.testing.assert_close(one.double(), average[name], rtol=1e-5, atol=1e-7, msg=name)
    assert run.result is not run.model


def test_averages_are_validated_kept_and_heard(data_folder, tmp_path, monkeypatch):
    seen = []
    for name in ("evaluate", "make_sound"):
        work = getattr(trainer_module, name)

        def watched(model, *args, _work=work, **settings):
            seen.append(model)
            return _work(model, *args, **settings)

        monkeypatch.setattr(trainer_module, name, watched)
    built = []
    original = Average.__init__
    monkeypatch.setattr(Average, "__init__", lambda self, *args: (original(self, *args), built.append(self))[0])
    config = tiny(data_folder, tmp_path / "run", steps=10, ema=0.5, sample_every=5, sample_seconds=0.01, eval_every=5)
    train(config)
    assert len(seen) == 4 and all(model is built[0].model for model in seen)
    tensors = everything(config.out)
    averages = {name[4:]: tensor for name, tensor in tensors.items() if name.startswith("ema.")}
    assert_equal(checkpoint.load_model(config.out).state_dict(), averages)
    assert_equal(checkpoint.load_model(config.out / checkpoint.LAST_FILE).state_dict(), weights(config.out))
    assert not torch.equal(averages["mlp.output.bias"], weights(config.out)["mlp.output.bias"])
    assert command("info", config.out) == 0


def test_info_says_that_weights_are_averages(data_folder, tmp_path, capsys):
    config = tiny(data_folder, tmp_path / "run", steps=1, ema=0.5)
    train(config)
    capsys.readouterr()
    assert command("info", config.out) == 0
    assert re.search(r"^weights +averaged over updates \(ema 0.5\)$", capsys.readouterr().out, re.M)


def test_an_average_changes_nothing_of_the_training(data_folder, tmp_path):
    plain, averaged = (tiny(data_folder, tmp_path / str(ema), steps=8, ema=ema) for ema in (0.0, 0.9))
    for config in (plain, averaged):
        train(config)
    found = everything(averaged.out)
    assert_equal(everything(plain.out), {name: one for name, one in found.items() if not name.startswith("ema.")})


def test_pruned_blocks_are_zero_in_the_average(data_folder, tmp_path, dense_run):
    config = sparse_settings(data_folder, tmp_path / "run", dense_run, ema=0.99)
    train(config)
    tensors = everything(config.out)
    for name in ("tier0.recurrent", "tier1.recurrent", "mlp.hidden0"):
        assert torch.equal(tensors[f"ema.{name}"] == 0, tensors[f"model.{name}"] == 0), name
        assert (tensors[f"ema.{name}"] == 0).float().mean() > 0.5
    model = checkpoint.load_model(config.out)
    assert torch.equal(model.get_parameter("mlp.hidden0") == 0, tensors["model.mlp.hidden0"] == 0)


def test_an_average_that_is_missing_or_damaged_is_named(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=2, ema=0.9)
    train(config)
    file = config.out / checkpoint.LAST_FILE
    tensors, header = checkpoint.read(file)
    model = trainer(config).config.model
    without = {name: tensor for name, tensor in tensors.items() if name != "ema.mlp.output.bias"}
    checkpoint.save_training(file, without, model, header["progress"])
    with pytest.raises(CheckpointError, match=r"mlp\.output\.bias is missing"):
        train(replace(config, max_steps=3))
    tensors["ema.mlp.output.bias"][0] = torch.nan
    checkpoint.save_training(file, tensors, model, header["progress"])
    with pytest.raises(CheckpointError, match=r"mlp\.output\.bias holds a value that is not finite"):
        train(replace(config, max_steps=3))


@pytest.mark.parametrize("change", [{"ema": 0.9}, {"weight_decay": 0.1}])
def test_averages_and_decay_stay_as_a_run_began(change, data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=2)
    train(config)
    (name,) = change
    with pytest.raises(ConfigError, match=f"was trained with {name} = 0.0, this command says"):
        train(replace(config, max_steps=3, **change))


@pytest.mark.parametrize("change", [{"ema": 1.0}, {"ema": -0.1}, {"weight_decay": -1.0}, {"accumulate": 0}])
def test_settings_beyond_their_range_are_refused(change, data_folder, tmp_path):
    (name,) = change
    with pytest.raises(ConfigError, match=f"^{name} must be"):
        tiny(data_folder, tmp_path / "run", steps=1, **change)
