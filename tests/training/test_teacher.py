"""Distillation: what a sparse model learns from, and that a run which goes on learns from the same."""

import math
import os
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch
from command_line import assert_one_line_error
from command_line import run as command
from runs import assert_equal, assert_same_run, curve, everything, sparse_model, sparse_settings, tiny, trainer
from warm_python import warm_python

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.places import TEACHER_FILE
from samplernn_fast.models.sparse.teacher import cross_entropy
from samplernn_fast.models.stored.arrays import describe
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.trainer import Trainer, train


def test_a_teacher_says_what_the_dense_model_expects(data_folder, tmp_path, dense_run):
    """The loss is that model's entropy where the pupil is the same model still, and more where it is not."""
    run, dense = trainer(sparse_settings(data_folder, tmp_path / "run", dense_run)), checkpoint.load_model(dense_run)
    first, second = next(run.batches), next(run.batches)
    state = known = None
    for batch in (first, second):
        logits, state = dense(batch.levels, state, batch.reset)
        p = logits.softmax(dim=-1)
        entropy = -(p * p.log()).sum(dim=-1) / math.log(2)
        expected, known = run.teacher.expect(batch.levels, known, batch.reset)
        torch.testing.assert_close(expected, logits, rtol=0, atol=0)
        torch.testing.assert_close(cross_entropy(expected, logits), entropy, rtol=1e-4, atol=1e-4)
    flat = cross_entropy(expected, torch.zeros_like(logits))
    torch.testing.assert_close(flat, torch.full_like(flat, 6.0))  # of 64 levels


def test_distillation_can_be_left_out(data_folder, tmp_path, dense_run):
    with_teacher, without = (
        sparse_settings(data_folder, tmp_path / name, dense_run, distill=name == "with") for name in ("with", "without")
    )
    assert trainer(without).teacher is None
    for config in (with_teacher, without):
        train(config)
    left, right = everything(with_teacher.out), everything(without.out)
    assert not torch.equal(left["model.mlp.output"], right["model.mlp.output"])
    assert len([name for name in left if name.startswith("state.")]) == 4
    assert len([name for name in right if name.startswith("state.")]) == 2
    assert (with_teacher.out / TEACHER_FILE).is_file() and not (without.out / TEACHER_FILE).exists()


def test_a_sparse_source_is_no_teacher(data_folder, tmp_path, dense_run):
    """A model that learnt the probabilities of its own start would stay as it is; here the bits fall."""
    first = sparse_settings(data_folder, tmp_path / "first", dense_run)
    train(first)
    config = sparse_settings(data_folder, tmp_path / "second", first.out, steps=60, lr=1e-2)
    run = trainer(config)
    assert run.teacher is None
    train(config)
    bits = [float(train_bits) for _, train_bits, _ in curve(config.out) if train_bits]
    assert sum(bits[-5:]) / 5 < sum(bits[:5]) / 5 - 0.05, bits
    assert describe(config.out)["info"]["initialized_from"]["density"] == pytest.approx(0.3, abs=0.03)
    again = trainer(replace(config, max_steps=80))
    assert again.teacher is None and again.step == 60
    assert again.pruning.density(0) == pytest.approx(0.3, abs=0.03)


def test_pruning_goes_on_where_it_ended_too_early(data_folder, tmp_path, dense_run):
    """The source has all its blocks, whatever its density says, so they go by and by."""
    first = sparse_settings(data_folder, tmp_path / "first", dense_run, steps=10**6, max_minutes=1e-6)
    train(first)
    config = sparse_settings(data_folder, tmp_path / "second", first.out, steps=100, prune_until=0.9)
    train(replace(config, max_steps=None, max_minutes=1e-6))
    assert trainer(config).pruning.density(0) == 1
    assert trainer(replace(config, out=tmp_path / "third")).pruning.density(0) == 1


def test_a_dense_run_is_not_taken_for_a_sparse_one(data_folder, tmp_path, dense_run):
    dense = sparse_settings(data_folder, tmp_path / "run", dense_run, steps=2, model=TrainConfig("a", "b").model)
    train(dense)
    with pytest.raises(ConfigError, match="trained with system = 'samplernn', this command says 'samplernn-sparse'"):
        trainer(sparse_settings(data_folder, dense.out, dense_run))


def test_a_run_goes_on_without_its_source(data_folder, tmp_path, dense_run):
    """The run has a copy of its teacher, so the source may change or go."""
    source = tmp_path / "source"
    shutil.copytree(dense_run, source)
    whole = sparse_settings(data_folder, tmp_path / "whole", source)
    train(whole)
    parts = replace(whole, out=tmp_path / "parts")
    original = Trainer.update

    def stopped(self, batch):
        original(self, batch)
        if self.step == 17:
            self.caught.append(15)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "update", stopped)
        assert train(parts).steps == 17
    shutil.rmtree(source)
    train(parts)
    assert_same_run(parts.out, whole.out)


