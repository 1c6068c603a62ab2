"""What happens to a run whose files cannot be written, or are taken away or cut, while it is trained."""

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from file_limit import file_limit
from runs import assert_equal, assert_same_run, everything, files, tiny

from samplernn_fast.data.folder import AUDIO_FILE, AudioData
from samplernn_fast.errors import CheckpointError, DataError, SampleRNNError
from samplernn_fast.evaluation.likelihood import evaluate
from samplernn_fast.models import checkpoint
from samplernn_fast.models.places import BOARD_FOLDER, LOG_FILE
from samplernn_fast.training.board import Board
from samplernn_fast.training.trainer import Trainer, train


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, happens: Callable[[], object]) -> None:
    """Lets something happen after update number `step`."""
    update = Trainer.update

    def interrupted(self: Trainer, batch: object) -> None:
        update(self, batch)
        if self.step == step:
            happens()

    monkeypatch.setattr(Trainer, "update", interrupted)


def test_a_file_that_cannot_grow_is_named_and_the_checkpoint_kept(data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=5)
    train(config)
    before = files(config.out)
    with ExitStack() as limits:
        with monkeypatch.context() as patched, pytest.raises(CheckpointError, match="cannot be written") as caught:
            at_step(patched, 7, lambda: limits.enter_context(file_limit(20_000)))
            train(replace(config, max_steps=10))
    assert ".safetensors" in str(caught.value) and "\n" not in str(caught.value)
    assert files(config.out)[checkpoint.LAST_FILE] == before[checkpoint.LAST_FILE]
    assert files(config.out).keys() == before.keys()
    train(replace(config, max_steps=10))
    train(replace(config, out=tmp_path / "whole", max_steps=10))
    assert everything(config.out).keys() == everything(tmp_path / "whole").keys()


def test_a_log_on_a_full_disk_is_named(data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=9, save_every=3)
    log = config.out / LOG_FILE

    def fill_the_disk() -> None:
        log.rename(tmp_path / LOG_FILE)
        log.symlink_to("/dev/full")

    with monkeypatch.context() as patched, pytest.raises(CheckpointError, match=rf"{LOG_FILE}: .*No space") as caught:
        at_step(patched, 4, fill_the_disk)
        train(config)
    assert "\n" not in str(caught.value)
    log.unlink()
    (tmp_path / LOG_FILE).rename(log)
    assert train(config).stopped == "max_steps"
    train(replace(config, out=tmp_path / "whole"))
    assert_same_run(config.out, tmp_path / "whole")


@pytest.mark.parametrize("settings", [{}, {"log_every": 100}, {"log_every": 100, "eval_every": 6}])
def test_a_run_folder_that_is_removed_meanwhile_is_not_made_again(settings, data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=12, **settings)
    at_step(monkeypatch, 4, lambda: shutil.rmtree(config.out))
    with pytest.raises(CheckpointError, match="run") as caught:
        train(config)
    assert "\n" not in str(caught.value) and not config.out.exists()


def test_training_goes_on_without_the_folder_of_tensorboard(data_folder, tmp_path, monkeypatch, capfd):
    pytest.importorskip("tensorboard")
    config = tiny(data_folder, tmp_path / "run", steps=12)
    before = threading.excepthook
    at_step(monkeypatch, 4, lambda: shutil.rmtree(config.out / BOARD_FOLDER))
    assert train(config).stopped == "max_steps"
    shown = capfd.readouterr().err
    assert shown.count("training goes on without it") == 1 and "Traceback" not in shown
    assert threading.excepthook is before


def test_a_board_says_once_that_it_cannot_write(tmp_path, capfd):
    pytest.importorskip("tensorboard")
    (tmp_path / BOARD_FOLDER).write_text("a file where the folder should be")
    said: list[str] = []
    board = Board(tmp_path, 0, said.append)
    for step in range(3):
        board.scalars({"train_bits": "1.5"}, step)
    board.close()
    assert len(said) == 1 and BOARD_FOLDER in said[0] and "\n" not in said[0]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("read", ["train", "evaluate"])
def test_audio_that_becomes_shorter_meanwhile_is_an_error(read, data_folder, tmp_path, monkeypatch):
    """The map of a file that was cut ends a process by SIGBUS."""
    data = tmp_path / "data"
    shutil.copytree(data_folder, data)
    config = tiny(data, tmp_path / "run", steps=500, eval_every=1000)
    if read == "train":
        at_step(monkeypatch, 2, lambda: os.truncate(data / AUDIO_FILE, 100))
        with pytest.raises(DataError, match=AUDIO_FILE) as caught:
            train(config)
    else:
        train(replace(config, max_steps=1))
        opened = AudioData.open(data)
        os.truncate(data / AUDIO_FILE, 100)
        with pytest.raises(DataError, match=AUDIO_FILE) as caught:
            evaluate(config.out, opened, "train")
    assert "\n" not in str(caught.value)


def test_a_data_folder_closes_its_file(data_folder):
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    AudioData.open(data_folder)
    before = count()
    for _ in range(20):
        AudioData.open(data_folder)
    assert count() <= before


def test_a_run_can_be_taken_over_by_its_folder_and_when_it_is_done(data_folder, tmp_path):
    one = tiny(data_folder, tmp_path / "one", steps=5)
    train(one)
    two = replace(one, out=tmp_path / "two", resume=str(one.out))
    assert train(two).steps == 5  # no step is left, and the folder has the model and the state
    checkpoint.load_model(two.out)
    assert everything(two.out).keys() == everything(one.out).keys()
    file = str(one.out / checkpoint.LAST_FILE)
    assert train(replace(two, max_steps=8, resume=file)).steps == 8  # the same checkpoint, by another name
    train(replace(one, max_steps=8, resume=str(one.out)))
    assert_equal(everything(one.out), everything(two.out))
    with pytest.raises(SampleRNNError, match=checkpoint.LAST_FILE):
        train(replace(one, out=tmp_path / "three", resume=str(tmp_path)))
