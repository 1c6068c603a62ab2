"""Gradual pruning: how many blocks go and when, which ones stay, and that a run which was stopped does the same."""

import math
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from command_line import assert_one_line_error
from command_line import run as command
from runs import DENSE, assert_equal, assert_same_run, everything, sparse_model, sparse_settings, tiny, trainer
from warm_python import warm_python

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import OneTierConfig, SparseSampleRNNConfig
from samplernn_fast.models.registry import build_model
from samplernn_fast.models.sparse import blocks
from samplernn_fast.models.sparse.pruning import Pruning
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.trainer import train

SPARSE = SparseSampleRNNConfig.of(DENSE, 0.3)


def counts(model) -> dict[str, np.ndarray]:
    """How many blocks of every group of a model's matrices are not zero, (U, R)."""
    config = model.config
    found = {}
    for one in blocks.sparse_fields(config):
        every = blocks.to_blocks(model.get_parameter(one.name).detach().numpy(), config.dim)
        found[one.name] = (every != 0).any(axis=(3, 4)).sum(axis=2)
    return found


def everything_best(run) -> dict[str, torch.Tensor]:
    """The weights of a run's best model."""
    return checkpoint.load_model(run).state_dict()


def assert_pruned(model) -> None:
    """Every group has as many blocks as the density means, and recurrent matrices have their diagonals."""
    for one in blocks.sparse_fields(model.config):
        wanted = blocks.kept(model.config, one, model.config.density)
        assert (counts(model)[one.name] == wanted[:, None]).all(), one.name
        if one.name.endswith(".recurrent"):
            gates = model.get_parameter(one.name).detach().view(-1, model.config.dim, model.config.dim)
            assert (gates.diagonal(dim1=1, dim2=2) != 0).all()


def pruning() -> tuple[torch.nn.Module, Pruning]:
    model = build_model(SPARSE, seed=0)
    return model, Pruning(model, 0.5)


def test_blocks_go_on_a_cubic_curve_and_the_smallest_go_first():
    model, one = pruning()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert one.density(0) == 1 and one.density(0.5) == one.density(1) == SPARSE.density
    assert one.density(0.25) == pytest.approx(0.3 + 0.7 / 8)
    last, wanted = None, {}
    for field in blocks.sparse_fields(SPARSE):
        groups = blocks.grid(field.shape, SPARSE.dim)[1]
        wanted[field.name] = groups * int(blocks.kept(SPARSE, field, SPARSE.density).sum())
    assert not one.is_complete()
    for step in range(1, 101):
        one.after_update(step, step / 100)
        now = {name: int(found.sum()) for name, found in counts(model).items()}
        assert last is None or all(now[name] <= last[name] for name in now)
        if step % 10 and step > 1 and step < 50:
            assert now == last  # blocks are chosen at every tenth update
        assert one.is_complete() == all(now[name] == count for name, count in wanted.items())
        last = now
    assert one.is_complete()
    assert_pruned(model)
    name, dim = "mlp.hidden0", SPARSE.dim
    energy = np.square(blocks.to_blocks(before[name].numpy(), dim)).sum(axis=(3, 4))
    left = (blocks.to_blocks(model.get_parameter(name).detach().numpy(), dim) != 0).any(axis=(3, 4))
    for group in range(left.shape[1]):
        assert energy[0, group][left[0, group]].min() > energy[0, group][~left[0, group]].max()
    for other, parameter in model.named_parameters():
        kept = parameter.detach() != 0
        assert torch.equal(parameter.detach()[kept], before[other][kept]), other


def test_blocks_that_are_zero_stay_zero_while_weights_change():
    model, one = pruning()
    one.after_update(10, 0.1)
    zero = {name: p.detach() == 0 for name, p in model.named_parameters() if name in counts(model)}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    one.after_update(11, 0.11)
    for name, mask in zero.items():
        weight = model.get_parameter(name).detach()
        assert (weight[mask] == 0).all() and not torch.signbit(weight[mask]).any() and (weight[~mask] != 0).all()


@pytest.mark.parametrize("density", [0.01, 1.0])
@pytest.mark.parametrize("dim", [4, 13, 40])
def test_sizes_that_blocks_do_not_divide(data_folder, tmp_path, dim, density):
    config = SparseSampleRNNConfig.of(replace(DENSE, dim=dim), density)
    train(tiny(data_folder, tmp_path / "run", steps=4, model=config))
    model = checkpoint.load_model(tmp_path / "run")
    assert_pruned(model)
    if density == 1:
        assert all((found == found.max()).all() for found in counts(model).values())


def test_weights_that_are_all_zero_are_pruned_too():
    model, one = pruning()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    one.after_update(50, 0.5)
    left = {name: mask.sum(dim=2) for name, mask in one.tensors().items()}
    for field in blocks.sparse_fields(SPARSE):
        wanted = torch.from_numpy(blocks.kept(SPARSE, field, SPARSE.density))
        assert (left[f"blocks.{field.name}"] == wanted[:, None]).all()


