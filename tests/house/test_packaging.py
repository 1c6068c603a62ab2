"""What an installation must offer: a quick import, one version, every public name, and clean files."""

import ast
import importlib.metadata
import importlib.resources
import pkgutil
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import samplernn_fast
from samplernn_fast.backends.cuda.compiler import KernelSource

ROOT = Path(__file__).resolve().parents[2]


def python(code, cwd):
    """Output of the code in a fresh interpreter, outside the source tree."""
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_quick(tmp_path):
    # The time of the processor, which other programs do not slow down.
    code = "import time; t = time.process_time(); import samplernn_fast; print(time.process_time() - t)"
    seconds = statistics.median(float(python(code, tmp_path)) for _ in range(5))
    assert seconds < 0.1


def test_import_leaves_the_heavy_packages_alone(tmp_path):
    heavy = {"torch", "numpy", "soundfile", "soxr", "tyro", "triton", "tqdm"}
    loaded = python("import sys, samplernn_fast; print(*sys.modules)", tmp_path).split()
    assert heavy.isdisjoint(loaded)


def test_config_and_errors_need_no_torch(tmp_path):
    code = "import sys, samplernn_fast as s; s.SampleRNNConfig(); s.ConfigError; print('torch' in sys.modules)"
    assert python(code, tmp_path) == "False"


def test_version_is_that_of_the_installed_package():
    assert samplernn_fast.__version__ == importlib.metadata.version("samplernn-fast")


def test_py_typed_is_installed():
    assert importlib.resources.files("samplernn_fast").joinpath("py.typed").is_file()


def test_kernels_are_part_of_the_package(tmp_path):
    code = "import samplernn_fast.kernels as kernels; print(kernels.__name__)"
    assert python(code, tmp_path) == "samplernn_fast.kernels"


def test_every_folder_of_the_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [path.parent.relative_to(ROOT) for path in (ROOT / "samplernn_fast").rglob("__init__.py")]
    mapped = {"samplernn_fast.csrc", "samplernn_fast.kernels"}
    assert set(listed) - mapped == {".".join(folder.parts) for folder in folders}


@pytest.mark.parametrize("name", ["persistent.cuh", "stages.cuh"])
def test_every_text_that_a_kernel_includes_is_installed(name):
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    source = KernelSource.read(name, ROOT / "csrc")
    texts = [f"cuda/device/{name}", *source.headers]
    assert len(texts) > 10
    for text in texts:
        assert any(Path(text).match(pattern) for pattern in data["samplernn_fast.csrc"]), text


def test_every_file_of_a_page_is_installed():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["samplernn_fast"]
    page = [path.relative_to(ROOT / "samplernn_fast") for path in (ROOT / "samplernn_fast/serving").glob("*_page/*")]
    assert {"index.html", "base.css", "page.css", "page.js"} <= {path.name for path in page}
    assert all(any(path.match(pattern) for pattern in data) for path in page)


def test_compat_is_loaded_on_first_use(tmp_path):
    code = "import samplernn_fast as s; print(s.compat.deepsound.Generator.__name__)"
    assert python(code, tmp_path) == "Generator"
    assert python("import samplernn_fast as s; print(s.ops.gru_cell.__name__)", tmp_path) == "gru_cell"


def test_every_public_name_is_there():
    for name in samplernn_fast.__all__:
        assert getattr(samplernn_fast, name) is not None, name
    assert set(samplernn_fast.__all__) <= set(dir(samplernn_fast))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'generat'"):
        samplernn_fast.generat  # noqa: B018


def test_no_module_hides_a_public_name():
    # Importing a submodule sets it as an attribute: a train.py would replace the function train.
    modules = {module.name for module in pkgutil.iter_modules(samplernn_fast.__path__)}
    assert modules.isdisjoint(samplernn_fast.__all__)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(samplernn_fast.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    declared = {
        alias.name: node.module.removeprefix("samplernn_fast.")
        for node in imports
        for alias in node.names
        if node.module.startswith("samplernn_fast.") and alias.name in samplernn_fast._HOME
    }
    assert declared == samplernn_fast._HOME


def test_files_name_no_machine_path():
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    # A path from the root; not the tail of a longer one such as a web address.
    machine_path = re.compile(rb"(?<![\w.~}])/(?:root|work|opt|mnt|home/\w+|Users/\w+)/")
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    found = {
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in files
        if path.is_file() and (match := machine_path.search(path.read_bytes()))
    }
    assert len(files) > 10
    assert not found
