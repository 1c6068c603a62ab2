"""Compiles a kernel for the fake NVRTC by the C++ compiler, with the shim of cuda_shim/.

python compile_for_cpu.py FOLDER reads FOLDER/source, headers and options, and writes FOLDER/cubin, a shared library for
this machine. Kernels can include only the headers that were given to the compiler.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from binaries import kernel_library


def main(folder: Path) -> int:
    """Returns the exit status of the compiler."""
    options = (folder / "options").read_text().split()
    kernel = folder / "headers" / "cuda" / "device" / (folder / "name").read_text()
    kernel.parent.mkdir(parents=True, exist_ok=True)
    kernel.write_text((folder / "source").read_text())
    defines = [option for option in options if option.startswith("-D")]
    headers = folder / "headers"
    texts = sorted(path for path in headers.rglob("*") if path.is_file())
    entries = Path(__file__).parent / "fake_cuda" / "kernels.cpp"
    try:
        library = kernel_library(headers, texts, defines, entries)
    except subprocess.CalledProcessError as error:
        return error.returncode
    shutil.copyfile(library, folder / "cubin")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
