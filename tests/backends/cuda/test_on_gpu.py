"""The `cuda` backend on a real GPU, on the shared cases and the paper's model. `pytest -m gpu` runs these.

The mark `kernels` says what a test asks for beside its parameters, for bench/gpu/compile_ahead.py: streams, dtype, and
exchanges `beside` that of the parameters or "auto"."""

import numpy as np
import pytest
import torch
from cases import make_model, random_levels
from gpu_shapes import SHAPES

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.backends.cuda import first_look, launcher
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.cuda.gpu import missing
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.reference.weights import pack

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1800),  # every case is compiled
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]
GPU = "cuda:0"


@pytest.fixture(scope="module", autouse=True)
def runs():
    if torch.cuda.is_available() and (reasons := missing(0)):
        pytest.skip("; ".join(reasons))


def scored(backend, levels):
    return backend.score(backend.init_hidden(len(levels)), levels.numpy())


@pytest.mark.kernels(streams=[3], dtype="float32")
@pytest.mark.parametrize("exchange", ["tagged", "auto", "launches"])  # "auto": blocks alone, or clusters
@pytest.mark.parametrize("name", SHAPES)
def test_scores_are_those_of_the_reference(name, exchange):
    model, levels = make_model(SHAPES[name]), random_levels(SHAPES[name], 3, SHAPES[name].lookback * 40)
    exact = Engine(model, backend="reference", dtype="float64", device="cpu").score(levels).astype(np.float32)
    got = scored(CudaBackend(pack(model), GPU, "float32", exchange=exchange), levels)
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-4)


@pytest.mark.kernels(streams=[3], dtype="int8")
@pytest.mark.parametrize("name", SHAPES)
def test_int8_scores_are_those_of_the_cpu(name):
    """Logits have equal bits; the logarithms after them are torch's on a GPU and NumPy's on the CPU."""
    weights, levels = pack(make_model(SHAPES[name])), random_levels(SHAPES[name], 3, SHAPES[name].lookback * 20)
    cpu = CpuBackend(weights, "cpu", "int8")
    expected = scored(cpu, levels)
    torch.testing.assert_close(scored(CudaBackend(weights, GPU, "int8"), levels), expected, rtol=0, atol=1e-5)


@pytest.mark.kernels(streams=[9])
@pytest.mark.parametrize("dtype", CudaBackend.dtypes)
@pytest.mark.parametrize("name", ["paper-3tier", "theano-lstm-skips", "reset-before-256"])
def test_levels_depend_on_nothing_beside_the_stream(name, dtype, monkeypatch):
    engine = Engine(make_model(SHAPES[name]), backend="cuda", dtype=dtype, device="cuda")
    whole = engine.run(engine.init_state(9, seed=1), 3000)
    assert np.array_equal(engine.run(engine.init_state(9, seed=1), 3000), whole)
    alone = engine.run(engine.init_state(1, seed=1, first_stream=4), 3000)
    assert np.array_equal(alone[0], whole[4])
    monkeypatch.setattr(launcher, "LAUNCH_STEPS", 37)
    assert np.array_equal(engine.run(engine.init_state(9, seed=1), 3000), whole)


@pytest.mark.kernels(streams=[3], dtype="float32")
@pytest.mark.parametrize("name", ["paper-3tier", "theano-lstm-skips", "two-levels"])
def test_levels_are_those_of_the_reference(name):
    model, made = make_model(SHAPES[name]), []
    for backend, dtype, device in (("cuda", "float32", "cuda"), ("reference", "float64", "cpu")):
        engine = Engine(model, backend=backend, dtype=dtype, device=device)
        few = min(40, model.config.q_levels)
        made.append(engine.run(engine.init_state(3, seed=5, temperature=0.9, top_k=few, top_p=0.95), 400))
    assert np.array_equal(*made)


@pytest.mark.kernels(streams=[9], beside=["tagged"])
@pytest.mark.parametrize("exchange", ["cluster", "launches"])
@pytest.mark.parametrize("dtype", CudaBackend.dtypes)
@pytest.mark.parametrize("name", ["paper-3tier", "theano-lstm-skips", "reset-before-256"])
def test_every_exchange_has_the_bits_of_tagged_packets(name, dtype, exchange):
    """With more streams than every block draws: the blocks share out the draws, but in clusters."""
    model, levels = make_model(SHAPES[name]), []
    for one in ("tagged", exchange):
        try:
            engine = Engine.of(model, CudaBackend(pack(model), GPU, dtype, exchange=one))
            engine.backend.launcher.program(9)
        except BackendUnavailable as reason:
            if one != "cluster":
                raise
            pytest.skip(str(reason))
        levels.append(engine.run(engine.init_state(9, seed=1), 500))
    assert np.array_equal(*levels)


@pytest.mark.kernels(streams=[1])
@pytest.mark.parametrize("exchange", ["tagged"])
@pytest.mark.parametrize("dtype", CudaBackend.dtypes)
@pytest.mark.parametrize("name", ["paper-1024"])
def test_the_best_wait_for_packets_is_measured_and_changes_no_level(
    name, dtype, exchange, monkeypatch, record_property
):
    """The least time of a launch with each wait is a property of the test, in the file of --junitxml."""
    measured, told = {}, []

    def best(program, usual, seconds):
        def noted(ticks):
            measured.setdefault(ticks, []).append(seconds(ticks))
            return measured[ticks][-1]

        told.append(first_look.best(usual, noted))
        return usual if told[0] is None else told[0]  # None where other tests run beside this one

    monkeypatch.setattr(first_look, "kept_or_best", best)  # what was kept before does not count
    model = make_model(SHAPES[name])
    engine = Engine.of(model, CudaBackend(pack(model), GPU, dtype, exchange=exchange))
    levels = engine.run(engine.init_state(1, seed=1), 2000)
    launches = engine.backend.launcher
    found = launches.program(1).first_look
    least = {ticks: min(times) for ticks, times in sorted(measured.items())}
    record_property("milliseconds_by_wait", {ticks: round(1e3 * time, 3) for ticks, time in least.items()})
    record_property("best_wait", told[0])
    assert found in least and launches.program(1).waits
    assert told[0] is None or least[found] <= min(least.values()) / 0.99
    for ticks in (0, 2000):
        launches.wait_before_looks(1, launches.program(1).key, ticks)
        assert np.array_equal(engine.run(engine.init_state(1, seed=1), 2000), levels)
