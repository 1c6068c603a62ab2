"""The benchmarks run, check parity before they time, and write rows that can be read back."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from warm_python import warm_python

from samplernn_fast.native import native

BENCH = Path(__file__).parents[2] / "bench"


def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [warm_python(), str(BENCH / script), *args]
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


@pytest.mark.parametrize("name", ["sampling_speed", "stage_times"])
def test_a_file_that_can_have_no_records_is_refused_before_anything_is_measured(name, tmp_path, capsys):
    from bench import sampling_speed
    from bench.gpu import stage_times

    other = tmp_path / "other.json"
    other.write_text("{}")
    parse = {"sampling_speed": sampling_speed, "stage_times": stage_times}[name].parse
    for file, reason in ((tmp_path / "missing" / "rows.json", "there is no folder"), (other, "it is no list")):
        with pytest.raises(SystemExit):
            parse(["--json", str(file)])
        assert f"no records can be added to {file}: {reason}" in capsys.readouterr().err
    assert parse(["--json", str(tmp_path / "rows.json")]).json == tmp_path / "rows.json"


def test_shard_overhead(tmp_path):
    args = "--pieces 5 --batch 2 --seconds 0.5 --speed 5e5 --folder".split()
    done = run("shard_overhead.py", *args, str(tmp_path))
    assert done.returncode == 0, done.stderr
    took, worked, beyond = map(
        float, re.fullmatch(r"5 pieces: (\S+) s, the stand-in (\S+) s, beyond it (\S+) s\n", done.stdout).groups()
    )
    assert worked == 0.04 and took >= worked and abs(took - worked - beyond) < 0.02
    assert list(tmp_path.iterdir()) == []


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
    assert {f"cuda float32 {name}" for name in ("tagged", "cluster", "launches")} <= {name for name, _ in rows}
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


def test_the_gpu_table_shows_what_was_measured(tmp_path):
    (tmp_path / "status.tsv").write_text("doctor\t0\t3\ntests\t1\t70\n")
    suites = '<testsuites><testsuite tests="75" failures="2" errors="1" skipped="4" /></testsuites>'
    (tmp_path / "tests.xml").write_text(suites)
    rows = [
        {"contestant": "triton float32", "dim": 256, "batch_size": streams, "samples_per_second": 1000.4 * streams}
        for streams in (1, 8)
    ]
    rows.append({"contestant": "cuda int8", "dim": 256, "batch_size": 8, "left_out": "scores differ", "failed": True})
    record = {"processor": "a GPU", "torch": "2.13", "rows": rows}
    # Another process of the same report; what it left out takes no other's place.
    other = [rows[0] | {"left_out": "no"}, rows[0] | {"contestant": "torch float32", "samples_per_second": 7.0}]
    (tmp_path / "sampling_speed.json").write_text(json.dumps([record, record | {"rows": other}]))
    stage = {"dim": 256, "dtype": "int8", "batch_size": 8, "stage": "upsample 0 0", "us": 2.345, "per_sample": 1.0}
    profiled = {name: stage[name] for name in ("dim", "dtype", "batch_size")}
    profiled |= {"stage": "draw", "us": 1.25, "exchange": "tagged", "exchange_us": 0.75}
    both = [record | {"rows": [stage]}, record | {"rows": [profiled]}]
    (tmp_path / "stage_times.json").write_text(json.dumps(both))
    done = run("gpu/report_table.py", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^tests +1 +70   68 passed, 3 failed, 4 skipped   see its log$", done.stdout, re.MULTILINE)
    assert done.stdout.count("Sampling, ") == 1 and "torch float32                            7" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("triton float32")]
    assert line.split() == ["triton", "float32", "1,000", "8,003"]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("cuda int8")]
    assert line.split() == ["cuda", "int8", "-", "left", "out"]
    assert "left out: cuda int8: scores differ" in done.stdout
    assert "Stages, dim 256, int8, 8 streams" in done.stdout and "2.345         1.000" in done.stdout
    assert "exchange tagged: us of a sample, of them exchanges" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("draw")]
    assert line.split() == ["draw", "1.250", "0.750"]
