"""A run that is stopped, interrupted, killed or moved to another number of processes ends with the same bits."""

import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import LAUNCH, assert_equal, assert_same_run, curve, everything, files, finish, launch, tiny, trainer

from samplernn_fast.errors import CheckpointError, ConfigError, DataError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.stored.arrays import describe
from samplernn_fast.training import trainer as trainer_module
from samplernn_fast.training.run_log import read_log
from samplernn_fast.training.trainer import Trainer, train

CELLS = {
    "gru": {},
    "reset-before": {"reset_after": False},
    "lstm": {"rnn": "lstm", "n_rnn": 2, "skip": "full"},
    "fixed-h0": {"learn_h0": False},
}


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """This process sends itself a SIGTERM inside update number `step`."""
    update = Trainer.update

    def interrupted(self: Trainer, batch: object) -> None:
        update(self, batch)
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "update", interrupted)


@pytest.mark.parametrize("cell", CELLS)
def test_an_interrupted_run_ends_as_one_that_was_not(cell, data_folder, tmp_path, monkeypatch):
    whole = tiny(data_folder, tmp_path / "whole", steps=33, model=CELLS[cell])
    train(whole)
    parts = replace(whole, out=tmp_path / "parts")
    # Between two rows of the log, two validations, two checkpoints; on a checkpoint; on a validation.
    for step in (3, 9, 10, 21):
        with monkeypatch.context() as patched:
            interrupt_at(patched, step)
            result = train(parts)
        assert (result.stopped, result.steps) == ("signal", step)
    assert train(parts).stopped == "max_steps"
    assert_same_run(parts.out, whole.out)
    assert len(curve(whole.out)) == 16 + 4 + 1  # every 2nd step, every 7th, and the last


def interrupt_in(monkeypatch: pytest.MonkeyPatch, name: str, turn: int, times: int = 1) -> None:
    """This process presses ctrl-C at the beginning of call number `turn` of a function that the trainer uses."""
    work, calls = getattr(trainer_module, name), []

    def interrupted(*args: object, **settings: object) -> object:
        calls.append(name)
        for _ in range(times if len(calls) == turn else 0):
            os.kill(os.getpid(), signal.SIGINT)
        return work(*args, **settings)

    monkeypatch.setattr(trainer_module, name, interrupted)


@pytest.mark.parametrize("name, turn, step", [("evaluate", 1, 7), ("evaluate", 3, 20), ("make_sound", 2, 14)])
def test_a_validation_or_a_sample_hears_a_signal_and_is_made_when_the_run_goes_on(
    name, turn, step, data_folder, tmp_path, monkeypatch
):
    whole = tiny(data_folder, tmp_path / "whole", steps=20, sample_every=7, sample_seconds=0.05)
    train(whole)
    parts = replace(whole, out=tmp_path / "parts")
    with monkeypatch.context() as patched:
        interrupt_in(patched, name, turn)
        result = train(parts)
    assert (result.stopped, result.signal, result.steps) == ("signal", signal.SIGINT, step)
    with monkeypatch.context() as patched:  # a second signal finds the work that waits no further
        interrupt_in(patched, name, 1)
        assert train(parts).steps == step
    assert train(parts).stopped == "max_steps"
    assert_same_run(parts.out, whole.out)
    samples = [{path.name: path.read_bytes() for path in (run.out / "samples").glob("*.wav")} for run in (parts, whole)]
    assert samples[0] == samples[1] and len(samples[0]) == 2


def test_a_validation_that_was_put_off_is_logged_once(data_folder, tmp_path, monkeypatch):
    whole = tiny(data_folder, tmp_path / "whole", steps=9)
    train(whole)
    parts = replace(whole, out=tmp_path / "parts")
    with monkeypatch.context() as patched:
        interrupt_in(patched, "evaluate", 1)
        assert train(parts).steps == 7
    run = trainer(parts)
    with monkeypatch.context() as patched:  # killed between the validation and the checkpoint behind it
        patched.setattr(run, "_save", lambda log: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run.run([])
    assert curve(parts.out)[-1][2]
    train(parts)
    assert_same_run(parts.out, whole.out)


def test_a_sound_that_was_put_off_can_be_given_up(data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=9, sample_every=3, sample_seconds=0.05)
    with monkeypatch.context() as patched:
        interrupt_in(patched, "make_sound", 2)
        assert train(config).steps == 6
    assert train(replace(config, sample_every=0)).steps == 9
    assert [path.name for path in (config.out / "samples").glob("*.wav")] == ["step_0000003.wav"]


def test_what_a_killed_process_left_half_written_is_removed(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=2)
    train(config)
    for folder in ("", "models", "samples"):
        (config.out / folder).mkdir(exist_ok=True)
        (config.out / folder / ".0123456789abcdef.tmp").touch()
    train(config)
    assert not list(config.out.rglob("*.tmp"))


def test_a_loss_beyond_reason_does_not_end_resumption(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=4, lr=1e6)
    assert train(config).train_bits > 1e9
    assert train(replace(config, max_steps=5)).steps == 5


def test_a_second_ctrl_c_loses_nothing_and_a_third_keeps_the_last_checkpoint(data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=40, save_every=4, eval_every=1000)
    update, pressed = Trainer.update, {2: 2, 7: 3}

    def interrupted(self: Trainer, batch: object) -> None:
        update(self, batch)
        for _ in range(pressed.pop(self.step, 0)):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "update", interrupted)
    result = train(config)
    assert (result.stopped, result.steps) == ("signal", 2)
    assert checkpoint.read(config.out / checkpoint.LAST_FILE)[1]["progress"]["step"] == 2
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert checkpoint.read(config.out / checkpoint.LAST_FILE)[1]["progress"]["step"] == 4
    assert train(config).stopped == "max_steps"
    train(replace(config, out=tmp_path / "whole"))
    assert_same_run(config.out, tmp_path / "whole")


