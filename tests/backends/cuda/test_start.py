"""What the `cuda` backend needs and says where it cannot start, or not all of its blocks at once."""

import logging
import sys

import numpy as np
import pytest
from cases import make_model
from engines import MODELS
from fake_gpu import CAPABILITY_MAJOR, COOPERATIVE, MULTIPROCESSORS, SHARED_BYTES
from played_gpu import Played, engines
from small import assert_one_line

from samplernn_fast.backends import registry
from samplernn_fast.backends.cuda import grouping, program
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.cuda.compiler import KernelSource
from samplernn_fast.backends.cuda.gpu import describe, missing
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable, ConfigError
from samplernn_fast.reference.weights import pack

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")


def test_where_others_hold_multiprocessors_it_goes_on_by_launches(gpu, caplog):
    """When an engine is built, and in the middle of a run."""
    gpu.set_device(SHARED_BYTES, 4 << 10)
    engine, exact = engines("two-levels")
    made = [sampler.run(sampler.init_state(1, seed=8), 20) for sampler in (engine, exact)]
    assert np.array_equal(*made) and engine.backend.launcher.program(1).group.cooperative
    state = engine.init_state(1, seed=8)
    first = engine.run(state, 7)
    gpu.set(held_by_others=1)
    with caplog.at_level(logging.WARNING):
        rest = engine.run(state, 13)
        engine.run(engine.init_state(1), 3)
    assert np.array_equal(np.concatenate((first, rest), axis=1), made[1])
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("the cuda backend goes on with one kernel for each stage: cuLaunchKernelEx failed: ")
    assert "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE (720)" in line and "\n" not in line
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        other = Engine(make_model(MODELS["two-levels"]), device="cpu")
    assert (other.backend.name, other.backend.launcher.exchange, len(caplog.records)) == ("cuda", "launches", 1)
    assert np.array_equal(other.run(other.init_state(1, seed=8), 20), made[1])


STARTING = (
    "cuDevicePrimaryCtxRetain",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuLaunchKernelEx",
)


@pytest.mark.parametrize("call", STARTING)
def test_what_cannot_be_started_is_unavailable_and_auto_moves_on(gpu, call, caplog):
    gpu.fail(call, 2)
    model = make_model(MODELS["paper-3tier"])
    with pytest.raises(BackendUnavailable, match=f"{call} failed: CUDA_ERROR_OUT_OF_MEMORY") as raised:
        Engine(model, backend="cuda", device="cpu")
    assert_one_line(raised)
    del raised
    with caplog.at_level(logging.WARNING):
        assert Engine(model, device="cpu").backend.name == "cpu"
    assert f"the cuda backend cannot be used: {call} failed" in caplog.text


def test_a_kernel_that_does_not_compile_is_unavailable_and_auto_moves_on(gpu, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path))
    monkeypatch.setenv("FAKE_NVRTC_COMPILER", "sh -c 'echo \"shape.cuh(3): error: too small\" >&2; exit 1'")
    model = make_model(MODELS["paper-3tier"])
    with pytest.raises(
        BackendUnavailable, match=r"does not compile persistent.cuh: .* shape.cuh\(3\): error: too small"
    ):
        Engine(model, backend="cuda", device="cpu")
    with caplog.at_level(logging.WARNING):
        assert Engine(model, device="cpu").backend.name == "cpu"
    assert "too small" in caplog.text


def test_a_native_part_of_another_version_is_unavailable(gpu, monkeypatch):
    """This happens where the package was changed and its extension was not built again."""
    source = KernelSource.read("persistent.cuh")
    for name, text in source.headers.items():
        source.headers[name] = text.replace("uint64_t time_limit;", "uint64_t later, time_limit;")
    monkeypatch.setattr(program.KernelSource, "read", lambda *about: source)
    with pytest.raises(
        BackendUnavailable, match=r"takes \d+ bytes of parameters, the host has \d+; install the package"
    ):
        Played(pack(make_model(MODELS["two-levels"])), "cpu", "float32")


def test_where_nothing_is_left_every_reason_is_told(gpu, monkeypatch):
    monkeypatch.setattr(registry, "BACKENDS", {"cuda": Played})
    gpu.fail("cuLaunchKernelEx", 720)
    with pytest.raises(
        BackendUnavailable, match=r"no backend can run this model on cpu: cuda: cuLaunchKernelEx failed"
    ):
        Engine(make_model(MODELS["paper-3tier"]), device="cpu")


