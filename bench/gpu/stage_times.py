"""Times the parts of a sample in the cuda backend's kernels: phases of the persistent kernel, or stages.

    python bench/gpu/stage_times.py [--kernels persistent launches] [--dim 1024 256] [--batch-size 1 8] [--json FILE]

"persistent" reads the time of each phase from the clocks of a profiled kernel's first block. "launches" is the exchange
of that name, where each stage is a launch of its own. A stage is launched many times in a row between two events of the
GPU, on the state that some samples left behind, so its time includes the gap between two launches. "walk" is the time
of a sample when all stages are launched in turn. The levels are compared with the reference's draws first. A kernel
whose levels differ, or that cannot start, is left out, and the exit status is then 1. Where a fault has spoiled the
process's use of the GPU, another process goes on with the kernels behind the one that failed.
"""

import argparse
import functools
import itertools
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))

from bench.common import record
from bench.common.devices import device_or_exit
from bench.gpu.faults import spoiled
from bench.gpu.wanted import Wanted
from samplernn_fast.backends import devices
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.cuda.program import Program
from samplernn_fast.backends.cuda.stages import Stage, Walk
from samplernn_fast.commands.benchmark.checks import CheckFailed, check_draws
from samplernn_fast.commands.benchmark.timing import seconds
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable, SampleRNNError
from samplernn_fast.models.config import PackedConfig, SampleRNNConfig
from samplernn_fast.models.sample_rnn import SampleRNN
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.randomness import Drawing, Randomness
from samplernn_fast.reference.weights import pack

WAYS = {"persistent": ("auto", True), "launches": ("launches", False)}
"""The exchange of each kind of kernels, and whether they are profiled."""


class StageTimer:
    """A program with a kernel for each stage, which times the stages in place of a launch."""

    def __init__(self, program: Program, config: PackedConfig, device: torch.device, repeats: int) -> None:
        """repeats: how many times each stage is launched in a row."""
        self.program, self.walk, self.device, self.repeats = program, Walk.of(config), str(device), repeats
        self.stages = list(per_sample(config))
        self.times: dict[str, float] = {}
        """The seconds of every stage, and of a sample of the whole walk, from the last launch."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.program, name)

    def launch(self, cuda_stream: int, params: bytes, t: int, steps: int) -> None:
        """Launches the kernels of the first samples, and then each stage of the last one many times."""
        walk, made = self.walk, steps - 1
        begin = walk.period[(t + made) % len(walk.period)][0]

        def launch(stages: list[Stage], samples: int = 0) -> Callable[[], None]:
            # The walk is laid out before the clock starts.
            part = self.program.along(Walk(stages, walk.period, []))
            return lambda: part.launch(cuda_stream, params, t, samples)

        self.times = {"walk": seconds(self.device, launch(walk.before, made)) / made}
        launch([begin])()
        for stage in self.stages:
            again = launch([stage] * self.repeats)
            again()
            rounds = [seconds(self.device, again) / self.repeats for _ in range(3)]
            self.times[name_of(stage)] = statistics.median(rounds)


def time_stages(backend: CudaBackend, streams: int, samples: int, repeats: int) -> dict[str, float]:
    """The seconds of every stage, and of a sample of the whole walk, for that many streams.

    samples: how many samples are made, at most those of one launch. backend: one of the exchange "launches", which
    makes samples as usual afterwards.
    """
    launcher = backend.launcher
    timer = StageTimer(launcher.program(streams), backend.config, backend.device, repeats)
    launcher.program = lambda streams: timer
    try:
        make(backend, streams, min(samples, launcher.steps(streams) - 1) + 1)
    finally:
        del launcher.program  # the method is there again
    return timer.times


def per_sample(config: PackedConfig) -> dict[Stage, float]:
    """Every stage but loading and saving, with the number of its launches in a sample."""
    period = Walk.of(config).period
    counts = Counter(stage._replace(begins=False) for sample in period for stage in sample)
    return {stage: count / len(period) for stage, count in counts.items()}


def name_of(stage: Stage) -> str:
    """The stage's kernel, tier and layer, such as "cell 1 0"."""
    return f"{stage.kernel.removeprefix('srnn_')} {stage.tier} {stage.layer}"


def make(backend: CudaBackend, streams: int, samples: int) -> None:
    """Draws `samples` samples of each stream from silence on, and drops them."""
    silence = np.full((streams, backend.config.lookback), backend.config.q_zero)
    free, heat = np.full((streams, samples), -1), np.ones((streams, samples), np.float32)
    drawing = Drawing(Randomness(0, np.arange(streams, dtype=np.uint32)), heat)
    backend.generate(backend.init_hidden(streams), silence, 0, drawing, free)


def rows_of(backend: CudaBackend, streams: int, samples: int = 256, repeats: int = 200) -> list[dict]:
    """A row for each stage and one for the walk; their times are microseconds."""
    times = time_stages(backend, streams, samples, repeats)
    often = {name_of(stage): share for stage, share in per_sample(backend.config).items()} | {"walk": 1.0}
    about = {"dim": backend.config.dim, "dtype": backend.dtype, "batch_size": streams}
    return [about | {"stage": name, "us": 1e6 * times[name], "per_sample": often[name]} for name in often]


