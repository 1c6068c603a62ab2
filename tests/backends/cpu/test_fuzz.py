"""Any sizes and arrays at all, handed to samplernn_fast._C: an error or an answer, never a crash.

pytest starts this file in a process of its own, so that a crash fails a test and does not end pytest.
"""

import collections
import faulthandler
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# What Python code may be told; a MemoryError or a SystemError would be a number that went unchecked.
ERRORS = (ValueError, TypeError)
DTYPES = ("float32", "float64", "int64", "int32", "uint32", ">f4", "bool", "object")
outcomes: collections.Counter[str] = collections.Counter()


def test_no_input_crashes_the_native_module():
    pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    counts = json.loads(done.stdout.splitlines()[-1])
    print(counts)
    for call in ("dims", "engine", "generate", "prime", "score"):
        assert counts[f"{call} answered"] >= 20 and counts[f"{call} refused"] >= 20, counts


def attempt(name: str, call: Any, *args: Any, **named: Any) -> Any:
    """The call's result, or None where it was refused properly. Anything else is hypothesis's to report."""
    try:
        result = call(*args, **named)
    except ERRORS as error:
        assert "\n" not in str(error) or isinstance(error, TypeError)  # TypeErrors are pybind11's, with the signatures
        outcomes[f"{name} refused"] += 1
        return None
    outcomes[f"{name} answered"] += 1
    return result if result is not None else True


ODD_INTS = st.sampled_from([-(2**63), -(2**31), -1, 0, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**70])
ODD_VALUES = st.sampled_from([None, "x", 1.5, float("nan"), [], {}, b"\0"])


def mostly(good: st.SearchStrategy, *bad: st.SearchStrategy, of: int = 12) -> st.SearchStrategy:
    """A good value, and one time in `of` another one."""
    return st.integers(0, of - 1).flatmap(lambda at: st.one_of(*bad) if at == 0 else good)


@st.composite
def frame_sizes(draw) -> tuple[int, list[int]]:
    taps = draw(st.integers(0, 3))
    sizes = [max(1, taps)]
    for ratio in draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)):
        sizes.append(sizes[-1] * ratio)
    return taps, sizes[1:]


@st.composite
def dims_arguments(draw) -> dict[str, Any]:
    taps, sizes = draw(frame_sizes())
    reads_levels = sizes == [1] and draw(st.booleans())
    values = {
        "dim": draw(st.integers(1, 70)),
        "q_levels": draw(st.integers(2, 70)),
        "n_rnn": draw(st.integers(1, 3)),
        "taps": taps,
        "hidden": draw(st.integers(0, 2)),
        **{name: draw(st.booleans()) for name in ("lstm", "reset_after", "skips", "readers_all")},
        "reads_levels": reads_levels,
        "frame_sizes": sizes,
    }
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(list(values)))
        wrong_sizes = st.lists(st.one_of(st.integers(-1, 9), ODD_INTS), max_size=4)
        values[name] = draw(wrong_sizes if name == "frame_sizes" else st.one_of(ODD_INTS, ODD_VALUES))
    return values


@st.composite
def spoilt(draw, array: np.ndarray) -> Any:
    """The array with something about it changed: type, order of bytes, shape, layout, alignment or writability."""
    kind = draw(st.sampled_from(["dtype", "shape", "cut", "order", "strides", "aligned", "readonly", "value"]))
    if kind == "dtype":
        with np.errstate(invalid="ignore"):
            return array.astype(draw(st.sampled_from(DTYPES)))
    if kind == "shape":
        return array.reshape(-1) if array.ndim > 1 else array[None]
    if kind == "cut":
        axis = draw(st.integers(0, array.ndim - 1))
        return np.ascontiguousarray(array.take(range(array.shape[axis] - 1), axis=axis))
    if kind == "order":
        return np.asfortranarray(array)
    if kind == "strides":
        return np.repeat(array, 2, axis=-1)[..., ::2]
    if kind == "aligned":
        raw = np.zeros(array.nbytes + 1, np.uint8)
        odd = raw[1:].view(array.dtype).reshape(array.shape)
        odd[...] = array
        return odd
    if kind == "readonly":
        array = array.copy()
        array.flags.writeable = False
        return array
    return draw(ODD_VALUES)


@st.composite
def maybe_spoilt(draw, array: np.ndarray, of: int = 10) -> Any:
    return draw(spoilt(array)) if draw(st.integers(0, of - 1)) == 0 else array


@st.composite
def tensors_for(draw, fields: list[tuple[str, list[int]]]) -> Any:
    """Tensors as the layout lists them, or with one of them missing or spoilt, or none at all."""
    random = np.random.default_rng(draw(st.integers(0, 9)))
    tensors: dict[Any, Any] = {name: random.normal(0, 0.4, shape).astype(np.float32) for name, shape in fields}
    change = draw(st.integers(0, 11))
    name = draw(st.sampled_from(list(tensors)))
    if change == 0:
        del tensors[name]
    elif change == 1:
        tensors[name] = draw(spoilt(tensors[name]))
    elif change == 2:
        tensors[name].flat[draw(st.integers(0, tensors[name].size - 1))] = draw(st.sampled_from([np.nan, np.inf, 3e38]))
    elif change == 3:
        return draw(ODD_VALUES)
    elif change == 4:
        tensors[5] = "an entry that nobody asked for"
    return tensors


