"""Compiles the cuda backend's kernels for what will run next, with a process for each core, into the kernel cache.

    python bench/gpu/compile_ahead.py "bench/sampling_speed.py --dim 1024" "tests/backends/cuda/test_on_gpu.py -m gpu"
    SAMPLERNN_FAST_CACHE=scratch/cache python bench/gpu/compile_ahead.py --for h200 "bench/sampling_speed.py --dim 1024"

Each argument is a command line of bench/sampling_speed.py or bench/gpu/stage_times.py, or a test file with pytest's
options. The kernels are those that the command would ask for itself, in that order. Each is built as the backend builds
it, on GPU 0, but not run. With --for they are those of another GPU, which need not be in this machine: the cache can
then be taken there, where they are found if NVRTC is the same. One that the model or the GPU cannot have is named and
left out; the exit status is 1 where a compiler fails, and where none was compiled.
"""

import argparse
import contextlib
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

sys.path.append(str(Path(__file__).resolve().parents[2]))

from bench import sampling_speed
from bench.gpu import absent, stage_times
from bench.gpu.wanted import Wanted
from samplernn_fast.backends.cuda.gpu import Gpu
from samplernn_fast.backends.cuda.program import NotAtOnce, Program
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.native import native

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commands", nargs="+", help="what will run: a benchmark or a test file, with its options")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--processes", type=positive, default=cores, help="that compile at once (one for each core)")
    parser.add_argument("--for", dest="card", choices=list(absent.CARDS), help="compile for this GPU, without one")
    args = parser.parse_args()
    wanted, understood = [], True
    for command in args.commands:
        try:
            wanted += kernels_of(command)
        except SystemExit as reason:  # the kernels of the other commands are compiled all the same
            print(reason, flush=True)
            understood = False
    if not compile_all(with_first_samples(wanted), args.processes, args.card) or not understood:
        raise SystemExit("not everything was compiled; what is missing is compiled when it is asked for")


def positive(text: str) -> int:
    """Parses a number of at least 1. ValueError where it is no number, ArgumentTypeError where it is less."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def kernels_of(command: str) -> list[Wanted]:
    """The kernels that a command line asks for. SystemExit for the command line of another program."""
    name, *options = shlex.split(command)
    for module in (sampling_speed, stage_times):
        if Path(name).stem == module.__name__.split(".")[-1]:
            return list(module.kernels(module.parse(options)))
    if not Path(name).stem.startswith("test_"):
        raise SystemExit(f"commands must be of sampling_speed.py, stage_times.py or a test file, got {command!r}")
    return kernels_of_tests(name, options)


def kernels_of_tests(file: str, options: list[str]) -> list[Wanted]:
    """The kernels of the tests that pytest would run, in its order.

    A test's parameters `name` (a shape of tests/support/gpu_shapes.py), `dtype` and `exchange`, and its mark `kernels`,
    say which kernels it asks for.
    """
    found = _Collected()
    # The options leave out the strictness of pyproject.toml, which refuses to run where pytest-timeout is missing.
    quiet = ["-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-qq", "--collect-only"]
    if pytest.main([*quiet, str(ROOT / file), *options], plugins=[found]) != pytest.ExitCode.OK:
        raise SystemExit(f"pytest finds no tests in {file} {' '.join(options)}")
    return found.kernels


class _Collected:
    """A plugin of pytest that notes the kernels of the collected tests."""

    def __init__(self) -> None:
        self.kernels: list[Wanted] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            mark = item.get_closest_marker("kernels")
            if mark is not None:
                self.kernels += self._of_test(mark.kwargs | item.callspec.params)

    @staticmethod
    def _of_test(about: dict) -> Iterator[Wanted]:
        from gpu_shapes import SHAPES  # It lies in tests/support, which pytest has put on the path.

        for exchange in (*about.get("beside", ()), about.get("exchange", "auto")):
            for streams in about["streams"]:
                yield Wanted(SHAPES[about["name"]], about["dtype"], streams, exchange)


def with_first_samples(wanted: Iterable[Wanted]) -> list[Wanted]:
    """The list without repetitions, each after its kernel for one stream: a backend's first sample is of one stream."""
    return list(dict.fromkeys(one for kernel in wanted for one in (kernel._replace(streams=1), kernel)))


@functools.cache
def gpu() -> Gpu:
    """GPU 0, opened once for all kernels of a process, because that takes a fraction of a second."""
    return Gpu.open(0)


def build(wanted: Wanted, card: str | None = None) -> tuple[float, str]:
    """Compiles one kernel, in a process of its own: its seconds, and why it is left out, or "" where it is compiled.

    card: one of `absent.CARDS`; None is GPU 0."""
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        try:
            there = stack.enter_context(absent.in_place_of_the_driver(absent.CARDS[card])) if card else gpu()
            try:
                Program.build(there, *wanted)
            except NotAtOnce:
                Program.build(there, *wanted._replace(exchange="launches"))  # the backend's fallback
        except (BackendUnavailable, native().CudaError) as reason:
            return time.perf_counter() - began, str(reason)
    return time.perf_counter() - began, ""


def compile_all(wanted: list[Wanted], processes: int, card: str | None = None) -> bool:
    """Compiles the list in its order, and prints a line for each kernel that is done. False where some failed, or where
    none of them could be compiled, as on a machine without a GPU."""
    began, whole, compiled = time.perf_counter(), True, 0
    print(f"{len(wanted)} kernels by {processes} processes", flush=True)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        futures: dict[Future, Wanted] = {pool.submit(build, one, card): one for one in wanted}
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
            compiled += not reason
            outcome = f"left out: {reason}" if reason else f"{seconds:.1f} s"
            print(f"{about}{', profiled' if profile else ''}: {outcome}", flush=True)
    print(f"all in {time.perf_counter() - began:.1f} s", flush=True)
    return whole and (compiled > 0 or not wanted)


if __name__ == "__main__":
    main()