def test_a_block_that_does_not_fit_is_unavailable(gpu):
    gpu.set_kernel(most_threads=32)
    with pytest.raises(
        BackendUnavailable, match="srnn_load needs 1 blocks at once, but Fake GPU holds 0 of 64 threads with 64"
    ):
        engines()


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        (MULTIPROCESSORS, 1, "srnn_generate needs 4 blocks at once, but Fake GPU holds 1 of 128 threads with 64"),
        (COOPERATIVE, 0, "Fake GPU has no cooperative launch"),
    ],
)
def test_where_not_all_blocks_run_at_once_it_goes_on_by_launches(gpu, attribute, value, reason, caplog, monkeypatch):
    """Known before anything is launched: too little room for the kernel's blocks, or no cooperative launch at all."""
    gpu.set_device(SHARED_BYTES, 4 << 10)
    if attribute == MULTIPROCESSORS:  # as where registers leave room for fewer blocks than multiprocessors
        monkeypatch.setattr(grouping, "grid_blocks", lambda dim, most: 4)
    gpu.set_device(attribute, value)
    assert missing(0) == []
    model = make_model(MODELS["two-levels"])
    with caplog.at_level(logging.WARNING):
        engine = Engine(model, backend="cuda", device="cpu")
        made = engine.run(engine.init_state(1, seed=8), 20)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"the cuda backend goes on with one kernel for each stage: {reason}") and "\n" not in line
    assert engine.backend.launcher.exchange == "launches" and engine.backend.launcher.program(1).stages is not None
    exact = Engine(model, backend="reference", dtype="float64", device="cpu")
    assert np.array_equal(made, exact.run(exact.init_state(1, seed=8), 20))


def test_blocks_that_wait_for_nobody_need_no_cooperative_launch(gpu, caplog):
    gpu.set_device(COOPERATIVE, 0)
    gpu.set_device(SHARED_BYTES, 227 << 10)
    with caplog.at_level(logging.WARNING):
        engine, exact = engines("two-levels")
    assert not caplog.records and engine.backend.launcher.program(1).stages is None
    assert np.array_equal(*(one.run(one.init_state(1, seed=7), 20) for one in (engine, exact)))


def test_auto_takes_it_first(gpu):
    assert Engine(make_model(MODELS["paper-3tier"]), device="cpu").backend.name == "cuda"


def test_it_runs_on_gpus_only():
    reasons = CudaBackend.unavailable_reasons(MODELS["paper-3tier"], "cpu")
    assert reasons == ["runs on a CUDA GPU, not on cpu"]


def test_threads_of_the_cpu_are_refused(gpu):
    with pytest.raises(ConfigError, match="num_threads is for the cpu backend"):
        Engine(make_model(MODELS["paper-3tier"]), backend="cuda", device="cpu", num_threads=2)


@pytest.mark.parametrize("exchange", ["bogus", "alone", ""])
def test_an_exchange_that_is_none_is_refused(gpu, exchange):
    with pytest.raises(ConfigError, match=f"exchange must be one of auto, .*cluster.*, got '{exchange}'") as raised:
        Played(pack(make_model(MODELS["paper-3tier"])), "cpu", "float32", exchange=exchange)
    assert_one_line(raised)


def test_a_machine_that_has_all(gpu):
    assert missing(0) == []


def test_a_gpu_that_is_too_old(gpu):
    gpu.set_device(CAPABILITY_MAJOR, 7)
    assert missing(0) == ["needs a GPU of compute capability 8.0 or newer, Fake GPU has 7.0"]


def test_no_driver(gpu, monkeypatch):
    monkeypatch.setenv("SAMPLERNN_FAST_LIBCUDA", "/no/such/libcuda.so.1")
    [reason] = missing(0)
    assert reason.startswith("cannot open /no/such/libcuda.so.1") and reason.endswith("install the NVIDIA driver")


def test_no_gpu(gpu):
    gpu.fail("cuInit", 100)
    [reason] = missing(0)
    assert reason.startswith("cuInit failed: CUDA_ERROR_NO_DEVICE (100)") and "see nvidia-smi" in reason


def test_an_nvrtc_that_is_too_new(gpu):
    gpu.set(version=12040)
    [reason] = missing(0)
    assert reason.startswith("needs an NVRTC for CUDA 12 or older and sm_90")


def test_no_native_part(gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "samplernn_fast._C", None)
    [reason] = missing(0)
    assert "the native part is not built" in reason and "install a C++ compiler" in reason


def test_doctor_tells_what_is_there_and_what_is_not(gpu, fake_nvrtc, monkeypatch, compiled):
    found = describe()
    assert found["driver"] == f"CUDA 13.0, {gpu.path}" and found["NVRTC"] == f"13.0, {fake_nvrtc.path}"
    assert found["compiled kernels"] == str(compiled / "cubins")
    assert found["measured waits"] == str(compiled / "first-looks")
    monkeypatch.setenv("SAMPLERNN_FAST_LIBCUDA", "/no/such/libcuda.so.1")
    monkeypatch.setenv("SAMPLERNN_FAST_NVRTC", "/no/such/libnvrtc.so")
    found = describe()
    assert "install the NVIDIA driver" in found["driver"] and "cannot open /no/such/libnvrtc.so" in found["NVRTC"]
