"""What an engine refuses: impossible requests, backends and devices that are not there, weights that are not finite."""

import functools
from unittest import mock

import numpy as np
import pytest
import torch
from cases import CASES, make_model
from engines import MODELS, engine
from small import assert_one_line

from samplernn_fast.backends import names, registry
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable, CheckpointError, ConfigError

BAD_CALLS = {
    "no streams": (lambda e: e.init_state(0), "num_streams must be 1 to"),
    "negative stream": (lambda e: e.init_state(1, first_stream=-1), "streams must be numbered"),
    "stream beyond 32 bits": (lambda e: e.init_state(2, first_stream=2**32 - 1), "streams must be numbered"),
    "seed": (lambda e: e.init_state(1, seed=-1), "seed must be"),
    "temperature": (lambda e: e.init_state(1, temperature=-0.5), "temperature must be 0 or between"),
    "temperature text": (lambda e: e.init_state(1, temperature="hot"), "temperature must be a number, or a curve"),
    "temperature None": (lambda e: e.init_state(1, temperature=None), "temperature must be 0 or between"),
    "temperatures": (lambda e: e.init_state(3, temperature=[1.0, 1.0]), "or 3, one per stream, got"),
    "one bad temperature": (lambda e: e.init_state(2, temperature=[1.0, float("nan")]), "got nan"),
    "temperature function": (
        lambda e: e.run(e.init_state(1, temperature=lambda seconds: -seconds), 3),
        "temperature must be 0 or between",
    ),
    "top_k": (lambda e: e.init_state(1, top_k=0), "top_k must be"),
    "top_p": (lambda e: e.init_state(1, top_p=1.5), "top_p must be"),
    "negative n": (lambda e: e.run(e.init_state(1), -1), "n must be a whole number, 0 or more, got -1"),
    "half a sample": (lambda e: e.run(e.init_state(1), 1.5), "n must be a whole number, 0 or more, got 1.5"),
    "forced shape": (lambda e: e.run(e.init_state(2), 5, forced=torch.zeros(2, 4).long()), r"\(2, 5\), got \(2, 4\)"),
    "forced row": (lambda e: e.run(e.init_state(2), 5, forced=torch.zeros(5).long()), r"\(2, 5\), got \(5,\)"),
    "forced level": (lambda e: e.run(e.init_state(1), 1, forced=[[64]]), "levels must be -1 to 63, got 64"),
    "forced below": (lambda e: e.run(e.init_state(1), 1, forced=[[-2]]), "levels must be -1 to 63, got -2"),
    "forced floats": (lambda e: e.run(e.init_state(1), 1, forced=np.zeros((1, 1))), "levels must be integers"),
    "prompt level": (lambda e: e.init_state(1, prompt=[3, -1]), "levels must be 0 to 63, got -1"),
    "prompt rows": (
        lambda e: e.init_state(3, prompt=np.zeros((2, 4), int)),
        r"one for each of 3 streams, got the shape \(2, 4\)",
    ),
    "prompt scalar": (lambda e: e.init_state(1, prompt=np.int64(3)), r"prompt must have one row, got the shape \(\)"),
    "prompt 3-d": (
        lambda e: e.init_state(1, prompt=np.zeros((1, 1, 1), int)),
        r"prompt must have one row, got the shape \(1, 1, 1\)",
    ),
    "prompt floats": (lambda e: e.init_state(1, prompt=np.zeros(4, np.float32)), "levels must be integers"),
    "score shape": (
        lambda e: e.score(np.zeros(9, int)),
        r"\(B, n\) with n at least the model's lookback, 8, got \(9,\)",
    ),
    "score too short": (lambda e: e.score(np.zeros((1, 7), int)), r"lookback, 8, got \(1, 7\)"),
    "score level": (lambda e: e.score(np.full((1, 9), 64)), "levels must be 0 to 63, got 64"),
    "score free": (lambda e: e.score(np.full((1, 9), -1)), "levels must be 0 to 63, got -1"),
}


@pytest.mark.parametrize("call", BAD_CALLS)
def test_impossible_requests_are_one_line(call):
    request, message = BAD_CALLS[call]
    with pytest.raises(ConfigError, match=message) as raised:
        request(engine())
    assert_one_line(raised)


