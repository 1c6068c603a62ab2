"""`samplernn-fast jobs`: shards of `generate` on this machine, killed at random; what status and merge say."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import run

from samplernn_fast.commands.jobs import task
from samplernn_fast.jobs import cluster
from samplernn_fast.jobs.ledger import Ledger

pytest.importorskip("submitit", reason="jobs submit needs submitit")
pytestmark = [
    pytest.mark.usefixtures("elsewhere"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]

UNITS = 64
WORDS = (
    "generate",
    "demo",
    "-o",
    "out/",
    "--num-samples",
    UNITS,
    "--duration",
    "0.4",
    "--batch",
    2,
    "--num-threads",
    1,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files that one process makes, all at once."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(*WORDS[:2], "-o", folder, *WORDS[4:8]) == 0
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def submit(processes):
    command = [sys.executable, "-m", "samplernn_fast", "jobs", "submit", "--local", processes, "--", *WORDS]
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def workers():
    """The processes that make units for this test, whose folder of logs is among their words."""
    logs, found = str(Path("job-logs").absolute()).encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"submitit.core._submit" in words and any(os.path.abspath(word) == logs for word in words[-3:] if word):
            found.append(int(place.name))
    return found


def units():
    """The number of units that are there."""
    return len(list(Path("out").glob("*.wav")))


def made():
    return {path.name: path.read_bytes() for path in Path("out").glob("*.wav")}


def kill_at_random(team, moments, generator):
    """Kills one of the workers at so many random moments: by turns soon after another unit is there, while units are
    made, and at any time, which is mostly while workers start. Returns how many died."""
    kills, there = 0, units()
    while kills < moments and team.poll() is None:
        if kills % 2 == 0 and units() == there:
            time.sleep(0.01)
            continue
        time.sleep(generator.uniform(0, 0.1) if kills % 2 == 0 else generator.uniform(0.05, 0.5))
        found = workers()
        if found:
            os.kill(generator.choice(found), signal.SIGKILL)
            kills, there = kills + 1, units()
    return kills


def share_and_kill(processes, kills, generator):
    """Runs a team of processes to its end, some of which are killed. Returns how many were."""
    team = submit(processes)
    try:
        killed = kill_at_random(team, kills, generator)
        printed = team.communicate(timeout=120)[0].decode()
    finally:
        team.kill()
    assert team.returncode == 0, printed
    assert killed == 0 or "was killed, and is started again" in printed
    return killed


def restart_and_kill(whole, kills, generator):
    """64 units by 4, 2 and 1 processes, of which the first teams are stopped before their end. Returns how many
    processes were killed."""
    died = 0
    for processes in (4, 2):
        team = submit(processes)
        died += kill_at_random(team, kills, generator)
        team.send_signal(signal.SIGTERM)
        printed = team.communicate(timeout=120)[0].decode()
        assert team.returncode in (0, 143), printed
        assert set(made()) <= set(whole) and made() and not workers()
    died += share_and_kill(1, kills, generator)
    assert made() == whole
    return died


def test_a_job_that_is_whole_is_checked_again(capsys):
    """And no other one that lies beside it."""
    other = (*WORDS[:4], "--num-samples", 4, "--duration", "0.02", "--seed", 9, "--num-shards", 2, "--shard-index", 0)
    assert run(*other) == 0
    words = (*WORDS[:4], "--num-samples", 2, "--duration", "0.02", "--batch", 1)
    assert run(*words, "--num-shards", 1) == 0
    capsys.readouterr()
    assert run("jobs", "submit", "--local", 1, "--", *words) == 0
    assert "2 units of generate are there and right" in capsys.readouterr().out


def test_killed_processes_and_other_numbers_of_shards_make_the_same_files(whole):
    assert restart_and_kill(whole, 1, random.Random(0)) >= 1
    manifest = Path("out/demo-seed0.job/manifest.json").read_bytes()
    assert run("generate", *WORDS[1:], "--num-shards", 1) == 0
    assert run("jobs", "merge", "out") == 0
    assert Path("out/demo-seed0.job/manifest.json").read_bytes() == manifest


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(20))
def test_many_kills(whole, seed):
    assert restart_and_kill(whole, 5, random.Random(seed)) >= 3


def test_what_status_finds_is_made_again(capsys):
    words = (*WORDS[:6], "--duration", "0.05")
    assert run(*words, "--num-shards", 1) == 0
    whole = made()
    cut, flipped, foreign = (Path("out") / name for name in sorted(whole)[:3])
    os.truncate(cut, 300)
    content = bytearray(flipped.read_bytes())
    content[-1] ^= 1
    flipped.write_bytes(content)
    Path("out/demo-seed0-99.wav").write_text("somebody's own")
    ledger = Ledger.open(Path("out/demo-seed0.job"))
    (ledger.folder / "units" / f"{foreign.name}.json").unlink()
    foreign.write_text("somebody's own")
    capsys.readouterr()

    assert run("jobs", "status", "out") == 1
    shown = capsys.readouterr()
    assert "61 of 64 units are there and right, 3 broken" in shown.out
    for line in (f"{cut} has 300 bytes", f"{flipped} holds other bytes", f"{foreign} was not made by this job"):
        assert line in shown.out
    assert "out/demo-seed0-99.wav is no unit of this job" in shown.out and "4 files are not what" in shown.err
    assert run("jobs", "status", "out", "--json") == 1
    assert len(json.loads(capsys.readouterr().out)["broken"]) == 3
    assert run("jobs", "merge", "out") == 1
    assert "3 of 64 units are still to be made" in capsys.readouterr().err

    for index in range(3):
        assert run(*words, "--num-shards", 3, "--shard-index", index) == 0
    said = capsys.readouterr()
    assert said.err.count("is moved to") == 3 and "3 made" in said.out
    assert {name: text for name, text in made().items() if name in whole} == whole
    Path("out/demo-seed0-99.wav").unlink()
    assert run("jobs", "status", "out") == 0 and run("jobs", "merge", "out") == 0


def test_ctrl_c_keeps_what_is_whole(whole):
    team = submit(2)
    while len(made()) < 4:
        time.sleep(0.02)
        assert team.poll() is None
    team.send_signal(signal.SIGINT)
    printed = team.communicate(timeout=60)[0].decode()
    assert team.returncode == 130 and "interrupted; the same command goes on" in printed
    assert 4 <= len(made()) < UNITS and all(whole[name] == text for name, text in made().items())
    assert not workers()


def test_a_shard_that_fails_is_told_with_its_reason(tmp_path, capsys):
    Path("bad.safetensors").write_bytes(b"no model")
    words = ("generate", "bad.safetensors", "-o", "out/", "--num-samples", 4)
    assert run("jobs", "submit", "--local", 2, "--", *words) == 1
    shown = capsys.readouterr().err
    assert "shard 0: bad.safetensors: " in shown and "(2 shards failed)" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("submit --local 2", "behind -- there must be a command that can be shared, "),
        ("submit --local 2 -- generat demo", "got 'generat'; did you mean generate?"),
        ("submit --local 2 -- doctor", "that can be shared, "),
        ("submit --local 2 -- generate demo --num-shards 2", "--num-shards is given by jobs itself"),
        ("submit --local 2 -- generate demo --shard_index=2", "--shard_index=2 is given by jobs itself"),
        ("submit --local 2 -- generate demo --tempo 3", "--tempo"),
        ("submit --local 2 generate demo --seed 3", "put -- before the command that is shared, as in samplernn-fast"),
        ("submit -- generate demo", "--shards must say how many parts"),
        ("submit --local 4 --shards 2 -- generate demo", "--shards must be at least the number of processes, 4, got 2"),
        ("submit --local 2 --partition gpu -- generate demo", "--partition must be left out beside local"),
        ("submit --shards 2 --slurm gpu -- generate demo", "--slurm must be NAME=VALUE, got 'gpu'"),
        ("stats", "the first word must be one of submit, status, merge, manifest, got 'stats'; did you mean status?"),
    ],
)
def test_what_is_refused(words, message, capsys):
    assert run("jobs", *words.split()) == 2
    assert message in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_processes_take_processors_and_gpus_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", " GPU-1a, 3,")
    gpus, seen = cluster.visible_gpus(), []
    assert gpus == ("GPU-1a", "3")
    monkeypatch.setattr(
        task, "run_command", lambda words: (seen.append(os.environ["CUDA_VISIBLE_DEVICES"]), (0, ""))[1]
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3, 4})
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, mine: seen.append(sorted(mine)))
    for place in range(3):
        assert task.Task(("generate",), place, 3, beside=3, gpus=gpus)(place) == ""
    assert seen == [[0], "GPU-1a", [1, 2], "3", [3, 4], "GPU-1a"]
    task._pin(7, 8)
    assert seen[-1] == [4]


def test_where_there_is_no_slurm_or_no_job(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert run("jobs", "submit", "--shards", 2, "--", "generate", "demo") == 1
    assert "SLURM did not take the job" in capsys.readouterr().err
    assert run("jobs", "status", "nowhere") == 1
    assert "nowhere: no job is there" in capsys.readouterr().err


def test_without_submitit_it_is_one_line_and_nothing_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert run(*"jobs submit --local 2 -- generate demo -o out/".split()) == 1
    assert (
        capsys.readouterr().err == "samplernn-fast: jobs submit needs submitit; pip install submitit (extra `jobs`)\n"
    )
    assert list(tmp_path.iterdir()) == []
