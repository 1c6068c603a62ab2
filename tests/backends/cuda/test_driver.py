"""The CUDA driver layer of samplernn_fast._C, on a libcuda that runs kernels on the CPU and fails where told to."""

import importlib.util
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import (
    COOPERATIVE,
    FOLDER,
    MULTIPROCESSORS,
    ROOT,
    RUN_TIME_LIMIT,
    compile_library,
)
from small import assert_one_line

_C = pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

# y += x by threads; one text for a GPU and for the CPU, where fake blocks run one after another.
KERNEL = """
__global__ void add(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += x[i];
}
"""
ON_CPU = f"""
#include "cuda/host/driver_api.h"
#include "cuda/params.h"
extern "C" const uint64_t srnn_sizes[srnn::kSizes] = {{sizeof(srnn::Params), 1, 1ull << 40, 3, 4, 0, 650}};
struct Index {{ unsigned x; }};
static Index blockIdx, blockDim, threadIdx;
#define __global__ static
namespace kernel {{ {KERNEL} }}
extern "C" const char* add(void** arguments, const srnn::cuda::LaunchConfig* config) {{
  blockDim.x = config->block_x;
  for (blockIdx.x = 0; blockIdx.x < config->grid_x; ++blockIdx.x) {{
    for (threadIdx.x = 0; threadIdx.x < config->block_x; ++threadIdx.x) {{
      kernel::add(*static_cast<const float**>(arguments[0]), *static_cast<float**>(arguments[1]),
                  *static_cast<int*>(arguments[2]));
    }}
  }}
  return nullptr;
}}
"""


@pytest.fixture(scope="module")
def cubin(tmp_path_factory):
    """The kernel above, compiled for the CPU that plays the GPU."""
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "add.cpp").write_text(ON_CPU)
    return compile_library(folder / "add.cpp", folder / "add.so").read_bytes()


def add_arguments(x, y):
    return [struct.pack("P", x.ctypes.data), struct.pack("P", y.ctypes.data), struct.pack("i", len(x))]


def load(gpu, cubin, name="add"):
    return _C.CudaKernel(_C.CudaDevice(_C.CudaDriver(gpu.path), 0), cubin, name)


def launch(kernel, blocks=3, threads=128, shared_bytes=0, cooperative=True, size=300):
    """Adds two vectors on the fake GPU; returns whether they are added."""
    x, y = np.arange(size, dtype=np.float32), np.ones(size, np.float32)
    kernel.launch(blocks, threads, shared_bytes, cooperative, 0, add_arguments(x, y))
    return np.array_equal(y, x + 1)


def test_a_kernel_runs(fake_gpu, cubin):
    kernel = load(fake_gpu, cubin)
    assert kernel.blocks_per_multiprocessor(128, 0) == 1
    assert launch(kernel)
    assert not launch(kernel, blocks=1)


def test_what_a_device_says_of_itself(fake_gpu):
    fake_gpu.set(version=12080)
    fake_gpu.set_device(RUN_TIME_LIMIT, 1)
    driver = _C.CudaDriver(fake_gpu.path)
    device = _C.CudaDevice(driver, 0)
    assert (driver.version, device.name, device.capability) == (12080, "Fake GPU", (9, 0))
    assert (device.multiprocessors, device.shared_bytes) == (4, 232448)
    assert (device.cooperative, device.run_time_limit) == (1, 1)
    fake_gpu.set_device(COOPERATIVE, 0)
    assert device.cooperative == 0


def test_asking_a_device_makes_no_context(fake_gpu):
    device = _C.CudaDevice(_C.CudaDriver(fake_gpu.path), 0)
    assert device.capability and fake_gpu.held == 0
    memory = np.ones(1)
    device.clear(memory.ctypes.data, 8, 0)
    assert fake_gpu.held == 1


def test_what_a_kernel_says_of_itself(fake_gpu, cubin):
    fake_gpu.set_kernel(registers=128, most_threads=512)
    kernel = load(fake_gpu, cubin)
    assert kernel.registers == 128
    assert kernel.blocks_per_multiprocessor(513, 0) == 0
    fake_gpu.set(blocks=2)
    assert kernel.blocks_per_multiprocessor(512, 1000) == 2


