"""The tree of the repository: docs/architecture.md lists all of it, and no folder or file grows too large."""

import re
import subprocess
import tomllib
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
LISTED = ("samplernn_fast", "kernels", "csrc", "bench", "examples")
MOST_MODULES, MOST_LEVELS = 12, 3  # of one folder of the package, __init__.py included, and from samplernn_fast down
MOST_LINES = 400  # of one source file
SOURCES = (".py", ".h", ".cpp", ".cuh")


def block(language: str, containing: str) -> str:
    """The fenced block of that language in docs/architecture.md that contains a text."""
    found = re.findall(rf"^```{language}\n(.*?)^```", ARCHITECTURE.read_text(encoding="utf-8"), re.M | re.S)
    (only,) = [text for text in found if containing in text]
    return only


def listed_files(tree: str) -> list[str]:
    """The files of a drawn tree, two spaces a level: a folder's name ends in /, files share lines, one space between.

    What stands behind two spaces or more is a description.
    """
    folders: list[str] = []
    files = []
    for line in tree.splitlines():
        level, odd = divmod(len(line) - len(line.lstrip(" ")), 2)
        assert not odd and level <= len(folders), line
        names = re.split(" {2,}", line.strip(), maxsplit=1)[0].split(" ")
        if names[0].endswith("/"):
            assert len(names) == 1, line
            folders[level:] = [names[0]]
        else:
            files += ["".join([*folders[:level], name]) for name in names]
    return files


@pytest.fixture(scope="module")
def real_files() -> list[str]:
    """What git keeps, or would keep: tracked files and new ones, without those that it ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs git")
    if done.returncode or not done.stdout:
        pytest.skip("needs the checkout of a git repository")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_a_tree_is_read_folder_by_folder():
    tree = "one/  two words\n  a.py b.py  two files\n  two/\n    c.h\n  d.py\nthree/\n  e.py\n"
    assert listed_files(tree) == ["one/a.py", "one/b.py", "one/two/c.h", "one/d.py", "three/e.py"]


@pytest.mark.parametrize("folder", LISTED)
def test_the_page_lists_every_file(folder, real_files):
    listed = [name for name in listed_files(block("text", "samplernn_fast/")) if name.startswith(f"{folder}/")]
    real = {name for name in real_files if name.startswith(f"{folder}/")}
    assert len(listed) == len(set(listed))
    assert {"missing": sorted(real - set(listed)), "gone": sorted(set(listed) - real)} == {"missing": [], "gone": []}


def test_the_page_has_the_order_of_imports():
    """import-linter's contract, which cannot see kernels/, with kernels in its place behind reference."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = [set(layer.split(" | ")) for layer in reversed(contract[0]["layers"])]
    layers.insert(layers.index({"reference"}) + 1, {"kernels"})
    drawn = re.findall(r'"([^"]+)"', block("mermaid", '"errors"'))
    assert [set(label.split(", ")) for label in drawn] == layers


def test_no_folder_of_the_package_is_too_large_or_too_deep(real_files):
    modules = [PurePosixPath(name) for name in real_files if name.startswith("samplernn_fast/") and name[-3:] == ".py"]
    folders = [path.parent for path in modules]
    assert len(modules) > 50
    assert not {str(folder) for folder in folders if folders.count(folder) > MOST_MODULES}
    assert not {str(folder) for folder in folders if len(folder.parts) > MOST_LEVELS}


def test_no_source_file_is_too_long(real_files):
    sources = [name for name in real_files if name.endswith(SOURCES) and name.startswith((*LISTED, "tests"))]
    lines = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in sources}
    assert len(lines) > 200
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}