def test_signals_while_a_checkpoint_is_written_wait_for_it(data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=40, save_every=6)
    write, numbers = checkpoint.save_training, [signal.SIGINT, signal.SIGTERM, signal.SIGINT]

    def interrupted(*args: object) -> None:
        while numbers:
            os.kill(os.getpid(), numbers.pop())
        write(*args)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_training", interrupted)
        result = train(config)
    assert (result.stopped, result.steps) == ("signal", 7)  # the step after the one that was being saved
    train(config)
    train(replace(config, out=tmp_path / "whole"))
    assert_same_run(config.out, tmp_path / "whole")


def test_a_signal_before_the_first_update_makes_none(data_folder, tmp_path):
    run = trainer(tiny(data_folder, tmp_path / "run", steps=5))
    result = run.run([signal.SIGTERM])
    assert (result.stopped, result.signal, result.steps) == ("signal", signal.SIGTERM, 0)
    assert train(tiny(data_folder, tmp_path / "run", steps=5)).steps == 5


def test_rows_start_recordings_at_different_steps(data_folder, tmp_path):
    """Otherwise the test above would not see a state that is reset in the wrong row."""
    batches = trainer(tiny(data_folder, tmp_path / "run", steps=33)).batches
    resets = [next(batches).reset for _ in range(33)]
    assert sum(bool(reset.any()) and not reset.all() for reset in resets) >= 4


@pytest.mark.parametrize("cell", CELLS)
def test_a_longer_run_goes_on_from_a_shorter_one(cell, data_folder, tmp_path):
    for steps in (6, 9, 17):
        train(tiny(data_folder, tmp_path / "parts", steps=steps, model=CELLS[cell]))
    train(tiny(data_folder, tmp_path / "whole", steps=17, model=CELLS[cell]))
    assert_equal(everything(tmp_path / "parts"), everything(tmp_path / "whole"))
    shown = [[row[:2] for row in curve(tmp_path / name) if row[1]] for name in ("parts", "whole")]
    assert shown[0] == shown[1]


def test_validation_and_samples_never_touch_the_training_state(data_folder, tmp_path):
    often = tiny(data_folder, tmp_path / "often", steps=12, eval_every=1, sample_every=4, sample_seconds=0.01)
    rarely = tiny(data_folder, tmp_path / "rarely", steps=12, eval_every=10_000)
    train(often)
    train(rarely)
    assert_equal(everything(often.out), everything(rarely.out))
    assert [len([row for row in curve(run.out) if row[2]]) for run in (often, rarely)] == [12, 1]


def test_a_finished_run_is_left_alone(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=9)
    first = train(config)
    before = files(config.out)
    again = train(config)
    assert (again.steps, again.stopped) == (first.steps, "max_steps")
    assert (again.train_bits, again.valid_bits) == (first.train_bits, first.valid_bits)
    assert files(config.out) == before


def wait_for_a_new_log(process: subprocess.Popen[str], log: Path, before: int) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.stat().st_mtime_ns > before:
            return
        time.sleep(0.005)
    raise AssertionError(f"the process wrote no log: {process.communicate(timeout=10)}")


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_same_bits(kills, data_folder, tmp_path):
    # Each life lasts about a third of a second of training, in which half the steps write a checkpoint. None can come
    # to its end before it is killed, however busy the machine is.
    config = tiny(data_folder, tmp_path / "killed", steps=100_000, save_every=2, eval_every=20)
    log, rng = config.out / "log.csv", random.Random(kills)
    for _ in range(kills):
        before = log.stat().st_mtime_ns if log.exists() else 0
        process = launch(config)
        wait_for_a_new_log(process, log, before)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    saved = config.out / checkpoint.LAST_FILE
    reached = checkpoint.read(saved)[1]["progress"]["step"] if saved.exists() else 0
    config = replace(config, max_steps=max(90 * kills, reached + 9))
    assert f"{config.max_steps} steps" in finish(launch(config))
    whole = replace(config, out=tmp_path / "whole")
    train(whole)
    assert_same_run(config.out, whole.out)
    names = {"config.json", "log.csv", "model.safetensors", "last.safetensors"}
    assert set(os.listdir(config.out)) - {"tensorboard", "loss.png"} == names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits_with_its_status(number, data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=100_000, save_every=100_000)
    process = launch(config)
    wait_for_a_new_log(process, config.out / "log.csv", 0)
    while not read_log(config.out / "log.csv") and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    out = finish(process, 128 + number)
    steps = checkpoint.read(config.out / checkpoint.LAST_FILE)[1]["progress"]["step"]
    assert 0 < steps < 100_000
    assert f"{steps} steps" in out and "the same command goes on from here" in out
    train(replace(config, max_steps=steps + 3))
    whole = replace(config, out=tmp_path / "whole", max_steps=steps + 3)
    train(whole)
    assert_same_run(config.out, whole.out)


