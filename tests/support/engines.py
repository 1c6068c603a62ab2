"""Engines of a few models on every backend whose sums have one order, made once."""

import dataclasses
import functools
import itertools

import pytest
from cases import CASES, make_model

from samplernn_fast.backends import registry
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.pace import Pace

NAMES = ("paper-3tier", "theano-lstm-skips", "two-levels")


MODELS = {name: dataclasses.replace(CASES[name], sample_rate=100) for name in NAMES}


every_model = pytest.mark.parametrize("name", NAMES)


# Where sums have one order for every batch, or more digits than any draw can tell apart. Float32 on the reference is
# left out: a matrix product of torch rounds a row differently beside other rows.
every_mode = pytest.mark.parametrize(("backend", "dtype"), [("reference", "float64"), ("cpu", "float32")])


class Sized(Pace):
    """Blocks of given sizes in turn, whatever the time says."""

    def __init__(self, *sizes):
        super().__init__(1)
        self._sizes, self.asked = itertools.cycle(sizes), 0

    def samples(self, streams):
        self.asked += 1
        return next(self._sizes)


@functools.cache
def engine(name="paper-3tier", backend="reference", dtype="float64"):
    reasons = registry.BACKENDS[backend].unavailable_reasons(MODELS[name], "cpu")
    if reasons:
        pytest.skip("; ".join(reasons))
    made = Engine(make_model(MODELS[name]), backend=backend, dtype=dtype)
    made.pace = Sized(50)  # short runs cross the borders of blocks
    return made
