"""bench/gpu_report.sh keeps its deadline, loses nothing where a part fails, and leaves all results in one file."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from fake_gpu import COMPILE_FOR_CPU
from warm_python import warm_python

from bench.gpu import absent

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "bench" / "gpu_report.sh"
SAMPLING, STAGES = "bench/sampling_speed.py", "bench/gpu/stage_times.py"
CONTESTANTS = ["cuda-int8", "torch", "cuda-bfloat16", "cuda-float32", "triton-bfloat16", "triton-float32"]
EXCHANGES = ["1024-launches", "256-tagged", "256-cluster", "256-launches"]
# Every run of the report in its order, without `compile`, which runs beside the tests.
RUNS = [
    *("start", "doctor", "tests-triton", "tests"),
    *(f"sampling-1024/{name}" for name in CONTESTANTS),
    "profile",
    *(f"exchanges/{name}" for name in EXCHANGES),
    *(f"sampling-256/{name}" for name in CONTESTANTS),
    *("stages", "styles", "training", "tests-rest"),
]
PLAYED = """#!/usr/bin/env bash
# Plays the interpreter: it writes down its command line, and dies or hangs in the part that a test names.
[[ $1 == bench/gpu/report_table.py ]] && exec "$REAL_PYTHON" "$@"
line=; for word in "$@"; do line+="$word"$'\\x1f'; done
printf '%s\\n' "$line" >>"$DIARY"
[[ $1 == "$DIES" ]] && kill -SEGV $$
[[ $1 == "$HANGS" ]] && { trap '' TERM; while :; do sleep 1; done; }
[[ $1 == bench/doctor.py ]] && exec "$REAL_PYTHON" -S -c "$WHERE"
exit 0
"""
WHERE = """
from importlib.util import find_spec
for name in ("samplernn_fast", "samplernn_fast.kernels", "bench.gpu.faults"):
    print(find_spec(name).origin)
"""
"""What doctor is replaced by: where a Python without any installed package finds this one."""


def unpacked(out: Path) -> Path:
    """The folder in a report's archive, which is all that a report leaves."""
    assert [path.name for path in out.iterdir()] == ["report.tgz"]
    with tarfile.open(out / "report.tgz") as archive:
        archive.extractall(out.parent / "unpacked", filter="data")
    return out.parent / "unpacked" / "report"


def statuses_of(folder: Path) -> dict[str, str]:
    return dict(line.split("\t")[:2] for line in (folder / "status.tsv").read_text().splitlines())


@pytest.fixture
def start(tmp_path):
    """Starts a report with a played interpreter: options -> the process, whose OUTDIR and diary lie in tmp_path."""
    if shutil.which("timeout") is None:
        pytest.skip("needs GNU timeout")
    python = tmp_path / "python"
    python.write_text(PLAYED)
    python.chmod(0o755)

    def started(*options, dies="", hangs=""):
        (tmp_path / "diary").write_text("")
        played = {"PYTHON": str(python), "REAL_PYTHON": sys.executable, "DIARY": str(tmp_path / "diary")}
        played |= {"WHERE": WHERE, "DIES": dies, "HANGS": hangs, "TMPDIR": str(tmp_path)}
        command = [str(REPORT), *options[:2], str(tmp_path / "the report"), *options[2:]]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=os.environ | played, **pipes)

    return started


@pytest.fixture
def report(start, tmp_path):
    """Runs such a report: options -> its exit status, what it printed, the status of every run, the command lines that
    were run, and the seconds."""

    def run(*options, **played):
        began = time.monotonic()
        process = start(*options, **played)
        printed = "".join(process.communicate(timeout=200))
        seconds = time.monotonic() - began
        out = tmp_path / "the report"
        statuses = statuses_of(unpacked(out)) if out.exists() else {}
        lines = [line.split("\x1f")[:-1] for line in (tmp_path / "diary").read_text().splitlines()]
        return process.returncode, printed, statuses, lines, seconds

    return run


def test_it_goes_on_where_a_part_dies(report):
    code, printed, statuses, _, _ = report("--seconds", "1080", dies="bench/gpu/stage_times.py")
    assert [name for name in statuses if name != "compile"] == RUNS
    assert {name for name, code in statuses.items() if code != "0"} == {"profile", "stages"}
    assert statuses["stages"] == "139" and code == 1
    assert "sampling-1024/cuda-int8 (at most 80 s)" in printed  # twice the usual whole
    assert re.search(r"^profile +139 +\d+ +see its log$", printed, re.MULTILINE)


