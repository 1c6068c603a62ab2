"""Predicts how many cycles a sample of the cuda backend's persistent kernel takes on an H100, without a GPU.

    python bench/gpu/predict_cycles.py [--dim 1024] [--dtype int8] [--streams 1] [--exchange tagged] [--lines 20]

NVRTC compiles the kernel for sm_90, and a cycle model (bench/gpu/cycle_model) executes the machine code of its first
block. The levels that it draws are compared with the reference's; where they differ, its times mean nothing, and the
exit status is 1. docs/predictions.md compares predictions with an H100. A difference of less than 3 % between two texts
means nothing, but the mean over several times of an exchange (--stored) tells more.
"""

import argparse
import dataclasses
import itertools
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))

from bench.gpu.cycle_model.kernel import CLOCK_MHZ, Kernel, compiled
from bench.gpu.cycle_model.multiprocessor import Block
from bench.gpu.cycle_model.timing import PUBLISHED, Timing
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.cuda.compiler import source_folder
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference.draw import sample_ref
from samplernn_fast.reference.randomness import draws

WARM = 4
"""Samples before those that are timed."""
TIMINGS = {"measured": Timing(), "published": PUBLISHED}
"""What exchanges and L2 take, by the name of where it comes from."""


class Prediction(NamedTuple):
    """What a run of the model tells."""

    cycles: float
    """Of a sample."""
    instructions: float
    """Of a sample, by all warps of the block."""
    code_bytes: int
    """Of the instructions that were executed while samples were timed."""
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
    with np.errstate(all="ignore"):
        block.run(lambda: len(drawn) >= WARM)
        begin, count, executed = drawn[-1][1], sum(warp.count for warp in block.warps), block.executed.copy()
        block.run(lambda: len(drawn) >= WARM + period)
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


def lines(block: Block, begin: int, period: int) -> Counter[tuple[str, int]]:
    """The cycles of a sample by the source line of the innermost function, from the cycle `begin` on."""
    found: Counter[tuple[str, int]] = Counter()
    before = begin
    for at, end in block.log:
        if end > begin:
            frames = block.program[at].frames
            found[frames[0] if frames else ("", 0)] += (end - before) / period
            before = end
    return found


def print_lines(by_line: Counter[tuple[str, int]], count: int) -> None:
    """Prints the lines with most cycles, with their text."""
    for (file, number), cycles in by_line.most_common(count):
        path = next(source_folder().rglob(file), None) if file else None
        text = path.read_text().splitlines()[number - 1].strip() if path else ""
        print(f"  {cycles:7.0f}  {file}:{number}  {text[:80]}")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the options `argv`, or those of the command line where it is None."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, nargs="+", default=[1024])
    parser.add_argument("--dtype", nargs="+", choices=CudaBackend.dtypes, default=["int8"])
    parser.add_argument("--streams", type=int, nargs="+", default=[1])
    parser.add_argument("--exchange", choices=["tagged", "cluster"], default="tagged")
    parser.add_argument("--threads", type=int, help="threads of a team; the backend's own choice without it")
    parser.add_argument(
        "--timing",
        choices=list(TIMINGS),
        default="measured",
        help="whether exchanges and L2 take what an H100 was measured to take, or what was published",
    )
    parser.add_argument(
        "--stored",
        type=int,
        nargs="+",
        metavar="CYCLES",
        help="other times from the store of a packet until the others' packets are in L2; of several the mean is told",
    )
    parser.add_argument(
        "--schedulers",
        choices=["switch", "keep"],
        default="switch",
        help="whether other warps run while one waits for a load, or wait for it, too",
    )
    parser.add_argument("--lines", type=int, default=0, help="tell so many source lines with most cycles")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args, right = parse(argv), True
    for dim, dtype, streams in itertools.product(args.dim, args.dtype, args.streams):
        config = SampleRNNConfig(dim=dim)
        kernel, cycles = compiled(config, dtype, streams, args.exchange, args.threads), []
        usual = TIMINGS[args.timing]
        for stored in args.stored or [usual.stored]:
            timing = dataclasses.replace(usual, stored=stored)
            found = predict(kernel, max(config.frame_sizes), timing, args.schedulers == "keep")
            right = right and found.levels == found.expected
            cycles.append(found.cycles)
            about = f"dim {dim}, {dtype}, {streams} streams, {args.exchange}, stored {stored}"
            print(
                f"{about}: {found.cycles:.0f} cycles a sample, {found.cycles / CLOCK_MHZ:.2f} us at {CLOCK_MHZ} MHz;"
                f" {found.instructions:.0f} instructions, {found.code_bytes / 1024:.0f} KB of code;"
                f" levels {'right' if found.levels == found.expected else 'DIFFER'}",
                flush=True,
            )
            print_lines(found.by_line, args.lines)
        if len(cycles) > 1:
            print(f"  mean {np.mean(cycles):.0f} cycles", flush=True)
    if not right:
        raise SystemExit("levels differ from the reference's, so the times above mean nothing")


if __name__ == "__main__":
    main()
