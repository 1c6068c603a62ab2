"""Times kernels of the cuda backend with other choices of threads, teams and blocks than the usual ones.

    python bench/gpu/choices.py [--json FILE] "1024/int8/1/tagged" "1024/int8/1/tagged threads=384 teams=1" ...

A case is units/mode/streams/exchange and the choices that differ from the usual ones: `threads` of a team, `teams` of a
block, the most `blocks` of a group, and macros in capitals, which the kernel text is compiled with. Levels are compared
with the reference's draws first. Times are those of the GPU's events: microseconds a sample, the median and the least
of the rounds. Cases take turns, so that a change of the GPU's clock meets all of them. A case whose levels differ, or
that cannot start, is left out, and the exit status is then 1.
"""

import argparse
import contextlib
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

sys.path.append(str(Path(__file__).resolve().parents[2]))

from bench.common import record
from bench.gpu.stage_times import make, models
from samplernn_fast.backends import devices
from samplernn_fast.backends.cuda import constants, grouping, program
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.cuda.gpu import Gpu
from samplernn_fast.commands.benchmark.checks import CheckFailed, check_draws
from samplernn_fast.commands.benchmark.timing import seconds
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable, SampleRNNError
from samplernn_fast.models.config import SampleRNNConfig


@dataclass(frozen=True)
class Case:
    """A kernel, and the choices in which it differs from the usual one."""

    name: str
    dim: int
    dtype: str
    streams: int
    exchange: str
    choices: dict[str, int]

    @classmethod
    def of(cls, text: str) -> "Case":
        """Parses a case. ValueError where it is none."""
        kernel, *pairs = text.split()
        dim, dtype, streams, exchange = kernel.split("/")
        choices = {name: int(number) for name, number in (pair.split("=") for pair in pairs)}
        if wrong := [name for name in choices if name not in ("threads", "teams", "blocks") and name.islower()]:
            raise ValueError(f"there is no choice {wrong[0]}")
        return cls(text, int(dim), dtype, int(streams), exchange, choices)

    @contextlib.contextmanager
    def chosen(self) -> Iterator[None]:
        """Kernels that are built inside are of this case."""
        grid_blocks, defines = grouping.grid_blocks, constants.defines
        with contextlib.ExitStack() as stack:

            def replace(owner: object, name: str, value: object) -> None:
                stack.enter_context(mock.patch.object(owner, name, value))

            if (threads := self.choices.get("threads")) is not None:
                replace(program, "THREADS", threads)
            if (teams := self.choices.get("teams")) is not None:
                replace(grouping, "block_teams", lambda *about: teams)
            if (blocks := self.choices.get("blocks")) is not None:
                replace(grouping, "grid_blocks", lambda dim, most: grid_blocks(dim, min(most, blocks)))
            if macros := {name: str(number) for name, number in self.choices.items() if not name.islower()}:
                replace(constants, "defines", lambda *about, **more: defines(*about, **more) | macros)
            yield


@dataclass
class Contestant:
    """A case that has passed its check, and the times of its rounds."""

    case: Case
    backend: CudaBackend
    times: list[float]

    @classmethod
    def of(cls, case: Case) -> "Contestant":
        """Builds a case's kernel and compares its draws. CheckFailed or SampleRNNError."""
        model, weights, exact = models(case.dim)
        with case.chosen():
            device = devices.resolve_device("cuda")
            backend = CudaBackend(weights, device, case.dtype, exchange=case.exchange)
            backend.launcher.program(case.streams)
        check_draws(Engine.of(model, backend), exact, case.streams)
        return cls(case, backend, [])

    def run(self, samples: int) -> None:
        """Makes samples once, and notes the microseconds of one."""
        streams = self.case.streams
        time = seconds(str(self.backend.device), lambda: make(self.backend, streams, samples))
        self.times.append(1e6 * time / samples)

    def row(self) -> dict:
        built = self.backend.launcher.program(self.case.streams)
        return {
            "case": self.case.name,
            "us": round(statistics.median(self.times), 3),
            "least": round(min(self.times), 3),
            "blocks": built.group.blocks,
            "exchange": built.group.exchange,
            "threads": built.threads,
            "registers": max(kernel.registers for kernel in built.kernels.values()),
        }


def contestants(cases: list[Case]) -> Iterator[Contestant]:
    """Those of the cases whose levels are right. The others are named, with the reason."""
    for case in cases:
        try:
            yield Contestant.of(case)
        except (SampleRNNError, CheckFailed) as reason:
            print(f"{case.name}: left out: {reason}", flush=True)


def compile_only(cases: list[Case]) -> None:
    """Compiles the kernels of all cases for GPU 0."""
    gpu = Gpu.open(0)
    for case in cases:
        with case.chosen():
            for streams in dict.fromkeys((1, case.streams)):  # a backend's first sample is of one stream
                try:
                    program.Program.build(gpu, SampleRNNConfig(dim=case.dim), case.dtype, streams, case.exchange)
                except BackendUnavailable as reason:
                    print(f"{case.name}: left out: {reason}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", type=Case.of)
    parser.add_argument("--samples", type=int, default=8192, help="of a stream in a round (8192)")
    parser.add_argument("--rounds", type=int, default=5, help="timed, after one that is not (5)")
    parser.add_argument("--json", type=Path, help="append the rows to this file")
    parser.add_argument("--compile-only", action="store_true", help="put the kernels into the cache, for a later run")
    args = parser.parse_args()
    if args.compile_only:
        compile_only(args.cases)
        return
    ready = list(contestants(args.cases))
    for number in range(args.rounds + 1):
        for one in ready:
            one.run(args.samples)
            if number == 0:
                one.times.clear()
    rows = [one.row() for one in ready]
    for row in rows:
        print(f"{row['case']:48} {row['us']:8.3f} us, least {row['least']:.3f}, {row['blocks']} blocks, "
              f"{row['threads']} threads, {row['registers']} registers, {row['exchange']}")  # fmt: skip
    if args.json:
        record.append(args.json, rows, devices.resolve_device("cuda"))
    if len(ready) < len(args.cases):
        raise SystemExit("some of what was asked for was left out; see above")


if __name__ == "__main__":
    main()