def test_a_dense_model_is_folded_and_pruned(data_folder, tmp_path, dense_run):
    config = sparse_settings(data_folder, tmp_path / "run", dense_run, lr=1e-9, prune_until=1.0)
    first = trainer(config)
    dense = checkpoint.load_model(dense_run)
    levels = torch.randint(0, 64, (2, 8 + 64))
    torch.testing.assert_close(first.model(levels)[0], dense(levels)[0], rtol=0, atol=1e-4)
    train(config)
    model = checkpoint.load_model(config.out)
    assert model.config == replace(SPARSE, sample_rate=dense.config.sample_rate, gain=dense.config.gain)
    assert_pruned(model)


def test_the_best_model_is_one_that_has_its_density(data_folder, tmp_path, dense_run):
    """Pruning makes the model worse here, so that the first validations have the best bits."""
    config = sparse_settings(data_folder, tmp_path / "run", dense_run, lr=1e-9, eval_every=4, prune_until=0.9, keep=10)
    train(config)
    assert_pruned(checkpoint.load_model(config.out))
    kept = sorted((config.out / "models").iterdir())
    assert kept and all("step-00004" in file.name or "step-000036" in file.name for file in kept), kept
    for file in kept:
        assert_pruned(checkpoint.load_model(file))


def test_a_sparse_model_is_trained_on_and_made_sparser(data_folder, tmp_path, dense_run):
    first = sparse_settings(data_folder, tmp_path / "first", dense_run)
    train(first)
    before = counts(checkpoint.load_model(first.out))
    for density in (0.3, 0.15):
        model = sparse_model(density)
        second = tiny(
            data_folder, tmp_path / f"second-{density}", steps=4, model=model, init_from=first.out, prune_until=1.0
        )
        run = trainer(second)
        run.update(next(run.batches))
        run.pruning.after_update(1, 0.25)
        now = counts(run.model)
        assert all((now[name] <= before[name]).all() for name in now)
        train(second)
        assert_pruned(checkpoint.load_model(second.out))
    more = sparse_model(0.5)
    with pytest.raises(ConfigError, match=r"density must be at most 0\.3"):
        trainer(tiny(data_folder, tmp_path / "more", steps=4, model=more, init_from=first.out))


def test_a_curve_begins_at_the_density_of_its_source():
    model, _ = pruning()
    one = Pruning(model, 0.5, start=0.4)
    assert one.density(0) == pytest.approx(0.4) and one.density(0.5) == one.density(1) == 0.3
    assert one.density(0.25) == pytest.approx(0.3 + 0.1 / 8)


def test_a_finished_run_that_is_made_longer_keeps_its_best_model(data_folder, tmp_path, dense_run):
    """It is as sparse as it will be, so a later model replaces the best one only where it is better."""
    config = sparse_settings(data_folder, tmp_path / "run", dense_run, eval_every=8, keep=10, lr=1e-9)
    train(config)
    best = everything_best(config.out)
    longer = trainer(replace(config, max_steps=100))
    assert longer._ramping() is None and math.isfinite(longer.best_bits)
    with torch.no_grad():
        for parameter in longer.model.parameters():
            parameter.mul_(4)
    longer.run([], progress=False)
    assert_equal(everything_best(config.out), best)


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_a_run_that_starts_at_its_density_keeps_its_best_model_from_the_start(
    data_folder, tmp_path, dense_run, density
):
    first = sparse_settings(data_folder, tmp_path / "first", dense_run, model=sparse_model(density))
    train(first)
    config = sparse_settings(
        data_folder, tmp_path / "run", first.out, model=sparse_model(density), eval_every=4, keep=20, lr=1e-9
    )
    train(config)
    kept = [file.name for file in (config.out / "models").iterdir()]
    assert len(kept) == 10 and all(len(name) > len("step-000004.safetensors") for name in kept), kept


def test_a_run_whose_time_is_over_before_its_density_says_so(data_folder, tmp_path, dense_run, capsys):
    config = sparse_settings(data_folder, tmp_path / "run", dense_run, steps=10**6, max_minutes=0.005)
    assert train(config).stopped == "max_minutes"
    said = capsys.readouterr().err
    assert "of its blocks, and not yet the density of 0.3: max_minutes came before that; raise it to go on" in said
    train(sparse_settings(data_folder, tmp_path / "other", dense_run))
    assert "not yet the density" not in capsys.readouterr().err


def test_another_density_is_no_way_to_go_on(data_folder, tmp_path, dense_run):
    config = sparse_settings(data_folder, tmp_path / "run", dense_run, steps=4)
    train(config)
    for density in (0.2, 0.5):
        with pytest.raises(ConfigError, match=rf"trained with density = 0\.3, this command says {density}"):
            train(replace(config, max_steps=8, model=sparse_model(density)))


def test_search_does_not_judge_a_model_that_is_being_pruned(data_folder, tmp_path, dense_run):
    seen = []
    config = sparse_settings(data_folder, tmp_path / "run", dense_run, eval_every=4)
    train(config, watch=lambda step, seconds, bits: seen.append(step))
    assert seen and min(seen) >= 16 and max(seen) == 40