def make_folders_of_records(lines):
    """The programs refuse a file in a folder that is not there, and the report has removed its own by now."""
    for line in lines:
        if "--json" in line:
            Path(line[line.index("--json") + 1]).parent.mkdir(parents=True, exist_ok=True)


def test_it_compiles_ahead_the_kernels_of_what_it_runs(report, capsys):
    """The folder has a space in its name, which the command lines that are handed over must keep."""
    pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")
    from bench.gpu import compile_ahead

    code, _, statuses, lines, _ = report("--seconds", "540")
    assert code == 0 and set(statuses.values()) == {"0"}
    make_folders_of_records(lines)
    ((_, *ahead),) = [line for line in lines if line[0] == "bench/gpu/compile_ahead.py"]
    run = [shlex.join(line) for line in lines if line[0] in (SAMPLING, "bench/gpu/stage_times.py")]
    assert len(run) == len(RUNS) - len(["start", "doctor", "training", *("tests-triton", "tests", "tests-rest")])

    def kernels(commands):
        return {kernel for command in commands for kernel in compile_ahead.kernels_of(command)}

    assert kernels(command for command in ahead if command.startswith("bench")) == kernels(run)
    tests = [line[-1] for line in lines if "gpu and telling" in line or "gpu and not telling" in line]
    assert [ahead[0], ahead[-1]] == [f"{tests[0]} -m telling", tests[1]]


def test_it_compiles_for_another_machine(report, monkeypatch):
    monkeypatch.setenv("COMPILE_FOR", "h200")
    code, _, statuses, lines, _ = report("--seconds", "540", "compile")
    assert code == 0 and set(statuses) == {"start", "compile"}
    ((_, *ahead),) = [line for line in lines if line[0] == "bench/gpu/compile_ahead.py"]
    assert ahead[:2] == ["--for", "h200"] and ahead[2].endswith(" -m telling")
    monkeypatch.setenv("COMPILE_FOR", "h300")
    code, printed, *_ = report("--seconds", "540", "compile")
    assert code == 2 and f"COMPILE_FOR must be one of {', '.join(absent.CARDS)}, got 'h300'" in printed


def test_every_contestant_has_a_process_of_its_own(report):
    """A fault of one spoils all that its process does later."""
    from bench import sampling_speed

    _, _, _, lines, _ = report("--seconds", "540", "sampling-1024", "exchanges")
    make_folders_of_records(lines)
    asked = [sampling_speed.parse(line[1:]) for line in lines if line[0] == SAMPLING]
    assert all(len(one.backend) == 1 for one in asked)
    assert [len(one.dtype) for one in asked if not one.exchanges] == [1] * len(CONTESTANTS)
    assert [len(one.exchanges) for one in asked if one.exchanges] == [1] * len(EXCHANGES)
    assert [one.backend for one in asked if not one.no_plain] == [["reference"]]  # plain torch runs beside it


def test_it_keeps_its_deadline_where_a_part_hangs(report):
    code, printed, statuses, _, seconds = report("--seconds", "20", "doctor", "profile", "styles", hangs=STAGES)
    assert statuses == {"start": "0", "doctor": "0", "profile": "137", "styles": "no time"}
    assert seconds < 22 and code == 1
    assert "styles: no time left" in printed and re.search(r"^profile +137 +\d+ +see its log$", printed, re.MULTILINE)


def test_what_was_there_is_kept_where_the_report_is_killed(start, tmp_path):
    process = start("--seconds", "20", "doctor", "profile", hangs=STAGES)
    deadline = time.monotonic() + 100
    while STAGES not in (tmp_path / "diary").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.communicate()
    folder = unpacked(tmp_path / "the report")
    assert statuses_of(folder) == {"start": "0", "doctor": "0"} and (folder / "doctor.log").stat().st_size > 0


def test_it_needs_no_installed_package(report, tmp_path):
    """A Python that finds no installed package finds this one, with its kernels, and the plugin of pytest."""
    report("--seconds", "540", "doctor")
    package, kernels, plugin = (tmp_path / "unpacked/report/doctor.log").read_text().split()
    root = package.removesuffix("/samplernn_fast/__init__.py")
    assert root != str(ROOT) and not Path(root).exists()  # a folder of its own, which is gone
    assert kernels == f"{root}/samplernn_fast/kernels/__init__.py" and plugin == f"{root}/bench/gpu/faults.py"


