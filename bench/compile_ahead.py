"""Compiles the cuda backend's kernels for what will run next, one process a core, into the cache that it looks into.

    python bench/compile_ahead.py "bench/sampling_speed.py --dim 1024" "tests/backends/cuda/test_on_gpu.py -m telling"

Each argument is a command line of bench/sampling_speed.py or bench/stage_times.py, or a test file and pytest's options;
the kernels are those that it would ask for itself, in that order. A kernel is built as the backend builds it, on GPU 0,
but not run. One that the model or the GPU is not for is told and left out; the exit status is 1 where a compiler fails.
"""

import argparse
import functools
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import sampling_speed
import stage_times
from wanted import Wanted

from samplernn_fast.backends.cuda.gpu import Gpu, native
from samplernn_fast.backends.cuda.program import NotAtOnce, Program
from samplernn_fast.errors import BackendUnavailable

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commands", nargs="+", help="what will run: a benchmark or a test file, with its options")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    wanted, understood = [], True
    for command in args.commands:
        try:
            wanted += kernels_of(command)
        except SystemExit as reason:  # the others' kernels are still worth having
            print(reason, flush=True)
            understood = False
    if not compile_all(with_first_samples(wanted), args.processes) or not understood:
        raise SystemExit("not everything was compiled; what is missing is compiled when it is asked for")


def kernels_of(command: str) -> list[Wanted]:
    """What a command line asks for. SystemExit for one of another program."""
    name, *options = shlex.split(command)
    for module in (sampling_speed, stage_times):
        if Path(name).stem == module.__name__:
            return list(module.kernels(module.parse(options)))
    if not Path(name).stem.startswith("test_"):
        raise SystemExit(f"commands must be of sampling_speed.py, stage_times.py or a test file, got {command!r}")
    return kernels_of_tests(name, options)


def kernels_of_tests(file: str, options: list[str]) -> list[Wanted]:
    """The kernels of the tests that pytest would run, in its order. A test's parameters `name` (in
    tests/support/gpu_shapes.py), `dtype` and `exchange` and its mark `kernels` say which kernels it asks for."""
    found = _Collected()
    # Without the strictness of pyproject.toml, which refuses to run where pytest-timeout is missing.
    quiet = ["-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-qq", "--collect-only"]
    if pytest.main([*quiet, str(ROOT / file), *options], plugins=[found]) != pytest.ExitCode.OK:
        raise SystemExit(f"pytest finds no tests in {file} {' '.join(options)}")
    return found.kernels


class _Collected:
    """A plugin of pytest."""

    def __init__(self) -> None:
        self.kernels: list[Wanted] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            mark = item.get_closest_marker("kernels")
            if mark is not None:
                self.kernels += self._of_test(mark.kwargs | item.callspec.params)

    @staticmethod
    def _of_test(about: dict) -> Iterator[Wanted]:
        from gpu_shapes import SHAPES  # in tests/support, which pytest has put on the path

        for exchange in (*about.get("beside", ()), about.get("exchange", "auto")):
            for streams in about["streams"]:
                yield Wanted(SHAPES[about["name"]], about["dtype"], streams, exchange)


def with_first_samples(wanted: Iterable[Wanted]) -> list[Wanted]:
    """Each once, before it the one that makes the sample of one stream with which a backend begins."""
    return list(dict.fromkeys(one for kernel in wanted for one in (kernel._replace(streams=1), kernel)))


@functools.cache
def gpu() -> Gpu:
    """One context for all kernels of a process: making one takes a part of a second."""
    return Gpu.open(0)


def build(wanted: Wanted) -> tuple[float, str]:
    """Seconds, and why it is left out, "" where it is compiled. In a process of its own."""
    began = time.perf_counter()
    try:
        Program.build(gpu(), *wanted)
    except NotAtOnce:
        Program.build(gpu(), *wanted._replace(exchange="launches"))  # as the backend goes on
    except (BackendUnavailable, native().CudaError) as reason:
        return time.perf_counter() - began, str(reason)
    return time.perf_counter() - began, ""


def compile_all(wanted: list[Wanted], processes: int) -> bool:
    """The first of the list first; False where some failed. A line is printed for each as soon as it is done."""
    began, whole = time.perf_counter(), True
    print(f"{len(wanted)} kernels by {processes} processes", flush=True)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        futures: dict[Future, Wanted] = {pool.submit(build, one): one for one in wanted}
        for number, future in enumerate(as_completed(futures), 1):
            config, dtype, streams, exchange, profile = futures[future]
            about = f"{number}: dim {config.dim} {config.rnn} {dtype}, {streams} streams, {exchange}"
            try:
                seconds, reason = future.result()
            except BrokenProcessPool as error:
                print(f"{about}: a process has died: {error}", file=sys.stderr)
                return False
            except Exception as error:
                seconds, reason, whole = 0.0, f"{type(error).__name__}: {error}", False
            whole &= "does not compile" not in reason
            outcome = f"left out: {reason}" if reason else f"{seconds:.1f} s"
            print(f"{about}{', profiled' if profile else ''}: {outcome}", flush=True)
    print(f"all in {time.perf_counter() - began:.1f} s", flush=True)
    return whole


if __name__ == "__main__":
    main()
