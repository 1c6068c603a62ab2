"""What the fake NVRTC runs to compile a kernel: the C++ compiler, with the shim of cuda_shim/.

python compile_for_cpu.py FOLDER: takes FOLDER/source, headers and options, and leaves FOLDER/cubin, a library of this
machine. Nothing but what the compiler was given is included.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

PLAYED_GPU = Path(__file__).resolve().parents[1]
_FLAGS = ("-std=c++17", "-Og", "-fPIC", "-shared", "-ffp-contract=off", "-DSRNN_SHIM")


def main(folder: Path) -> int:
    """Status of the compiler."""
    options = (folder / "options").read_text().split()
    kernel = folder / "headers" / "cuda" / (folder / "name").read_text()
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
