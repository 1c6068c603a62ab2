"""Models that are kept to choose from, and sounds that are made meanwhile."""

import re
import shutil
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from command_line import run as command
from runs import assert_equal, assert_same_run, tiny, trainer

from samplernn_fast.audio import reading
from samplernn_fast.errors import CheckpointError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.stored.arrays import describe
from samplernn_fast.training import keeping
from samplernn_fast.training import trainer as trainer_module
from samplernn_fast.training.keeping import AUDITION_MODELS, Keeper, kept_models, next_sound, spread
from samplernn_fast.training.trainer import Trainer, train


def names(run):
    return [one.path.name for one in kept_models(run)]


@pytest.fixture
def scripted(monkeypatch):
    """Validations give these bits, one after another."""
    scores = iter([5.0, 4.0, 6.0, 4.0004, 4.5, 3.9])
    monkeypatch.setattr(trainer_module, "evaluate", lambda *args, **settings: SimpleNamespace(nll_bits=next(scores)))


def test_the_best_models_are_kept_by_step_and_bits(scripted, data_folder, tmp_path):
    run = tmp_path / "run"
    config = tiny(data_folder, run, steps=6, eval_every=1, keep=2)
    expected = [
        ["step-000001-5.000.safetensors"],
        ["step-000001-5.000.safetensors", "step-000002-4.000.safetensors"],
        ["step-000001-5.000.safetensors", "step-000002-4.000.safetensors"],
        ["step-000002-4.000.safetensors", "step-000004-4.000.safetensors"],
        ["step-000002-4.000.safetensors", "step-000004-4.000.safetensors"],
        ["step-000002-4.000.safetensors", "step-000006-3.900.safetensors"],
    ]
    for steps, there in enumerate(expected, start=1):
        train(replace(config, max_steps=steps))
        assert names(run) == there
    best = checkpoint.load_model(run / "models" / "step-000006-3.900.safetensors")
    assert_equal(best.state_dict(), checkpoint.load_model(run).state_dict())
    assert describe(run / "models" / "step-000002-4.000.safetensors")["info"]["step"] == 2


def test_every_nth_model_is_kept_besides(scripted, data_folder, tmp_path):
    train(tiny(data_folder, tmp_path / "run", steps=12, eval_every=4, keep=1, keep_every=3))
    steps = ["000003", "000006", "000008-4.000", "000009", "000012-6.000"]
    assert names(tmp_path / "run") == [f"step-{step}.safetensors" for step in steps]


def test_what_was_kept_stays_where_a_run_goes_on_with_another_rule(scripted, data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=4, eval_every=2, keep=2, keep_every=1)
    train(config)
    before = [f"step-00000{step}.safetensors" for step in ("1", "2-5.000", "3", "4-4.000")]
    assert names(config.out) == before
    train(replace(config, max_steps=6, keep=1, keep_every=0))  # its bits are 6.000
    assert names(config.out) == before
    train(replace(config, max_steps=12, keep=1, keep_every=0))  # 4.000, 4.500 and 3.900
    assert names(config.out) == [*before, "step-000012-3.900.safetensors"]


def test_none_are_kept_where_none_are_wanted(data_folder, tmp_path):
    train(tiny(data_folder, tmp_path / "run", steps=8, keep=0))
    assert not (tmp_path / "run" / "models").exists()


def test_a_run_that_goes_on_keeps_the_same_models(data_folder, tmp_path):
    whole = tiny(data_folder, tmp_path / "whole", steps=42, lr=0.05, keep=2, keep_every=10)
    train(whole)
    parts = replace(whole, out=tmp_path / "parts")
    train(replace(parts, max_steps=14))
    run = trainer(replace(parts, max_steps=28))
    run._save = lambda log: None  # it ends without a checkpoint, as if it had been killed
    run.run([])
    assert any(one.step > 14 for one in kept_models(parts.out))
    train(parts)
    assert names(parts.out) == names(whole.out) and len(names(whole.out)) >= 5
    for one, two in zip(kept_models(parts.out), kept_models(whole.out), strict=True):
        assert_equal(checkpoint.load_model(one.path).state_dict(), checkpoint.load_model(two.path).state_dict())


@pytest.fixture
def early(monkeypatch):
    """Auditions have models of update 2 on, and five of them."""
    monkeypatch.setattr(keeping, "AUDITION_FIRST", 2)
    monkeypatch.setattr(keeping, "AUDITION_MODELS", 5)


def test_models_of_an_audition_are_spread_over_the_run():
    assert spread(99) == [] and spread(100) == [100]
    for step in (300, 1000, 20_000, 10**6, 10**9):
        kept = spread(step)
        ratios = [after / before for before, after in pairwise(kept)]
        assert len(kept) <= AUDITION_MODELS and kept[0] == 100 and step / kept[-1] < 1.2
        even = (kept[-1] / 100) ** (1 / (AUDITION_MODELS - 1))  # the ratio of neighbours, if all were the same
        assert max(ratios) < max(1.25, even**2.5), kept
    assert len(spread(1000)) == AUDITION_MODELS


def test_every_model_of_an_audition_was_one_when_the_run_came_to_it():
    for step in range(100, 3000):
        assert set(spread(step)) <= {*spread(step - 1), step}


def test_a_run_keeps_models_to_audition_besides_the_best(early, scripted, data_folder, tmp_path):
    run = tmp_path / "run"
    train(tiny(data_folder, run, steps=24, eval_every=12, keep=1, audition=True))
    assert spread(24) == [2, 5, 8, 19, 23]
    assert names(run) == [
        *(f"step-{step:06d}.safetensors" for step in (2, 5, 8, 19, 23)),
        "step-000024-4.000.safetensors",
    ]