def test_the_native_extension_is_built_where_it_is_missing(report):
    _, _, statuses, lines, _ = report("--seconds", "540", "doctor")
    assert "native" not in statuses
    _, _, statuses, lines, _ = report("--seconds", "540", "doctor", dies="-c")  # the import of it fails
    assert list(statuses) == ["start", "native", "doctor"] and ["setup.py", "build_ext", "--inplace"] in lines


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--seconds", "soon"), "a number of seconds, got 'soon'"), (("--seconds", "9", "test"), "no part test")],
)
def test_it_refuses_what_it_does_not_know(report, options, message):
    code, printed, statuses, lines, _ = report(*options)
    assert code == 2 and message in printed and not statuses and not lines


@pytest.mark.parametrize("before", [(), ("--seconds", "5"), ("out",)])
def test_help_is_what_the_file_begins_with(before, tmp_path):
    command = [str(REPORT), *before, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert "[--seconds N] OUTDIR" in lines[1] and lines[-2] == "PYTHON chooses the interpreter." and not done.stderr
    assert lines[-1].startswith("PART is one of: doctor compile ") and not list(tmp_path.iterdir())


def whole(tmp_path, parts, **environment):
    """A report of these parts: what it printed, and its folder."""
    if shutil.which("timeout") is None:
        pytest.skip("needs GNU timeout")
    environment = (
        os.environ | {"CUDA_VISIBLE_DEVICES": "", "SAMPLERNN_FAST_CACHE": str(tmp_path / "cache")} | environment
    )
    # The limits are three times the usual ones, because here a few shared cores play the GPU.
    command = [str(REPORT), "--seconds", "1620", str(tmp_path / "out"), *parts.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    folder = unpacked(tmp_path / "out")
    assert done.returncode == 1 and (folder / "table.txt").read_text() in done.stdout, done.stderr
    return done.stdout, folder


def test_without_a_gpu_every_part_says_so(tmp_path):
    """One part of each kind. What was skipped, or left out, has not succeeded."""
    parts = "doctor compile tests-triton tests profile exchanges styles training"
    printed, folder = whole(tmp_path, parts, PYTHON=warm_python())
    assert {name for name, code in statuses_of(folder).items() if code == "0"} == {"start", "doctor"}
    logs = {path.stem: path.read_text() for path in folder.glob("*.log")}
    assert "cannot open libcuda" in logs["compile"] and "torch sees no GPU" in logs["tests"]
    assert "no test has passed" in logs["tests"]
    assert re.search(r"^tests +5 +\d+ +0 passed, 0 failed, \d\d+ skipped +see its log$", printed, re.MULTILINE)
    assert re.search(r"^tests-triton +1 +\d+ +\d passed, \d+ failed, 0 skipped +see its log$", printed, re.MULTILINE)
    for name in ("profile", "styles", "training", *(f"exchanges-{name}" for name in EXCHANGES)):
        assert "torch sees no CUDA GPU" in logs[name] and "Traceback" not in logs[name], name


def test_with_a_played_gpu_every_part_that_can_measures(tmp_path, fake_libcuda, fake_libnvrtc):
    """Those of the cuda backend, plain torch and training. Triton needs a real GPU, and so do the tests for one."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{warm_python()}" "{ROOT}/tests/played_gpu/played_machine.py" "$@"\n')
    python.chmod(0o755)
    played = {"SAMPLERNN_FAST_LIBCUDA": fake_libcuda.path, "SAMPLERNN_FAST_NVRTC": fake_libnvrtc.path}
    played |= {"FAKE_NVRTC_COMPILER": f"env PYTHONSAFEPATH= {COMPILE_FOR_CPU}", "PYTHON": str(python)}
    parts = "doctor compile sampling-1024 profile exchanges stages training"
    printed, folder = whole(tmp_path, parts, **played)
    failed = {name for name, code in statuses_of(folder).items() if code != "0"}
    assert failed == {"sampling-1024/triton-bfloat16", "sampling-1024/triton-float32"}
    assert "compiled kernels" in (folder / "doctor.json").read_text()
    assert re.search(r"^all in ", (folder / "compile.log").read_text(), re.MULTILINE)
    measured = {line[:28].strip() for line in printed.splitlines() if re.search(r"[a-z]\d* +[\d,]+$", line)}
    assert {f"cuda {dtype}" for dtype in ("float32", "bfloat16", "int8")} <= measured
    assert {f"cuda int8 {name}" for name in ("tagged", "cluster", "launches")} <= measured
    assert {"torch float32", "torch bfloat16", "reference float32"} <= measured
    assert re.search(r"^a sample +\d+\.\d+ +\d+\.\d+$", printed, re.MULTILINE)  # of profile
    assert re.search(r"^walk +[\d,.]+ +1\.000$", printed, re.MULTILINE)  # of stages
    assert re.search(r"^dim +16  ours [\d,]+, plain torch [\d,]+$", printed, re.MULTILINE)
