"""Builds the stand-alone test of the CPU engine and runs it, once for each word of its arguments:

    python tests/backends/cpu/native/build.py plain address undefined thread

The flags are those of setup.py, with less optimisation and the sanitizer that the word names. On x86 the wide
instruction sets are emulated, which needs AVX2."""

import os
import runpy
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[4]
SANITIZERS = {
    "plain": [],
    "address": ["-fsanitize=address"],
    "undefined": ["-fsanitize=undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}
# Threads meet in the same text in all instruction sets, and watching emulated ones takes minutes.
ARGUMENTS = {"thread": ["baseline"]}


def settings() -> dict[str, Any]:
    """The variables of setup.py for emulated instruction sets; nothing is built."""
    with mock.patch("setuptools.setup"), mock.patch.dict(os.environ, SAMPLERNN_FAST_EMULATE="1"):
        return runpy.run_path(str(ROOT / "setup.py"))


def build(kind: str) -> Path:
    """Compile what is out of date, into build/native/<kind>; returns the program. An error if that fails."""
    package = settings()
    from distutils.ccompiler import new_compiler  # setuptools, which setup.py imports, brings it

    command = shlex.split(os.environ.get("CXX", "c++"))
    compiler = new_compiler()
    compiler.set_executables(compiler_so_cxx=command)
    flags = [flag for flag in package["CXX_FLAGS"] if not flag.startswith("-O")]
    flags += ["-O1", "-g1", "-std=c++17", "-pthread", *SANITIZERS[kind]]
    folder = ROOT / "build" / "native" / kind
    engine = (ROOT / "csrc" / "cpu").rglob("*.cpp")
    engine = [path for path in engine if package["X86_64"] or not package["isa_of"](path)]
    sources = sorted([*engine, *Path(__file__).parent.glob("*.cpp")])

    def compile_one(source: Path) -> str:
        return package["compile_source"](compiler, str(source), flags, str(folder), [str(ROOT / "csrc")])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    program = folder / "engine_test"
    subprocess.run([*command, *flags, *objects, "-o", str(program)], check=True)
    return program


def main(kinds: list[str]) -> int:
    """Build and run each kind; 0 when all are clean."""
    for kind in kinds:
        began = time.perf_counter()
        program = build(kind)
        built = time.perf_counter()
        status = subprocess.run([str(program), *ARGUMENTS.get(kind, [])]).returncode
        took = time.perf_counter()
        print(f"{kind}: built in {built - began:.0f} s, ran in {took - built:.0f} s, status {status}", flush=True)
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(SANITIZERS)))