def test_the_context_before_is_current_again(fake_gpu, cubin):
    launch(load(fake_gpu, cubin))
    pushes, pops = (fake_gpu.calls.count(name) for name in ("cuCtxPushCurrent", "cuCtxPopCurrent"))
    assert pushes == pops > 0


def test_everything_is_given_back(fake_gpu, cubin):
    kernel = load(fake_gpu, cubin)
    assert fake_gpu.held == 2  # a context and a module, which its device outlives
    del kernel
    assert fake_gpu.held == 0
    assert fake_gpu.calls[-4:] == ["cuCtxPushCurrent", "cuModuleUnload", "cuCtxPopCurrent", "cuDevicePrimaryCtxRelease"]


def test_a_cooperative_launch_must_fit_the_device(fake_gpu, cubin):
    kernel = load(fake_gpu, cubin)
    assert launch(kernel, blocks=4)
    assert launch(kernel, blocks=5, cooperative=False)
    with pytest.raises(_C.CudaError, match=r"cuLaunchKernelEx failed: CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE \(720\)"):
        launch(kernel, blocks=5)


def test_a_launch_in_clusters(fake_gpu, cubin):
    kernel = load(fake_gpu, cubin)
    fake_gpu.set_device(MULTIPROCESSORS, 40)
    assert [kernel.active_clusters(size, 128, 0) for size in (4, 8, 16)] == [10, 5, 2]
    x, y = np.arange(300, dtype=np.float32), np.ones(300, np.float32)
    kernel.launch(4, 128, 0, False, 0, add_arguments(x, y), cluster=4)
    assert np.array_equal(y, x + 1) and fake_gpu.calls[-2:] == ["clusters:4", "cuCtxPopCurrent"]
    with pytest.raises(_C.CudaError, match="cuLaunchKernelEx failed"):
        kernel.launch(6, 128, 0, False, 0, add_arguments(x, y), cluster=4)  # a cluster would be cut
    fake_gpu.set_clusters(8)
    assert kernel.active_clusters(16, 128, 0) == 0
    with pytest.raises(_C.CudaError, match="cuLaunchKernelEx failed"):
        kernel.launch(16, 128, 0, False, 0, add_arguments(x, y), cluster=16)


def test_clusters_of_16_must_be_allowed_first(fake_gpu, cubin):
    fake_gpu.set_device(MULTIPROCESSORS, 40)
    kernel, arguments = load(fake_gpu, cubin), add_arguments(np.zeros(1, np.float32), np.zeros(1, np.float32))
    kernel.launch(8, 128, 0, False, 0, arguments, cluster=8)
    with pytest.raises(_C.CudaError, match="cuLaunchKernelEx failed"):
        kernel.launch(16, 128, 0, False, 0, arguments, cluster=16)
    assert kernel.active_clusters(16, 128, 0) == 2
    kernel.launch(16, 128, 0, False, 0, arguments, cluster=16)


def test_that_others_hold_multiprocessors_is_an_error_of_its_own(fake_gpu, cubin):
    kernel = load(fake_gpu, cubin)
    fake_gpu.set(held_by_others=2)
    with pytest.raises(_C.CudaTooLargeError, match="use another backend"):
        launch(kernel)
    assert launch(kernel, cooperative=False) and launch(kernel, blocks=2, size=200)
    fake_gpu.fail("cuLaunchKernelEx", 719)
    with pytest.raises(_C.CudaError) as raised:
        launch(kernel)
    assert raised.type is _C.CudaError


def test_functions_of_one_cubin_share_it(fake_gpu, cubin):
    kernel = load(fake_gpu, cubin)
    same = _C.CudaKernel(kernel, "add")
    assert fake_gpu.calls.count("cuModuleLoadData") == 1
    with pytest.raises(_C.CudaError, match="cuModuleGetFunction failed"):
        _C.CudaKernel(kernel, "subtract")
    del kernel
    assert launch(same)
    del same
    assert fake_gpu.held == 0


