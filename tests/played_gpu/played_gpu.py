"""A GPU that libraries play for the `cuda` backend: fixtures, and the backend on torch's tensors of the CPU."""

import pytest
from cases import make_model
from engines import MODELS, Sized
from fake_gpu import CLUSTER_LAUNCH, COMPILE_FOR_CPU, MULTIPROCESSORS, SHARED_BYTES

from samplernn_fast.backends import registry
from samplernn_fast.backends.cuda import program
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.cuda.gpu import missing
from samplernn_fast.engine.engine import Engine
from samplernn_fast.reference.weights import pack

# The temperature of every stream; each number of streams is a kernel, which takes the C++ compiler seconds.
STREAMS = {"paper-3tier": (0.7, 1.0, 0.0), "theano-lstm-skips": (0.9,), "two-levels": (1.3,)}


class Played(CudaBackend):
    """The backend where torch's tensors on the CPU are the memory of the GPU that is played."""

    @staticmethod
    def unavailable_reasons(config, device):
        return missing(0)


def unavailable_reasons(name, config, device):
    """As the registry's, which does not ask the backend where the device is no GPU."""
    return registry.BACKENDS[name].unavailable_reasons(config, device)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The folder of kernels that all tests share, because the C++ compiler takes seconds for each."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def gpu(fake_gpu, fake_nvrtc, compiled, monkeypatch):
    """A machine with a GPU of 4 multiprocessors, without clusters."""
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(compiled))
    monkeypatch.setenv("FAKE_NVRTC_COMPILER", COMPILE_FOR_CPU)
    monkeypatch.setattr(program, "THREADS", 64)  # each is a fibre here
    monkeypatch.setattr(registry, "BACKENDS", {**registry.BACKENDS, "cuda": Played})
    monkeypatch.setattr(registry, "unavailable_reasons", unavailable_reasons)
    fake_gpu.set_device(SHARED_BYTES, 20 << 10)  # so that even small models need all blocks
    fake_gpu.set_device(CLUSTER_LAUNCH, 0)
    return fake_gpu


@pytest.fixture
def cluster_gpu(gpu):
    """A GPU with room for two clusters of 4 blocks."""
    gpu.set_device(CLUSTER_LAUNCH, 1)
    gpu.set_device(MULTIPROCESSORS, 8)
    gpu.set_device(SHARED_BYTES, 36 << 10)
    return gpu


def engines(name="paper-3tier", dtype="float32"):
    """A model of a case on the cuda backend, and on the reference."""
    model = make_model(MODELS[name])
    exact = Engine(model, backend="reference", dtype="float64", device="cpu")
    engine = Engine(model, backend="cuda", dtype=dtype, device="cpu")
    engine.pace = Sized(50)  # several launches of many samples, as on a GPU
    return engine, exact


def by_launches(name, dtype="float32"):
    return Played(pack(make_model(MODELS[name])), "cpu", dtype, exchange="launches")
