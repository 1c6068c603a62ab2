"""What `samplernn-fast jobs submit` asks of SLURM, by a stand-in for sbatch; `test_slurm.py` has the real one."""

from pathlib import Path

import pytest
from command_line import run

from samplernn_fast.commands.jobs.task import Task
from samplernn_fast.errors import SampleRNNError

pytest.importorskip("submitit", reason="jobs submit needs submitit")
pytestmark = pytest.mark.usefixtures("elsewhere")

WORDS = ("generate", "demo", "-o", "out/", "--num-samples", 4)


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """sbatch(script): takes the place of SLURM's, which gets the name of the job's file."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def write(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    write("srun", "exit 1")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return lambda script: write("sbatch", script)


def submitted(sbatch, capsys, *asked):
    """The file of a job that was asked for so."""
    sbatch('cp "$1" job.sh; echo "Submitted batch job 7"')
    assert run("jobs", "submit", "--shards", 3, *asked, "--", *WORDS) == 0
    assert "SLURM has the array 7 of 3 shards" in capsys.readouterr().out
    return Path("job.sh").read_text().splitlines()


def test_flags_that_are_given_again_all_count(sbatch, capsys):
    asked = ("--setup", "module load cuda", "--setup", "ulimit -n 4096")
    lines = submitted(sbatch, capsys, *asked, "--slurm", "nice=5", "--slurm", "exclusive=", "--slurm=comment=a b")
    assert {"#SBATCH --nice=5", "#SBATCH --exclusive", "#SBATCH --comment='a b'", "#SBATCH --requeue"} <= set(lines)
    assert lines.index("module load cuda") + 1 == lines.index("ulimit -n 4096") < lines.index("# command")


@pytest.mark.parametrize(("minutes", "seconds"), [(1, 10), (2, 20), (9, 90), (60, 90)])
def test_a_process_is_warned_late_enough_to_have_worked(minutes, seconds, sbatch, capsys):
    assert f"#SBATCH --signal=USR2@{seconds}" in submitted(sbatch, capsys, "--minutes", minutes)


def test_srun_is_told_how_many_processors_a_task_has(sbatch, capsys):
    lines = submitted(sbatch, capsys, "--cpus", 8)
    assert "#SBATCH --cpus-per-task=8" in lines
    assert any("SRUN_CPUS_PER_TASK=" in line for line in lines[: lines.index("# command")])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("error: invalid partition: red", "invalid partition: red"),
        ("unrecognized option '--red'\nTry \\\"sbatch --help\\\" for more information", "unrecognized option '--red'"),
        ("error: One\nsbatch: error: Two", "One; Two"),
    ],
)
def test_a_refusal_is_one_line(words, said, sbatch, capfd):
    sbatch(f'echo "sbatch: {words}" >&2; exit 1')
    assert run("jobs", "submit", "--shards", 3, "--", *WORDS) == 1
    assert capfd.readouterr().err == f"samplernn-fast: SLURM did not take the job: {said}\n"


@pytest.mark.parametrize("flag", ["--setup", "--slurm", "--cpus", "--gpus", "--memory-gb", "--concurrency"])
def test_what_is_slurms_alone_is_refused_beside_local(flag, capsys):
    assert run("jobs", "submit", "--local", 2, flag, 1, "--", *WORDS) == 2
    assert f"{flag} must be left out beside" in capsys.readouterr().err


def test_only_a_scheduler_needs_an_error_to_see_that_a_task_failed():
    Path("bad.safetensors").write_bytes(b"no model")
    words = ("generate", "bad.safetensors", "-o", "out/", "--num-samples", "4")
    assert Task(words, 0, 2)().startswith("bad.safetensors: ")
    with pytest.raises(SampleRNNError, match=r"^bad.safetensors: "):
        Task(words, 0, 2, queued_again=True)()