def test_only_sample_rnn_becomes_sparse(data_folder, tmp_path):
    run = tmp_path / "rnn"
    train(tiny(data_folder, run, steps=2, model=OneTierConfig(dim=8, emb_size=4, q_levels=64, sample_rate=0, gain=0.0)))
    with pytest.raises(ConfigError, match="only SampleRNN can be made sparse"):
        trainer(sparse_settings(data_folder, tmp_path / "run", run))


def test_a_run_without_an_end_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="max_steps or max_minutes"):
        TrainConfig(data=tmp_path, out=tmp_path, model=SPARSE)


def test_a_preset_without_an_end_takes_one_from_its_flags(data_folder, tmp_path, capsys):
    flags = "--density 0.3 --dim 16 --q-levels 64 --batch-size 2 --seq-len 64 --sample-every 0".split()
    given = ["train", "paper-2tier", *flags, "--data", data_folder, "--out", tmp_path / "run"]
    assert command(*given) == 2 and "must say how long" in assert_one_line_error(capsys)
    assert command(*given, "--max-steps", "2") == 0
    assert_pruned(checkpoint.load_model(tmp_path / "run"))


def test_a_run_by_the_clock_ends_with_its_density(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=None, model=SPARSE, max_minutes=0.01, prune_until=1.0)
    assert train(config).stopped == "max_minutes"
    assert_pruned(checkpoint.load_model(config.out))


def test_an_interrupted_run_ends_as_one_that_was_not(data_folder, tmp_path, dense_run, monkeypatch):
    whole = sparse_settings(data_folder, tmp_path / "whole", dense_run)
    train(whole)
    parts = replace(whole, out=tmp_path / "parts")
    update = type(trainer(whole)).update
    for step in (3, 10, 19, 33):
        with monkeypatch.context() as patched:

            def interrupted(self, batch, step=step):
                update(self, batch)
                if self.step == step:
                    os.kill(os.getpid(), signal.SIGTERM)

            patched.setattr("samplernn_fast.training.trainer.Trainer.update", interrupted)
            assert train(parts).steps == step
    assert train(parts).stopped == "max_steps"
    assert_same_run(parts.out, whole.out)


KILLED_SOON = """
import signal, sys
from samplernn_fast.commands import main
from samplernn_fast.models import checkpoint

save, saved = checkpoint.save_training, []

def save_and_die_soon(*args):
    save(*args)
    if not saved:
        signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
    saved.append(args)

checkpoint.save_training = save_and_die_soon
main.main(sys.argv[2:])
"""
"""A command that the system's own alarm kills so soon after its first checkpoint. Python has no say in that."""


def test_a_run_that_is_killed_at_random_ends_as_one_that_was_not(data_folder, tmp_path, dense_run):
    """By the command line, as users do it."""
    flags = "--density 0.3 --max-steps 30 --batch-size 4 --seq-len 64 --save-every 3 --eval-every 7 --num-threads 1"
    command = ["sparsify", str(dense_run), "--data", str(data_folder), *flags.split()]
    command += ["--sample-every", "0", "--keep", "1", "-o"]
    usual = ["-m", "samplernn_fast", *command]
    # A new interpreter has another order of hashes, on which no bit may depend.
    assert subprocess.run([sys.executable, *usual, str(tmp_path / "whole")], capture_output=True).returncode == 0
    chance, statuses, parts = random.Random(2), [], tmp_path / "parts"
    while 0 not in statuses:
        after = f"{1e-6 + 0.05 * chance.random() ** 2:.6f}"
        python = ["-c", KILLED_SOON, after, *command] if len(statuses) < 4 else usual
        statuses.append(subprocess.run([warm_python(), *python, str(parts)], capture_output=True).returncode)
        assert statuses[-1] in (-signal.SIGALRM, 0)
    kills = statuses.count(-signal.SIGALRM)
    assert kills >= 2
    left, right = everything(parts), everything(tmp_path / "whole")
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    models = [checkpoint.load_model(run).state_dict() for run in (parts, tmp_path / "whole")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


@pytest.mark.parametrize("value", [None, torch.zeros(1), torch.full((3, 5, 10), 2, dtype=torch.uint8)])
def test_a_checkpoint_whose_masks_do_not_fit_is_refused(data_folder, tmp_path, dense_run, value):
    config = sparse_settings(data_folder, tmp_path / "run", dense_run, steps=5)
    train(config)
    saved, header = checkpoint.read(config.out / checkpoint.LAST_FILE)
    saved.pop("blocks.tier0.recurrent")
    if value is not None:
        saved["blocks.tier0.recurrent"] = value
    checkpoint.save_training(
        config.out / checkpoint.LAST_FILE, saved, checkpoint.load_model(config.out).config, header["progress"]
    )
    with pytest.raises(CheckpointError, match=r"blocks\.tier0\.recurrent must say which blocks are left"):
        trainer(config)


def test_a_weight_that_is_no_number_ends_the_run(data_folder, tmp_path, dense_run, monkeypatch):
    config = sparse_settings(data_folder, tmp_path / "run", dense_run)
    run = trainer(config)
    with torch.no_grad():
        run.model.get_parameter("mlp.hidden0")[0, 0] = math.nan
    with pytest.raises(Exception, match="stopped being a number"):
        run.run([], progress=False)
