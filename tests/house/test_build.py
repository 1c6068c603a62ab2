"""These tests ask what is made anew: what setup.py compiles, of files and flags that changed, and what make demo
installs."""

import os
import runpy
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest

setuptools = pytest.importorskip("setuptools", reason="building needs setuptools: pip install -e '.[test]'")

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


@pytest.fixture
def compile_one(tmp_path, monkeypatch):
    """compile_one(*flags): whether `setup.compile_source` had to run the compiler, and the object's path."""
    from distutils.ccompiler import new_compiler

    with mock.patch("setuptools.setup"):
        compile_source = runpy.run_path(str(ROOT / "setup.py"))["compile_source"]
    monkeypatch.chdir(tmp_path)
    Path("with spaces.h").write_text("inline int one() { return 1; }\n")
    Path("unit.cpp").write_text('#include "with spaces.h"\nint two() { return 2 * one(); }\n')

    def run(*flags):
        compiler = new_compiler()
        with mock.patch.object(compiler, "compile", wraps=compiler.compile) as compiled:
            path = compile_source(compiler, "unit.cpp", list(flags), "objects", ["."])
        return compiled.called, Path(path)

    return run


@pytest.fixture
def jobs():
    """`setup.jobs`, the number of compilers that run at once."""
    with mock.patch("setuptools.setup"):
        return runpy.run_path(str(ROOT / "setup.py"))["jobs"]


@pytest.mark.parametrize(("wanted", "expected"), [("3", 3), ("0", 1), ("-1", 1)])
def test_max_jobs_is_at_least_one(jobs, monkeypatch, wanted, expected):
    monkeypatch.setenv("MAX_JOBS", wanted)
    assert jobs() == expected


def test_max_jobs_that_is_no_number_leaves_the_extension_out(jobs, monkeypatch):
    """setuptools goes on without an optional extension after a CompileError, and after nothing else."""
    from setuptools.errors import CompileError

    monkeypatch.setenv("MAX_JOBS", "many")
    with pytest.raises(CompileError, match="MAX_JOBS must be a whole number, got 'many'"):
        jobs()


def make_newer(path, than):
    later = than.stat().st_mtime + 1
    os.utime(path, (later, later))


def test_an_unchanged_source_is_not_compiled_again(compile_one):
    compiled, path = compile_one()
    assert compiled and path.exists()
    assert compile_one() == (False, path)


@pytest.mark.parametrize("name", ["unit.cpp", "with spaces.h"])
def test_a_changed_file_is_compiled_again(compile_one, name):
    _, path = compile_one()
    make_newer(name, than=path)
    assert compile_one() == (True, path)


def test_a_header_that_is_gone_is_noticed(compile_one):
    _, path = compile_one()
    Path("with spaces.h").rename("other.h")
    Path("unit.cpp").write_text('#include "other.h"\nint two() { return 2 * one(); }\n')
    os.utime("unit.cpp", (0, 0))
    assert compile_one() == (True, path)


def test_other_flags_make_another_object(compile_one):
    _, plain = compile_one()
    compiled, other = compile_one("-DOTHER")
    assert compiled and other != plain
    assert compile_one() == (False, plain)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_demo_installs_nothing_again_that_pip_has_installed(tmp_path):
    def asked():
        command = ["make", "-n", "demo", "VENV=.venv"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        told = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=True)
        return "pip install" in told.stdout, "samplernn-fast demo" in told.stdout

    for name in ("Makefile", "pyproject.toml", "setup.py", "constraints.txt", "samplernn_fast/_version.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("csrc", "tests/backends/cpu/native", "tests/played_gpu", ".venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    assert asked() == (True, True)
    for name in ("python", "samplernn-fast"):
        (tmp_path / ".venv/bin" / name).touch()
    make_newer(tmp_path / ".venv/bin/samplernn-fast", than=tmp_path / "pyproject.toml")
    assert asked() == (False, True)
    make_newer(tmp_path / "pyproject.toml", than=tmp_path / ".venv/bin/samplernn-fast")
    assert asked() == (True, True)
