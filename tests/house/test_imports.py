"""The order of imports between rooms: import-linter's contract in pyproject.toml, and the place of kernels/."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="needs import-linter, of the extra `test`")

ROOT = Path(__file__).resolve().parents[2]


def lint(folder: Path) -> subprocess.CompletedProcess:
    """import-linter's verdict on the package in a folder that also holds pyproject.toml."""
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    command = [sys.executable, "-P", "-c", program]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"})


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The package's sources and its contract, in a folder of their own."""
    shutil.copytree(
        ROOT / "samplernn_fast", tmp_path / "samplernn_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_a_room_imports_only_rooms_below_it(copied):
    done = lint(copied)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("lazily", [False, True])
def test_an_upward_import_is_found(copied, lazily):
    """An import inside a function counts as one at the top of a file does."""
    line = "from samplernn_fast.engine.engine import Engine"
    with open(copied / "samplernn_fast" / "reference" / "draw.py", "a") as file:
        file.write(f"\n\ndef late():\n    {line}\n" if lazily else f"\n{line}\n")
    done = lint(copied)
    assert done.returncode == 1
    assert "samplernn_fast.reference is not allowed to import samplernn_fast.engine" in done.stdout


def test_a_room_without_a_place_is_found(copied):
    (copied / "samplernn_fast" / "attic").mkdir()
    (copied / "samplernn_fast" / "attic" / "__init__.py").write_text("")
    done = lint(copied)
    assert done.returncode == 1 and "attic" in done.stdout


def imports_of(file: Path) -> set[str]:
    """The modules of this package that a file imports, wherever the import stands."""
    tree = ast.parse(file.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("samplernn_fast.")}


def test_kernels_import_the_reference_and_the_layout_only():
    allowed = ("samplernn_fast.kernels.", "samplernn_fast.reference.", "samplernn_fast.models.layout.")
    wrong = {
        f"{file.name}: {name}"
        for file in (ROOT / "kernels").glob("*.py")
        for name in imports_of(file)
        if not name.startswith(allowed)
    }
    assert not wrong


def test_only_the_triton_backend_and_the_operators_import_kernels():
    users = {
        file.relative_to(ROOT / "samplernn_fast").as_posix()
        for file in (ROOT / "samplernn_fast").rglob("*.py")
        if any(name.startswith("samplernn_fast.kernels") for name in imports_of(file))
    }
    # The benchmark's plain torch is captured in a CUDA graph by the same text as our own launches.
    assert users == {"backends/triton.py", "ops.py", "commands/benchmark/plain_torch.py"}