def test_two_processes_equal_one_and_one_goes_on_for_two(data_folder, tmp_path):
    one = tiny(data_folder, tmp_path / "one", steps=6)
    two = replace(one, out=tmp_path / "two", accumulate=2)
    process = launch(two, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *LAUNCH)
    train(one)
    finish(process)
    for part in range(2):
        left, right = everything(one.out), everything(two.out)
        assert left.keys() == right.keys()
        for name in left:
            if not name.startswith(("adam.", "rng.")):
                torch.testing.assert_close(right[name], left[name], rtol=1e-5, atol=2e-6, msg=name)
        if part == 0:
            for config in (one, two):
                assert train(replace(config, max_steps=9)).steps == 9
    bits = [[float(row[1]) for row in curve(run.out) if row[1]] for run in (one, two)]
    assert len(bits[0]) == 4 and bits[1] == pytest.approx(bits[0], abs=1e-5)


def test_other_settings_do_not_resume(data_folder, make_data, tmp_path):
    run = tmp_path / "run"
    train(tiny(data_folder, run, steps=3))
    before = files(run)
    changes = ({"lr": 1e-4}, {"batch_size": 2}, {"seq_len": 32}, {"seed": 1}, {"grad_clip": 0.5})
    for change in (*changes, {"model": {"dim": 24}}, {"model": {"rnn": "lstm"}}, {"model": {"frame_sizes": (2, 2, 4)}}):
        name, value = next(iter(change.get("model", change).items()))
        with pytest.raises(ConfigError, match=name) as caught:
            train(tiny(data_folder, run, steps=5, **change))
        assert str(value).strip("()") in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="already"):
        train(tiny(data_folder, run, steps=5, resume="never"))
    with pytest.raises(DataError, match="differs"):
        train(tiny(make_data(tmp_path / "other", [0.11, 0.37]), run, steps=5))
    assert files(run) == before
    # What does not change the result may differ, and the data may have moved.
    (tmp_path / "moved").symlink_to(data_folder)
    assert train(tiny(tmp_path / "moved", run, steps=5, save_every=1)).steps == 5


def test_a_run_can_start_from_another_ones_checkpoint(data_folder, tmp_path):
    one, last = tmp_path / "one", tmp_path / "one" / checkpoint.LAST_FILE
    train(tiny(data_folder, one, steps=5))
    train(tiny(data_folder, tmp_path / "two", steps=8, resume=str(last)))
    train(tiny(data_folder, one, steps=8))
    assert_equal(everything(tmp_path / "two"), everything(one))
    # The best model of the first folder is not in the second, which keeps the best of its own.
    worse = tiny(data_folder, tmp_path / "worse", steps=21, resume=str(one), change_lr=1e3, keep=0)
    worst = [float(bits) for _, _, bits in (train(worse), curve(worse.out))[1] if bits]
    assert min(worst) > checkpoint.read(last)[1]["progress"]["best_bits"]
    assert describe(worse.out)["info"]["valid_bits"] == min(worst)
    with pytest.raises(ConfigError, match="only a model"):
        train(tiny(data_folder, tmp_path / "three", steps=8, resume=str(one / checkpoint.MODEL_FILE)))
    with pytest.raises(CheckpointError, match="no such file"):
        train(tiny(data_folder, tmp_path / "three", steps=8, resume=str(one / "nothing")))
    assert not (tmp_path / "three").exists()


def test_a_run_begun_from_a_checkpoint_goes_on_with_its_own(data_folder, tmp_path):
    first = tiny(data_folder, tmp_path / "first", steps=4)
    train(first)
    source = str(tmp_path / "first" / checkpoint.LAST_FILE)
    assert train(replace(first, out=tmp_path / "second", max_steps=8, resume=source)).steps == 8
    before = (tmp_path / "second" / checkpoint.LAST_FILE).read_bytes()
    assert train(replace(first, out=tmp_path / "second", max_steps=8, resume=source)).steps == 8
    assert (tmp_path / "second" / checkpoint.LAST_FILE).read_bytes() == before
    with pytest.raises(ConfigError, match="another run"):
        train(replace(first, out=tmp_path / "second", max_steps=9, resume=str(tmp_path / "elsewhere.safetensors")))
