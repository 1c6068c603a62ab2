"""The device of these tests: the CPU in Triton's interpreter, otherwise a GPU; and engines on it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
import triton
from cases import CASES, make_model

from samplernn_fast.backends.triton import TritonBackend
from samplernn_fast.engine.engine import Engine
from samplernn_fast.models.sample_rnn import SampleRNN
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.weights import pack

INTERPRETED = bool(triton.knobs.runtime.interpret)
DEVICE = "cpu" if INTERPRETED else "cuda"
# The interpreter rounds bfloat16 wrongly.
DTYPES = ("float32",) if INTERPRETED else ("float32", "bfloat16")
STYLES = ("vector", "tiles", "library")
every_style = pytest.mark.parametrize("style", STYLES)
# At 100 Hz an engine works in blocks of 50 samples, so that short runs cross their borders.
MODELS = {name: dataclasses.replace(config, sample_rate=100) for name, config in CASES.items()}


def patch_once() -> None:
    """Makes Triton's interpreter replace the functions of its language once a launch for each module, and not at each
    call of a helper again, which changes nothing and took a quarter of the time of these tests."""
    from triton.runtime import interpreter

    own, modules = interpreter._patch_lang, set[int]()

    def patch(fn: Callable[..., Any]) -> Any:
        launched, module = not modules, id(fn.__globals__)
        if module in modules:
            return None
        scope = own(fn)
        modules.add(module)
        if launched:  # The launch takes back at its end what it has replaced, so that the next one replaces it again.
            restore = scope.restore
            scope.restore = lambda: (restore(), modules.clear())
        return scope

    interpreter._patch_lang = patch


if INTERPRETED:
    patch_once()


@functools.cache
def model(name: str) -> SampleRNN:
    return make_model(MODELS[name])


@functools.cache
def packed(name: str) -> PackedWeights:
    return pack(model(name))


@functools.cache
def exact(name: str) -> Engine:
    """The reference in float64, on the CPU."""
    return Engine(model(name), backend="reference", dtype="float64", device="cpu")


@functools.cache
def engine(name: str, style: str = "", dtype: str = "float32") -> Engine:
    return Engine.of(model(name), TritonBackend(packed(name), DEVICE, dtype, style=style))
