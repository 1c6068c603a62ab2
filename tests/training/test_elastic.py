"""A process of a run is killed, and torchrun starts all of them again: the run ends with the same bits."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from runs import LAUNCH, assert_same_run, finish, launch, tiny, trainer

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.files import held
from samplernn_fast.models import checkpoint
from samplernn_fast.training import process, resuming, starting
from samplernn_fast.training.process import Launch
from samplernn_fast.training.trainer import train

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def workers(torchrun: int) -> dict[int, int]:
    """The processes that torchrun has started and that are alive: process number by rank."""
    found = {}
    for child in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split():
        try:
            status = Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2]
            words = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ranks = [int(word[5:]) for word in words if word.startswith(b"RANK=")]
        if ranks and status[0] != "Z":
            found[ranks[0]] = int(child)
    return found


def kill_when_it_goes_on(torchrun: subprocess.Popen[str], log: Path, rank: int, pause: float) -> None:
    """Kills the process of a rank `pause` seconds after the run has written a row that it had not before."""
    deadline, known = time.monotonic() + 120, None
    while torchrun.poll() is None and time.monotonic() < deadline:
        rows = log.read_text().count("\n") if log.exists() else 0
        if known is None or rows < known:  # a life that begins drops the rows behind its checkpoint
            known = rows
        elif rows > known and len(found := workers(torchrun.pid)) == 2:
            time.sleep(pause)
            os.kill(found[rank], signal.SIGKILL)
            while found[rank] in workers(torchrun.pid).values():
                time.sleep(0.01)
            return
        time.sleep(0.01)
    torchrun.terminate()
    raise AssertionError(f"the run made no row, or ended: {torchrun.communicate()}")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="finds processes by /proc")
@pytest.mark.parametrize(
    "kills", [2, pytest.param(10, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)]
)
def test_a_process_that_is_killed_changes_no_bit(kills, data_folder, tmp_path):
    steps, rng = 40 + 30 * kills, random.Random(kills)
    settings = {"save_every": 3, "accumulate": 2, "weight_decay": 0.1, "ema": 0.99}
    config = tiny(data_folder, tmp_path / "killed", steps=steps, **settings)
    with open(tmp_path / "errors", "w") as errors:
        options = ("--max-restarts", str(kills))
        # Its processes are found as its children, so torchrun itself is no child of a keeper of warm Pythons.
        torchrun = launch(config, *TORCHRUN, *options, *LAUNCH, errors=errors, program=sys.executable)
        for number in range(kills):
            rank = rng.randrange(2) if kills > 2 else number
            kill_when_it_goes_on(torchrun, config.out / "log.csv", rank, rng.uniform(0, 0.5))
        said = finish(torchrun)
    said += (tmp_path / "errors").read_text()
    assert f"(restart {kills})" in said and f"{steps} steps" in said
    # Python prints a traceback of its own, and goes on, where SIGTERM came while a weak reference was taken away.
    assert not re.search(r"(?<!>\n)Traceback", said), said
    whole = replace(config, out=tmp_path / "whole")
    # New interpreters have another order of hashes, on which no bit may depend.
    finish(launch(whole, *TORCHRUN, *LAUNCH, ranks=sys.executable))
    assert_same_run(config.out, whole.out)


def test_another_number_of_parts_or_processes_is_said_once(data_folder, tmp_path, capsys):
    config = tiny(data_folder, tmp_path / "run", steps=4)
    train(config)
    capsys.readouterr()
    train(replace(config, max_steps=6))
    assert "rounding" not in capsys.readouterr().err
    train(replace(config, max_steps=8, accumulate=2))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "rounding" in line]
    assert line.startswith("an update is made by 1 process in 2 parts, and was made by 1 process: gradients are added")
    saved = resuming.find(replace(config, accumulate=2))
    assert saved is not None and (saved.processes, saved.accumulate) == (1, 2)
    assert "by 4 processes, and was made by 1 process in 2 parts" in resuming.other_sums(saved, config, 4)


def test_a_checkpoint_of_an_earlier_version_does_not_say_on_how_many_processes_it_was_made(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=2)
    train(config)
    file = config.out / checkpoint.LAST_FILE
    tensors, header = checkpoint.read(file)
    progress = header["progress"]
    del progress["processes"]
    for name in ("accumulate", "ema", "weight_decay"):
        del progress["training"][name]
    checkpoint.save_training(file, tensors, trainer(config).config.model, progress)
    saved = resuming.find(config)
    assert saved is not None and resuming.other_sums(saved, config, 2) == ""
    assert train(replace(config, max_steps=3)).steps == 3


def test_processes_that_find_different_checkpoints_are_told(data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=2)
    train(config)
    saved = resuming.find(config)
    monkeypatch.setattr(resuming, "highest", lambda numbers, device: [max(numbers[0], 5), max(numbers[1], -1)])
    with pytest.raises(CheckpointError, match="different checkpoints in it, from step 1 to 5") as caught:
        resuming.check_same_everywhere(saved, config, "cpu")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(resuming, "highest", lambda numbers, device: list(numbers))
    resuming.check_same_everywhere(saved, config, "cpu")
    resuming.check_same_everywhere(None, config, "cpu")


def test_a_run_that_must_be_new_cannot_be_started_again(data_folder, tmp_path, monkeypatch):
    """It would be refused by its own folder; and taking that for its own, it would go on with anybody's."""
    config = tiny(data_folder, tmp_path / "run", steps=3, resume="never")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    for restarts in ("0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
        with pytest.raises(ConfigError, match="would refuse the run when torchrun starts it again"):
            train(config)
    assert not config.out.exists()
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "0")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert train(config).steps == 3


