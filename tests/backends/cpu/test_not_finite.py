"""Weights that are not finite give an error and no audio, on the cpu backend and in every numeric mode."""

from dataclasses import fields

import numpy as np
import pytest
from cases import PACKED_CASES, make_model

from samplernn_fast.reference.randomness import Drawing, MixedDrawing, Randomness
from samplernn_fast.reference.weights import pack

_C = pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

from samplernn_fast.backends.cpu import CpuBackend, model_dims  # noqa: E402


def generate_with(mode: str, name: str, value: float, case: str) -> np.ndarray:
    """Two top frames by a model with one bad number in a tensor (or in all tables of a unit, to be sure it is read)."""
    config = PACKED_CASES[case]
    tensors = pack(make_model(config)).float32()
    if name in ("frame_values", "tier0.table", "mlp.tables"):
        tensors[name][..., 1] = value
    else:
        tensors[name].flat[1] = value
    engine = _C.CpuEngine(model_dims(config), tensors, "", mode, 1)
    hidden = [np.repeat(tensors[f"tier{tier}.h0"][:, None], 2, axis=1) for tier in range(len(config.ratios))]
    steps = 2 * config.lookback
    levels = np.full((2, config.lookback + steps), -1)
    levels[:, : config.lookback] = 1
    drawing = Drawing(Randomness(0, np.arange(2, dtype=np.uint32)), np.ones((2, steps), np.float32))
    how = MixedDrawing.of(drawing, 0)
    engine.generate(hidden, levels, 0, *(getattr(how, field.name) for field in fields(how)))
    return levels


def tensors_of(case: str) -> list[str]:
    return [field for field, _ in _C.layout_fields(model_dims(PACKED_CASES[case]))]


@pytest.mark.parametrize("mode", CpuBackend.dtypes)
@pytest.mark.parametrize("case", ["paper-3tier", "theano-lstm-skips", "rnn", "multi-softmax"])
def test_a_weight_that_is_not_a_number_is_an_error(case, mode):
    silent = []
    for name in tensors_of(case):
        try:
            generate_with(mode, name, float("nan"), case)
            silent.append(name)
        except _C.NotFiniteError as error:
            assert "not a number" in str(error)
    assert not silent, f"NaN in these tensors became audio: {silent}"


@pytest.mark.parametrize("case", ["paper-3tier", "theano-lstm-skips", "rnn", "multi-softmax"])
def test_an_infinite_weight_of_an_int8_matrix_is_an_error(case):
    """Elsewhere infinity may be the answer of the float arithmetic: a gate that is shut."""
    matrices = ("recurrent", "stack", "skip_out", "up", "hidden0", "output")
    silent = []
    for name in tensors_of(case):
        if name.split(".")[-1] not in matrices:
            continue
        try:
            generate_with("int8", name, float("inf"), case)
            silent.append(name)
        except _C.NotFiniteError as error:
            assert "not a number" in str(error)
    assert not silent, f"an infinite weight in these tensors became audio: {silent}"
