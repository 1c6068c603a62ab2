"""The stages of a sample as kernels of their own (csrc/cuda/device/stages.cuh), run on a CPU by the shim of
`tests/played_gpu` in the order of `stages.Walk`: they have the bits of the persistent kernel."""

import functools

import numpy as np
import pytest
import torch
from cases import CASES, make_model, random_levels
from shim import KernelError, Settings, ShimError, ShimKernel
from torch import Tensor

from samplernn_fast.backends.cuda.stages import Stage, Walk
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.weights import pack


@functools.cache
def packed(name: str) -> PackedWeights:
    return pack(make_model(CASES[name]))


@functools.cache
def kernel(name: str, dtype: str, exchange: str, batch: int, **shape: int) -> ShimKernel:
    return ShimKernel(packed(name), dtype, batch, exchange=exchange, **shape)


def everything(kernel: ShimKernel, pieces: list[int], schedule: int = 0) -> list[Tensor]:
    """Levels, states, and logits of calls of so many samples each: free and forced samples, among them some that are
    told for every stream, and then one call of scores."""
    config, (hidden, made), t = kernel.config, kernel.initial(), 0
    for steps in pieces:
        forced = random_levels(config, kernel.batch, steps, seed=t)
        forced[torch.rand(forced.shape, generator=torch.Generator().manual_seed(t)) < 0.5] = -1
        forced[:, steps // 2 : steps // 2 + 3] = 1
        settings = Settings(0.9, 40, 0.95, seed=5, first_stream=2, schedule=schedule)
        levels, _ = kernel.run(hidden, made[:, -config.lookback :], t, steps, forced, settings=settings)
        made, t = torch.cat((made, levels), dim=1), t + steps
    state = hidden.clone()
    levels, logits = kernel.run(hidden, made[:, -config.lookback :], t, 3, want_logits=True)
    return [made, state, levels, logits, hidden]


# Every form and numeric mode; few streams, which every block draws, and many, which the blocks share out.
TELLING = [
    ("paper-3tier", "float32", 3),
    ("theano-gru-odd-levels", "int8", 11),
    ("theano-lstm-skips", "bfloat16", 1),
]
SLOW = [(name, "float32", 3) for name in CASES if (name, "float32", 3) not in TELLING]
SLOW += [
    ("paper-3tier", "bfloat16", 19),
    ("prism-skips", "bfloat16", 3),
    ("two-levels", "int8", 3),
    ("theano-lstm-skips", "int8", 9),
]


@pytest.mark.parametrize(
    ("name", "dtype", "batch"), [*TELLING, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_they_have_the_bits_of_the_persistent_kernel(name, dtype, batch):
    """Also where calls begin in the middle of a frame."""
    lookback = CASES[name].lookback
    pieces = [lookback + 1, 2, lookback - 1]
    stages = everything(kernel(name, dtype, "launches", batch), pieces, schedule=3)
    persistent = everything(kernel(name, dtype, "tagged", batch), pieces)
    assert all(torch.equal(*pair) for pair in zip(stages, persistent, strict=True))
    assert len(stages[0].unique()) > 1


# Together they have every kernel: halves of a GRU, stacked layers, skips; draws by all blocks and by each its own.
every_kernel = pytest.mark.parametrize(
    ("name", "batch"), [("theano-gru-odd-levels", 9), pytest.param("prism-skips", 1, marks=pytest.mark.slow)]
)
SMALL = {"blocks": 2, "threads": 32}


@every_kernel
def test_errors_are_those_of_the_persistent_kernel(name, batch):
    """A logit that is not a number stops the walk: no later launch works on what is not a level."""
    weights = packed(name)
    spoiled = weights.arrays | {"mlp.output_bias": np.full_like(weights["mlp.output_bias"], np.inf)}
    stages = ShimKernel(PackedWeights(weights.config, spoiled), "float32", batch, exchange="launches", **SMALL)
    hidden, history = stages.initial()
    with pytest.raises(KernelError) as caught:
        stages.run(hidden, history, 0, 3)
    code, _, stream, _, step = caught.value.args[:5]
    assert code == 2 and stream < batch and step == 0


def mutants(walk: Walk, drawn_apart: bool) -> dict[str, Walk]:
    """Walks with one kind of stage left out everywhere, with two neighbours swapped at one place of the period, or with
    a sample that does not begin."""
    found = {}
    kinds = dict.fromkeys(stage[:3] for sample in [walk.before, *walk.period] for stage in sample)
    for kind in kinds:
        period = [[stage for stage in sample if stage[:3] != kind] for sample in walk.period]
        # What begins a sample is another stage then, so that only the stage is missing.
        period = [[sample[0]._replace(begins=True), *sample[1:]] for sample in period]
        before = [stage for stage in walk.before if stage[:3] != kind]
        found[f"without {kind[0]} {kind[1]} {kind[2]}"] = Walk(before, period, walk.after)
    for now in (0, 1):
        sample = walk.period[now]
        for at in range(len(sample) - 1):
            swapped = [stage._replace(begins=False) for stage in sample]
            swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
            swapped[0] = swapped[0]._replace(begins=True)
            period = [swapped if place == now else kept for place, kept in enumerate(walk.period)]
            found[f"{swapped[at].kernel} before {swapped[at + 1].kernel} at {now}"] = Walk(
                walk.before, period, walk.after
            )
    still = [[stage._replace(begins=False) for stage in walk.period[-1]]]
    found["a sample that does not begin"] = Walk(walk.before, [*walk.period[:-1], *still], walk.after)
    found["nothing is saved"] = Walk(walk.before, walk.period, [])
    if drawn_apart:  # else every block has them
        last = [stage._replace(begins=False) for stage in walk.after]
        found["the last levels are not taken"] = Walk(walk.before, walk.period, last)
    return found


def observed(subject: ShimKernel) -> list[Tensor]:
    """From the middle of a frame on, over the border of the top frame."""
    config = subject.config
    steps = 2 * config.lookback
    history, forced = random_levels(config, subject.batch, config.lookback + steps).split([config.lookback, steps], 1)
    hidden, _ = subject.initial()
    hidden += torch.linspace(-0.5, 0.5, len(hidden))
    levels, logits = subject.run(hidden, history, 1, steps, torch.where(forced % 2 == 0, forced, -1), True)
    return [levels, logits, hidden]


@every_kernel
def test_no_stage_can_be_left_out_or_swapped(name, batch):
    subject = kernel(name, "float32", "launches", batch, **SMALL)
    wanted = observed(subject)
    assert all(torch.equal(*pair) for pair in zip(observed(subject), wanted, strict=True))
    unnoticed = []
    for what, walk in mutants(Walk.of(subject.config), drawn_apart=batch > 8).items():
        subject.walk = walk
        try:
            if all(torch.equal(*pair) for pair in zip(observed(subject), wanted, strict=True)):
                unnoticed.append(what)
        except (KernelError, ShimError):
            continue
        finally:
            subject.walk = Walk.of(subject.config)
    assert not unnoticed


def test_a_walk_of_the_papers_model():
    """The order of Eq. 1-9, at the first two samples of a top frame."""
    walk = Walk.of(SampleRNNConfig())
    network = [*(Stage(f"srnn_sample_mlp_{part}") for part in ("input", "hidden", "logits")), Stage("srnn_draw")]
    tiers = [Stage("srnn_cell", 1, 0, True), *(Stage(*s) for s in (("srnn_upsample", 1), ("srnn_cell", 0)))]
    assert walk.period[0] == [*tiers, Stage("srnn_upsample", 0), *network]
    assert walk.period[1] == [Stage("srnn_upsample", 0, 0, True), *network]
    assert len(walk.period) == 8 and walk.before == [Stage("srnn_load")]
    assert walk.after == [Stage("srnn_save", begins=True)]
