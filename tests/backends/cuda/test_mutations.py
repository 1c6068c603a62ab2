"""Every barrier and every wait of the CUDA kernel is needed, and the shim notices when one is missing: the text without
it must fail under some schedule."""

import functools
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from cases import CASES, make_model
from shim import KERNELS, KernelError, Settings, ShimError, ShimKernel

from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.weights import pack

# What replaces a barrier that also decides something: this thread's own answer.
_ALONE = {
    **{"block_sync()": "(void)0", "cluster_sync()": "(void)0", "warp_sync()": "(void)0"},
    **{f"barrier_sync({block}.barrier(), kThreads)": "(void)0" for block in ("b", "b_")},
    "barrier_any(b.barrier(), kThreads, ": "bool(",
    "barrier_any(kEndBarrier, kTeams * kThreads, ": "bool(",
    **{f"barrier_{way}(kReadBarrier, kTeams * kThreads)": "(void)0" for way in ("sync", "arrive")},
}
# These barriers are there for speed, as their comments say.
_FOR_SPEED = (
    "if constexpr (kPublishers < kThreads && kInPackets) barrier_sync(b.barrier(), kThreads);",
    "    if constexpr (kOwnersSend) {\n      barrier_sync(b_.barrier(), kThreads);",
)
_BOTH = "(kSmallPackets ? q.y ^ sequence : 0)"
_LOOK = f"return (q.w ^ sequence) | {_BOTH};"
_TURNS = "return ((q.x ^ turn) | (q.y ^ turn) | (q.z ^ turn) | (q.w ^ turn)) & kSign;"
_WAITS = {
    "a packet's count is looked at": ("packets.cuh", _LOOK, "return q.w & sequence & 0;", "tagged"),
    "the count of a small packet before another is looked at": ("packets.cuh", _BOTH, "0", "tagged"),
    **{
        f"the turn of number {k} of a read is looked at": ("packets.cuh", f"(q.{word} ^ turn)", "0", "tagged")
        for k, word in enumerate("xyzw")
    },
    "a turn is another one after two exchanges": (
        "packets.cuh",
        "(sequence + 1) << 30 & kSign",
        "sequence < 1 ? 0 : kSign",
        "tagged",
    ),
    "the last read of a vector has all its packets": ("packets.cuh", "i <= kMore", "i < kMore", "tagged"),
    "two buffers are used in turn": ("packets.cuh", "sequence % kBuffers", "sequence % 1", "tagged"),
    "a pushed packet's count is looked at": ("packets.cuh", _LOOK, "return q.w & sequence & 0;", "cluster"),
    "the turn of a pushed number is looked at": ("packets.cuh", _TURNS, "return q.x & turn & 0;", "cluster"),
    "clusters use two buffers in turn": ("packets.cuh", "sequence % kBuffers", "sequence % 1", "cluster"),
    "clusters meet before they begin": ("exchange.cuh", "cluster_sync();\n  }", "}", "cluster"),
    "clusters meet before they leave": (
        "exchange.cuh",
        "if (kCluster) cluster_sync();",
        "",
        "cluster",
    ),
    "what is in shared memory is cleared": ("exchange.cuh", "buffers[i] = {0, 0, 0, 0};", "(void)buffers;", "cluster"),
}

# These mutants spoil the packets of several streams, all others those of one.
_OF_MANY_STREAMS = ("a packet's count is looked at", "a pushed packet's count is looked at")
_SLOW = ("buffers",)


def barriers() -> list[tuple[str, int, str]]:
    """(file, where in it, text) of every barrier in the kernel's text."""
    found = []
    for path in sorted((KERNELS / "cuda" / "device").glob("*.cuh")):
        text = path.read_text()
        kept = [(text.find(barrier), len(barrier)) for barrier in _FOR_SPEED]
        for match in re.finditer("|".join(map(re.escape, _ALONE)), text):
            if not any(0 <= begin <= match.start() < begin + length for begin, length in kept):
                found.append((path.name, match.start(), match[0]))
    return found


def mutant(folder: Path, file: str, start: int, old: str, new: str) -> Path:
    """A copy of the kernel's text with one place changed."""
    root = folder / "csrc"
    shutil.copytree(KERNELS, root, ignore=lambda path, names: [name for name in names if name.endswith("cpp")])
    path = root / "cuda" / "device" / file
    text = path.read_text()
    assert text[start : start + len(old)] == old
    path.write_text(text[:start] + new + text[start + len(old) :])
    return root


class Run(NamedTuple):
    """A launch of the shim."""

    name: str
    dtype: str
    exchange: str
    batch: int
    blocks: int = 4
    forced: bool = True
    """Whether some samples are forced. The barrier of `is_forced` hides others."""
    logits: bool = False
    """Whether logits are wanted."""
    teams: int | None = None


# Shapes that no shared case has.
SHAPES = {
    "33 rows of a frame": SampleRNNConfig(dim=44, emb_size=4, q_levels=16, frame_sizes=(2, 2, 8), n_rnn=1),
    "many levels": SampleRNNConfig(dim=8, emb_size=4, q_levels=64, frame_sizes=(2, 2, 4), n_rnn=1),
    "few levels": SampleRNNConfig(dim=16, emb_size=4, q_levels=16, frame_sizes=(2, 2, 4), n_rnn=1),
    "two warps of units": SampleRNNConfig(dim=160, emb_size=4, q_levels=16, frame_sizes=(2, 2, 4), n_rnn=1),
}

