"""The `triton` backend and its kernels: the files of tests/on_triton, each in a process of its own, because Triton
decides when it is imported whether its interpreter runs kernels on the CPU. On a GPU the same files run compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed; it has wheels for Linux only")

FOLDER = Path(__file__).parent / "on_triton"
FILES = sorted(path.name for path in FOLDER.glob("*.py") if not path.name.startswith("_"))
every_file = pytest.mark.parametrize("file", FILES)


def run_file(file: str, **environment: str) -> None:
    """pytest on one file; fails unless tests have run and all have passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", str(FOLDER / file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=os.environ | environment)
    report = f"exit status {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert done.returncode == 0, report
    assert " passed" in done.stdout, report
    print(done.stdout)


@every_file
def test_interpreted(file):
    run_file(file, TRITON_INTERPRET="1", PYTHONWARNINGS="ignore::RuntimeWarning")


@pytest.mark.gpu
@every_file
def test_on_the_gpu(file):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA GPU")
    run_file(file, TRITON_INTERPRET="0")


def test_nothing_imports_triton_before_a_model_is_packed():
    code = """
import sys, torch
before = set(sys.modules)
import samplernn_fast, samplernn_fast.backends, samplernn_fast.engine, samplernn_fast.cli
print(sorted(name for name in set(sys.modules) - before if name.split(".")[0] == "triton"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
