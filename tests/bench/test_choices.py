"""bench/gpu/choices.py on a GPU that is played."""

import functools
import json
import sys
from types import SimpleNamespace

import pytest
from cases import make_model
from engines import MODELS
from played_gpu import Played

from bench.gpu import choices, compile_ahead, stage_times
from samplernn_fast.backends import devices
from samplernn_fast.backends.cuda import constants, first_look, program
from samplernn_fast.commands.benchmark import checks
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import DeviceError
from samplernn_fast.reference.weights import pack

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")


@functools.cache
def models(dim):
    model = make_model(MODELS["paper-3tier"])
    return model, pack(model), Engine(model, backend="reference", dtype="float64", device="cpu")


@pytest.fixture
def played(gpu, monkeypatch):
    monkeypatch.setattr(stage_times, "CudaBackend", Played)
    monkeypatch.setattr(stage_times, "models", models)
    monkeypatch.setattr(devices, "resolve_device", lambda device: "cpu")
    monkeypatch.setattr(checks, "DRAWN_LEVELS", 32)
    yield gpu
    compile_ahead.gpu.cache_clear()


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["choices.py", "--samples", "4", "--rounds", "1", *arguments])
    choices.main()


def test_a_case_is_built_with_its_choices_and_they_end_with_it(gpu, monkeypatch):
    monkeypatch.setattr(choices, "macros_of_kernels", lambda: {"SRNN_TRIED"})
    shape, usual = models(0)[0].config, program.THREADS
    case = choices.Case.of("24/int8/3/tagged threads=96 teams=2 blocks=3 SRNN_TRIED=7")

    def built():
        group = program.grouping.grouping(shape, "int8", 3, 4, 20 << 10, "tagged")
        macros = constants.defines(shape, "int8", group, 64, 20 << 10)
        return program.THREADS, group.teams, group.blocks, macros.get("SRNN_TRIED")

    with case.chosen():
        assert built() == (96, 2, 3, "7")
    assert built() == (usual, 1, 4, None)


def test_cases_take_turns_and_their_rows_are_kept(played, monkeypatch, capsys, tmp_path):
    cases, turns = ("24/float32/1/tagged", "24/float32/1/tagged threads=32"), []

    def run_once(self, samples):
        turns.append(self.case.name)
        self.times.append(float(len(turns)))

    monkeypatch.setattr(choices.Contestant, "run", run_once)
    run(monkeypatch, "--rounds", "3", "--json", str(tmp_path / "rows.json"), *cases)
    assert turns == list(cases) * 4
    (kept,) = json.loads((tmp_path / "rows.json").read_text())
    # The first round does not count.
    assert [(row["case"], row["least"], row["us"]) for row in kept["rows"]] == [(cases[0], 3, 5), (cases[1], 4, 6)]
    assert kept["rows"][0]["threads"] == 2 * kept["rows"][1]["threads"]
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_run_makes_samples_and_takes_its_time(played):
    (one,) = choices.contestants([choices.Case.of("24/float32/1/tagged")])
    one.run(4)
    assert len(one.times) == 1 and one.row()["us"] > 0


def test_a_case_that_cannot_start_is_left_out_with_its_reason(played, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="left out"):
        run(monkeypatch, "24/float32/1/cluster", "24/float32/1/tagged")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("24/float32/1/cluster: left out: 1 streams") and second.startswith("24/float32/1/tagged")


def test_a_case_that_fails_later_does_not_lose_the_others(played, monkeypatch, capsys):
    make = choices.make

    def fail_once(backend, streams, samples):
        if backend.dtype == "int8":
            raise DeviceError("the GPU kernel gave up")
        make(backend, streams, samples)

    monkeypatch.setattr(choices, "make", fail_once)
    with pytest.raises(SystemExit, match="left out"):
        run(monkeypatch, "24/int8/1/tagged", "24/float32/1/tagged")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "24/int8/1/tagged: left out: the GPU kernel gave up" and second.startswith("24/float32/1/tagged")


def test_a_case_whose_levels_differ_is_left_out(played, monkeypatch, capsys):
    monkeypatch.setitem(checks.OUTSIDE, "float32", -1.0)
    with pytest.raises(SystemExit, match="left out"):
        run(monkeypatch, "24/float32/1/tagged")
    assert "its draws lie on average" in capsys.readouterr().out


def test_a_wait_of_a_kernel_that_does_not_wait_is_left_out(played, monkeypatch, capsys):
    """A single team works ahead meanwhile, and two streams have one team on a GPU with little shared memory."""
    with pytest.raises(SystemExit, match="left out"):
        run(monkeypatch, "24/float32/2/tagged first_look=300")
    assert "tagged first_look=300: left out: its warps do not wait before they look" in capsys.readouterr().out


def test_a_wait_is_taken_in_place_of_the_best_one(gpu, monkeypatch):
    case = choices.Case.of("24/float32/1/tagged first_look=300")
    with case.chosen():
        assert first_look.kept_or_best("a program", 650, pytest.fail) == 300
    monkeypatch.setattr(first_look, "MEASURED", SimpleNamespace(read=lambda name: (70).to_bytes(4, "little")))
    assert first_look.kept_or_best("a program", 650, pytest.fail) == 70


def test_kernels_are_only_compiled(played, monkeypatch, capsys):
    run(monkeypatch, "--compile-only", "24/float32/1/tagged")
    assert played.calls.count("cuLaunchKernelEx") == 0 and capsys.readouterr().out == "24/float32/1/tagged: compiled\n"
    with pytest.raises(SystemExit, match="left out"):
        run(monkeypatch, "--compile-only", "24/float32/1/cluster")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("24/int8/1", "is not of the form"),
        ("", "is not of the form"),
        ("24/int8/1/tagged threads", "is not of the form"),
        ("a/int8/1/tagged", "is not of the form"),
        ("24/int9/1/tagged", "the mode must be one of"),
        ("24/int8/1/roles", "the exchange must be one of"),
        ("24/int8/0/tagged", "at least 1"),
        ("24/int8/1/tagged speed=3", "there is no choice speed"),
        ("24/int8/1/tagged SRNN_THREAD=3", "there is no choice SRNN_THREAD"),
        ("24/int8/1/tagged SRNN_BATCH=3", "there is no choice SRNN_BATCH"),
        ("24/int8/1/tagged SRNN_MODE=1", "there is no choice SRNN_MODE"),
        ("24/int8/1/tagged threads=100", "threads must not be 100, but 32 to 1024 in steps of 32"),
        ("24/int8/1/tagged first_look=-3", "first_look must not be -3, but 0 to 65535"),
        ("24/int8/1/cluster first_look=3", "first_look is for the exchange tagged"),
        ("24/int8/1/tagged teams=1 teams=2", "twice"),
    ],
)
def test_what_is_no_case_is_refused(monkeypatch, capsys, text, reason):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, text)
    assert stopped.value.code == 2 and reason in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("content", "reason"), [(None, "there is no folder"), ("{", "--json"), ("{}", "no list")])
def test_a_file_that_cannot_take_rows_is_refused_before_anything_is_measured(
    monkeypatch, capsys, tmp_path, content, reason
):
    path = tmp_path / "absent" / "rows.json" if content is None else tmp_path / "rows.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "--json", str(path), "24/int8/1/tagged")
    assert stopped.value.code == 2 and reason in capsys.readouterr().err.splitlines()[-1]
