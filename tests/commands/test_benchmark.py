"""The `bench` command: what it times, prints and refuses. tests/bench has the tests of bench/sampling_speed.py."""

import json
import re
import time

import numpy as np
import pytest
import torch
from cases import CASES, make_model
from command_line import assert_one_line_error, run, strict_json, subprocess_of

from samplernn_fast.commands.benchmark import checks, contestants, timing
from samplernn_fast.commands.benchmark.plain_torch import PlainTorch
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.reference.weights import pack

QUICK = "--seconds 0.001 --rounds 1 --device cpu --threads 1".split()

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_a_model_is_timed_beside_plain_torch(trained, capsys):
    threads = torch.get_num_threads()
    assert run("bench", trained, "--batch-size", 1, 2, *QUICK) == 0
    lines = capsys.readouterr().out.splitlines()
    assert torch.__version__ in lines[0] and torch.get_num_threads() == threads
    assert any(line.startswith("cuda: not run (runs on a CUDA GPU") for line in lines)
    rows = [line for line in lines if " samples/s " in line]
    assert all("x real time (RTF " in line and "x best torch" in line for line in rows)
    timed = {(line.split()[3], line.split()[4], line.split()[5]) for line in rows}
    assert {(streams, "reference", "float32") for streams in "12"} <= timed
    assert {("1", "torch", "float32"), ("1", "torch", "bfloat16")} <= timed


def test_json_is_one_object(trained, capsys):
    assert run("bench", trained, "--batch-size", 1, "--backend", "reference", "--json", *QUICK) == 0
    shown = strict_json(capsys.readouterr().out)
    assert shown["model"] == str(trained) and shown["machine"]["threads"] == 1
    assert shown["versions"]["torch"] == torch.__version__ and shown["machine"]["processor"]
    row = next(row for row in shown["rows"] if row["contestant"] == "reference float32")
    assert (row["dim"], row["batch_size"]) == (16, 1) and row["samples_per_second"] > 0
    assert row["rtf"] == pytest.approx(1 / row["x_real_time_per_stream"])
    plain = [row["samples_per_second"] for row in shown["rows"] if row["contestant"].startswith("torch")]
    assert row["x_best_torch"] == pytest.approx(row["samples_per_second"] / max(plain))


def test_untrained_models_of_the_paper_are_timed_where_none_is_named(capsys):
    sizes = ("--dim", 16, 32, "--batch-size", 1, "--backend", "reference", "--no-plain")
    assert run("bench", *sizes, "--json", *QUICK) == 0
    shown = strict_json(capsys.readouterr().out)
    assert shown["model"] is None
    assert [(row["dim"], row["frame_sizes"]) for row in shown["rows"]] == [(16, [2, 2, 8]), (32, [2, 2, 8])]
    assert all(row["x_best_torch"] is None for row in shown["rows"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--dtype float17", "dtype must be one of float32, .*got 'float17'"),
        ("--dtype float64", "dtype must be one of float32, .*got 'float64'"),
        ("--backend reference --dtype int8", "dtype must be one of float32 on reference, got 'int8'"),
        ("--backend quantum", "backend must be one of cuda, cpu, .*got 'quantum'"),
        ("--batch-size 0", "--batch-size must be 1 to"),
        ("--seconds 0", "--seconds must be above 0"),
        ("--threads 0", "--threads must be 1 to 256, got 0"),
        ("--device abacus", "device must be auto, cpu, cuda"),
        ("--dim 0", "--dim must be 1 to 16384, got 0"),
        ("demo --dim 16", "--dim is for untrained models"),
    ],
)
def test_options_that_cannot_be_used(options, message, capsys):
    assert run("bench", *options.split()) == 2
    error = assert_one_line_error(capsys)
    assert re.search(message, error), error


def test_a_missing_model_is_one_line(capsys):
    assert run("bench", "missing", *QUICK) == 1
    assert "missing: no such run folder" in assert_one_line_error(capsys)


def test_a_backend_that_cannot_run_is_named_and_the_others_are_timed(trained, capsys):
    options = ("--backend", "cuda", "reference", "--dtype", "float32", "--batch-size", 1, "--no-plain", "--json")
    assert run("bench", trained, *options, *QUICK) == 1
    shown = capsys.readouterr()
    first, second = sorted(strict_json(shown.out)["rows"], key=lambda row: row["contestant"])
    assert first["contestant"] == "cuda float32" and "runs on a CUDA GPU, not on cpu" in first["left_out"]
    assert second["contestant"] == "reference float32" and second["samples_per_second"] > 0
    last = shown.err.splitlines()[-1]
    assert last.startswith("samplernn-fast: not all that was asked for was timed: cuda float32: ")


