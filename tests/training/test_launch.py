"""What a training run takes from the environment: torchrun's variables, checked before anything else happens."""

import os
import signal
import subprocess
import sys

import pytest
import runs

from samplernn_fast.errors import BackendUnavailable, ConfigError
from samplernn_fast.training import process
from samplernn_fast.training.process import Launch

ELASTIC = {"TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_MAX_RESTARTS": "9"}
VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", *ELASTIC)
MEETING = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    """Sets these variables and no others of torchrun's."""

    def set_to(**values):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Launch()),
        ({"WORLD_SIZE": "", "RANK": ""}, Launch()),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, Launch(local_rank=0)),
        (MEETING | {"LOCAL_RANK": "3"}, Launch(1, 2, 3)),
        (ELASTIC, Launch(restarts=2, max_restarts=9)),
    ],
)
def test_what_torchrun_says_is_read(values, expected, environment):
    environment(**values)
    assert Launch.from_environment() == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE must be a whole number, 1 to 1000000, got 'x'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be .*got '0'"),
        ({"WORLD_SIZE": "9" * 500}, "WORLD_SIZE must be .*got '9{40}'"),
        ({"RANK": "one"}, "RANK must be a whole number"),
        ({"RANK": "1"}, "RANK is 1, but WORLD_SIZE is not set"),
        (MEETING | {"RANK": "2"}, "RANK must be a whole number, 0 to 1, got '2'"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK must be .*got '-1'"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK and MASTER_ADDR and MASTER_PORT are not set"),
        ({"TORCHELASTIC_RESTART_COUNT": "often"}, "TORCHELASTIC_RESTART_COUNT must be a whole number"),
        (MEETING | {"MASTER_PORT": "http"}, "MASTER_PORT must be a whole number, 0 to 65535, got 'http'"),
    ],
)
def test_variables_that_cannot_be_used_are_one_line(values, message, environment):
    environment(**values)
    with pytest.raises(ConfigError, match=message) as refused, process.process_group("cpu"):
        pass
    assert "torchrun" in str(refused.value) and "\n" not in str(refused.value)


def test_processes_that_do_not_find_each_other_are_one_line(environment, monkeypatch):
    def nobody_comes(*args, **kwargs):
        raise RuntimeError("timed out\nafter 1 of 2 came")

    monkeypatch.setattr(process, "rendezvous", nobody_comes)
    environment(**MEETING)
    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(
            BackendUnavailable, match=r"^process 1 of 2 did not find the others at 127.0.0.1:29500: timed out$"
        ),
        process.process_group("cpu"),
    ):
        pass
    assert signal.getsignal(signal.SIGTERM) is before


TWO_PROCESSES = """
import os, sys
sys.path.append(sys.argv[3])
from pathlib import Path
from runs import tiny
from samplernn_fast.training.trainer import train

train(tiny(Path(sys.argv[1]), Path(sys.argv[2]), steps=2), progress=False)
names = [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")]
Path(sys.argv[2] + ".threads" + os.environ["RANK"]).write_text(str([name for name in names if "gloo" in name]))
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="lists threads by /proc")
def test_no_thread_of_a_group_is_left_when_training_ends(data_folder, tmp_path):
    """One that is left may free a tensor of Python's while Python ends, which kills the process."""
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    options = [str(data_folder), str(tmp_path / "run"), os.path.dirname(runs.__file__)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *options], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        assert (tmp_path / f"run.threads{rank}").read_text() == "[]"
