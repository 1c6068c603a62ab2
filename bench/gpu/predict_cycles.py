"""Predicts how many cycles a sample of the cuda backend's persistent kernel takes on an H100 or H200, without a GPU.

    pip install -c constraints.txt -e '.[triton]' nvidia-cuda-nvrtc
    python bench/gpu/predict_cycles.py [--dim 1024] [--dtype int8] [--streams 1] [--exchange tagged] [--lines 20]

NVRTC compiles the kernel for sm_90, and a cycle model (bench/gpu/cycle_model) executes the machine code of its first
block. The levels that it draws are compared with the reference's; where they differ, its times mean nothing, and the
exit status is 1. docs/predictions.md compares predictions with an H200. A difference of less than 3 % between two texts
means nothing, but the mean over several times of a hop (--hop) tells more.
"""

import argparse
import dataclasses
import functools
import itertools
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))

from bench.gpu.cycle_model.kernel import CLOCK_MHZ, Kernel, compiled
from bench.gpu.cycle_model.machine_code import nvdisasm
from bench.gpu.cycle_model.multiprocessor import Block
from bench.gpu.cycle_model.timing import PUBLISHED, Timing
from samplernn_fast.backends.cuda import first_look
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.cuda.compiler import source_folder
from samplernn_fast.errors import SampleRNNError
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.native import native
from samplernn_fast.reference.draw import sample_ref
from samplernn_fast.reference.randomness import draws
from samplernn_fast.terminal import counted, waiting

WARM = 4
"""Samples before those that are timed."""
PATIENCE = 1_000_000
"""A sample that takes more cycles waits for what never comes."""
TIMINGS = {"measured": Timing(), "published": PUBLISHED}
"""The times of exchanges and L2 by the name of where they come from."""


class Prediction(NamedTuple):
    """A run of the model tells this."""

    cycles: float
    """A sample takes so many."""
    instructions: float
    """All warps of the block execute so many in a sample."""
    code_bytes: int
    """The instructions that were executed while samples were timed have so many."""
    levels: list[int]
    expected: list[int]
    """The reference's levels."""
    by_line: Counter[tuple[str, int]]
    """The cycles of a sample that the first warp spends on each source line; a wait counts for the line that needs the
    result."""


def predict(kernel: Kernel, period: int, timing: Timing, keeps_scheduler: bool = False) -> Prediction:
    """Executes samples of a kernel and times a period of them.

    period: samples after which the walk of the tiers repeats.
    """
    block = Block(kernel, WARM + period + 1, timing, keeps_scheduler)
    drawn = block.memory.drawn

    def drawn_by_now(count: int) -> bool:
        if block.warps[0].time > (len(drawn) + 1) * PATIENCE:
            file, line = source_line(block, block.warps[0].next[0])
            raise SystemExit(f"no sample was drawn in {PATIENCE:,} cycles; the first warp is at {file}:{line}")
        return len(drawn) >= count

    with np.errstate(all="ignore"):
        block.run(lambda: drawn_by_now(WARM))
        begin, count, executed = drawn[-1][1], sum(warp.count for warp in block.warps), block.executed.copy()
        block.run(lambda: drawn_by_now(WARM + period))
    levels = [level for level, _ in drawn]
    return Prediction(
        (drawn[-1][1] - begin) / period,
        (sum(warp.count for warp in block.warps) - count) / period,
        16 * len(block.executed - executed),
        levels,
        reference_levels(block.memory.others.logits(), len(levels)),
        lines(block, begin, period),
    )


def reference_levels(logits: np.ndarray, steps: int) -> list[int]:
    """The levels that the reference draws from the same logits in every step, with seed 0 and for stream 0."""
    words = draws(0, np.zeros(1, np.uint32), 0, steps)[0].astype(np.int64)
    drawn = sample_ref(torch.from_numpy(logits)[None].repeat(steps, 1), torch.from_numpy(words), torch.ones(steps))
    return [int(level) for level in drawn]


def source_line(block: Block, at: int) -> tuple[str, int]:
    """The file and line of the innermost function at a place in the program; ("", 0) where the compiler tells none."""
    frames = block.program[at].frames
    return frames[0] if frames else ("", 0)


def lines(block: Block, begin: int, period: int) -> Counter[tuple[str, int]]:
    """The cycles of a sample by the source line of the innermost function, from the cycle `begin` on."""
    found: Counter[tuple[str, int]] = Counter()
    before = begin
    for at, end in block.log:
        if end > begin:
            found[source_line(block, at)] += (end - before) / period
            before = end
    return found


