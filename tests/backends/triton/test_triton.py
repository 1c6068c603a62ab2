"""Run the tests of the `triton` backend and its kernels: the files of tests/backends/triton/kernels, each in a process
of its own, because Triton decides when it is imported whether to interpret kernels on the CPU. On a GPU the same files
run compiled."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from warm_python import warm_python

from samplernn_fast.backends import registry
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.kernels.launch import Replay
from samplernn_fast.models.config import SampleRNNConfig

pytest.importorskip("triton", reason="Triton is not installed; it has wheels for Linux only")

FOLDER = Path(__file__).parent / "kernels"
FILES = sorted(path.name for path in FOLDER.glob("*.py"))
every_file = pytest.mark.parametrize("file", FILES)


def run_file(python: str, file: str, **environment: str) -> None:
    """Run pytest on one file, and fail unless tests have run and all have passed."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", str(FOLDER / file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=os.environ | environment)
    report = f"exit status {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert done.returncode == 0, report
    assert " passed" in done.stdout, report
    print(done.stdout)


@every_file
def test_interpreted(file):
    chosen = {"TRITON_INTERPRET": "1", "PYTHONWARNINGS": "ignore::RuntimeWarning"}
    run_file(warm_python("pytest", "triton", **chosen), file, **chosen)


@pytest.mark.gpu
@every_file
def test_on_the_gpu(file):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA GPU")
    run_file(sys.executable, file, TRITON_INTERPRET="0")


def test_nothing_imports_triton_before_a_model_is_packed():
    code = """
import sys, torch
before = set(sys.modules)
import samplernn_fast, samplernn_fast.engine, samplernn_fast.commands.main, samplernn_fast.backends.diagnosis
samplernn_fast.backends.diagnosis.diagnose()
print(sorted(name for name in set(sys.modules) - before if name.split(".")[0] == "triton"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_gpu_it_says_so_and_auto_moves_on():
    config = SampleRNNConfig()
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        pytest.skip("TRITON_INTERPRET is set: kernels run on the CPU")
    with pytest.raises(BackendUnavailable, match=r"the triton backend cannot run .*: runs on NVIDIA GPUs, not on cpu"):
        registry.resolve("triton", config, "cpu")
    assert registry.resolve("auto", config, "cpu").name != "triton"


def test_without_triton_the_reason_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    (reason,) = registry.BACKENDS["triton"].unavailable_reasons(SampleRNNConfig(), "cuda")
    assert reason.startswith("Triton cannot be imported") and "pip install triton" in reason and "\n" not in reason


@pytest.mark.parametrize(
    ("capability", "hip", "message"),
    [
        ((7, 5), None, "needs a GPU of compute capability 8.0 or newer, cuda has 7.5"),
        ((9, 0), "6.3", "AMD"),
        ((8, 0), None, ""),
    ],
)
def test_which_gpus_it_runs_on(monkeypatch, capability, hip, message):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    reasons = registry.BACKENDS["triton"].unavailable_reasons(SampleRNNConfig(), "cuda")
    assert (message in reasons[0]) if message else reasons == []


def test_a_sequence_runs_before_it_is_captured_and_is_then_replayed(monkeypatch):
    """A fake torch.cuda keeps a diary: the sequence runs before the capture, and a replay makes no call again. Around
    the capture, cuBLAS forgets its workspaces."""
    diary = []

    class Stream:
        def __init__(self, device=None):
            pass

        def wait_stream(self, other):
            diary.append("wait")

    class Graph:
        def replay(self):
            diary.append("replay")

    @contextlib.contextmanager
    def noted(name):
        diary.append(f"{name} begins")
        yield
        diary.append(f"{name} ends")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: noted("cuda_stream"))
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream, capture_error_mode: noted("capture"))
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: diary.append("forget"), raising=False)
    replay = Replay(lambda: diary.append("launch"), torch.device("cuda"))
    replay()
    replay()
    warm = ["wait", "cuda_stream begins", "launch", "cuda_stream ends", "wait"]
    captured = ["forget", "capture begins", "launch", "capture ends", "forget"]
    assert diary == warm + captured + ["replay", "replay"]
    diary.clear()
    Replay(lambda: diary.append("launch"), torch.device("cpu"))()
    assert diary == ["launch"]