def test_shared_memory_must_be_asked_for_first(fake_gpu, cubin):
    kernel = load(fake_gpu, cubin)
    with pytest.raises(_C.CudaError, match="cuLaunchKernelEx failed"):
        launch(kernel, shared_bytes=1024)
    kernel.blocks_per_multiprocessor(128, 1024)
    assert launch(kernel, shared_bytes=1024)
    with pytest.raises(_C.CudaError, match="cuFuncSetAttribute failed"):
        kernel.blocks_per_multiprocessor(128, 1 << 20)


# Every entry point that a launch from nothing passes through, in order.
CALLS = (
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRetain",
    "cuCtxPushCurrent",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuOccupancyMaxActiveBlocksPerMultiprocessor",
    "cuOccupancyMaxActiveClusters",
    "cuLaunchKernelEx",
    "cuModuleGetGlobal",
    "cuMemcpyDtoH",
    "cuMemsetD8Async",
    "cuMemHostAlloc",
    "cuEventCreate",
    "cuMemcpyDtoHAsync",
    "cuEventRecord",
    "cuEventSynchronize",
)


def everything(gpu, cubin):
    device = _C.CudaDevice(_C.CudaDriver(gpu.path), 0)
    assert device.capability and device.name
    kernel = _C.CudaKernel(device, cubin, "add")
    assert kernel.registers and kernel.blocks_per_multiprocessor(128, 0)
    assert kernel.active_clusters(2, 128, 0) == 2
    launch(kernel)
    assert kernel.sizes["workspace"] == 1 << 40
    zeros = np.ones(5, np.float32)
    device.clear(zeros.ctypes.data, 8, 0)
    assert zeros.tolist() == [0, 0, 1, 1, 1]
    readback = _C.CudaReadback(device, 20)
    readback.start(zeros.ctypes.data, 12, 0)
    assert np.frombuffer(readback.wait(12), np.float32).tolist() == [0, 0, 1]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_is_named_and_leaves_nothing(fake_gpu, cubin, call):
    fake_gpu.fail(call, 2)
    with pytest.raises(_C.CudaError) as raised:
        everything(fake_gpu, cubin)
    expected = f"{call} failed: CUDA_ERROR_OUT_OF_MEMORY (2), out of memory; free memory of the GPU or make fewer"
    assert str(raised.value).startswith(expected)
    assert_one_line(raised)
    del raised
    assert fake_gpu.held == 0


def test_nothing_else_is_called(fake_gpu, cubin):
    everything(fake_gpu, cubin)
    undone = {"cuCtxPopCurrent", "cuModuleUnload", "cuDevicePrimaryCtxRelease", "cuMemFreeHost", "cuEventDestroy"}
    called = {call for call in fake_gpu.calls if call.startswith("cu")}  # without its notes of launches
    assert called == {*CALLS, *undone}


@pytest.mark.parametrize("call", ["cuCtxPushCurrent", "cuModuleUnload"])
def test_a_driver_that_goes_first_does_no_harm(fake_gpu, cubin, call):
    kernel = load(fake_gpu, cubin)
    fake_gpu.fail(call, 4)
    del kernel  # what the process holds is lost with it
    assert fake_gpu.calls[-1] == "cuDevicePrimaryCtxRelease"
    fake_gpu.reset()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (3, r"unknown error \(3\), no description; a forked process cannot use CUDA"),
        (34, "is a stub for linking: install the NVIDIA driver"),
        (100, r"CUDA_ERROR_NO_DEVICE \(100\), no description; no such GPU is visible"),
        (209, "update the NVIDIA driver"),
        (719, "the process must be started again"),
        (803, "restart the machine"),
        (12345, "see nvidia-smi, or use another backend"),
    ],
)
def test_an_error_says_what_to_do(fake_gpu, error, text):
    fake_gpu.fail("cuInit", error)
    with pytest.raises(_C.CudaError, match=text) as raised:
        _C.CudaDriver(fake_gpu.path)
    assert_one_line(raised)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/no/such/libcuda.so", "cannot open /no/such/libcuda.so: cannot open .*; install the NVIDIA driver"),
        ("libc.so.6", "libc.so.6 has no cuInit: it is too old"),
    ],
)
def test_what_is_no_driver_is_refused(path, text):
    with pytest.raises(_C.CudaError, match=text) as raised:
        _C.CudaDriver(path)
    assert_one_line(raised)


