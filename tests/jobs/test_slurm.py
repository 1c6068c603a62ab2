"""`samplernn-fast jobs submit` under a real SLURM of one node: what arrives, and what preemption and limits do."""

import math
import os
import re
import sys
import time
from pathlib import Path

import pytest
import slurm
from command_line import run

pytest.importorskip("submitit", reason="jobs submit needs submitit")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(slurm.reason_to_skip()), reason=slurm.reason_to_skip()),
]

SHORT = ("generate", "demo", "-o", "out/", "--num-samples", 9, "--duration", 0.05, "--batch", 1, "--num-threads", 1)
LONG = 4.0  # seconds of a piece of which many make a job that can be interrupted
SRUN = ("srun", "--overcommit", "--ntasks=3")


@pytest.fixture(scope="module")
def cluster():
    with slurm.running() as running:
        yield running


@pytest.fixture(autouse=True)
def place(elsewhere, cluster, monkeypatch):
    """A folder for each test, in which commands find the cluster."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, cluster.environment[name])
    yield
    cluster.ask("scancel", "--user=root")
    cluster.wait_for(lambda: not cluster.ask("squeue", "--noheader").strip())


def submit(capsys, *words):
    """Hands a command to SLURM. Returns the number of the job."""
    capsys.readouterr()
    assert run("jobs", "submit", *words) == 0
    return re.search(r"SLURM has the array (\d+) of", capsys.readouterr().out)[1]


def long_words(seconds):
    """A command whose work takes two processors of this machine at least so long."""
    began = time.monotonic()
    assert run("generate", "demo", "-o", "pace.wav", "--duration", LONG, "--num-threads", 1) == 0
    pieces = 2 * math.ceil(seconds / (time.monotonic() - began))
    return ("generate", "demo", "-o", "out/", "--num-samples", pieces, "--duration", LONG, *SHORT[-4:])


def sounds(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.wav")}


def assert_made_as_by_one_process(words):
    """Files and manifest are those of one process that makes all pieces at once."""
    assert run(*words[:3], "one/", *words[4:8], "--num-shards", 1) == 0
    assert run("jobs", "merge", "one") == 0 and run("jobs", "merge", "out") == 0
    assert sounds("out") == sounds("one") and len(sounds("one")) == words[5]
    manifests = [Path(folder, "demo-seed0.job/manifest.json").read_bytes() for folder in ("out", "one")]
    assert manifests[0] == manifests[1]


def log_of(number, shard):
    return Path(f"job-logs/{number}_{shard}_0_log.out").read_text()


def test_tasks_that_are_preempted_go_on(cluster, capsys):
    """SLURM looks every 30 seconds whether the time of grace is over, which it gives with SIGTERM."""
    words = long_words(45)
    number = submit(capsys, "--shards", 2, "--cpus", 1, "--minutes", 20, "--partition", "low", "--", *words)
    cluster.wait_for(lambda: len(sounds("out")) >= 2)
    wrap = "date > preempted.txt; sleep 2"
    cluster.ask("sbatch", "--partition=high", "--exclusive", "--output=/dev/null", f"--wrap={wrap}")
    cluster.wait_for(Path("preempted.txt").exists)
    there = len(sounds("out"))
    assert 2 < there < words[5], "the tasks ended before they were preempted, or did not work on after SIGTERM"
    tasks = cluster.wait_for_end(number, 600)
    assert [one["Restarts"] for one in tasks.values()] == ["1", "1"]
    assert {one["JobState"] for one in tasks.values()} == {"COMPLETED"}
    kept = [int(re.search(r"made, (\d+) were there", log_of(number, shard))[1]) for shard in (0, 1)]
    assert min(kept) >= 1 and sum(kept) >= there
    assert_made_as_by_one_process(words)


def test_a_task_whose_time_is_over_queues_itself_again(cluster, capsys):
    words = long_words(8)
    number = submit(capsys, "--shards", 2, "--cpus", 1, "--", *words)
    cluster.wait_for(lambda: len(sounds("out")) >= 2)
    cluster.ask("scancel", "--signal=USR2", f"{number}_0")  # as at the end of its time
    tasks = {}

    def queued_again():
        tasks.update(cluster.jobs(number))
        return tasks[f"{number}_0"]["Restarts"] == "1"

    cluster.wait_for(queued_again)
    tasks = cluster.wait_for_end(number)
    assert [tasks[f"{number}_{shard}"]["Restarts"] for shard in (0, 1)] == ["1", "0"]
    assert {one["JobState"] for one in tasks.values()} == {"COMPLETED"}
    assert log_of(number, 0).count("Job completed successfully") == 1
    assert_made_as_by_one_process(words)


def test_a_task_is_not_queued_again_more_often_than_asked(cluster, capsys):
    number = submit(capsys, "--shards", 1, "--restarts", 0, "--minutes", 5, "--", *long_words(20))
    cluster.wait_for(lambda: sounds("out"))
    cluster.ask("scancel", "--signal=USR2", number)
    (job,) = cluster.wait_for_end(number).values()
    assert (job["JobState"], job["Restarts"]) == ("FAILED", "0")


def test_what_is_asked_for_arrives(cluster, capsys):
    asked = ("--cpus", 2, "--memory-gb", 0.5, "--concurrency", 1, "--minutes", 7, "--name", "choir")
    asked += ("--setup", 'WORD="one two"', "--setup", 'echo "$WORD" > setup.txt')
    asked += ("--slurm", "comment=quick", "--slurm", "nice=5", "--slurm", "exclusive=", "--partition", "low")
    number = submit(capsys, "--shards", 3, *asked, "--", *long_words(20))
    cluster.wait_for(lambda: sounds("out"))
    first = cluster.jobs(number)[f"{number}_0"]
    expected = {"CPUs/Task": "2", "MinMemoryNode": "512M", "ArrayTaskThrottle": "1", "TimeLimit": "00:07:00"}
    expected |= {"JobName": "choir", "Comment": "quick", "Nice": "5", "Partition": "low", "OverSubscribe": "NO"}
    assert {name: first.get(name) for name in expected} == expected
    assert Path("setup.txt").read_text() == "one two\n"
    assert [one["JobState"] for one in cluster.jobs(number).values()].count("RUNNING") == 1
    (process,) = cluster.processes(first["JobId"])
    assert len(os.sched_getaffinity(process)) == min(2, os.cpu_count())


def test_a_shard_that_fails_is_a_job_that_fails(cluster, capsys):
    Path("bad.safetensors").write_bytes(b"no model")
    words = ("generate", "bad.safetensors", "-o", "out/", "--num-samples", 4)
    number = submit(capsys, "--shards", 2, "--", *words)
    assert {one["JobState"] for one in cluster.wait_for_end(number).values()} == {"FAILED"}
    assert "bad.safetensors: " in Path(f"job-logs/{number}_0_0_log.err").read_text()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("--shards 2 --partition nowhere", "invalid partition specified: nowhere; Batch job submission failed: "),
        ("--shards 2 --slurm colour=red", "unrecognized option '--colour=red'\n"),
        ("--shards 2 --memory-gb 100000", "Memory specification can not be satisfied; "),
        ("--shards 1500", "Batch job submission failed: Invalid job array specification; scontrol show config"),
    ],
)
def test_what_sbatch_refuses_is_said_in_one_line(asked, said, capfd):
    assert run("jobs", "submit", *asked.split(), "--", *SHORT) == 1
    shown = capfd.readouterr()
    assert shown.err.startswith(f"samplernn-fast: SLURM did not take the job: {said}")
    assert shown.out == "" and shown.err.count("\n") == 1


def by_hand(*words):
    """The words that start the command in a shell of its own."""
    return (sys.executable, "-m", "samplernn_fast", *words)


def test_srun_needs_no_flags(cluster):
    printed = cluster.ask(*SRUN, "--error=errors.txt", *by_hand(*SHORT))
    assert sorted(re.findall(r"(\d+) made", printed)) == ["3", "3", "3"]
    assert_made_as_by_one_process(SHORT)
    said = re.findall(r"shard (\d) of 3, as SLURM_PROCID says", Path("errors.txt").read_text())
    assert sorted(said) == ["0", "1", "2"]


@pytest.mark.parametrize("array", ["0-2", "10-14:2"])
def test_an_array_needs_no_flags(array, cluster):
    words = " ".join(map(str, by_hand(*SHORT)))
    options = ("--parsable", f"--array={array}", "--output=said-%a.txt", f"--wrap={words}")
    number = cluster.ask("sbatch", *options).strip()
    assert {one["JobState"] for one in cluster.wait_for_end(number).values()} == {"COMPLETED"}
    said = "".join(path.read_text() for path in Path().glob("said-*.txt"))
    found = re.findall(r"shard (\d) of 3, as SLURM_ARRAY_TASK_ID says", said)
    assert sorted(found) == ["0", "1", "2"] and said.count("3 made") == 3
    assert_made_as_by_one_process(SHORT)


def test_nothing_is_left_behind():
    with slurm.running() as cluster:
        assert [one.poll() for one in cluster.daemons] == [None] * 3
    assert None not in [one.poll() for one in cluster.daemons] and not cluster.folder.exists()