def test_a_run_that_goes_on_elsewhere_takes_its_teacher_with_it(data_folder, tmp_path, dense_run):
    begun = sparse_settings(data_folder, tmp_path / "begun", dense_run, steps=20)
    train(begun)
    moved = replace(begun, out=tmp_path / "moved", resume=str(begun.out), max_steps=24)
    train(moved)
    shutil.rmtree(begun.out)
    train(replace(moved, max_steps=28))
    assert checkpoint.model_sha256(checkpoint.load_model(moved.out / TEACHER_FILE)) == checkpoint.model_sha256(
        checkpoint.load_model(dense_run)
    )


def test_a_teacher_that_is_gone_or_another_one_is_named(data_folder, tmp_path, dense_run):
    config = sparse_settings(data_folder, tmp_path / "run", dense_run, steps=4)
    train(config)
    before = everything(config.out)
    file = config.out / TEACHER_FILE
    other = checkpoint.load_model(dense_run)
    with torch.no_grad():
        other.mlp.output.bias.add_(1)
    checkpoint.save_model(file, other)
    with pytest.raises(CheckpointError, match="is not the model that the run learns from; put a copy of"):
        train(replace(config, max_steps=6))
    file.write_bytes(b"")
    with pytest.raises(CheckpointError, match=TEACHER_FILE):
        train(replace(config, max_steps=6))
    file.unlink()
    with pytest.raises(CheckpointError, match="is gone, and the run learns from it; put a copy of"):
        train(replace(config, max_steps=6))
    assert_equal(everything(config.out), before)
    shutil.copy(dense_run / checkpoint.MODEL_FILE, file)
    assert train(replace(config, max_steps=6)).steps == 6


def test_bfloat16_is_for_the_teacher_too(data_folder, tmp_path, dense_run):
    run = trainer(sparse_settings(data_folder, tmp_path / "run", dense_run, precision="bf16"))
    types = []
    run.teacher.model.register_forward_hook(lambda module, args, result: types.append(result[0].dtype))
    run.update(next(run.batches))
    assert types == [torch.bfloat16]


def test_processes_share_a_teacher(data_folder, tmp_path, dense_run):
    """Two processes make what one makes, and one goes on with what two made."""
    flags = "--density 0.3 --batch-size 4 --seq-len 64 --lr 3e-3 --save-every 5 --eval-every 7 --num-threads 1"
    flags += " --sample-every 0 --keep 0 --log-every 2"
    words = ["sparsify", str(dense_run), "--data", str(data_folder), *flags.split()]
    launch = [warm_python(), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    launch += ["samplernn_fast", *words, "--max-steps", "12", "--out", str(tmp_path / "two")]
    done = subprocess.run(launch, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert command(*words, "--max-steps", "12", "--out", tmp_path / "one") == 0
    for part in range(2):
        left, right = everything(tmp_path / "one"), everything(tmp_path / "two")
        assert left.keys() == right.keys()
        for name in left:
            if name.startswith("blocks."):
                assert torch.equal(left[name], right[name]), name
            elif not name.startswith(("adam.", "rng.")):
                # Sums have another order. Adam divides a gradient by its own size, so where one is next to nothing, its
                # rounding may move a weight by a part of an update (3e-3): 1e-4 for one of 5,120 with AVX2, 4e-5 with
                # AVX-512. Other data, or another mean of the gradients, would move most weights.
                apart = (right[name] - left[name]).abs().double()
                assert apart.max() < 3e-4, name
                assert (apart > 4e-5).double().mean() < 1e-3, name
        if part == 0:
            for run in ("one", "two"):
                assert command(*words, "--max-steps", "16", "--out", tmp_path / run) == 0


def test_a_model_is_named_once(data_folder, tmp_path, dense_run, capsys):
    given = ["sparsify", dense_run, "--init-from", "demo", "--data", data_folder, "--out", tmp_path / "run"]
    assert command(*given) == 2
    assert "leave out --init-from" in assert_one_line_error(capsys) and not (tmp_path / "run").exists()


def test_a_sparse_run_from_random_weights_has_no_teacher(data_folder, tmp_path, dense_run):
    dense = checkpoint.load_model(dense_run).config
    config = tiny(data_folder, tmp_path / "run", steps=4, model=type(sparse_model(0.3)).of(dense, 0.3))
    assert trainer(config).teacher is None
