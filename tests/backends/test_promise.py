"""Which numeric modes are offered for a model: those that keep their promise on audio that it makes itself."""

import pytest
import torch
from cases import CASES, make_model

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable, ConfigError
from samplernn_fast.models.sample_rnn import SampleRNN

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")


def model_with_logits(factor: float) -> SampleRNN:
    """The larger the logits, the more an error of a part of them costs."""
    model = make_model(CASES["paper-3tier"], dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.mlp.output.parameters():
            parameter.mul_(factor)
    return model


@pytest.mark.parametrize(
    ("factor", "fastest", "refused"),
    [(0.1, "int8", []), (40, "bfloat16", ["int8"]), (1000, "float32", ["int8", "bfloat16"])],
)
def test_the_fastest_mode_is_one_that_keeps_its_promise(factor, fastest, refused):
    model = model_with_logits(factor)
    assert Engine(model, backend="cpu", dtype="fastest").dtype == fastest
    assert Engine(model, backend="cpu").dtype == "float32"
    for mode in ("float32", "bfloat16", "int8"):
        if mode in refused:
            with pytest.raises(BackendUnavailable, match=rf"cpu does not offer {mode} for this model: .* bit a sample"):
                Engine(model, backend="cpu", dtype=mode)
        else:
            assert Engine(model, backend="cpu", dtype=mode).dtype == mode


@pytest.mark.parametrize("dtype", ["float32", "int8", "fastest"])
def test_a_wrong_number_of_threads_is_no_broken_promise(dtype):
    with pytest.raises(ConfigError, match="num_threads must be 1 to 256, got 300"):
        Engine(model_with_logits(1), dtype=dtype, device="cpu", num_threads=300)


def test_on_the_cpu_no_engine_is_made_twice(monkeypatch):
    made = []
    build = CpuBackend.__init__

    def count(self, weights, device, dtype, *rest, **named):
        made.append(dtype)
        build(self, weights, device, dtype, *rest, **named)

    monkeypatch.setattr(CpuBackend, "__init__", count)
    for factor, fastest in ((0.1, "int8"), (40, "bfloat16"), (1000, "float32")):
        made.clear()
        assert Engine(model_with_logits(factor), backend="cpu", dtype="fastest").dtype == fastest
        assert sorted(made) == sorted(set(made)) and fastest in made


def test_the_reference_has_one_fast_mode():
    assert Engine(model_with_logits(1), backend="reference", dtype="fastest").dtype == "float32"
    with pytest.raises(ConfigError, match="dtype must be auto, fastest or one of float32, float64 on reference"):
        Engine(model_with_logits(1), backend="reference", dtype="int8")


def test_a_model_without_numbers_is_refused_in_one_line():
    model = model_with_logits(1e38)
    for mode in ("int8", "bfloat16"):
        with pytest.raises(BackendUnavailable, match="not a number") as caught:
            Engine(model, backend="cpu", dtype=mode)
        assert "\n" not in str(caught.value)
    assert Engine(model, backend="cpu", dtype="fastest").dtype == "float32"


def test_levels_that_never_come_cost_nothing():
    model = model_with_logits(0.1)
    with torch.no_grad():
        model.mlp.output.bias[:5] = -torch.finfo(torch.float32).max
    assert Engine(model, backend="cpu", dtype="int8").dtype == "int8"