def print_lines(by_line: Counter[tuple[str, int]], count: int) -> None:
    """Prints the lines with most cycles, with their text."""
    for (file, number), cycles in by_line.most_common(count):
        path = next(source_folder().rglob(file), None) if file else None
        text = path.read_text().splitlines()[number - 1].strip() if path else ""
        print(f"  {cycles:7.0f}  {file}:{number}  {text[:80]}")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the options `argv`, or those of the command line where it is None. Lists make every combination."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, nargs="+", default=[1024], help="units of the paper's 3-tier model (1024)")
    parser.add_argument("--dtype", nargs="+", choices=CudaBackend.dtypes, default=["int8"], help="default: int8")
    parser.add_argument("--streams", type=int, nargs="+", default=[1], choices=range(1, 9), help="default: 1")
    parser.add_argument("--exchange", choices=["tagged", "cluster"], default="tagged", help="default: tagged")
    parser.add_argument("--threads", type=int, choices=range(32, 513, 32), help="of a team (256)", metavar="{32..512}")
    parser.add_argument(
        "--first-look",
        type=ticks_or_best,
        metavar="{TICKS,best}",
        help="from a warp's packets to its first look at those of other blocks, or `best`: what the backend would find "
        "on a GPU with these times, in at most 14 runs of the model for each hop (what was best on an H200)",
    )
    parser.add_argument(
        "--timing",
        choices=list(TIMINGS),
        default="measured",
        help="what GPUs were measured to take, or what was published before (measured)",
    )
    parser.add_argument(
        "--hop",
        type=int,
        nargs="+",
        metavar="CYCLES",
        help="from the store of a packet until the others' packets are where they are read (950 measured and 350 "
        "published, in a cluster 650 and 230); with several, one line each and the mean",
    )
    parser.add_argument(
        "--schedulers",
        choices=["switch", "keep"],
        default="switch",
        help="switch: other warps run while one waits; keep: it blocks its scheduler, as in older figures (switch)",
    )
    parser.add_argument("--lines", type=int, default=0, metavar="N", help="print the N source lines that take longest")
    args = parser.parse_args(argv)
    for flag, numbers in [
        ("--hop", args.hop or [0]),
        ("--lines", [args.lines]),
    ]:
        if min(numbers) < 0:
            parser.error(f"{flag} must be 0 or more, got {min(numbers)}")
    if args.first_look is not None and args.exchange == "cluster":
        parser.error("--first-look is for the exchange `tagged`: in a cluster warps do not wait")
    return args


def ticks_or_best(text: str) -> int | str:
    """Parses --first-look. ArgumentTypeError where it is neither."""
    if text == "best" or (text.isdecimal() and int(text) <= PATIENCE // 10):
        return text if text == "best" else int(text)
    raise argparse.ArgumentTypeError(f"must be 0 to {PATIENCE // 10:,} ticks or `best`, got {text!r}")


def run(args: argparse.Namespace) -> bool:
    """Prints a line for each combination and time of a hop. Returns whether all levels are right."""
    right, field = True, "push" if args.exchange == "cluster" else "stored"
    usual = TIMINGS[args.timing]
    for dim, dtype, streams in itertools.product(args.dim, args.dtype, args.streams):
        config = SampleRNNConfig(dim=dim)
        about = f"dim {dim}, {dtype}, {counted(streams, 'stream')}, {args.exchange}"
        with waiting(f"compiling the kernel: {about}"):
            kernel, cycles = compiled(config, dtype, streams, args.exchange, args.threads), []
        for hop in args.hop or [getattr(usual, field)]:
            timing = dataclasses.replace(usual, **{field: hop})
            with waiting(f"executing its machine code: {about}, hop {hop}"):
                how = {
                    "period": max(config.frame_sizes),
                    "timing": timing,
                    "keeps_scheduler": args.schedulers == "keep",
                }
                ticks, found = with_first_look(args.first_look, kernel, functools.partial(predict, **how))
            right = right and found.levels == found.expected
            cycles.append(found.cycles)
            print(
                f"{about}, hop {hop}, first look {ticks}, NVRTC {kernel.nvrtc}:"
                f" {found.cycles:.0f} cycles a sample, {found.cycles / CLOCK_MHZ:.2f} us at {CLOCK_MHZ} MHz;"
                f" {found.instructions:.0f} instructions, {found.code_bytes / 1024:.0f} KB of code;"
                f" levels {'right' if found.levels == found.expected else 'DIFFER'}",
                flush=True,
            )
            print_lines(found.by_line, args.lines)
        if len(cycles) > 1:
            print(f"  mean {np.mean(cycles):.0f} cycles", flush=True)
    return right


def with_first_look(
    wanted: int | str | None, kernel: Kernel, predicted: Callable[[Kernel], Prediction]
) -> tuple[int, Prediction]:
    """The ticks of a first look, and the prediction with it. wanted: ticks, "best", or None for the usual ones."""

    @functools.cache
    def at(ticks: int) -> Prediction:
        return predicted(dataclasses.replace(kernel, first_look=ticks))

    if wanted == "best" and kernel.first_look > 0:
        wanted = first_look.best(kernel.first_look, lambda ticks: at(ticks).cycles)
    ticks = wanted if isinstance(wanted, int) else kernel.first_look
    return ticks, at(ticks)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    nvdisasm()  # before anything is compiled
    try:
        right = run(args)
    except (SampleRNNError, native().CudaError) as error:
        raise SystemExit(str(error)) from None
    if not right:
        raise SystemExit("levels differ from the reference's, so the times above mean nothing")


if __name__ == "__main__":
    main()
