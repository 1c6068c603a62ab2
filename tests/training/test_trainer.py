"""Training: the loss, its gradients, the learning rate, what is kept, and what stops a run."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from runs import assert_equal, curve, everything, files, tiny, trainer, weights

from samplernn_fast.audio import reading
from samplernn_fast.data.batches import Batch
from samplernn_fast.errors import CheckpointError, ConfigError, DataError, SampleRNNError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.stored.arrays import describe
from samplernn_fast.training import trainer as trainer_module
from samplernn_fast.training.run_log import read_log
from samplernn_fast.training.trainer import Trainer, train

LOOKBACK = 8


def masked_batch(run: Trainer) -> Batch:
    """The first batch in which a row ends before its subsequence does."""
    return next(batch for batch in run.batches if not batch.mask.all())


def test_the_loss_is_bits_over_unmasked_samples(data_folder, tmp_path):
    run = trainer(tiny(data_folder, tmp_path / "run", steps=1))
    batch = masked_batch(run)
    with torch.no_grad():
        logits, _ = run.model(batch.levels)
    bits, count = 0.0, 0
    for row in range(4):
        for t in range(64):
            if batch.mask[row, t]:
                scores = logits[row, t].double()
                bits += math.log2(math.e) * (scores.logsumexp(0) - scores[batch.levels[row, LOOKBACK + t]]).item()
                count += 1
    assert 0 < count < 256 and count == batch.n_valid_global
    run.update(batch)
    assert run.sums.tolist() == [pytest.approx(bits, rel=1e-5), count]


def test_the_update_is_adams_on_the_clipped_gradient_of_the_mean_loss(data_folder, tmp_path):
    run = trainer(tiny(data_folder, tmp_path / "run", steps=1, lr=1e-3))
    batch = masked_batch(run)
    with torch.no_grad():
        run.model.mlp.embedding.weight.mul_(100)  # gradients far above and far below 1
    before = {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}
    # nll_bits is the same mean, by a path of its own.
    expected = torch.autograd.grad(run.model.nll_bits(batch.levels, batch.mask), list(run.model.parameters()))
    assert max(gradient.abs().max() for gradient in expected) > 2
    run.update(batch)
    for (name, parameter), gradient in zip(run.model.named_parameters(), expected, strict=True):
        clipped = gradient.clamp(-1, 1)
        torch.testing.assert_close(parameter.grad, clipped, rtol=1e-4, atol=1e-6, msg=name)
        # Adam's first step, with beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8.
        step = parameter.grad / (parameter.grad.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach(), before[name] - 1e-3 * step, rtol=1e-4, atol=1e-6, msg=name)


def test_grad_clip_is_a_setting(data_folder, tmp_path):
    run = trainer(tiny(data_folder, tmp_path / "run", steps=1, grad_clip=1e-3))
    run.update(next(run.batches))
    assert max(parameter.grad.abs().max() for parameter in run.model.parameters()) == pytest.approx(1e-3)


def test_masked_positions_change_nothing(data_folder, tmp_path):
    results = []
    for other in (0, 5):
        run = trainer(tiny(data_folder, tmp_path / "run", steps=1))
        batch = masked_batch(run)
        levels = batch.levels.clone()
        levels[:, LOOKBACK:][~batch.mask] += other
        assert levels.max() < 64
        run.update(replace(batch, levels=levels))
        gradients = {name: parameter.grad for name, parameter in run.model.named_parameters()}
        results.append({"sums": run.sums} | run.model.state_dict() | gradients)
    assert_equal(*results)


def test_h0_learns_from_rows_that_start_a_recording_and_from_no_other(data_folder, tmp_path):
    run = trainer(tiny(data_folder, tmp_path / "run", steps=1))
    run.update(next(run.batches))
    assert run.state is not None and not run.state[0].requires_grad
    levels = torch.randint(0, 64, (4, 64 + LOOKBACK), generator=torch.Generator().manual_seed(0))
    for starting in ([], [1], [0, 3], [0, 1, 2, 3]):
        reset = torch.zeros(4, dtype=torch.bool)
        reset[starting] = True
        run.optimizer.zero_grad()
        logits, _ = run.model(levels, run.state, reset)
        # A loss of the rows that start moves h0; one of the others does not.
        logits[reset].square().sum().backward(retain_graph=True)
        assert all(bool(tier.rnn.h0.grad.abs().sum() > 0) == bool(starting) for tier in run.model.tiers)
        run.optimizer.zero_grad()
        logits[~reset].square().sum().backward()
        assert all(not tier.rnn.h0.grad.any() for tier in run.model.tiers)


def test_the_state_goes_on_where_a_row_does_not_start(data_folder, tmp_path):
    """Two updates with a learning rate of nothing see what one long sequence would."""
    run = trainer(tiny(data_folder, tmp_path / "run", steps=2, lr=1e-30))
    first, second = next(run.batches), next(run.batches)
    assert first.reset.all() and not second.reset.any()
    long = torch.cat((first.levels, second.levels[:, LOOKBACK:]), dim=1)
    with torch.no_grad():
        expected = run.model.nll_bits(long).item()
    run.update(first)
    run.update(second)
    assert (run.sums[0] / run.sums[1]).item() == pytest.approx(expected, rel=1e-5)


def test_learning_rate(data_folder, tmp_path):
    cosine = config = tiny(data_folder, tmp_path / "run", steps=100, lr=1.0, lr_schedule="cosine", warmup_steps=9)

    def rate(step: int, seconds: float = 0.0) -> float:
        return config.learning_rate(step, seconds)

    for step, expected in ((0, 0.1), (50, 0.01 + 0.99 / 2), (100, 0.01), (150, 0.01)):
        assert rate(step) == pytest.approx(expected, abs=1e-3 if step == 0 else 1e-9)
    assert all(rate(step) > rate(step + 1) for step in range(9, 100))
    assert rate(50, seconds=1e6) == rate(50)  # where steps are counted, the clock does not matter
    config = replace(cosine, max_steps=None, max_minutes=2.0)
    assert rate(50, 60.0) == pytest.approx(0.01 + 0.99 / 2) and rate(50, 120.0) == pytest.approx(0.01)
    config = replace(cosine, lr_schedule="constant")
    assert [rate(step) for step in (0, 4, 9, 10, 99)] == [pytest.approx(r) for r in (0.1, 0.5, 1.0, 1.0, 1.0)]
    config = replace(cosine, lr_schedule="constant", warmup_steps=0, lr=0.003)
    assert rate(0) == rate(10_000) == 0.003
    with pytest.raises(ConfigError, match="cosine"):
        replace(cosine, max_steps=None)


def test_the_rate_reaches_the_optimiser(data_folder, tmp_path):
    run = trainer(tiny(data_folder, tmp_path / "run", steps=100, lr=0.01, warmup_steps=4))
    for expected in (0.002, 0.004, 0.006):
        run.update(next(run.batches))
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_the_best_model_is_kept_when_validation_gets_worse(data_folder, tmp_path, monkeypatch):
    hashes: list[str] = []
    scores = iter([5.0, 4.0, 6.0, 7.0, 4.5, 3.9])

    def scripted(model: torch.nn.Module, *args: object, **settings: object) -> SimpleNamespace:
        hashes.append(checkpoint.model_sha256(model))
        return SimpleNamespace(nll_bits=next(scores))

    monkeypatch.setattr(trainer_module, "evaluate", scripted)
    run = tmp_path / "run"
    # Four validations; after a resume two more, of which the first is not as good as the best before.
    for steps, best, bits in ((20, 1, 4.0), (25, 1, 4.0), (30, 5, 3.9)):
        train(tiny(data_folder, run, steps=steps, eval_every=5))
        described = describe(run)
        assert described["model_sha256"] == hashes[best]
        assert described["info"]["valid_bits"] == bits and described["info"]["step"] == 5 * (best + 1)
        last = checkpoint.load_model(run / checkpoint.LAST_FILE)
        assert checkpoint.model_sha256(last) == hashes[-1]
    assert len(set(hashes)) == 6


def test_without_a_validation_split_the_last_is_the_best(make_data, tmp_path):
    data = make_data(tmp_path / "music", [0.5])
    for steps in (8, 13):
        result = train(tiny(data, tmp_path / "run", steps=steps))
        assert result.valid_bits is None
        assert_equal(checkpoint.load_model(tmp_path / "run").state_dict(), weights(tmp_path / "run"))
    assert not any(row[2] for row in curve(tmp_path / "run"))


@pytest.mark.parametrize("save_every", [1, 1000])
def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(save_every, data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=5, log_every=50, save_every=save_every, eval_every=1000)
    train(config)
    before = files(config.out)
    run = trainer(replace(config, max_steps=60))
    with torch.no_grad():
        run.model.mlp.output.bias.fill_(math.nan)
    with pytest.raises(SampleRNNError, match=r"stopped being a number before step .* a lower lr"):
        run.run([])
    after = files(config.out)
    assert after[checkpoint.LAST_FILE] == before[checkpoint.LAST_FILE]
    assert after[checkpoint.MODEL_FILE] == before[checkpoint.MODEL_FILE]
    checkpoint.load_model(config.out)
    assert all(tensor.isfinite().all() for tensor in everything(config.out).values())
    assert train(replace(config, max_steps=7)).steps == 7


def test_a_rate_that_is_far_too_high_is_said(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=2000, lr=1e30, log_every=1, save_every=1)
    with pytest.raises(SampleRNNError, match="low change_lr, or train anew with a lower lr") as caught:
        train(config)
    assert "\n" not in str(caught.value) and str(config.out) in str(caught.value)


def test_a_full_disk_keeps_the_earlier_checkpoint(data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=5)
    train(config)
    before = files(config.out)

    def full(tensors: dict, path: object, metadata: dict) -> None:
        with open(path, "wb") as half:
            half.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", full)
        with pytest.raises(CheckpointError, match=r"\.safetensors.*No space left"):
            train(replace(config, max_steps=10))
    after = files(config.out)
    assert after[checkpoint.LAST_FILE] == before[checkpoint.LAST_FILE]
    assert after[checkpoint.MODEL_FILE] == before[checkpoint.MODEL_FILE]
    assert after.keys() == before.keys()  # and no temporary file
    assert train(replace(config, max_steps=10)).steps == 10


def test_a_run_folder_that_cannot_be_made_is_said(data_folder, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CheckpointError, match="the run folder cannot be made"):
        train(tiny(data_folder, tmp_path / "taken" / "run", steps=1))


def test_wrong_rates_and_empty_data_are_refused_before_anything_is_written(data_folder, tmp_path):
    for model in ({"sample_rate": 16000}, {"gain": 3.0}):
        with pytest.raises(DataError):
            train(tiny(data_folder, tmp_path / "run", steps=1, model=model))
    with pytest.raises(DataError):
        train(tiny(tmp_path / "nothing", tmp_path / "run", steps=1))
    with pytest.raises(ConfigError, match="seq_len"):
        train(tiny(data_folder, tmp_path / "run", steps=1, seq_len=65))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("settings", [{"precision": "bf16"}, {"lr_schedule": "cosine", "warmup_steps": 3}])
def test_settings_that_learn(settings, data_folder, tmp_path):
    result = train(tiny(data_folder, tmp_path / "run", steps=60, lr=1e-2, **settings))
    rows = [float(row["train_bits"]) for row in read_log(tmp_path / "run" / "log.csv") if row["train_bits"]]
    assert rows[-1] < rows[0] - 0.5 and result.stopped == "max_steps"


def test_a_run_that_is_shorter_than_a_row_of_the_log_has_bits(data_folder, tmp_path):
    whole = train(tiny(data_folder, tmp_path / "whole", steps=3, log_every=3))
    short = train(tiny(data_folder, tmp_path / "short", steps=3, log_every=100))
    assert 0 < short.train_bits < 20 and short.train_bits == whole.train_bits
    assert describe(tmp_path / "short" / "model.safetensors")["info"]["train_bits"] == short.train_bits
    assert train(tiny(data_folder, tmp_path / "short", steps=3, log_every=100)).train_bits == short.train_bits


def test_samples_and_config_are_left_in_the_run_folder(data_folder, tmp_path):
    train(tiny(data_folder, tmp_path / "run", steps=4, sample_every=2, sample_seconds=0.05))
    samples, rate = reading.read(tmp_path / "run" / "samples" / "step_0000004.wav")
    assert rate == 8000 and len(samples) == 400
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["model"]["sample_rate"] == 8000 and saved["batch_size"] == 4


def test_max_minutes_stops(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=None, max_minutes=0.01)
    result = train(config)
    assert result.stopped == "max_minutes" and 0.6 <= result.seconds < 20 and result.steps > 0
    assert train(config).steps == result.steps