def test_it_runs_as_a_program():
    done = subprocess_of("bench", "--dim", 16, "--backend", "reference", "--no-plain", "--json", *QUICK)
    assert done.returncode == 0, done.stderr
    assert {row["batch_size"] for row in json.loads(done.stdout)["rows"]} == {1, 64}


def test_plain_torch_is_the_model():
    """Without noise it takes the likeliest level, as the reference does at temperature 0."""
    model = make_model(CASES["paper-3tier"])
    plain = PlainTorch(pack(model), 2, torch.float64)
    plain.noise = lambda n: torch.zeros(n, 2, plain.config.q_levels, dtype=torch.float64)
    exact = Engine(model, backend="reference", dtype="float64", device="cpu")
    wanted = exact.run(exact.init_state(2, temperature=0.0), 40)
    made = torch.cat([plain.make(24), plain.make(16)], dim=1)
    assert np.array_equal(made.numpy(), wanted) and len(np.unique(wanted)) > 1


def test_plain_torch_is_left_out_where_it_cannot_play_the_model(trained):
    model = make_model(next(config for config in CASES.values() if config.rnn == "lstm"))
    with pytest.raises(BackendUnavailable, match="written for the paper's model"):
        PlainTorch(pack(model), 1, torch.float32)
    said: list[str] = []
    options = contestants.Options((1,), ("reference",), threads=(1,))
    lineup = contestants.Lineup(model, options, "cpu", said.append)
    found, absent = lineup.contestants(1)
    assert [one.name for one in found] == ["reference float32"] and not any(one.failed for one in absent.found)
    assert len(said) == 2 and said[0].startswith("torch float32 is left out: plain torch is written for")


@pytest.fixture
def engines():
    """The same model in float32 and in float64."""
    model = make_model(CASES["paper-3tier"])
    return [Engine(model, backend="reference", dtype=dtype, device="cpu") for dtype in ("float32", "float64")]


def test_one_wrong_stream_at_the_end_of_a_batch_is_found(engines, monkeypatch):
    engine, exact = engines
    right = engine.run

    def run_wrong(state, n):
        levels = right(state, n)
        levels[-1] = levels[0]
        return levels

    checks.check_draws(engine, exact, 40)
    monkeypatch.setattr(engine, "run", run_wrong)
    with pytest.raises(checks.CheckFailed, match="40 streams: its draws lie on average"):
        checks.check_draws(engine, exact, 40)


def test_one_wrong_draw_is_found(engines, monkeypatch):
    """One draw that is a little outside hides in the average of a mode that rounds weights, so the worst is bounded."""
    engine, exact = engines
    right = engine.run

    def run_wrong(state, n):
        levels = right(state, n)
        levels[0, -1] = (levels[0, -1] + engine.config.q_levels // 4) % engine.config.q_levels
        return levels

    monkeypatch.setattr(engine, "run", run_wrong)
    monkeypatch.setitem(checks.OUTSIDE, "float32", 1.0)
    with pytest.raises(checks.CheckFailed, match="its draws lie at the farthest"):
        checks.check_draws(engine, exact, 1)


def test_bounds_of_the_farthest_draw():
    assert checks.farthest("float32", 256) == pytest.approx(1.305e-4, rel=1e-3)
    assert checks.farthest("bfloat16", 256) == 0.05 and checks.farthest("int8", 65536) == 0.1


def test_a_step_is_timed_in_whole_periods():
    made: list[int] = []

    def make(n):
        made.append(n)
        time.sleep(n * 1e-4)

    steps = timing.fitting_steps(make, 0.02, "cpu")
    assert steps % 16 == 0 and 16 <= steps <= 208 and made[0] == 16


def test_a_busy_machine_is_said(monkeypatch, capsys):
    for load, said in ((0.0, False), (64.0, True)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert bool(timing.disturbance()) == said
    monkeypatch.setattr(timing, "run", lambda *args: [])
    assert run("bench", "demo", *QUICK) == 0
    assert "warning: other programs keep 64.0 of" in capsys.readouterr().err


def test_a_roofline_that_was_measured_too_low_is_no_number(capsys):
    row = {"dim": 16, "batch_size": 1, "contestant": "cpu float32", "threads": 1, "samples_per_second": 1.0}
    row |= {"x_real_time_per_stream": 1.0, "rtf": 1.0, "x_best_torch": None, "partings": 0}
    timing.print_rows([row | {"share_of_roofline": share} for share in (0.5, 1.2, None)])
    first, second, third = capsys.readouterr().out.splitlines()
    assert "50% of roofline" in first and "measured too low" in second and "roofline" not in third