# Small models that together pass every barrier: forms, modes, odd dims, forced samples, many streams.
RUNS = [
    Run("prism-skips", "float32", "tagged", 3, teams=2),
    Run("theano-gru-odd-levels", "int8", "tagged", 19),
    Run("two-levels", "float32", "tagged", 3),
    Run("logits-not-finite", "float32", "tagged", 19),
    Run("two-levels", "int8", "cluster", 3),
    Run("two-levels", "float32", "launches", 3),
    Run("paper-3tier", "float32", "tagged", 1),
    Run("paper-3tier", "int8", "tagged", 1),
    Run("paper-3tier", "int8", "tagged", 1, logits=True),
    Run("paper-3tier", "bfloat16", "tagged", 1),  # owners send what products give
    Run("two-levels", "int8", "tagged", 1),  # a width that no read of small packets divides
    Run("paper-3tier", "int8", "tagged", 1, teams=1),
    Run("paper-3tier", "int8", "cluster", 1),
    Run("33 rows of a frame", "float32", "tagged", 1, forced=False),
    Run("two-levels", "float32", "alone", 3, blocks=1),
    Run("paper-3tier", "float32", "alone", 1, blocks=1, forced=False),
    Run("paper-3tier", "float32", "launches", 1, forced=False),
    Run("few levels", "float32", "tagged", 1, logits=True),  # one warp reads the logits and writes them out
    Run("many levels", "float32", "launches", 40, blocks=2),
    Run("many levels", "float32", "launches", 34, blocks=2, logits=True),  # all warps fill the one row of the last tile
    Run("many levels", "float32", "tagged", 40, blocks=2, logits=True),  # a block draws more streams than a tile has
    Run("many levels", "float32", "tagged", 3, blocks=8),
    Run("few levels", "float32", "tagged", 16, blocks=8),  # one warp owns all outputs, but not all draws
    # A warp leaves its wait when all its lanes have their numbers, here before the own block has sent all of its own.
    Run("two warps of units", "float32", "tagged", 1, forced=False),
]


def weights_of(name: str) -> PackedWeights:
    if name in SHAPES or name in CASES:
        return pack(make_model(SHAPES[name] if name in SHAPES else CASES[name]))
    weights = pack(make_model(CASES["two-levels"]))
    spoiled = {"mlp.output_bias": np.full_like(weights["mlp.output_bias"], np.inf)}
    return PackedWeights(weights.config, weights.arrays | spoiled)


def observe(run: int, kernel: ShimKernel, schedule: int) -> list[torch.Tensor]:
    """Everything that a launch gives, or the code of the error that it reports."""
    hidden, history = kernel.initial()
    steps = kernel.config.lookback + 9
    forced = None
    if RUNS[run].forced:
        forced = torch.full((kernel.batch, steps), -1)
        forced[:, 2] = 1
        forced[:, -9:] = torch.tensor([1, 0, 1] * 3)
    settings = Settings(schedule=schedule, seed=3, time_limit=300_000)
    try:
        levels, logits = kernel.run(hidden, history, 0, steps, forced, RUNS[run].logits, settings)
    except KernelError as error:
        return [torch.tensor(error.args[0])]
    return [levels, hidden, logits] if RUNS[run].logits else [levels, hidden]


def kernel_of(run: int, kernels: Path = KERNELS) -> ShimKernel:
    wanted = RUNS[run]
    shape = {"blocks": wanted.blocks, "exchange": wanted.exchange, "teams": wanted.teams}
    return ShimKernel(weights_of(wanted.name), wanted.dtype, wanted.batch, kernels=kernels, **shape)


@functools.cache
def expected(run: int) -> list[torch.Tensor]:
    kernel = kernel_of(run)
    results = [observe(run, kernel, schedule) for schedule in range(3)]
    for other in results[1:]:
        assert all(torch.equal(mine, first) for mine, first in zip(other, results[0], strict=True))
    return results[0]


def is_noticed(kernels: Path, run: int) -> bool:
    kernel = kernel_of(run, kernels)
    for schedule in range(6):
        try:
            found = observe(run, kernel, schedule)
        except ShimError:
            return True
        if len(found) != len(expected(run)):
            return True
        if not all(torch.equal(mine, wanted) for mine, wanted in zip(found, expected(run), strict=True)):
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize(("file", "start", "text"), barriers(), ids=[f"{file}-{at}" for file, at, _ in barriers()])
def test_no_barrier_can_be_left_out(file, start, text, tmp_path):
    kernels = mutant(tmp_path, file, start, text, _ALONE[text])
    assert any(is_noticed(kernels, run) for run in range(len(RUNS)))


@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=[pytest.mark.slow] if any(one in what for one in _SLOW) else []) for what in _WAITS],
)
def test_no_part_of_the_protocol_can_be_left_out(what, tmp_path):
    file, old, new, exchange = _WAITS[what]
    start = (KERNELS / "cuda" / "device" / file).read_text().index(old)
    kernels = mutant(tmp_path, file, start, old, new)
    runs = [run for run in range(len(RUNS)) if RUNS[run].exchange == exchange]
    # Runs whose packets are of the kind that the mutant spoils come first: one that notices nothing costs seconds.
    runs.sort(key=lambda run: (RUNS[run].batch > 1) != (what in _OF_MANY_STREAMS))
    assert any(is_noticed(kernels, run) for run in runs)


def test_the_barriers_that_are_there_for_speed_are_known():
    """Otherwise they would be taken for barriers that nothing notices."""
    text = (KERNELS / "cuda" / "device" / "exchange.cuh").read_text()
    assert all(barrier in text for barrier in _FOR_SPEED)


@pytest.mark.parametrize("run", range(6, len(RUNS)), ids=lambda run: f"{RUNS[run].name}-{RUNS[run].exchange}")
def test_every_schedule_gives_the_same(run):
    assert len(expected(run)) == 2 + RUNS[run].logits
