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
    """The variables of setup.py, which is run without building anything."""
    with mock.patch("setuptools.setup"):
        return runpy.run_path(str(ROOT / "setup.py"))


def build(kind: str) -> Path:
    """Compile what is out of date, into build/native/<kind>; returns the program. CalledProcessError if it fails."""
    package = settings()
    if package["X86_64"]:
        with mock.patch.dict(os.environ, SAMPLERNN_FAST_EMULATE="1"):
            package = settings()
    isa_flags = package["ISA_FLAGS"]
    flags = [flag for flag in package["CXX_FLAGS"] if not flag.startswith("-O")]
    flags += ["-O1", "-g1", "-std=c++17", f"-I{ROOT / 'csrc'}", "-pthread", *SANITIZERS[kind]]
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    folder = ROOT / "build" / "native" / kind
    folder.mkdir(parents=True, exist_ok=True)
    engine = [path for path in (ROOT / "csrc" / "cpu").glob("*.cpp") if package["X86_64"] or path.name not in isa_flags]
    sources = sorted([*engine, *(Path(__file__).parent).glob("*.cpp")])
    headers = max(path.stat().st_mtime for path in (ROOT / "csrc").rglob("*.h"))

    def compile_one(source: Path) -> str:
        target = folder / f"{source.stem}.o"
        newest = max(headers, source.stat().st_mtime, Path(__file__).stat().st_mtime)
        if not target.exists() or target.stat().st_mtime < newest:
            command = [*compiler, *flags, *isa_flags.get(source.name, []), "-c", str(source), "-o", str(target)]
            subprocess.run(command, check=True)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    program = folder / "engine_test"
    subprocess.run([*compiler, *flags, *objects, "-o", str(program)], check=True)
    return program


def main(kinds: list[str]) -> int:
    """Build and run each kind; 0 when all are clean."""
    for kind in kinds:
        began = time.perf_counter()
        try:
            program = build(kind)
        except subprocess.CalledProcessError as error:
            return error.returncode
        built = time.perf_counter()
        status = subprocess.run([str(program), *ARGUMENTS.get(kind, [])]).returncode
        took = time.perf_counter()
        print(f"{kind}: built in {built - began:.0f} s, ran in {took - built:.0f} s, status {status}", flush=True)
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(SANITIZERS)))
