"""Times kernels of the cuda backend with other choices of threads, teams and blocks than the usual ones.

    python bench/gpu/choices.py [--json FILE] "1024/int8/1/tagged" "1024/int8/1/tagged threads=384 teams=1" ...

A case is units/mode/streams/exchange and the choices that differ from the usual ones: `threads` of a team, `teams` of a
block, the most `blocks` of a group, the ticks before a `first_look` for packets, which the backend would measure, and
macros in capitals that an experiment has put into the kernels' text. Levels are compared with the reference's draws
first. Times are those of the GPU's events: microseconds a sample, the median and the least of the rounds. Cases take
turns, so that a change of the GPU's clock meets all of them. A case whose levels differ, or that cannot start, is left
out, and the exit status is then 1.
"""

import argparse
import contextlib
import functools
import re
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

sys.path.append(str(Path(__file__).resolve().parents[2]))

from bench.common import record
from bench.common.devices import device_or_exit
from bench.gpu.absent import CARDS
from bench.gpu.compile_ahead import build, positive, with_first_samples
from bench.gpu.stage_times import checked_backend, make
from bench.gpu.wanted import Wanted
from samplernn_fast.backends.cuda import constants, first_look, grouping, program
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.cuda.compiler import KernelSource
from samplernn_fast.commands.benchmark.checks import CheckFailed
from samplernn_fast.commands.benchmark.timing import seconds
from samplernn_fast.errors import SampleRNNError
from samplernn_fast.models.config import SampleRNNConfig

_NUMBERS = {
    "threads": range(32, 1025, 32),
    "teams": range(1, 3),
    "blocks": range(1, 1 << 16),
    "first_look": range(1 << 16),
}


@functools.cache
def macros_of_kernels() -> set[str]:
    """Returns the macros that the kernels' text mentions, but for those that the host must know as well (params.h)."""
    source = KernelSource.read("persistent.cuh")
    mentioned = set(re.findall(r"SRNN_[A-Z0-9_]+", "".join([source.text, *source.headers.values()])))
    config = SampleRNNConfig(dim=8)
    return mentioned - constants.defines(config, "int8", grouping.Grouping(1, 1, 1, "alone", 1), 32, 0).keys()


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
        """Parses a case. ArgumentTypeError tells what is wrong with it."""
        kernel, *pairs = text.split() or [""]
        try:
            dim, dtype, streams, exchange = kernel.split("/")
            named = [(name, int(number)) for name, number in (pair.split("=") for pair in pairs)]
            case = cls(text, int(dim), dtype, int(streams), exchange, dict(named))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not of the form units/mode/streams/exchange NAME=NUMBER ..."
            ) from None
        if len(case.choices) < len(named):
            raise argparse.ArgumentTypeError(f"{text!r} gives a choice twice")
        if wrong := case.wrong():
            raise argparse.ArgumentTypeError(f"{text!r}: {wrong}")
        return case

    def wrong(self) -> str:
        """Tells what keeps this from being a case, or nothing."""
        if self.dtype not in CudaBackend.dtypes:
            return f"the mode must be one of {', '.join(CudaBackend.dtypes)}"
        if self.exchange not in constants.CHOICES:
            return f"the exchange must be one of {', '.join(constants.CHOICES)}"
        if min(self.dim, self.streams) < 1:
            return "units and streams must be at least 1"
        if "first_look" in self.choices and self.exchange != "tagged":
            return "first_look is for the exchange tagged"
        for name, number in self.choices.items():
            if name in _NUMBERS and number not in _NUMBERS[name]:
                allowed = _NUMBERS[name]
                steps = f" in steps of {allowed.step}" if allowed.step > 1 else ""
                return f"{name} must not be {number}, but {allowed[0]} to {allowed[-1]}{steps}"
            if name not in _NUMBERS and name not in macros_of_kernels():
                return f"there is no choice {name}"
        return ""

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
            if (ticks := self.choices.get("first_look")) is not None:
                replace(first_look, "kept_or_best", lambda *about: ticks)
            if macros := {name: str(number) for name, number in self.choices.items() if name not in _NUMBERS}:
                replace(constants, "defines", lambda *about, **more: defines(*about, **more) | macros)
            yield


