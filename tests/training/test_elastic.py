"""Two processes under torchrun of which one is killed: torchrun starts both again, and the run ends with the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch.distributed as dist
from runs import LAUNCH, assert_same_run, curve, finish, launch, tiny, trainer

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.files import held
from samplernn_fast.models import checkpoint
from samplernn_fast.models.places import kept_models
from samplernn_fast.training import process, resuming, starting
from samplernn_fast.training.config import TrainConfig
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
    raise AssertionError(f"the run made no row: {torchrun.communicate(timeout=10)}")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="finds processes by /proc")
@pytest.mark.parametrize(
    "kills", [2, pytest.param(10, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)]
)
def test_a_process_that_is_killed_changes_no_bit(kills, data_folder, tmp_path):
    steps, rng = 40 + 12 * kills, random.Random(kills)
    settings = {"save_every": 3, "accumulate": 2, "weight_decay": 0.1, "ema": 0.99}
    config = tiny(data_folder, tmp_path / "killed", steps=steps, **settings)
    torchrun = launch(config, *TORCHRUN, "--max-restarts", str(kills), *LAUNCH)
    for number in range(kills):
        rank = rng.randrange(2) if kills > 2 else number
        kill_when_it_goes_on(torchrun, config.out / "log.csv", rank, rng.uniform(0, 0.5))
    said = finish(torchrun)
    assert f"(restart {kills})" in said and f"{steps} steps" in said and "Traceback" not in said
    whole = replace(config, out=tmp_path / "whole")
    finish(launch(whole, *TORCHRUN, *LAUNCH))
    assert_same_run(config.out, whole.out)
    hashes = [{one.path.name: one.path.read_bytes()[-64:] for one in kept_models(run.out)} for run in (config, whole)]
    assert hashes[0] == hashes[1]
