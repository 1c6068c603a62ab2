"""A machine with a GPU, played by a library: fake_cuda/libcuda.cpp, and kernels compiled for the CPU."""

import ctypes
import subprocess
import sys
from pathlib import Path

from binaries import compiler, digest, make_once

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent / "fake_cuda"
# For FAKE_NVRTC_COMPILER: kernels that run on the CPU.
COMPILE_FOR_CPU = f"{sys.executable} {Path(__file__).with_name('compile_for_cpu.py')}"

# Numbers of attributes, as in csrc/cuda/host/driver_api.h.
MULTIPROCESSORS, RUN_TIME_LIMIT, CAPABILITY_MAJOR, CAPABILITY_MINOR, COOPERATIVE, SHARED_BYTES = 16, 17, 75, 76, 95, 97
CLUSTER_LAUNCH = 120


FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{ROOT / 'csrc'}")


def compile_library(source: Path, library: Path, *options: str) -> Path:
    """A shared library of one C++ file; skips the test where there is no compiler."""
    done = subprocess.run(
        [*compiler(), *FLAGS, *options, str(source), "-o", str(library)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return library


def kept_library(source_name: str, name: str) -> Path:
    """The shared library of a source of fake_cuda/ that includes no headers but those of csrc, compiled once. Its file
    name ends in `name`."""
    source, headers = FOLDER / source_name, sorted((ROOT / "csrc").rglob("*.h"))
    key = digest(*compiler(), *FLAGS, *(path.read_bytes() for path in (source, *headers)))
    return make_once(f"{key}-{name}", lambda path: compile_library(source, path))


class FakeGpu:
    """The controls of a fake libcuda: what it says of itself, where it fails, what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._library = ctypes.CDLL(self.path)
        self._library.fake_calls.restype = ctypes.c_char_p
        self.reset()

    def reset(self) -> None:
        """A GPU of capability 9.0 with 4 multiprocessors under a driver of CUDA 13.0, without failures."""
        self._library.fake_reset()

    def fail(self, call: str, error: int, after: int = 0) -> None:
        """`call` returns `error` from now on, but for the next `after` times."""
        self._library.fake_fail(call.encode(), error, after)

    def succeed(self) -> None:
        """No call fails any more."""
        self._library.fake_succeed()

    def reset_calls(self) -> None:
        self._library.fake_forget_calls()

    def set(self, version: int | None = None, blocks: int | None = None, held_by_others: int | None = None) -> None:
        """The driver's version, the blocks that fit on a multiprocessor, those that other programs have running."""
        if version is not None:
            self._library.fake_set_version(version)
        if blocks is not None:
            self._library.fake_set_blocks(blocks)
        if held_by_others is not None:
            self._library.fake_set_held_by_others(held_by_others)

    def set_clusters(self, largest: int, most: int = 1000, side_by_side: int = 1 << 20) -> None:
        """Blocks of the largest cluster, the most clusters at a time, and the multiprocessors among which a cluster
        must find its own."""
        self._library.fake_set_clusters(largest, most, side_by_side)

    def set_device(self, attribute: int, value: int) -> None:
        self._library.fake_set_device(attribute, value)

    def set_kernel(self, registers: int = 64, most_threads: int = 1024) -> None:
        """The registers of a thread of every kernel, and the largest number of threads of its blocks."""
        self._library.fake_set_kernel(registers, most_threads)

    @property
    def calls(self) -> list[str]:
        """Names of the driver's entry points in the order they were called."""
        return self._library.fake_calls().decode().split()

    @property
    def held(self) -> int:
        """Contexts, modules, memory, events and places on the context stack that nobody has given back."""
        return self._library.fake_held()


class FakeNvrtc:
    """The controls of a fake libnvrtc."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._library = ctypes.CDLL(self.path)
        self.reset()

    def reset(self) -> None:
        """Version 13.0, which knows sm_80, 86, 89, 90 and 100."""
        self._library.fake_nvrtc_reset()

    def set_version(self, major: int, minor: int) -> None:
        self._library.fake_nvrtc_set_version(major, minor)

    @property
    def compilations(self) -> int:
        return self._library.fake_nvrtc_compilations()