@dataclass
class Contestant:
    """A case that has passed its check, and the times of its rounds."""

    case: Case
    backend: CudaBackend
    times: list[float]

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
            "first_look": built.first_look,
        }


def contestants(cases: list[Case]) -> Iterator[Contestant]:
    """Yields the cases whose levels are right. It names the others, with the reason."""
    for case in cases:
        try:
            with case.chosen():
                backend = checked_backend(case.dim, case.dtype, case.streams, case.exchange)
        except (SampleRNNError, CheckFailed) as reason:
            print(f"{case.name}: left out: {reason}", flush=True)
        else:
            if "first_look" in case.choices and not backend.launcher.program(case.streams).waits:
                print(f"{case.name}: left out: its warps do not wait before they look", flush=True)
                continue
            yield Contestant(case, backend, [])


def compile_only(cases: list[Case], card: str | None = None) -> list[Case]:
    """Compiles the kernels of all cases for GPU 0, or for one of `absent.CARDS`; returns those that were compiled."""
    compiled = []
    for case in cases:
        kernels = with_first_samples([Wanted(SampleRNNConfig(dim=case.dim), case.dtype, case.streams, case.exchange)])
        with case.chosen():
            reason = next(filter(None, (build(kernel, card)[1] for kernel in kernels)), "")
        if reason:
            print(f"{case.name}: left out: {reason}", flush=True)
        else:
            print(f"{case.name}: compiled", flush=True)
            compiled.append(case)
    return compiled


def take_turns(ready: list[Contestant], rounds: int, samples: int) -> list[Contestant]:
    """Runs all contestants in turn, `rounds` times after a first one that does not count. Returns those that did not
    fail."""
    for number in range(rounds + 1):
        for one in list(ready):
            try:
                one.run(samples)
            except SampleRNNError as reason:
                print(f"{one.case.name}: left out: {reason}", flush=True)
                ready = [other for other in ready if other is not one]
            if number == 0:
                one.times.clear()
    return ready


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    form = 'units/mode/streams/exchange and choices, such as "1024/int8/1/tagged threads=384 teams=1"'
    parser.add_argument("cases", nargs="+", type=Case.of, metavar="CASE", help=form)
    parser.add_argument("--samples", type=positive, default=8192, help="of a stream in a round (8192)")
    parser.add_argument("--rounds", type=positive, default=5, help="timed, after one that is not (5)")
    parser.add_argument("--json", type=record.file, help="append the rows to this file")
    parser.add_argument("--compile-only", action="store_true", help="put the kernels into the cache, for a later run")
    parser.add_argument(
        "--for", dest="card", choices=list(CARDS), help="with --compile-only: for this GPU, without one"
    )
    args = parser.parse_args()
    if args.card and not args.compile_only:
        parser.error("--for is for --compile-only: a GPU that is not here makes no samples")
    if args.compile_only:
        done = len(compile_only(args.cases, args.card))
    else:
        device = device_or_exit("cuda")
        ready = take_turns(list(contestants(args.cases)), args.rounds, args.samples)
        rows, done = [one.row() for one in ready], len(ready)
        for row in rows:
            print(f"{row['case']:48} {row['us']:8.3f} us, least {row['least']:.3f}, {row['blocks']} blocks, "
                  f"{row['threads']} threads, {row['registers']} registers, {row['exchange']}, "
                  f"first look {row['first_look']}")  # fmt: skip
        if args.json and rows:
            record.append(args.json, rows, device)
    if done < len(args.cases):
        raise SystemExit("some of what was asked for was left out; see above")


if __name__ == "__main__":
    main()