def profiled_rows(backend: CudaBackend, streams: int, launches: int = 2) -> list[dict]:
    """A row for each phase of a profiled kernel and one for a whole sample: microseconds of a sample, and how many of
    them are exchanges.

    The key "stage" holds the name of the phase, as in rows of earlier measurements.
    """
    samples = launches * backend.launcher.steps(streams)
    make(backend, streams, samples)  # this brings the weights into L2
    backend.launcher.phase_times()
    make(backend, streams, samples)
    exchange = exchange_of(backend.launcher.program(streams))
    *phases, whole = backend.launcher.phase_times()
    about = {"dim": backend.config.dim, "dtype": backend.dtype, "batch_size": streams, "exchange": exchange}
    rows = []
    for phase in phases:
        us, exchange_us = (1e6 * time / whole.times for time in (phase.seconds, phase.exchange_seconds))
        rows.append(about | {"stage": phase.name, "us": us, "exchange_us": exchange_us})
    total = {name: sum(row[name] for row in rows) for name in ("us", "exchange_us")}
    return [*rows, about | {"stage": "a sample"} | total]


def exchange_of(program: Program) -> str:
    """The exchange of a persistent kernel. BackendUnavailable where the driver refused the kernel."""
    if program.stages is not None:
        raise BackendUnavailable("the driver refused the persistent kernel, so it cannot be timed; see doctor")
    return program.group.exchange


def print_rows(rows: list[dict]) -> None:
    """Prints the time of every row, and how much of it is exchanges where that was measured."""
    for row in rows:
        about = f"dim {row['dim']}, {row['dtype']}, {row['batch_size']} streams: {row['stage']:24} {row['us']:9.2f} us"
        if "exchange_us" in row:
            about += f", {row['exchange_us']:.2f} us of it exchanges ({row['exchange']})"
        print(about, flush=True)


@functools.cache
def models(dim: int) -> tuple[SampleRNN, PackedWeights, Engine]:
    """A model of that size, its packed weights, and the reference in float64 that plays it."""
    model = SampleRNN(SampleRNNConfig(dim=dim))
    return model, pack(model), Engine(model, backend="reference", dtype="float64", device="cpu")


def checked_backend(dim: int, dtype: str, streams: int, exchange: str, profile: bool = False) -> CudaBackend:
    """Builds the backend of a model of that size, and its kernel for that many streams. CheckFailed where its draws are
    wrong, BackendUnavailable where there is no such kernel."""
    model, weights, exact = models(dim)
    backend = CudaBackend(weights, devices.resolve_device("cuda"), dtype, exchange=exchange, profile=profile)
    check_draws(Engine.of(model, backend), exact, streams)
    return backend


def timed_rows(kernel: str, dim: int, dtype: str, streams: int) -> list[dict]:
    """The rows of one kernel, after its draws were checked."""
    exchange, profile = WAYS[kernel]
    backend = checked_backend(dim, dtype, streams, exchange, profile)
    return profiled_rows(backend, streams) if profile else rows_of(backend, streams)


def kernels(args: argparse.Namespace) -> Iterator[Wanted]:
    """The kernels of the cuda backend that are asked for."""
    for kernel, streams, dim, dtype in combinations(args):
        yield Wanted(SampleRNNConfig(dim=dim), dtype, streams, *WAYS[kernel])


def combinations(args: argparse.Namespace) -> Iterator[tuple[str, int, int, str]]:
    """Every kind of kernel with every number of streams, size and mode, few streams first: a time limit may end the
    process, and rows that were written are kept."""
    return itertools.product(args.kernels, args.batch_size, args.dim, args.dtype)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the options `argv`, or those of the command line where it is None."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--dim", type=int, nargs="+", default=[1024, 256])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--dtype", nargs="+", default=list(CudaBackend.dtypes))
    parser.add_argument("--json", type=record.file, help="append the rows to this file")
    parser.add_argument("--after", type=int, default=0, help="how many kernels an earlier process came to")
    return parser.parse_args(argv)


def main() -> None:
    args = parse()
    whole, device = args.after == 0, device_or_exit("cuda")
    for number, (kernel, streams, dim, dtype) in enumerate(combinations(args), 1):
        if number <= args.after:
            continue
        try:
            rows = timed_rows(kernel, dim, dtype, streams)
        except (
            Exception
        ) as error:  # the kernels of one line may be wrong in any way, and the others are timed all the same
            told = isinstance(error, (SampleRNNError, CheckFailed))
            reason = str(error) if told else f"{type(error).__name__}: {error}"
            print(f"dim {dim}, {dtype}, {streams} streams, {kernel}: left out: {reason}", flush=True)
            whole = False
            if spoiled():
                os.execv(sys.executable, [sys.executable, *sys.argv, "--after", str(number)])
            continue
        print_rows(rows)
        if args.json:
            record.append(args.json, rows, device)
    if not whole:
        raise SystemExit("some of what was asked for was left out; see above")


if __name__ == "__main__":
    main()
