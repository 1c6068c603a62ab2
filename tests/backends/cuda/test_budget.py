"""What the kernels compile to, for every GPU architecture that it is meant for: registers, spills, shared
memory, and the machine code itself. NVRTC and nvcc, without a GPU."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cases import CASES
from compilers import nvrtc_or_skip
from fake_gpu import ROOT

from bench.gpu.cycle_model.machine_code import exported_numbers, nvdisasm
from samplernn_fast.backends.cuda import constants, grouping
from samplernn_fast.backends.cuda.compiler import KernelSource, architecture
from samplernn_fast.backends.cuda.program import THREADS
from samplernn_fast.backends.cuda.stages import Walk
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference import modes

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

PAPER = SampleRNNConfig()  # 3 tiers, 1024 units
# Architecture -> multiprocessors and shared memory of a block, of a GPU that has it.
GPUS = {
    "sm_80": (108, 163 << 10),  # A100
    "sm_86": (84, 99 << 10),  # RTX 3090
    "sm_89": (128, 99 << 10),  # RTX 4090
    "sm_90": (132, 227 << 10),  # H100, H200
    "sm_100": (148, 227 << 10),  # B200
}
REGISTERS = 65536  # of a multiprocessor
SHARED_BYTES = 3  # where it stands in srnn_sizes; see csrc/cuda/params.h


def defines(config, arch, dtype, batch, exchange, profile=False):
    multiprocessors, shared_bytes = GPUS[arch]
    if exchange == "cluster":
        group = grouping.cluster_groupings(config, dtype, batch, multiprocessors, shared_bytes)[0]
    else:
        group = grouping.grouping(config, dtype, batch, multiprocessors, shared_bytes, exchange)
    return constants.defines(config, dtype, group, THREADS, shared_bytes, profile=profile)


@pytest.fixture(scope="module")
def nvrtc():
    return nvrtc_or_skip((8, 0))


@pytest.fixture(scope="module")
def compiled(nvrtc):
    """(cubin, log of ptxas) of a kernel, or of those of the stages; compiled once."""
    kept = {}

    def compile(arch, dtype="float32", batch=1, exchange="tagged", config=PAPER, profile=False):
        wanted = (arch, dtype, batch, exchange, config, profile)
        if wanted not in kept:
            source = KernelSource.read("stages.cuh" if exchange == "launches" else "persistent.cuh")
            options = [f"--gpu-architecture={arch}", *constants.NVRTC_OPTIONS, "--ptxas-options=-v"]
            macros = defines(config, arch, dtype, batch, exchange, profile)
            options += [f"-D{name}={value}" for name, value in macros.items()]
            cubin, log = nvrtc.compile(source.name, source.text, source.headers, options)
            threads = int(macros["SRNN_THREADS"]) * int(macros["SRNN_TEAMS"])
            assert max(map(int, re.findall(r"Used (\d+) registers", log))) * threads <= REGISTERS
            kept[wanted] = cubin, log
        return kept[wanted]

    return compile


def check(cubin, log, arch):
    """Registers for a block, no stack and no spills, and no more memory than a block may have."""
    kernels = re.findall(r"Compiling entry function '(\w+)'", log)
    assert re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", log) == ["0"] * 3 * len(kernels), log
    registers = [int(number) for number in re.findall(r"Used (\d+) registers", log)]
    assert len(registers) == len(kernels)
    assert "warning" not in log.lower() and "smem" not in log, log  # all shared memory is asked for at the launch
    sizes = exported_numbers(cubin, "srnn_sizes")
    assert len(sizes) == 7 and 0 < sizes[SHARED_BYTES] <= GPUS[arch][1]


@pytest.mark.parametrize("arch", GPUS)
def test_it_is_the_architecture_that_users_get(nvrtc, arch):
    number = int(re.sub(r"\D", "", arch))
    assert architecture((number // 10, number % 10), nvrtc.archs()) == arch


# sm_89 has the registers and the shared memory of sm_86.
@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[pytest.mark.slow] if arch == "sm_89" else []) for arch in GPUS]
)
def test_one_stream_of_the_papers_model(compiled, arch):
    check(*compiled(arch), arch)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])  # int8 spills 16 bytes on sm_86 (docs/decisions/cuda.md)
def test_one_stream_in_the_other_modes(compiled, arch, dtype):
    check(*compiled(arch, dtype), arch)


def test_a_profile_costs_nothing_where_there_is_none(compiled, tmp_path):
    plain, (profiled, log) = compiled("sm_90", "bfloat16")[0], compiled("sm_90", "bfloat16", profile=True)
    check(profiled, log, "sm_90")
    added = [count(sass(cubin, tmp_path), "REDG.E.ADD") for cubin in (plain, profiled)]
    assert added[0] == 0 < added[1]


@pytest.mark.parametrize(("arch", "dtype"), [("sm_80", "float32"), ("sm_90", "bfloat16")])
def test_each_stage_of_the_papers_model(compiled, arch, dtype, tmp_path):
    cubin, log = compiled(arch, dtype, exchange="launches")
    check(cubin, log, arch)
    assert set(Walk.of(PAPER).kernels) <= set(re.findall(r"Compiling entry function '(\w+)'", log))
    instructions = sass(cubin, tmp_path)
    # No block waits for another.
    assert count(instructions, "MEMBAR", "ERRBAR", "RED.", "NANOSLEEP", "LDL", "STL") == 0
    assert exported_numbers(cubin, "srnn_sizes")[SHARED_BYTES + 1] == 0  # resident rows


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize("dtype", modes.MODES)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_each_stage_in_every_mode(compiled, arch, dtype, batch):
    check(*compiled(arch, dtype, batch, "launches"), arch)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_each_stage_of_every_case(compiled, name):
    check(*compiled("sm_80", batch=3, exchange="launches", config=CASES[name]), "sm_80")


def test_a_small_model_in_one_block(compiled):
    small = SampleRNNConfig(dim=64)
    cubin, log = compiled("sm_90", "int8", 132, "auto", small)
    check(cubin, log, "sm_90")
    resident = exported_numbers(cubin, "srnn_sizes")[SHARED_BYTES + 1]
    assert resident >= grouping.product_bytes(small, "int8")  # every matrix stays in shared memory


@pytest.mark.slow
@pytest.mark.parametrize("batch", [2, 4, 8, 64])
@pytest.mark.parametrize("dtype", modes.MODES)
@pytest.mark.parametrize("arch", GPUS)
def test_many_streams_in_every_mode(compiled, arch, dtype, batch):
    check(*compiled(arch, dtype, batch), arch)


@pytest.mark.parametrize(
    "batch", [pytest.param(batch, marks=[] if batch == 3 else pytest.mark.slow) for batch in (3, 5, 6, 7)]
)
@pytest.mark.parametrize("dtype", [pytest.param("bfloat16", marks=pytest.mark.slow), "int8"])
def test_numbers_of_streams_between_powers_of_two(compiled, dtype, batch):
    """A call is compiled for its own number of streams, and registers do not grow evenly with it."""
    check(*compiled("sm_90", dtype, batch), "sm_90")


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_86", "sm_90"])
@pytest.mark.parametrize("name", CASES)
def test_every_case_compiles(compiled, name, arch):
    check(*compiled(arch, batch=3, exchange="auto", config=CASES[name]), arch)


def disassembled(cubin, tmp_path):
    """The text of the machine instructions."""
    try:
        tool = nvdisasm()
    except SystemExit as missing:
        pytest.skip(str(missing))
    (tmp_path / "kernel.cubin").write_bytes(cubin)
    return subprocess.run([tool, "-c", tmp_path / "kernel.cubin"], capture_output=True, text=True, check=True).stdout


def sass(cubin, tmp_path):
    """Names of the machine instructions, in their order."""
    text = disassembled(cubin, tmp_path)
    found = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]+)", text, re.MULTILINE)
    assert len(found) > 1000
    return found


def count(instructions, *starts):
    return sum(name.startswith(starts) for name in instructions)


@pytest.mark.parametrize(
    ("arch", "dtype", "batch", "bits"),
    [("sm_80", "float32", 1, 64), ("sm_90", "float32", 1, 64), ("sm_90", "float32", 2, 128), ("sm_90", "int8", 1, 64)],
)
def test_tagged_packets_need_no_fence(compiled, arch, dtype, batch, bits, tmp_path):
    instructions = sass(compiled(arch, dtype, batch)[0], tmp_path)
    assert count(instructions, "LDL", "STL") == 0  # no local memory
    assert count(instructions, "MEMBAR", "ERRBAR", "CCTL") == 0
    # A packet is written by one access that other blocks see, and one or two are read by one of 16 bytes.
    assert count(instructions, f"STG.E.{bits}.STRONG.GPU") > 0 < count(instructions, "LDG.E.128.STRONG.GPU")
    assert count(instructions, "STG.E.128.STRONG.GPU" if bits == 64 else "STG.E.64.STRONG.GPU") == 0
    # Where packets are small, numbers that are never negative are written as words, and four are read at a time.
    assert (count(instructions, "STG.E.STRONG.GPU") > 0) == (bits == 64)
    assert count(instructions, "LDG.E.STRONG.GPU") <= count(instructions, "LDG.E.128.STRONG.GPU")


@pytest.mark.parametrize(("batch", "together"), [(1, 4), pytest.param(8, 6, marks=pytest.mark.slow)])
def test_reads_of_packets_are_on_their_way_together(compiled, batch, together, tmp_path):
    """With one stream a lane of the warp that draws reads all 256 logits, two packets at a time, by four reads. With
    eight, a thread has twelve of the packets of eight vectors, in two turns."""
    instructions = sass(compiled("sm_90", "int8", batch)[0], tmp_path)
    reads = [at for at, name in enumerate(instructions) if name == "LDG.E.128.STRONG.GPU"]
    longest = run = 1
    for before, at in itertools.pairwise(reads):
        # Whoever looked at one packet before it asked for the next would branch or wait for others in between.
        between = instructions[before + 1 : at]
        run = (
            1
            if len(between) > 12 or any(name.startswith(("BRA", "BAR", "EXIT", "WARP")) for name in between)
            else run + 1
        )
        longest = max(longest, run)
    assert longest == together


SMALL = SampleRNNConfig(dim=256)


@pytest.mark.parametrize(("arch", "dtype", "batch"), [("sm_90", "bfloat16", 1), ("sm_100", "int8", 16)])
def test_a_cluster_has_fences_only_where_it_begins_and_ends(compiled, arch, dtype, batch, tmp_path):
    cubin, log = compiled(arch, dtype, batch, exchange="cluster", config=SMALL)
    check(cubin, log, arch)
    resident = exported_numbers(cubin, "srnn_sizes")[SHARED_BYTES + 1]
    blocks = int(defines(SMALL, arch, dtype, batch, "cluster")["SRNN_BLOCKS"])
    assert resident * blocks >= grouping.resident_bytes(SMALL, dtype)
    instructions = sass(cubin, tmp_path)
    assert count(instructions, "LDL", "STL") == 0
    # Each packet is pushed by one access of 8 or 4 bytes, and looked at in this block's own memory.
    assert count(instructions, "ST.E.64.STRONG.GPU") > 0 < count(instructions, "LDS.128")
    assert batch > 1 or count(instructions, "ST.E.STRONG.GPU") > 0
    assert count(instructions, "STG.E.128.STRONG.GPU", "LDG.E.128.STRONG.GPU") == 0
    has_fences_only_where_a_cluster_meets(instructions)


@pytest.mark.parametrize(
    ("exchange", "config", "waits"),
    [("tagged", PAPER, True), ("cluster", SMALL, False), ("auto", SampleRNNConfig(dim=24), False)],
)
def test_warps_wait_by_the_clock_only_for_packets_through_l2(compiled, exchange, config, waits, tmp_path):
    """A look that comes too early delays packets there (packets.cuh, kWaits); in a cluster it does not."""
    cubin, _ = compiled("sm_90", "bfloat16", exchange=exchange, config=config)
    assert ("SR_CLOCKLO" in disassembled(cubin, tmp_path)) == waits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_lanes_leave_a_wait_for_packets_together(compiled, dtype, tmp_path):
    """Lanes that went ahead would do alone what a warp does at once. Every wait has a vote for each look and another
    one when the time is checked, and a kernel of one stream has at least three waits."""
    cubin, _ = compiled("sm_90", dtype)
    assert count(sass(cubin, tmp_path), "VOTE.ALL") >= 6


def has_fences_only_where_a_cluster_meets(instructions):
    arrivals, waits = (
        [at for at, name in enumerate(instructions) if name == f"UCGABAR_{end}"] for end in ("ARV", "WAIT")
    )
    assert len(arrivals) == len(waits) == 2
    near = [at for begin, end in zip(arrivals, waits, strict=True) for at in range(begin - 5, end + 3)]
    fences = [at for at, name in enumerate(instructions) if name.startswith(("MEMBAR", "ERRBAR", "CCTL"))]
    assert set(fences) <= set(near)


PRODUCTS = ("HMMA", "IMMA", "IDP")  # tensor cores for bfloat16 and for bytes, four bytes by ordinary ones


@pytest.mark.parametrize(
    ("dtype", "batch", "expected"),
    [
        ("float32", 1, []),
        ("bfloat16", 1, ["HMMA"]),
        ("int8", 1, ["IMMA", "IDP"]),
        ("int8", 3, ["IDP"]),
        ("int8", 8, ["IMMA"]),
    ],
)
def test_each_mode_has_its_products(compiled, dtype, batch, expected, tmp_path):
    cubin, log = compiled("sm_90", dtype, batch)
    check(cubin, log, "sm_90")
    instructions = sass(cubin, tmp_path)
    assert [name for name in PRODUCTS if count(instructions, name)] == expected
    assert count(instructions, "LDL", "STL") == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_only_int8_has_the_activations_of_the_cpu_engine(compiled, dtype, tmp_path):
    cubin, _ = compiled("sm_90", dtype)
    assert (count(sass(cubin, tmp_path), "MUFU.EX2") > 0) == (dtype != "int8")


@pytest.mark.slow
@pytest.mark.parametrize("arch", GPUS)
def test_nvcc_agrees(arch, tmp_path):
    nvcc_compiles(defines(PAPER, arch, "float32", 1, "tagged"), arch, tmp_path)


@pytest.mark.slow
def test_nvcc_agrees_on_clusters(tmp_path):
    nvcc_compiles(defines(SMALL, "sm_90", "bfloat16", 1, "cluster"), "sm_90", tmp_path)


def nvcc_compiles(macros, arch, tmp_path):
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not Path(nvcc).is_file():
        pytest.skip("no nvcc on the path or in /usr/local/cuda: install a CUDA toolkit")
    lines = [f"#define {name} {value}" for name, value in macros.items()]
    source = tmp_path / "kernel.cu"  # nvcc would cut the frame sizes of an option at their commas
    source.write_text("\n".join([*lines, '#include "cuda/device/persistent.cuh"', ""]))
    options = ["-cubin", f"-arch={arch}", "-Xptxas=-v", f"-I{ROOT / 'csrc'}", *constants.COMPILE_OPTIONS]
    command = [nvcc, *options, str(source), "-o", str(tmp_path / "kernel.cubin")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check((tmp_path / "kernel.cubin").read_bytes(), done.stderr, arch)