def test_more_streams_than_memory_are_one_line(monkeypatch):
    made = engine()

    def init_state_with(error):
        monkeypatch.setattr(made.backend, "init_hidden", mock.Mock(side_effect=error))
        made.init_state(9)

    for error in (MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")):
        with pytest.raises(ConfigError, match=r"^9 streams at once take more memory than there is$"):
            init_state_with(error)
    with pytest.raises(RuntimeError, match="of another kind"):
        init_state_with(RuntimeError("of another kind"))


@functools.cache
def small_model():
    return make_model(MODELS["paper-3tier"])


def test_an_unknown_backend_names_those_that_exist():
    with pytest.raises(ConfigError, match=r"backend must be one of .* got 'tpu'") as raised:
        Engine(small_model(), backend="tpu")
    assert_one_line(raised)
    for name in ("auto", *registry.BACKENDS):
        assert name in str(raised.value)


def test_a_named_backend_never_turns_into_another(monkeypatch):
    class Broken(registry.BACKENDS["reference"]):
        name = "broken"

        @staticmethod
        def unavailable_reasons(config, device):
            return ["no wind", "no sails"]

    monkeypatch.setitem(names.MODES, "broken", Broken.dtypes)
    monkeypatch.setattr(registry, "BACKENDS", {"broken": Broken, "reference": registry.BACKENDS["reference"]})
    with pytest.raises(BackendUnavailable, match=r"^the broken backend cannot run .*: no wind; no sails$"):
        Engine(small_model(), backend="broken")
    assert Engine(small_model()).backend.name == "reference"
    monkeypatch.setattr(registry, "BACKENDS", {"broken": Broken})
    with pytest.raises(BackendUnavailable, match="no backend can run this model on cpu: broken: no wind; no sails"):
        Engine(small_model(), device="cpu")


def test_dtypes():
    assert Engine(small_model(), dtype="float64", device="cpu").backend.name == "reference"
    assert Engine(small_model(), backend="reference").dtype == "float32"
    with pytest.raises(ConfigError, match=r"dtype must be auto, fastest or one of float32, float64 on .*got 'int3'"):
        Engine(small_model(), backend="reference", dtype="int3")
    with pytest.raises(ConfigError, match=r"dtype must be auto, fastest or one of .*, got 'int3'"):
        Engine(small_model(), dtype="int3", device="cpu")


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", ["paper-3tier", "two-levels"])
def test_a_state_of_another_model_is_refused_by_run_as_by_load(backend, name):
    if registry.BACKENDS[backend].unavailable_reasons(MODELS[name], "cpu"):
        pytest.skip("the native part is not built")
    mine = Engine(make_model(MODELS["paper-3tier"], seed=5), backend=backend)
    other = Engine(make_model(MODELS[name], seed=6), backend=backend).init_state()
    before = mine.init_state()
    for call in (lambda: before.load_state_dict(other.state_dict()), lambda: mine.run(other, 20)):
        with pytest.raises(CheckpointError, match=r"^engine state does not fit: it is of another model$"):
            call()
    assert other.t == 0


@pytest.mark.parametrize("name", ["generate", "run_frame_network"])
@pytest.mark.parametrize("error", [ValueError("a shape that does not fit"), IndexError("no such row")], ids=repr)
def test_an_error_of_a_backend_is_not_taken_for_weights_that_are_too_large(error, name, monkeypatch):
    made = Engine(make_model(MODELS["paper-3tier"]), backend="reference")

    def fails(*given):
        raise error

    monkeypatch.setattr(made.backend, name, fails)
    with pytest.raises(type(error), match=str(error)) as raised:
        made.run(made.init_state(), 5)
    assert raised.value is error


@pytest.mark.parametrize("device", ["tpu", "meta", "cpu:x", ""])
def test_unknown_devices_are_refused(device):
    with pytest.raises(ConfigError, match="device must be auto, cpu, cuda or cuda:N") as raised:
        Engine(small_model(), device=device)
    assert_one_line(raised)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(BackendUnavailable, match=r"torch sees no CUDA GPU; use device=.cpu."):
        Engine(small_model(), device="cuda")
    assert Engine(small_model()).device == "cpu"


def test_a_model_with_a_value_that_is_not_finite_is_refused():
    model = make_model(MODELS["paper-3tier"])
    with torch.no_grad():
        model.mlp.output.bias[3] = float("nan")
    with pytest.raises(CheckpointError, match=r"mlp\.output\.bias holds a value that is not finite"):
        Engine(model)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_logits_that_overflow_are_an_error(backend):
    model = make_model(CASES["paper-3tier"], dtype=torch.float32)
    with torch.no_grad():
        model.mlp.output.parametrizations.weight.original0.fill_(3e38)
    if registry.BACKENDS[backend].unavailable_reasons(model.config, "cpu"):
        pytest.skip("the native part is not built")
    overflowing = Engine(model, backend=backend)
    with pytest.raises(CheckpointError, match="not finite"):
        overflowing.run(overflowing.init_state(), 50)
