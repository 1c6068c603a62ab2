"""Compiles a kernel for the fake NVRTC by the C++ compiler, with the shim of cuda_shim/.

python compile_for_cpu.py FOLDER reads FOLDER/source, headers and options, and writes FOLDER/cubin, a shared library for
this machine. Kernels can include only the headers that were given to the compiler.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

PLAYED_GPU = Path(__file__).resolve().parents[1]
_FLAGS = ("-std=c++17", "-Og", "-fPIC", "-shared", "-ffp-contract=off", "-DSRNN_SHIM")


def main(folder: Path) -> int:
    """Returns the exit status of the compiler."""
    options = (folder / "options").read_text().split()
    kernel = folder / "headers" / "cuda" / "device" / (folder / "name").read_text()
    kernel.parent.mkdir(parents=True, exist_ok=True)
    kernel.write_text((folder / "source").read_text())
    defines = [option for option in options if option.startswith("-D")]
    sources = [PLAYED_GPU / "cuda_shim" / "run.cpp", PLAYED_GPU / "fake_cuda" / "kernels.cpp"]
    includes = [f"-I{folder / 'headers'}", f"-I{PLAYED_GPU / 'cuda_shim'}"]
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    command = [*compiler, *_FLAGS, *defines, *includes, *map(str, sources), "-o", str(folder / "cubin")]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
