"""The headers of csrc: each device header compiles by itself, and folders include only what they may."""

import re
import subprocess
from pathlib import Path

import pytest
from binaries import SHIM, compiler
from shim import KERNELS

from samplernn_fast.backends.cuda import constants
from samplernn_fast.backends.cuda.grouping import Grouping
from samplernn_fast.models.config import SampleRNNConfig

DEVICE = sorted(path.relative_to(KERNELS).as_posix() for path in (KERNELS / "cuda" / "device").iterdir())
# Folder -> what its files may include besides their own folder and the standard library.
MAY_INCLUDE = {
    "model": (),
    "cpu": ("model/",),
    "cuda/device": ("model/", "cuda/params.h", "prims_shim.h"),
    "cuda/host": ("cuda/params.h",),
}


@pytest.mark.parametrize("header", DEVICE)
def test_a_device_header_includes_what_it_uses(header):
    exchange = "launches" if header.endswith("stages.cuh") else "tagged"
    defines = constants.defines(SampleRNNConfig(dim=8), "int8", Grouping(3, 1, 4, exchange, teams=1), 64, 1 << 17)
    macros = [f"-D{name}={value}" for name, value in defines.items()]
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-DSRNN_SHIM", f"-I{KERNELS}", f"-I{SHIM}"]
    command = [*compiler(), *flags, *macros, "-x", "c++", "-"]
    done = subprocess.run(command, input=f'#include "{header}"\n', capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("folder", MAY_INCLUDE)
def test_a_folder_includes_only_what_it_may(folder):
    for path in filter(Path.is_file, (KERNELS / folder).rglob("*")):
        for name in re.findall(r'#include "([^"]+)"', path.read_text()):
            found = [root / name for root in (path.parent, KERNELS) if (root / name).is_file()]
            own = any(file.resolve().is_relative_to(KERNELS / folder) for file in found)
            assert own or name.startswith(MAY_INCLUDE[folder]), f"{path} includes {name}"
