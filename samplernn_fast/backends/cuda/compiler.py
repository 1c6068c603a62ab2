"""GPU kernels from their text: finds NVRTC, compiles for the GPU at hand, keeps the machine code.

No CUDA toolkit is needed. GPU builds of torch bring NVRTC; otherwise it is a small pip package. Machine code (a cubin)
is asked for and not PTX: an older driver runs the cubins of a newer NVRTC of the same CUDA major version, not its PTX.
"""

import contextlib
import ctypes
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samplernn_fast.backends import cache
from samplernn_fast.backends.cuda import constants
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.native import native

if TYPE_CHECKING:
    from samplernn_fast._C import Nvrtc

Capability = tuple[int, int]

CUBINS = cache.Store("cubins", ".cubin", 512 << 20)
"""The kernels that are kept. One has 0.2 to 0.4 MB, and the tests and benchmarks of a GPU ask for a few hundred."""

# Where pip packages put NVRTC: nvidia-cuda-nvrtc, nvidia-cuda-nvrtc-cu12, and builds of torch that carry their own.
_PIP_PATTERNS = {
    "nvidia": ("cu[0-9]*/lib/libnvrtc.so.*", "cuda_nvrtc/lib/libnvrtc.so.*"),
    "torch": ("lib/libnvrtc*.so*",),
}
_SYSTEM = ("libnvrtc.so.13", "libnvrtc.so.12", "/usr/local/cuda/lib64/libnvrtc.so")
_OLDEST_NVRTC = (12, 3)  # the first version that knows accesses of 128 bits
_INCLUDE = re.compile(r'^\s*#include "([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class KernelSource:
    """A kernel file and, by the names it includes them under, all that it includes."""

    name: str
    text: str
    headers: dict[str, str]

    @classmethod
    def read(cls, name: str, folder: Path | None = None) -> "KernelSource":
        """Reads the file `name` of csrc/cuda/device and all that it includes. folder: another csrc."""
        csrc = folder or source_folder()
        text = (csrc / "cuda" / "device" / name).read_text()
        headers: dict[str, str] = {}
        waiting = _INCLUDE.findall(text)
        while waiting:
            included = waiting.pop()
            path = csrc / included
            if included not in headers and path.is_file():  # a header behind an #if may be missing
                headers[included] = path.read_text()
                waiting += _INCLUDE.findall(headers[included])
        return cls(name, text, headers)


def source_folder() -> Path:
    """csrc of the checkout, or the copy of its kernel texts that an installed package holds."""
    package = Path(__file__).parents[2]
    installed = package / "csrc"
    return installed if installed.is_dir() else package.parent / "csrc"


def open_nvrtc(driver_version: int | None, capability: Capability) -> "Nvrtc":
    """The first NVRTC that makes code for this GPU and driver (13020 is CUDA 13.2, None any).

    SAMPLERNN_FAST_NVRTC names one file; else pip's packages are looked through, newest first, then the system.
    BackendUnavailable tells why none will do, and which package to install.
    """
    chosen = os.environ.get("SAMPLERNN_FAST_NVRTC")
    major, refused = None if driver_version is None else driver_version // 1000, []
    for path in [chosen] if chosen else [*_pip_files(), *_SYSTEM]:
        try:
            _load_builtins(Path(path))
            nvrtc = native().Nvrtc(path)
            if nvrtc.version < _OLDEST_NVRTC:
                refused.append(f"{nvrtc.path} is of CUDA {'.'.join(map(str, nvrtc.version))}")
            elif major is not None and nvrtc.version[0] > major:
                refused.append(f"{nvrtc.path} is of CUDA {nvrtc.version[0]}")
            elif architecture(capability, nvrtc.archs()) is None:
                refused.append(f"{nvrtc.path} does not know sm_{_number(capability)}")
            else:
                return nvrtc
        except native().CudaError as error:
            if chosen or "No such file" not in str(error):
                refused.append(str(error))
    package = "nvidia-cuda-nvrtc" if major is None or major >= 13 else f"nvidia-cuda-nvrtc-cu{major}"
    limit = "" if major is None else f"CUDA {major} or older and "
    found = f" ({'; '.join(refused)})" if refused else ""
    advice = "SAMPLERNN_FAST_NVRTC must name another" if chosen else f"pip install -U {package}"
    raise BackendUnavailable(f"needs an NVRTC for {limit}sm_{_number(capability)}, found none{found}: {advice}")


def architecture(capability: Capability, known: list[int]) -> str | None:
    """The newest architecture an NVRTC knows whose code this GPU runs: its own, or a lower one of the same major."""
    fitting = [arch for arch in known if arch // 10 == capability[0] and arch % 10 <= capability[1]]
    return f"sm_{max(fitting)}" if fitting else None


def compile_kernel(nvrtc: "Nvrtc", source: KernelSource, arch: str, defines: Mapping[str, int | str]) -> bytes:
    """The cubin of a kernel for one architecture, such as sm_90; one that is kept is not made again.

    defines: macros, name -> value. BackendUnavailable with the compiler's first complaint.
    """
    macros = [f"-D{name}={value}" for name, value in sorted(defines.items())]
    options = [f"--gpu-architecture={arch}", *constants.NVRTC_OPTIONS, *macros]
    compiler = Path(nvrtc.path)
    stamp = f"{nvrtc.version} {compiler.stat().st_size if compiler.is_file() else 0}"
    texts = [part for header in sorted(source.headers.items()) for part in header]
    key = cache.key([stamp, str(len(options)), *options, source.name, source.text, *texts])
    cubin = CUBINS.read(key)
    if cubin is None:
        try:
            cubin, _ = nvrtc.compile(source.name, source.text, source.headers, options)
        except native().CudaError as error:
            raise BackendUnavailable(str(error)) from None
        CUBINS.write(key, cubin)
    return cubin


def _pip_files() -> list[str]:
    found = []
    for package, patterns in _PIP_PATTERNS.items():
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            for pattern in patterns:
                found += [path for path in Path(root).glob(pattern) if "builtins" not in path.name]
    return [str(path) for path in sorted(found, key=_file_version, reverse=True)]


def _load_builtins(nvrtc: Path) -> None:
    """Loads the second library that lies beside an NVRTC of pip. NVRTC asks for it by its name alone, and some versions
    (13.0) do not look into their own folder, so that only what is already loaded is found."""
    for path in nvrtc.parent.glob("libnvrtc-builtins.so.*") if nvrtc.is_absolute() else ():
        with contextlib.suppress(OSError):  # NVRTC itself says what it misses
            ctypes.CDLL(str(path))


def _file_version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name.partition(".so")[2])]


def _number(capability: Capability) -> int:
    return capability[0] * 10 + capability[1]
