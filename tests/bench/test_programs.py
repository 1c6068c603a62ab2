"""The benchmarks run, check parity before they time, and write rows that can be read back."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from samplernn_fast.native import native

BENCH = Path(__file__).parents[2] / "bench"
SAMPLING = "bench/sampling_speed.py"


def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / script), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_training_speed(tmp_path):
    file = tmp_path / "training.json"
    args = "--dim 16 --batch-size 4 --seq-len 128 --rounds 1 --passes 1 --json".split()
    done = run("training_speed.py", *args, str(file))
    assert done.returncode == 0, done.stderr
    assert "x plain torch" in done.stdout
    (record,) = json.loads(file.read_text())
    (row,) = record["rows"]
    assert row["gap"] < 1e-4 and set(row["samples_per_second"]) == {"ours", "plain torch"}
    assert all(speed > 0 for speed in row["samples_per_second"].values())


def test_sampling_speed(tmp_path):
    file = tmp_path / "draw.json"
    args = [*"--dim 16 --batch-size 1 3 --no-compile --seconds 0.01 --rounds 1 --json".split(), str(file)]
    for _ in range(2):  # rows are appended
        done = run("sampling_speed.py", *args)
        assert done.returncode == 0, done.stderr
    assert "x real time" in done.stdout
    records = json.loads(file.read_text())
    assert len(records) == 2
    contestants = {row["contestant"] for row in records[0]["rows"]}
    assert {"reference float32", "torch float32", "torch bfloat16"} <= contestants
    assert {row["batch_size"] for row in records[0]["rows"]} == {1, 3}


def test_sparse_models_are_timed_beside_the_dense_one(tmp_path):
    file = tmp_path / "draw.json"
    options = "--dim 24 --density 0.3 --batch-size 1 --backend cpu --no-plain --no-compile --seconds 0.01 --rounds 1"
    done = run("sampling_speed.py", *options.split(), "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [row for row in json.loads(file.read_text())[0]["rows"] if "left_out" not in row]
    dense, sparse = ({row["contestant"] for row in rows if row.get("density") == density} for density in (None, 0.3))
    assert {"cpu float32", "cpu int8"} <= dense & sparse
    assert "density  0.3" in done.stdout


def test_instruction_sets_are_timed_on_their_own(tmp_path):
    file, isa = tmp_path / "rows.json", native().available_isas()[0]
    options = f"--dim 24 --batch-size 1 --backend cpu --dtype int8 --isa {isa} --threads 1 --no-plain --no-compile"
    options += " --seconds 0.01 --rounds 1"
    done = run("sampling_speed.py", *options.split(), "--json", str(file))
    assert done.returncode == 0, done.stderr
    found = [row["contestant"] for row in json.loads(file.read_text())[0]["rows"]]
    assert found.count(f"cpu int8 {isa}") == 1


def test_rows_are_kept_as_soon_as_they_are_there(tmp_path, monkeypatch):
    """They are kept whatever ends the process later, and in one record."""
    import torch

    from bench import sampling_speed

    file, measure, kept = tmp_path / "draw.json", sampling_speed.timing.measure, []

    def measured(contestants, config, batch_size, *rest):
        if file.exists():
            kept.append([row["batch_size"] for record in json.loads(file.read_text()) for row in record["rows"]])
        return measure(contestants, config, batch_size, *rest)

    monkeypatch.setattr(sampling_speed.timing, "measure", measured)
    options = "--dim 16 --batch-size 1 2 3 --backend reference --dtype float32 --no-plain --rounds 1 --seconds 0.01"
    monkeypatch.setattr(sys, "argv", ["sampling_speed.py", *options.split(), "--json", str(file)])
    threads = torch.get_num_threads()
    try:
        sampling_speed.main()
    finally:
        torch.set_num_threads(threads)
    assert kept == [[1], [1, 2]] and len(json.loads(file.read_text())) == 1


@pytest.fixture
def sampling_speed(monkeypatch, tmp_path):
    """Runs the benchmark in this process: options -> its rows, after it has ended with the exit status of a failure."""
    import torch

    from bench import sampling_speed

    threads = torch.get_num_threads()

    def rows_of_failure(options):
        file = tmp_path / "draw.json"
        command = ["sampling_speed.py", *options.split(), "--rounds", "2", "--seconds", "0.01", "--json", str(file)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit, match="was left out"):
            sampling_speed.main()
        (record,) = json.loads(file.read_text())
        return {(row["contestant"], row["batch_size"]): row for row in record["rows"]}

    yield rows_of_failure
    torch.set_num_threads(threads)


def test_a_wrong_backend_is_not_timed_and_the_others_are(sampling_speed, monkeypatch, capsys):
    """A backend whose scores differ is left out, in print and as a row."""
    from samplernn_fast.commands.benchmark import contestants
    from samplernn_fast.reference.backend import ReferenceBackend

    right = ReferenceBackend.score
    monkeypatch.setattr(contestants, "SCORED_STEPS", 8)
    monkeypatch.setattr(
        ReferenceBackend,
        "score",
        lambda self, hidden, levels: right(self, hidden, levels) + 1e-3 * (self.weights["mlp.output"].itemsize == 4),
    )
    rows = sampling_speed("--dim 16 --batch-size 1 3 --backend reference --dtype float32 --device cpu --no-compile")
    for streams in (1, 3):
        row = rows["reference float32", streams]
        assert row["left_out"].startswith("scores differ by 0.001") and row["failed"]
        assert "samples_per_second" not in row and rows["torch float32", streams]["samples_per_second"] > 0
    assert "reference float32 is left out: scores differ by 0.001" in capsys.readouterr().out


def test_one_that_cannot_start_costs_the_others_nothing(sampling_speed):
    options = "--dim 16 --batch-size 1 --backend cuda reference --dtype float32 --device cpu --no-plain"
    rows = sampling_speed(f"{options} --exchanges all")
    assert "runs on a CUDA GPU, not on cpu" in rows["cuda float32", 1]["left_out"]
    assert {f"cuda float32 {name}" for name in ("counters", "tagged", "cluster", "launches")} <= {
        name for name, _ in rows
    }
    assert rows["reference float32", 1]["samples_per_second"] > 0


def test_one_that_fails_while_it_is_timed_costs_the_others_nothing(sampling_speed, monkeypatch):
    from samplernn_fast.commands.benchmark import contestants

    calls = []

    class Failing(contestants.PlainTorch):
        def make(self, n):
            calls.append(n)
            if len(calls) > 3:
                raise RuntimeError("out of memory\nand so on")
            return super().make(n)

    monkeypatch.setattr(contestants, "PlainTorch", Failing)
    rows = sampling_speed("--dim 16 --batch-size 1 --backend reference --dtype float32 --device cpu --no-compile")
    assert rows["reference float32", 1]["samples_per_second"] > 0
    assert rows["torch bfloat16", 1]["left_out"] == "RuntimeError: out of memory"


def test_scores_are_compared_for_a_batch_that_is_timed(monkeypatch):
    """The check uses a batch that is timed too, so that no kernel is compiled for it alone."""
    from samplernn_fast.commands.benchmark import checks
    from samplernn_fast.engine.engine import Engine
    from samplernn_fast.models.config import SampleRNNConfig
    from samplernn_fast.models.sample_rnn import SampleRNN

    exact = Engine(SampleRNN(SampleRNNConfig(dim=16)), backend="reference", dtype="float64", device="cpu")
    levels, seen = np.random.default_rng(0).integers(0, 256, (2, 24)), []
    scores, right = exact.score(levels), exact.backend.score
    monkeypatch.setattr(
        exact.backend, "score", lambda hidden, levels: (seen.append(len(levels)), right(hidden, levels))[1]
    )
    monkeypatch.setitem(checks.PARITY_BOUNDS, "float64", 1e-9)
    for streams in (1, 2, 5):
        checks.check_scores(exact, levels, scores, streams)
    assert seen == [1, 2, 5]
    with pytest.raises(checks.CheckFailed, match="scores differ"):
        checks.check_scores(exact, levels, scores[::-1], 5)


def test_the_graphed_peer_makes_the_samples_of_the_plain_one():
    """With the same noise they make the same levels, so what a GPU replays is the same sampler."""
    import torch

    from samplernn_fast.commands.benchmark.plain_torch import GraphedTorch, PlainTorch
    from samplernn_fast.models.config import SampleRNNConfig
    from samplernn_fast.models.sample_rnn import SampleRNN
    from samplernn_fast.reference.weights import pack

    weights = pack(SampleRNN(SampleRNNConfig(dim=16)))
    plain, graphed = (kind(weights, 3, torch.float32) for kind in (PlainTorch, GraphedTorch))
    torch.manual_seed(0)
    wanted = torch.cat([plain.make(8) for _ in range(3)], dim=1)
    torch.manual_seed(0)
    assert torch.equal(graphed.make(17), wanted)  # whole periods: 24 samples
    assert len(wanted.unique()) > 10


def test_a_backend_that_draws_otherwise_is_not_timed(monkeypatch):
    from samplernn_fast.commands.benchmark import checks
    from samplernn_fast.engine.engine import Engine
    from samplernn_fast.models.config import SampleRNNConfig
    from samplernn_fast.models.sample_rnn import SampleRNN
    from samplernn_fast.reference import randomness

    model = SampleRNN(SampleRNNConfig(dim=16))
    engine, exact = (Engine(model, backend="reference", dtype=dtype, device="cpu") for dtype in ("float32", "float64"))
    checks.check_draws(engine, exact, 3)
    right = randomness.Randomness.draws
    monkeypatch.setattr(randomness.Randomness, "draws", lambda self, start, steps: right(self, start + 1, steps))
    with pytest.raises(checks.CheckFailed, match=r"3 streams: its draws lie .* outside .*; nothing was timed"):
        checks.check_draws(engine, exact, 3)


@pytest.mark.skipif(shutil.which("timeout") is None, reason="needs GNU timeout")
def test_the_gpu_report_loses_nothing_where_a_part_fails(tmp_path):
    """Without a GPU each timing fails on its own; the parts that need none are there, and so is the table."""
    out = tmp_path / "report"
    command = [str(BENCH / "gpu_report.sh"), str(out), "doctor", "sampling-256", "training"]
    environment = os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    statuses = dict(line.split("\t")[:2] for line in (out / "status.tsv").read_text().splitlines())
    assert list(statuses) == ["doctor", "sampling-256", "training"] and statuses["doctor"] == "0"
    assert statuses["sampling-256"] != "0" and done.returncode == 1
    assert "no CUDA GPU" in (out / "sampling-256.log").read_text()
    assert json.loads((out / "doctor.json").read_text())["backends"]["reference on cpu"] == "runs"
    assert (out / "table.txt").read_text() in done.stdout and "see its log" in done.stdout


def test_the_gpu_table_shows_what_was_measured(tmp_path):
    (tmp_path / "status.tsv").write_text("doctor\t0\t3\n")
    rows = [
        {"contestant": "triton float32", "dim": 256, "batch_size": streams, "samples_per_second": 1000.4 * streams}
        for streams in (1, 8)
    ]
    rows.append({"contestant": "cuda int8", "dim": 256, "batch_size": 8, "left_out": "scores differ", "failed": True})
    record = {"processor": "a GPU", "torch": "2.13", "rows": rows}
    (tmp_path / "sampling_speed.json").write_text(json.dumps([record]))
    stage = {"dim": 256, "dtype": "int8", "batch_size": 8, "stage": "upsample 0 0", "us": 2.345, "per_sample": 1.0}
    profiled = {name: stage[name] for name in ("dim", "dtype", "batch_size")}
    profiled |= {"stage": "draw", "us": 1.25, "exchange": "tagged", "exchange_us": 0.75}
    both = [record | {"rows": [stage]}, record | {"rows": [profiled]}]
    (tmp_path / "stage_times.json").write_text(json.dumps(both))
    done = run("gpu/report_table.py", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("triton float32")]
    assert line.split() == ["triton", "float32", "1,000", "8,003"]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("cuda int8")]
    assert line.split() == ["cuda", "int8", "-", "left", "out"]
    assert "left out: cuda int8: scores differ" in done.stdout
    assert "Stages, dim 256, int8, 8 streams" in done.stdout and "2.345         1.000" in done.stdout
    assert "exchange tagged: us of a sample, of them exchanges" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("draw")]
    assert line.split() == ["draw", "1.250", "0.750"]


PLAYED = """#!/usr/bin/env bash
# Plays the interpreter: it writes down its command line, and dies or hangs in the part that a test names.
[[ $1 == bench/gpu/report_table.py ]] && exec "$REAL_PYTHON" "$@"
line=; for word in "$@"; do line+="$word"$'\\x1f'; done
printf '%s\\n' "$line" >>"$DIARY"
[[ $1 == "$DIES" ]] && kill -SEGV $$
[[ $1 == "$HANGS" ]] && { trap '' TERM; while :; do sleep 1; done; }
exit 0
"""
PARTS = "install doctor compile tests-triton tests sampling-1024 sampling-256 exchanges profile stages styles training"


@pytest.fixture
def report(tmp_path):
    """Runs the report with a played interpreter: options -> the process, the status of each part, the command lines
    that were run, and the seconds."""
    if shutil.which("timeout") is None:
        pytest.skip("needs GNU timeout")
    python, out, diary = tmp_path / "python", tmp_path / "the report", tmp_path / "diary"
    python.write_text(PLAYED)
    python.chmod(0o755)

    def run(*options, dies="", hangs=""):
        diary.write_text("")
        played = {"PYTHON": str(python), "REAL_PYTHON": sys.executable, "DIARY": str(diary)}
        began = time.monotonic()
        done = subprocess.run(
            [str(BENCH / "gpu_report.sh"), *options[:2], str(out), *options[2:]],
            capture_output=True,
            text=True,
            timeout=200,
            env=os.environ | played | {"DIES": dies, "HANGS": hangs},
        )
        seconds = time.monotonic() - began
        table = (out / "status.tsv").read_text() if out.exists() else ""
        statuses = dict(line.split("\t")[:2] for line in table.splitlines())
        lines = [line.split("\x1f")[:-1] for line in diary.read_text().splitlines()]
        return done, statuses, lines, seconds

    return run


def test_the_gpu_report_goes_on_where_a_part_dies(report):
    done, statuses, _, _ = report("--seconds", "1080", dies="bench/gpu/stage_times.py")
    order = [name for name in statuses if name != "compile"]  # which runs beside the tests
    assert order == [name for name in [*PARTS.split(), "tests-rest"] if name != "compile"]
    assert {name for name, code in statuses.items() if code != "0"} == {"profile", "stages"}
    assert statuses["stages"] == "139" and done.returncode == 1
    assert "sampling-1024 (at most 160 s)" in done.stdout  # twice the usual whole
    assert re.search(r"^profile +139 +\d+ +see its log$", done.stdout, re.MULTILINE)


def test_the_gpu_report_compiles_ahead_what_it_runs(report):
    """It hands over the very command lines that it runs, those of tests too, in a folder with a space in its name."""
    done, statuses, lines, _ = report("--seconds", "540")
    assert done.returncode == 0 and set(statuses.values()) == {"0"}
    ((_, *ahead),) = [line for line in lines if line[0] == "bench/gpu/compile_ahead.py"]
    commands = [shlex.split(command) for command in ahead]
    run = [line for line in lines if line[0] in ("bench/sampling_speed.py", "bench/gpu/stage_times.py")]
    assert [line for line in run if "--styles" not in line] == [
        line for line in commands if line[0].startswith("bench")
    ]
    tests = [line[-1] for line in lines if "gpu and telling" in line or "gpu and not telling" in line]
    assert tests == [commands[0][0], commands[-1][0]] and commands[0][1:] == ["-m", "telling"]


def test_the_gpu_report_keeps_its_deadline_where_a_part_hangs(report):
    done, statuses, _, seconds = report("--seconds", "18", "doctor", "sampling-1024", "styles", hangs=SAMPLING)
    assert statuses == {"doctor": "0", "sampling-1024": "137", "styles": "no time"}
    assert seconds < 20 and done.returncode == 1
    assert "styles: no time left" in done.stdout and done.stdout.rstrip().endswith("see its log")


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--seconds", "soon"), "a number of seconds, got 'soon'"), (("--seconds", "9", "test"), "no part test")],
)
def test_the_gpu_report_refuses_what_it_does_not_know(report, options, message):
    done, statuses, lines, _ = report(*options)
    assert done.returncode == 2 and message in done.stderr and not statuses and not lines
