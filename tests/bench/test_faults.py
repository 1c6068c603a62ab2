"""bench/gpu/faults.py: what comes after a fault on a GPU runs in another process, and skipped is not passed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from warm_python import warm_python

ROOT = Path(__file__).parents[2]
FAULT = """
import os
import torch

def spoilt():
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

def test_before():
    open("before", "w").write(str(os.getpid()))

def test_with_a_fault():
    torch.cuda.is_initialized, torch.cuda.synchronize = lambda: True, spoilt
    torch.cuda.synchronize()

def test_after():
    assert open("before").read() != str(os.getpid()) and torch.cuda.synchronize is not spoilt

def test_wrong_without_a_fault():
    open("wrong", "w").write(str(os.getpid()))
    assert False

def test_in_the_same_process():
    assert open("wrong").read() == str(os.getpid())
"""


def run_pytest(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(text)
    plugins = ["-p", "bench.gpu.faults", "-p", "no:cacheprovider"]
    command = [warm_python(), "-m", "pytest", *plugins, *options, "test_it.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, env=environment)


def test_tests_go_on_in_another_process_after_a_fault(tmp_path):
    done = run_pytest(tmp_path, FAULT, "-n", "1", "-v", "--junitxml", "it.xml")
    assert done.returncode == 1, done.stdout
    passed = set(re.findall(r"PASSED test_it.py::(\w+)", done.stdout))
    assert passed == {"test_before", "test_after", "test_in_the_same_process"}, done.stdout
    assert "an illegal memory access was encountered" in done.stdout
    assert "an illegal memory access" in (tmp_path / "it.xml").read_text()


@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_a_run_that_skips_everything_fails(tmp_path, options):
    done = run_pytest(tmp_path, "import pytest\n@pytest.mark.skip('no GPU')\ndef test_it(): pass\n", *options)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED and "no test has passed" in done.stdout, done.stdout
    assert run_pytest(tmp_path, "def test_it(): pass\n", *options).returncode == 0


def test_stages_go_on_in_another_process_after_a_fault(monkeypatch, capsys):
    from bench.gpu import faults, stage_times

    class Replaced(BaseException):
        """What takes the place of this process's end."""

    def timed_rows(kernel, dim, dtype, streams):
        seen.append(dim)
        raise RuntimeError("CUDA error")

    def execv(path, command):
        raise Replaced(*command)

    seen = []
    monkeypatch.setattr(stage_times, "timed_rows", timed_rows)
    monkeypatch.setattr(stage_times.devices, "resolve_device", lambda name: "cuda:0")
    monkeypatch.setattr(os, "execv", execv)
    options = "--kernels persistent --dim 8 16 24 --batch-size 1 --dtype int8"
    monkeypatch.setattr(sys, "argv", ["stage_times.py", *options.split()])
    with pytest.raises(SystemExit, match="left out"):
        stage_times.main()  # no fault: all in this process
    assert seen == [8, 16, 24]

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: timed_rows(0, 0, 0, 0))
    assert faults.spoiled()
    seen.clear()
    with pytest.raises(Replaced) as raised:
        stage_times.main()
    assert seen == [8, 0] and raised.value.args == (sys.executable, *sys.argv, "--after", "1")
    seen.clear()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(stage_times, "timed_rows", lambda *about: seen.append(about[1]) or [])
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--after", "1"])
    with pytest.raises(SystemExit, match="left out"):
        stage_times.main()
    assert seen == [16, 24]
    assert "RuntimeError: CUDA error" in capsys.readouterr().out
