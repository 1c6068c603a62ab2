"""The text of the instruction sets that few machines have (AVX-512, VNNI, AMX), walked with plain vectors and tiles in
memory. Slow to run and never shipped, but the indices, layouts and scales are those of the real one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_C = pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

pytest.importorskip("pybind11", reason="building needs pybind11: pip install -e '.[test]'")

ROOT = Path(__file__).parents[3]
WIDE = ["amx", "avx512_vnni", "avx512"]

pytestmark = [
    pytest.mark.skipif("avx2" not in _C.available_isas(), reason="emulation needs a processor with AVX2"),
    pytest.mark.timeout(600),
]

PROGRAM = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("samplernn_fast._C", sys.argv[1])
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
import samplernn_fast
sys.modules["samplernn_fast._C"] = samplernn_fast._C = native
import numpy as np
from cases import PACKED_CASES, make_model, random_levels
from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.backends.int4.making import four_bits_of
from samplernn_fast.engine.engine import Engine
from samplernn_fast.models.sparse.blocks import from_blocks, to_blocks
from samplernn_fast.models.layout import is_matrix
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.weights import pack

def sparse(weights):
    rng, arrays = np.random.default_rng(0), dict(weights.arrays)
    for name in filter(is_matrix, weights.arrays):
        blocks = to_blocks(arrays[name], weights.config.dim) if name != "mlp.output" else None
        if blocks is not None:
            blocks[rng.random(blocks.shape[:3]) > 0.25] = 0
            arrays[name] = from_blocks(blocks, arrays[name].shape, weights.config.dim)
    return PackedWeights(weights.config, arrays, weights.sums)

isas = native.available_isas()
assert isas[:3] == ["amx", "avx512_vnni", "avx512"], isas
for name, config in PACKED_CASES.items():
    model = make_model(config)
    weights, levels = pack(model), random_levels(config, 5, config.lookback * 4).numpy()
    exact = Engine(model, backend="reference", dtype="float64").score(levels)
    scores = {}
    four_bits = four_bits_of(weights, levels)
    for mode in ("float32", "bfloat16", "int8", "int4"):
        for isa in isas:
            for threads in (1, 2):
                backend = CpuBackend(weights, "cpu", mode, threads, isa, four_bits if mode == "int4" else None)
                got = backend.score(backend.init_hidden(5), levels)
                alone = backend.score(backend.init_hidden(1), levels[2:3])
                assert np.array_equal(alone[0], got[2]), (name, mode, isa, threads)
                assert np.array_equal(scores.setdefault((mode, isa), got), got), (name, mode, isa, threads)
    zeros = sparse(weights)
    for mode in ("float32", "int8"):
        for isa in isas:
            for threads in (1, 2):
                backend = CpuBackend(zeros, "cpu", mode, threads, isa)
                got = backend.score(backend.init_hidden(5), levels)
                narrow = "baseline" if isa == "baseline" or mode == "int8" else "fused"
                assert np.array_equal(scores.setdefault(("sparse", mode, narrow), got), got), (name, mode, isa)
                alone = backend.score(backend.init_hidden(1), levels[2:3])
                assert np.array_equal(alone[0], got[2]), (name, mode, isa, threads)
    scores = {key: got for key, got in scores.items() if key[0] != "sparse"}
    gaps = {key: np.abs(got - exact).max() for key, got in scores.items()}
    for isa in isas:
        assert gaps["float32", isa] <= 1e-4, (name, isa, gaps)
        for mode in ("int8", "int4"):
            assert np.array_equal(scores[mode, isa], scores[mode, "baseline"]), (name, mode, isa)
        if isa == "amx":  # tiles sum in another order
            assert gaps["bfloat16", isa] <= 2 * gaps["bfloat16", "avx2"], (name, gaps)
        elif isa.startswith("avx512"):
            assert np.array_equal(scores["bfloat16", isa], scores["bfloat16", "avx2"]), (name, isa)
            assert np.array_equal(scores["float32", isa], scores["float32", "avx2"]), (name, isa)
print("equal")
"""


def test_wide_instruction_sets_equal_the_narrow_ones(tmp_path):
    build = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path)]
    environment = os.environ | {"SAMPLERNN_FAST_EMULATE": "1"}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    found = list(tmp_path.glob("samplernn_fast/_C*"))
    assert found, done.stdout + done.stderr
    command = [sys.executable, "-c", PROGRAM, str(found[0])]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests" / "support"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