def test_a_run_that_is_started_again_waits_for_the_folder(data_folder, tmp_path, monkeypatch, capsys):
    """Another machine's file system may hold it for a process that is gone."""
    config = tiny(data_folder, tmp_path / "run", steps=2)
    config.out.mkdir()
    lock = held(config.out)
    lock.__enter__()
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            lock.__exit__(None, None, None)

    monkeypatch.setattr(starting.time, "sleep", wait)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "7")
    assert train(config).steps == 2 and len(waits) == 3
    assert "torchrun has started this run again (restart 7)" in capsys.readouterr().err
    with held(config.out):
        starting.wait_for_earlier(config.out, 0, 7, lambda: len(waits) == 5, shown=False)  # a signal ends it
        starting.wait_for_earlier(config.out, 0, 7, lambda: False, shown=False, seconds=0)
        starting.wait_for_earlier(config.out, 1, 7, lambda: False, shown=False)  # of another rank
        monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT")  # a run that somebody starts does not wait
        with pytest.raises(ConfigError, match="is being trained in by another process"):
            train(replace(config, max_steps=3))
    assert len(waits) == 5


def test_a_lost_process_is_one_line(monkeypatch):
    def lost(tensor: torch.Tensor, *operation: object) -> None:
        raise RuntimeError("[/torch/gloo/pair.cc:553] Connection closed by peer [127.0.0.1]:5. Check the logs.\nMore")

    monkeypatch.setattr(dist, "all_reduce", lost)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    expected = (
        r"process 1 of 2 lost another process of this run \(Connection closed by peer \[127.0.0.1\]:5\); torchrun"
    )
    for meet in (lambda: process.added(torch.zeros(2)), lambda: process.highest([1.0], torch.device("cpu"))):
        with pytest.raises(process.LostProcess, match=expected):
            meet()
    with pytest.raises(process.LostProcess), process.first_process_alone(2, torch.device("cpu")):
        pass
    with pytest.raises(ZeroDivisionError), process.first_process_alone(2, torch.device("cpu")):  # its own error counts
        print(1 / 0)


def meet(store: dist.Store, rank: int, names: dict[int, str]) -> threading.Thread:
    """A process of three, as a thread, that finds the others in a store."""

    def run() -> None:
        names[rank] = process._name_of_meeting(store, Launch(rank, 3))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_the_dead_of_an_earlier_start_are_not_met(monkeypatch):
    """torchrun's store outlives its processes, of which some never got as far as others."""
    monkeypatch.setattr(process, "_LOOK_AGAIN", 0.001)
    store = dist.HashStore()
    met: list[str] = []
    for present in ((0, 1, 2), (2, 1, 0)):
        names: dict[int, str] = {}
        threads = []
        for rank in present:
            threads.append(meet(store, rank, names))
            time.sleep(0.02)  # those that come first find what is left of the start before
        for thread in threads:
            thread.join(timeout=60)
        assert set(names) == {0, 1, 2} and len(set(names.values())) == 1
        met += set(names.values())
        store.set(process._FIRST, "0123456789abcdef")  # a first process that was killed before it met anybody
        store.set("0123456789abcdef/1/answer", "of another one")
    assert len(set(met)) == 2


def test_who_does_not_come_to_the_meeting_ends_it(monkeypatch):
    monkeypatch.setattr(process, "_LOOK_AGAIN", 0.001)
    monkeypatch.setattr(process, "_MEETING", timedelta(seconds=0.05))
    for rank in (0, 1):
        with pytest.raises(RuntimeError, match="timed out after 0 s"):
            process._name_of_meeting(dist.HashStore(), Launch(rank, 2))