@st.composite
def call_arguments(draw, sizes: dict[str, Any], method: str) -> dict[str, Any]:
    """Arguments of generate, prime or score, sound for the most part."""
    batch, lookback = draw(st.integers(1, 4)), sizes["frame_sizes"][-1]
    steps = draw(st.integers(0, 3 * lookback))
    if method != "generate" and draw(st.integers(0, 4)):
        steps -= steps % lookback
    random = np.random.default_rng(draw(st.integers(0, 9)))
    levels = random.integers(0, sizes["q_levels"], (batch, lookback + steps))
    if method == "generate":
        levels[:, lookback:] = np.where(random.random((batch, steps)) < 0.6, -1, levels[:, lookback:])
    if draw(st.integers(0, 9)) == 0 and levels.size:
        wrong = draw(st.sampled_from([-1, -2, sizes["q_levels"], 2**31, 2**62, -(2**63)]))
        levels.flat[draw(st.integers(0, levels.size - 1))] = wrong
    width = sizes["dim"] * (2 if sizes["lstm"] else 1)
    shape = (sizes["n_rnn"], batch, width)
    hidden: Any = [random.normal(size=shape).astype(np.float32) for _ in sizes["frame_sizes"]]
    if draw(st.integers(0, 9)) == 0:
        hidden = draw(st.sampled_from([hidden[:-1], hidden + hidden[:1], hidden[0], None, [None], hidden[:1] * 3]))
    elif draw(st.integers(0, 9)) == 0:
        hidden[0] = draw(spoilt(hidden[0]))
    values: dict[str, Any] = {"hidden": hidden, "levels": draw(maybe_spoilt(levels))}
    if method != "score":
        near = st.integers(0, 3 * lookback)
        late = st.integers(2**62, 2**63 - 1)
        sound = st.one_of(near, late)
        values["t"] = draw(mostly(sound if method == "generate" else sound.map(lambda t: t - t % lookback), ODD_INTS))
    if method == "generate":
        seeds, streams = random.integers(0, 2**64, batch, np.uint64), random.integers(0, 2**32, batch, np.uint32)
        times = random.integers(-(2**63), 2**63 - 1, batch)
        heats = st.sampled_from([0.0, 0.7, 1.0, 1e-30, 1e30, -1.0, float("nan"), float("inf"), -float("inf")])
        heat = np.array([draw(heats) for _ in range(batch)], np.float32)[:, None].repeat(steps, axis=1)
        top_k = np.array([draw(mostly(st.integers(0, 80), st.integers(-(2**31), 2**31 - 1))) for _ in range(batch)])
        odd_parts = st.sampled_from([-1.0, 0.0, 5.0, float("nan"), float("inf"), 1 - 1e-12])
        top_p = np.array([draw(mostly(st.floats(0, 1), odd_parts)) for _ in range(batch)])
        arrays = {"seeds": seeds, "streams": streams, "times": times, "temperature": heat}
        arrays |= {"top_k": top_k.astype(np.int32), "top_p": top_p}
        values |= {name: draw(maybe_spoilt(array, 20)) for name, array in arrays.items()}
    return values


@settings(max_examples=600, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def fuzz(data: st.DataObject) -> None:
    from samplernn_fast import _C

    sizes = data.draw(dims_arguments())
    dims = attempt("dims", _C.ModelDims, **sizes)
    if dims is None or dims is True:
        return
    fields = _C.layout_fields(dims)
    if sum(int(np.prod(shape, dtype=object)) for _, shape in fields) > 1 << 20:
        attempt("engine", _C.CpuEngine, dims, {})  # sound sizes whose tensors would not fit here
        return
    isa = data.draw(mostly(st.sampled_from(["", *_C.available_isas()]), st.sampled_from(["z80", "\0", 7])))
    mode = data.draw(mostly(st.sampled_from(["float32", "bfloat16", "int8"]), st.sampled_from(["float64", "", None])))
    threads = data.draw(mostly(st.integers(0, 4), ODD_INTS, st.just(257)))
    engine = attempt("engine", _C.CpuEngine, dims, data.draw(tensors_for(fields)), isa, mode, threads)
    if engine is None:
        return
    for method in ("generate", "prime", "score"):
        arguments = data.draw(call_arguments(sizes, method))
        result = attempt(method, getattr(engine, method), **arguments)
        if method == "generate" and result is not None:
            levels = arguments["levels"]
            assert levels.min() >= 0 and levels.max() < sizes["q_levels"]
    attempt("threads", engine.threads, data.draw(ODD_INTS))


if __name__ == "__main__":
    faulthandler.enable()
    fuzz()
    print(json.dumps(outcomes))
