"""bench/gpu/choices.py on a GPU that is played."""

import functools
import json
import sys

import pytest
from cases import make_model
from engines import MODELS
from played_gpu import Played

from bench.gpu import choices
from samplernn_fast.backends import devices
from samplernn_fast.backends.cuda import constants, program
from samplernn_fast.commands.benchmark import checks
from samplernn_fast.engine.engine import Engine
from samplernn_fast.reference.weights import pack

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")


@functools.cache
def models(dim):
    model = make_model(MODELS["paper-3tier"])
    return model, pack(model), Engine(model, backend="reference", dtype="float64", device="cpu")


@pytest.fixture
def played(gpu, monkeypatch):
    monkeypatch.setattr(choices, "CudaBackend", Played)
    monkeypatch.setattr(choices, "models", models)
    monkeypatch.setattr(devices, "resolve_device", lambda device: "cpu")
    monkeypatch.setattr(checks, "DRAWN_LEVELS", 32)
    return gpu


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["choices.py", "--samples", "4", "--rounds", "1", *arguments])
    choices.main()


def test_a_case_is_built_with_its_choices_and_they_end_with_it(monkeypatch, gpu):
    shape = models(0)[0].config
    usual = program.THREADS
    case = choices.Case.of("24/int8/3/tagged threads=96 teams=1 blocks=3 SRNN_X=7")
    with case.chosen():
        group = program.grouping.grouping(shape, "int8", 3, 4, 20 << 10, "tagged")
        assert (program.THREADS, group.teams, group.blocks) == (96, 1, 3)
        assert constants.defines(shape, "int8", group, 64, 20 << 10)["SRNN_X"] == "7"
    group = program.grouping.grouping(shape, "int8", 1, 4, 20 << 10, "tagged")
    assert (program.THREADS, group.blocks) == (usual, 4)
    assert "SRNN_X" not in constants.defines(shape, "int8", group, 64, 20 << 10)


def test_cases_take_turns_and_their_rows_are_kept(played, monkeypatch, capsys, tmp_path):
    cases = ("24/float32/1/tagged", "24/float32/1/tagged threads=32")
    run(monkeypatch, "--json", str(tmp_path / "rows.json"), *cases)
    (kept,) = json.loads((tmp_path / "rows.json").read_text())
    assert [row["case"] for row in kept["rows"]] == list(cases)
    assert all(row["us"] >= row["least"] > 0 for row in kept["rows"])
    assert kept["rows"][0]["threads"] == 2 * kept["rows"][1]["threads"]
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_case_that_cannot_start_is_left_out_with_its_reason(played, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="left out"):
        run(monkeypatch, "24/float32/1/cluster", "24/float32/1/tagged")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("24/float32/1/cluster: left out: 1 streams") and second.startswith("24/float32/1/tagged")


def test_a_case_whose_levels_differ_is_left_out(played, monkeypatch, capsys):
    monkeypatch.setitem(checks.OUTSIDE, "float32", -1.0)
    with pytest.raises(SystemExit, match="left out"):
        run(monkeypatch, "24/float32/1/tagged")
    assert "its draws lie on average" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["24/int8/1", "24/int8/1/tagged speed=3", "24/int8/1/tagged threads", "a/int8/1/tagged"]
)
def test_what_is_no_case_is_refused(monkeypatch, capsys, text):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, text)
    assert stopped.value.code == 2 and "invalid" in capsys.readouterr().err