def test_a_run_that_goes_on_keeps_the_same_models_to_audition(early, data_folder, tmp_path):
    whole = tiny(data_folder, tmp_path / "whole", steps=42, lr=0.05, keep=1, audition=True)
    train(whole)
    train(replace(whole, out=tmp_path / "without", audition=False))
    parts = replace(whole, out=tmp_path / "parts")
    train(replace(parts, max_steps=14))
    run = trainer(replace(parts, max_steps=28))
    run._save = lambda log: None  # it ends without a checkpoint, as if it had been killed
    run.run([])
    train(parts)
    assert names(parts.out) == names(whole.out) and {one.step for one in kept_models(parts.out)} >= set(spread(42))
    for one, two in zip(kept_models(parts.out), kept_models(whole.out), strict=True):
        assert_equal(checkpoint.load_model(one.path).state_dict(), checkpoint.load_model(two.path).state_dict())
    assert_same_run(parts.out, tmp_path / "without")


def test_models_to_audition_stay_where_a_run_goes_on_without(early, scripted, data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=4, eval_every=2, keep=1, audition=True)
    train(config)  # its bits are 5.000 and 4.000; 2, 3 and 4 are models of an audition
    before = ["step-000002-5.000.safetensors", "step-000003.safetensors", "step-000004-4.000.safetensors"]
    assert names(config.out) == before
    train(replace(config, max_steps=12, audition=False))  # 6.000, 4.000, 4.500 and 3.900
    assert names(config.out) == [*before, "step-000012-3.900.safetensors"]


def test_an_audition_leaves_what_an_earlier_command_kept(early, scripted, data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=6, eval_every=3, keep=2)
    train(config)
    before = ["step-000003-5.000.safetensors", "step-000006-4.000.safetensors"]
    assert names(config.out) == before
    train(replace(config, max_steps=42, keep=0, audition=True, eval_every=1000))
    assert 3 not in spread(42)
    assert names(config.out)[:2] == before


def test_a_run_folder_that_was_removed_is_not_made_again(data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=4, keep_every=1, log_every=99, save_every=99, eval_every=99)
    update = Trainer.update

    def removing(self, batch):
        update(self, batch)
        if self.step == 2:
            shutil.rmtree(config.out)

    monkeypatch.setattr(Trainer, "update", removing)
    with pytest.raises(CheckpointError, match="removed or renamed"):
        train(config)
    assert not config.out.exists()


def test_other_files_in_the_folder_are_left(data_folder, tmp_path):
    (tmp_path / "models").mkdir()
    for name in ("step-000009.wav", "mine.safetensors", "step-000009-9.999.safetensors", "step-9-best.safetensors"):
        (tmp_path / "models" / name).touch()
    (tmp_path / "models" / "step-000008.safetensors").mkdir()
    Keeper(tiny(data_folder, tmp_path, steps=1), 5)
    left = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert left == ["mine.safetensors", "step-000008.safetensors", "step-000009.wav", "step-9-best.safetensors"]


def test_info_lists_what_was_kept_and_where_a_run_started(scripted, data_folder, tmp_path, capsys):
    config = tiny(data_folder, tmp_path / "run", steps=2, eval_every=1)
    train(config)
    train(replace(config, out=tmp_path / "next", init_from=config.out, max_steps=1, keep_every=1, keep=0))
    capsys.readouterr()
    assert command("info", tmp_path / "run") == 0
    shown = capsys.readouterr().out
    assert f"{tmp_path / 'run' / 'models' / 'step-000002-4.000.safetensors'} (step 2, 4.000 bits per sample)" in shown
    assert command("info", tmp_path / "next") == 0
    started = f"{config.out / 'model.safetensors'} ({describe(config.out)['model_sha256'][:8]})"
    assert re.search(f"started from +{re.escape(started)}", capsys.readouterr().out)


def test_a_kept_model_makes_sound(scripted, data_folder, tmp_path):
    train(tiny(data_folder, tmp_path / "run", steps=1))
    (kept,) = kept_models(tmp_path / "run")
    assert command("generate", kept.path, "--duration", 0.01, "-o", tmp_path / "a.wav") == 0


def test_sounds_come_early_and_then_regularly(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=1)
    steps, step = [], 0
    while len(steps) < 7:
        step = next_sound(config, step)
        steps.append(step)
    assert steps == [100, 200, 500, 1000, 2500, 5000, 7500]
    assert next_sound(replace(config, sample_every=150), 0) == 100
    assert next_sound(replace(config, sample_every=150), 100) == 150
    assert next_sound(replace(config, sample_every=0), 0) is None


def test_an_early_sound_is_said_and_lasts_seconds(data_folder, tmp_path, capsys):
    train(tiny(data_folder, tmp_path / "run", steps=100, eval_every=1000))
    file = tmp_path / "run" / "samples" / "step_0000100.wav"
    assert f"step 100: 4 s of sound in {file}" in capsys.readouterr().err
    samples, rate = reading.read(file)
    assert len(samples) == 4 * rate


def test_early_sounds_that_take_too_long_are_left_out(data_folder, tmp_path):
    run = trainer(tiny(data_folder, tmp_path / "run", steps=500, sample_seconds=0.01))
    log = run._open_log(progress=False)
    for step, cost, seconds in ((100, 0.0, 1.0), (200, 1.0, 10.0), (500, 1.0, 100.0), (2500, 1.0, 10.0)):
        run.step, run.sound_seconds, run.seconds = step, cost, seconds
        run._make_sample(log)
    log.close()
    made = sorted(path.name for path in (tmp_path / "run" / "samples").glob("*.wav"))
    assert made == ["step_0000100.wav", "step_0000500.wav", "step_0002500.wav"]
