"""The benchmarks run, check parity before they time, and write rows that can be read back."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / script), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_training_speed(tmp_path):
    file = tmp_path / "training.json"
    args = ("--dim", "16", "--batch-size", "4", "--seq-len", "128", "--rounds", "1", "--json", str(file))
    done = run("training_speed.py", *args)
    assert done.returncode == 0, done.stderr
    assert "x plain torch" in done.stdout
    (record,) = json.loads(file.read_text())
    (row,) = record["rows"]
    assert row["gap"] < 1e-4 and set(row["samples_per_second"]) == {"ours", "plain torch"}
    assert all(speed > 0 for speed in row["samples_per_second"].values())


def test_sampling_speed(tmp_path):
    file = tmp_path / "sampling.json"
    args = (
        "--dim",
        "16",
        "--batch-size",
        "1",
        "3",
        "--no-compile",
        "--seconds",
        "0.01",
        "--rounds",
        "1",
        "--json",
        str(file),
    )
    for _ in range(2):  # rows are appended
        done = run("sampling_speed.py", *args)
        assert done.returncode == 0, done.stderr
    assert "x real time" in done.stdout
    records = json.loads(file.read_text())
    assert len(records) == 2
    contestants = {row["contestant"] for row in records[0]["rows"]}
    assert {"reference float32", "torch float32", "torch bfloat16"} <= contestants
    assert {row["batch_size"] for row in records[0]["rows"]} == {1, 3}


def test_a_wrong_backend_is_not_timed(monkeypatch, capsys):
    """The gate: a backend whose scores differ stops the benchmark."""
    monkeypatch.syspath_prepend(str(BENCH))
    import sampling_speed

    from samplernn_fast.config import SampleRNNConfig
    from samplernn_fast.model import SampleRNN
    from samplernn_fast.reference import ReferenceBackend

    arguments = argparse.Namespace(backend=["reference"], dtype=None, device="cpu", threads=[1])
    right = ReferenceBackend.score
    monkeypatch.setattr(sampling_speed, "PARITY_STEPS", 8)
    monkeypatch.setattr(
        ReferenceBackend,
        "score",
        lambda self, hidden, levels: right(self, hidden, levels) + 1e-3 * (self.weights["mlp.output"].itemsize == 4),
    )
    with pytest.raises(SystemExit, match="nothing was timed"):
        sampling_speed.checked_engines(SampleRNN(SampleRNNConfig(dim=16)), arguments)
