"""Every launch of a period compiles to a cubin for the GPUs it is meant for, within budgets: no spills, no stack,
little shared memory, no fused multiply-adds in the draw. Needs no GPU: the launches are recorded, not started."""

import os
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from cases import CASES

from samplernn_fast.backends.triton import TritonBackend
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.layout import layout
from samplernn_fast.reference.folding import PackedWeights

triton = pytest.importorskip("triton", reason="Triton is not installed; it has wheels for Linux only")
if triton.knobs.runtime.interpret:
    pytest.skip("TRITON_INTERPRET is set: nothing is compiled", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource, make_backend  # noqa: E402
from triton.runtime.jit import create_function_from_signature  # noqa: E402

from samplernn_fast.kernels import launch  # noqa: E402
from samplernn_fast.kernels.product import LIBRARY_FROM, TILES_FROM, TILES_FROM_IN_FLOAT32, vector_blocks  # noqa: E402
from samplernn_fast.kernels.walk import Walk  # noqa: E402

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
MULTIPROCESSORS = 132  # H100, H200
SHARED_LIMIT = 48 * 1024  # bytes that a kernel gets without asking, on every architecture; several programs share an SM
REGISTERS_OF_AN_SM = 65536

SHAPES = {
    "paper": SampleRNNConfig(),
    "paper-256": SampleRNNConfig(dim=256),
    "reset-before": SampleRNNConfig(dim=512, reset_after=False),
    "reset-before-stack": SampleRNNConfig(dim=512, reset_after=False, n_rnn=2),
    "lstm": SampleRNNConfig(dim=1024, rnn="lstm", n_rnn=2),
    "lstm-32": SampleRNNConfig(dim=32, emb_size=8, rnn="lstm", n_rnn=2),
    "16-bit": SampleRNNConfig(dim=17, emb_size=4, q_levels=65536, frame_sizes=(1, 2, 4)),
    "lstm-skips": replace(CASES["theano-lstm-skips"], dim=130),
    "prism-skips": replace(CASES["prism-skips"], dim=130, frame_sizes=(16, 16, 32), q_levels=4096),
}
RUNS = [
    ("paper", "bfloat16", 1, 90, False),
    ("paper", "bfloat16", TILES_FROM, 80, False),
    ("paper-256", "float32", 8, 80, True),
    ("reset-before", "bfloat16", 2, 90, False),
    ("lstm-skips", "float32", 3, 80, False),
]
MORE = [
    ("paper", "bfloat16", LIBRARY_FROM, 90, True),
    ("paper", "float32", 1, 80, False),
    ("paper", "bfloat16", TILES_FROM, 90, False),
    ("paper", "float32", TILES_FROM_IN_FLOAT32, 90, False),
    ("paper-256", "float32", TILES_FROM_IN_FLOAT32, 90, False),
    ("reset-before", "bfloat16", TILES_FROM, 80, False),
    ("reset-before-stack", "bfloat16", 2, 90, False),
    ("reset-before-stack", "float32", TILES_FROM_IN_FLOAT32, 80, False),
    ("lstm", "bfloat16", 1, 90, False),
    ("lstm", "bfloat16", TILES_FROM, 80, False),
    ("lstm", "float32", TILES_FROM_IN_FLOAT32, 80, False),
    ("lstm-32", "bfloat16", TILES_FROM, 90, False),
    ("lstm-skips", "bfloat16", TILES_FROM, 90, False),
    ("lstm-skips", "float32", TILES_FROM_IN_FLOAT32, 90, True),
    ("prism-skips", "bfloat16", 3, 90, True),
    ("prism-skips", "float32", 3, 80, False),
    ("16-bit", "bfloat16", TILES_FROM, 90, True),
]


@dataclass(frozen=True)
class Binary:
    """A compiled launch: its kernel's name, its constants and options, PTX, SASS and resources."""

    kernel: str
    options: dict[str, Any]
    shared: int
    ptx: str
    sass: str
    registers: int
    stack: int


def launches(config: SampleRNNConfig, dtype: str, batch: int, truncate: bool) -> list[tuple[Any, tuple, dict]]:
    """(kernel, arguments, options) of every launch of one period. None of them is started."""
    weights = PackedWeights(config, {field.name: np.zeros(field.shape, np.float32) for field in layout(config)})
    made: list[tuple[Any, tuple, dict]] = []
    device = SimpleNamespace(multi_processor_count=MULTIPROCESSORS)
    record = mock.patch.object(
        launch, "_start", lambda kernel, grid, args, options: made.append((kernel, args, options))
    )
    with record, mock.patch.object(torch.cuda, "get_device_properties", lambda _: device):
        backend = TritonBackend(weights, "cpu", dtype)
        walk = Walk(backend.weights, batch, torch.device("cpu"))
        walk.prepare(truncate)
        walk.period()
    return made


def source_of(kernel: Any, args: tuple, options: dict, target: GPUTarget) -> tuple[ASTSource, dict]:
    """A launch as Triton specializes it before it compiles (aligned pointers, numbers that are 1 or multiples of 16),
    and the options of the compiler."""
    backend = make_backend(target)
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialization, others = bind(*args, **options, debug=False)
    chosen, signature, constants, attributes = kernel._pack_args(backend, options, bound, specialization, others)
    return ASTSource(kernel, signature, constants, attributes), vars(chosen)


def tool(name: str, *args: str) -> str:
    return subprocess.run([str(TOOLS / name), *args], capture_output=True, text=True, check=True).stdout


def compiled(config: SampleRNNConfig, dtype: str, batch: int, arch: int, truncate: bool, folder: Path) -> list[Binary]:
    """The launches of a period as cubins for sm_<arch>, each different one once."""
    found: dict[str, Binary] = {}
    target = GPUTarget("cuda", arch, 32)
    for kernel, args, options in launches(config, dtype, batch, truncate):
        source, chosen = source_of(kernel, args, options, target)
        if source.hash() in found:
            continue
        made = triton.compile(source, target=target, options=chosen)
        cubin = folder / f"{len(found)}.cubin"
        cubin.write_bytes(made.asm["cubin"])
        usage = tool("cuobjdump", "--dump-resource-usage", str(cubin))
        registers, stack = (int(re.search(rf"{what}:(\d+)", usage)[1]) for what in ("REG", "STACK"))
        sass = tool("cuobjdump", "-sass", str(cubin))
        name = kernel.fn.__name__
        found[source.hash()] = Binary(name, options, made.metadata.shared, made.asm["ptx"], sass, registers, stack)
    return list(found.values())


@pytest.mark.parametrize(
    ("name", "dtype", "batch", "arch", "truncate"), RUNS + [pytest.param(*run, marks=pytest.mark.slow) for run in MORE]
)
def test_launches_compile_within_their_budgets(name, dtype, batch, arch, truncate, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    binaries = compiled(SHAPES[name], dtype, batch, arch, truncate, tmp_path)
    kernels = {one.kernel for one in binaries}
    cells = {"lstm_cell_kernel"} if name.startswith("lstm") else {"gru_cell_kernel"}
    cells = {"gru_reset_kernel", "gru_update_kernel"} if name.startswith("reset") else cells
    assert kernels >= cells | {"draw_kernel", "advance_kernel"}
    for one in binaries:
        threads = 32 * one.options["num_warps"]
        assert one.stack == 0, f"{one.kernel} spills {one.stack} bytes"
        assert one.registers * threads <= REGISTERS_OF_AN_SM, one.kernel
        assert one.shared <= SHARED_LIMIT, f"{one.kernel}: {one.shared} bytes of shared memory"
        assert not re.search(r"\b(?:LDL|STL)\b", one.sass), f"{one.kernel} uses local memory"
        if one.kernel == "draw_kernel":  # because its bits are a definition
            assert "fma." not in one.ptx and not re.search(r"\b(FFMA|HFMA2\.MMA\.F32)\b", one.sass)
            assert len(re.findall(r"\bmul\.(rn\.)?f32", one.ptx)) >= 5
        style = one.options["blocks"].style if "blocks" in one.options else ""
        if style == "tiles" and dtype == "bfloat16":
            assert "HMMA" in one.sass or "HGMMA" in one.sass, f"{one.kernel} does not use the tensor cores"
        if style == "vector" and name == "paper":
            assert re.search(r"\bLDG\.E\.128", one.sass), f"{one.kernel} does not read 16 bytes at a time"


def test_one_stream_takes_few_launches():
    """The paper's 3-tier model makes 8 samples by 3 launches each, 2 for each of 4 + 1 frames, and 1 for the clock."""
    made = launches(SampleRNNConfig(), "bfloat16", 1, False)
    assert len(made) == 8 * 3 + 5 * 2 + 1
    assert sum(kernel.fn.__name__ == "draw_kernel" for kernel, _, _ in made) == 8


def test_samples_of_a_period_share_their_kernels():
    """What changes from launch to launch, such as the offset, is not compiled in: the 35 launches of a period are 8
    kernels. They are the cells of two tiers, their upsampling, two layers, the draw and the clock."""
    target = GPUTarget("cuda", 90, 32)
    made = [source_of(*one, target)[0] for one in launches(SampleRNNConfig(), "bfloat16", 1, False)]
    assert len(made) == 35 and len({source.hash() for source in made}) == 8


@pytest.mark.parametrize(
    ("units", "inputs"), [(1, 1), (17, 17), (256, 256), (1024, 1024), (16384, 16384), (65536, 1024)]
)
def test_vector_blocks_cover_the_gpu(units, inputs):
    blocks = vector_blocks(units, inputs, MULTIPROCESSORS)
    programs = blocks.grid(1, units)[0]
    assert programs * blocks.units >= units
    assert programs >= min(units, MULTIPROCESSORS) // 2
    assert blocks.units * blocks.inputs <= 16384 and blocks.inputs <= 1024


def test_a_launch_says_whether_to_contract():
    for kernel, _, options in launches(SHAPES["paper-256"], "float32", 1, True):
        assert options["enable_fp_fusion"] is (kernel.fn.__name__ != "draw_kernel")


def test_the_process_is_not_interpreted():
    assert os.environ.get("TRITON_INTERPRET", "0") in ("", "0")
