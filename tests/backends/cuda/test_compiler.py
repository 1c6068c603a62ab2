"""The compiler of GPU kernels: which NVRTC is taken, what a kernel is compiled from, and when it is not compiled."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
from compilers import nvrtc_or_skip
from small import assert_one_line

from samplernn_fast.backends.cuda import compiler, constants
from samplernn_fast.backends.cuda.compiler import KernelSource, architecture, compile_kernel, open_nvrtc
from samplernn_fast.backends.cuda.grouping import Grouping
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.models.config import SampleRNNConfig

_C = pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

KERNEL = KernelSource("kernel.cuh", 'extern "C" __global__ void f(int* x) { *x = N; }', {})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cubins"


@pytest.fixture(scope="module")
def nvrtc():
    """The NVRTC of pip, whatever its version."""
    return nvrtc_or_skip((8, 0))


@pytest.mark.parametrize(
    ("capability", "known", "expected"),
    [
        ((9, 0), [80, 90, 100], "sm_90"),
        ((8, 6), [75, 80, 86, 89, 90], "sm_86"),
        ((8, 9), [80, 86, 90], "sm_86"),
        ((10, 3), [90, 100], "sm_100"),
        ((12, 1), [100, 103, 120, 121], "sm_121"),
        ((8, 0), [86, 90], None),
        ((12, 0), [80, 90, 100], None),
        ((8, 0), [], None),
    ],
)
def test_a_gpu_runs_code_of_its_own_or_an_older_minor_version(capability, known, expected):
    assert architecture(capability, known) == expected


def test_the_one_that_is_named_is_taken(fake_nvrtc):
    nvrtc = open_nvrtc(13000, (9, 0))
    assert (nvrtc.path, nvrtc.version, nvrtc.archs()) == (fake_nvrtc.path, (13, 0), [80, 86, 89, 90, 100])


def test_one_newer_than_the_driver_is_refused(fake_nvrtc):
    with pytest.raises(BackendUnavailable, match=r"libnvrtc.so.13 is of CUDA 13") as raised:
        open_nvrtc(12080, (9, 0))
    assert "SAMPLERNN_FAST_NVRTC must name another" in str(raised.value)
    assert_one_line(raised)
    fake_nvrtc.set_version(12, 9)
    assert open_nvrtc(12080, (9, 0)).version == (12, 9)


def test_one_that_does_not_know_the_gpu_is_refused(fake_nvrtc):
    with pytest.raises(BackendUnavailable, match="does not know sm_120"):
        open_nvrtc(13000, (12, 0))


def test_a_name_that_leads_nowhere_is_refused(monkeypatch):
    monkeypatch.setenv("SAMPLERNN_FAST_NVRTC", "/no/such/libnvrtc.so")
    with pytest.raises(BackendUnavailable, match=r"cannot open /no/such/libnvrtc.so") as raised:
        open_nvrtc(13000, (9, 0))
    assert_one_line(raised)


@pytest.fixture
def packages(monkeypatch, tmp_path, fake_nvrtc):
    """A machine whose pip packages are in tmp_path, and which has no NVRTC of its own."""
    monkeypatch.delenv("SAMPLERNN_FAST_NVRTC")
    monkeypatch.setattr(compiler, "_SYSTEM", ("libnvrtc.so.there.is.none",))
    found = {name: SimpleNamespace(submodule_search_locations=[tmp_path / name]) for name in ("nvidia", "torch")}
    monkeypatch.setattr(importlib.util, "find_spec", found.get)
    return tmp_path


def put(path: Path, fake_nvrtc):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(fake_nvrtc.path)


def test_the_newest_of_pips_is_taken_and_builtins_are_none(packages, fake_nvrtc):
    put(packages / "nvidia/cuda_nvrtc/lib/libnvrtc.so.12", fake_nvrtc)
    put(packages / "nvidia/cu13/lib/libnvrtc.so.13", fake_nvrtc)
    put(packages / "nvidia/cu13/lib/libnvrtc-builtins.so.13.9", fake_nvrtc)
    put(packages / "torch/lib/libnvrtc-0123456.so.11.2", fake_nvrtc)
    found = [str(Path(path).relative_to(packages)) for path in compiler._pip_files()]
    wheels = ["nvidia/cu13/lib/libnvrtc.so.13", "nvidia/cuda_nvrtc/lib/libnvrtc.so.12"]
    assert found == [*wheels, "torch/lib/libnvrtc-0123456.so.11.2"]
    assert open_nvrtc(13000, (9, 0)).version == (13, 0)


@pytest.mark.parametrize(
    ("driver", "package"),
    [(13020, "nvidia-cuda-nvrtc"), (12080, "nvidia-cuda-nvrtc-cu12"), (14000, "nvidia-cuda-nvrtc")],
)
def test_where_there_is_none_the_package_is_named(packages, driver, package):
    with pytest.raises(BackendUnavailable) as raised:
        open_nvrtc(driver, (9, 0))
    needs = f"needs an NVRTC for CUDA {driver // 1000} or older and sm_90, found none: pip install -U {package}"
    assert str(raised.value) == needs
    with pytest.raises(
        BackendUnavailable, match="needs an NVRTC for sm_90, found none: pip install -U nvidia-cuda-nvrtc"
    ):
        open_nvrtc(None, (9, 0))


def test_those_that_do_not_fit_are_named(packages, fake_nvrtc):
    put(packages / "nvidia/cu13/lib/libnvrtc.so.13", fake_nvrtc)
    (packages / "nvidia/cuda_nvrtc/lib").mkdir(parents=True)
    (packages / "nvidia/cuda_nvrtc/lib/libnvrtc.so.12").write_bytes(b"damaged")
    with pytest.raises(
        BackendUnavailable, match=r"libnvrtc.so.13 is of CUDA 13; cannot open .*libnvrtc.so.12"
    ) as raised:
        open_nvrtc(12080, (9, 0))
    assert_one_line(raised)


def test_options_and_headers_reach_the_compiler(fake_nvrtc):
    cubin = compile_kernel(open_nvrtc(13000, (9, 0)), KERNEL, "sm_86", {"N": 3, "SIZES": "2,8"}).decode()
    lines = cubin.splitlines()
    assert lines[0] == "--gpu-architecture=sm_86"
    assert {"-DN=3", "-DSIZES=2,8", "--fmad=false", "-default-device"} <= set(lines)
    assert cubin.endswith(KERNEL.text)


def test_a_kernel_is_compiled_once(fake_nvrtc, cache):
    nvrtc = open_nvrtc(13000, (9, 0))
    first = compile_kernel(nvrtc, KERNEL, "sm_90", {"N": 3})
    assert compile_kernel(open_nvrtc(13000, (9, 0)), KERNEL, "sm_90", {"N": 3}) == first
    assert fake_nvrtc.compilations == 1
    next(cache.iterdir()).write_bytes(b"damaged")
    assert compile_kernel(nvrtc, KERNEL, "sm_90", {"N": 3}) == first
    assert fake_nvrtc.compilations == 2


def test_any_change_compiles_again(fake_nvrtc):
    nvrtc = open_nvrtc(13000, (9, 0))
    sources = [KERNEL, KernelSource("kernel.cuh", KERNEL.text + " ", {}), KernelSource("other.cuh", KERNEL.text, {})]
    sources += [KernelSource("kernel.cuh", KERNEL.text, {"a.h": text}) for text in ("", "1")]
    for source in sources:
        compile_kernel(nvrtc, source, "sm_90", {"N": 3})
    compile_kernel(nvrtc, KERNEL, "sm_86", {"N": 3})
    compile_kernel(nvrtc, KERNEL, "sm_90", {"N": 4})
    assert fake_nvrtc.compilations == 7
    fake_nvrtc.set_version(13, 1)
    compile_kernel(open_nvrtc(13010, (9, 0)), KERNEL, "sm_90", {"N": 3})
    assert fake_nvrtc.compilations == 8


def test_a_cache_that_cannot_be_written_is_no_error(fake_nvrtc, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "file"))
    nvrtc = open_nvrtc(13000, (9, 0))
    for _ in range(2):
        assert compile_kernel(nvrtc, KERNEL, "sm_90", {"N": 3}).decode().endswith(KERNEL.text)
    assert fake_nvrtc.compilations == 2


def test_a_source_that_does_not_compile_is_one_line_and_is_not_kept(fake_nvrtc, cache):
    source = KernelSource("kernel.cuh", "\n#error the first\n#error the second\n", {})
    with pytest.raises(BackendUnavailable) as raised:
        compile_kernel(open_nvrtc(13000, (9, 0)), source, "sm_90", {})
    complaint = "NVRTC_ERROR_COMPILATION, kernel.cuh(2): error: the first (and 1 more)"
    assert str(raised.value) == f"NVRTC 13.0 does not compile kernel.cuh: {complaint}"
    assert not cache.exists()


def test_a_source_takes_along_what_it_includes(tmp_path):
    (tmp_path / "cuda" / "device").mkdir(parents=True)
    (tmp_path / "cuda" / "device" / "kernel.cuh").write_text('#include "cuda/a.h"\n#include "b.h"\n')
    (tmp_path / "cuda" / "a.h").write_text('#include "b.h"\n  #include "cuda/c.h"\n#include <stdint.h>\n')
    (tmp_path / "b.h").write_text("b")
    (tmp_path / "cuda" / "c.h").write_text('#include "cuda/a.h"\n#include "missing.h"\n')
    source = KernelSource.read("kernel.cuh", tmp_path)
    assert sorted(source.headers) == ["b.h", "cuda/a.h", "cuda/c.h"] and source.headers["b.h"] == "b"


def test_nvrtc_compiles_for_the_architecture(nvrtc):
    for arch in ("sm_80", "sm_90"):
        cubin = compile_kernel(nvrtc, KERNEL, arch, {"N": 3})
        assert cubin[:4] == b"\x7fELF" and int.from_bytes(cubin[18:20], "little") == 190  # EM_CUDA


@pytest.mark.parametrize(
    "file",
    compiler._pip_files() or [pytest.param("", marks=pytest.mark.skip(reason="pip has installed no NVRTC"))],
    ids=lambda file: Path(file).name,
)
@pytest.mark.parametrize(("kernel", "exchange"), [("stages.cuh", "launches"), ("persistent.cuh", "tagged")])
def test_every_installed_nvrtc_compiles_the_kernels(monkeypatch, file, kernel, exchange):
    """The versions differ in what they take: NVRTC 12.9 to 13.1 refuse lambdas with `auto` parameters, which the
    kernels of the stages have, without an option of their own."""
    monkeypatch.setenv("SAMPLERNN_FAST_NVRTC", file)
    macros = constants.defines(SampleRNNConfig(dim=64), "bfloat16", Grouping(8, 1, 4, exchange, teams=1), 128, 64 << 10)
    cubin = compile_kernel(open_nvrtc(None, (9, 0)), KernelSource.read(kernel), "sm_90", macros)
    assert cubin[:4] == b"\x7fELF" and b"srnn_sizes" in cubin


def test_nvrtc_explains_itself(nvrtc):
    with pytest.raises(BackendUnavailable, match=r'kernel.cuh\(1\): error: identifier "N" is undefined') as raised:
        compile_kernel(nvrtc, KERNEL, "sm_80", {})
    assert_one_line(raised)
    with pytest.raises(_C.CudaError, match="must name an sm_XX"):
        nvrtc.compile("k", "", {}, ["--gpu-architecture=compute_80"])


def test_a_cubin_of_nvrtc_is_loaded(nvrtc, fake_gpu):
    cubin = compile_kernel(nvrtc, KERNEL, "sm_80", {"N": 3})
    kernel = _C.CudaKernel(_C.CudaDevice(_C.CudaDriver(fake_gpu.path), 0), cubin, "f")
    kernel.launch(1, 32, 0, False, 0, [bytes(8)])


def test_a_kept_cubin_is_that_of_the_compiler(nvrtc, cache):
    cubin = compile_kernel(nvrtc, KERNEL, "sm_80", {"N": 3})
    [kept] = cache.iterdir()
    assert compiler.CUBINS.read(kept.stem) == cubin