def test_a_device_that_is_not_there(fake_gpu):
    with pytest.raises(_C.CudaError, match="cuDeviceGet failed"):
        _C.CudaDevice(_C.CudaDriver(fake_gpu.path), 1)


def test_sizes_are_those_the_kernel_exports(fake_gpu, cubin):
    expected = {"weights": 1, "workspace": 1 << 40, "shared": 3, "resident": 4, "profile": 0, "first_look": 650}
    assert load(fake_gpu, cubin).sizes == expected


def test_a_kernel_of_another_version_is_refused(fake_gpu, tmp_path):
    (tmp_path / "old.cpp").write_text(ON_CPU.replace("{sizeof(srnn::Params), ", "{8, "))
    old = compile_library(tmp_path / "old.cpp", tmp_path / "old.so").read_bytes()
    with pytest.raises(_C.CudaError, match="takes 8 bytes of parameters, the host has"):
        load(fake_gpu, old).sizes  # noqa: B018


def test_a_kernel_without_sizes_is_refused(fake_gpu, tmp_path):
    (tmp_path / "bare.cpp").write_text(ON_CPU.replace("srnn_sizes", "other_sizes"))
    bare = compile_library(tmp_path / "bare.cpp", tmp_path / "bare.so").read_bytes()
    with pytest.raises(_C.CudaError, match="cuModuleGetGlobal failed"):
        load(fake_gpu, bare).sizes  # noqa: B018


def test_error_words_have_names():
    words = np.arange(1, 9, dtype=np.uint32)
    assert words.nbytes == _C.CUDA_ERROR_BYTES
    assert _C.cuda_error(words.tobytes()) == {"code": 1, "block": 2, "place": 3, "sequence": 4, "step": 5}
    assert _C.cuda_error(np.full(8, -1, np.int32).tobytes())["step"] == -1
    assert _C.cuda_error(bytes(32))["code"] == 0 not in (_C.CUDA_TIMED_OUT, _C.CUDA_NOT_FINITE)


def test_a_readback_holds_no_more_than_it_was_made_for(fake_gpu):
    readback = _C.CudaReadback(_C.CudaDevice(_C.CudaDriver(fake_gpu.path), 0), 8)
    with pytest.raises(ValueError, match="too many bytes"):
        readback.start(0, 9, 0)
    assert readback.bytes == 8 and len(readback.wait(100)) == 8


@pytest.mark.parametrize(("image", "call"), [(b"no code" * 100, "cuModuleLoadData"), (None, "cuModuleGetFunction")])
def test_a_module_without_the_kernel(fake_gpu, cubin, image, call):
    with pytest.raises(_C.CudaError, match=f"{call} failed"):
        load(fake_gpu, image or cubin, "subtract")
    assert fake_gpu.held == 0


def test_arguments_must_be_bytes(fake_gpu, cubin):
    with pytest.raises(TypeError):
        load(fake_gpu, cubin).launch(1, 1, 0, False, 0, [3])


def test_the_declarations_are_those_of_the_toolkit(tmp_path):
    """Numbers, layouts and sizes of parameters, against the headers of a CUDA toolkit."""
    spec = importlib.util.find_spec("nvidia")  # the pip package of NVRTC has its header
    packages = spec.submodule_search_locations or [] if spec else []
    folders = [Path("/usr/local/cuda/include"), *(path for root in packages for path in Path(root).glob("*/include"))]
    if missing := [name for name in ("cuda.h", "nvrtc.h") if not any((path / name).is_file() for path in folders)]:
        pytest.skip(f"no CUDA toolkit: {', '.join(missing)} not found")
    includes = [f"-I{folder}" for folder in folders]
    compile_library(FOLDER / "declarations.cpp", tmp_path / "declarations.so", *includes)


def test_the_driver_layer_needs_no_toolkit():
    listing = subprocess.run(["grep", "-rlE", "#include <(cuda|nvrtc)", ROOT / "csrc"], capture_output=True, text=True)
    assert listing.stdout == ""
