"""bench/gpu/compile_ahead.py: the kernels that benchmarks and tests ask for, compiled by several processes."""

import pytest
from cases import CASES
from fake_gpu import COMPILE_FOR_CPU
from gpu_shapes import SHAPES, TELLING

from samplernn_fast.backends.cuda import constants
from samplernn_fast.models.config import SampleRNNConfig

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")


@pytest.fixture
def ahead():
    from bench.gpu import compile_ahead

    return compile_ahead


def test_the_kernels_of_a_benchmark(ahead):
    options = "--dim 1024 256 --batch-size 1 8 --backend cuda --dtype int8 --exchanges all"
    found = ahead.kernels_of(f"bench/sampling_speed.py {options}")
    assert {(one.config.dim, one.streams, one.exchange) for one in found} == {
        (dim, streams, exchange) for dim in (1024, 256) for streams in (1, 8) for exchange in constants.CHOICES
    }
    assert {one.dtype for one in found} == {"int8"} and not any(one.profile for one in found)
    assert ahead.kernels_of("bench/sampling_speed.py --backend triton") == []
    found = ahead.kernels_of("bench/gpu/stage_times.py --dim 256 --batch-size 8 --dtype float32")
    assert [(one.exchange, one.profile) for one in found] == [("auto", True), ("launches", False)]
    with pytest.raises(SystemExit, match="must be of sampling_speed"):
        ahead.kernels_of("bench/training_speed.py")


def test_the_kernels_of_tests_in_the_order_of_what_they_tell(ahead, capsys):
    file = "tests/backends/cuda/test_on_gpu.py"
    everything, telling = (ahead.kernels_of(f"{file}{options}") for options in ("", " -m telling"))
    names = {config: name for name, config in SHAPES.items()}
    assert list(dict.fromkeys(names[one.config] for one in everything)) == list(SHAPES)
    assert everything[: len(telling)] == telling and {names[one.config] for one in telling} == set(TELLING)
    assert set(CASES) < set(SHAPES) and {one.streams for one in everything} == {1, 3, 9}
    wanted = {(one.config, one.dtype, one.streams, one.exchange) for one in everything}
    assert (SHAPES["paper-1024"], "float32", 3, "tagged") in wanted
    assert (SHAPES["reset-before-256"], "bfloat16", 9, "cluster") in wanted
    assert (SHAPES["two-levels"], "int8", 3, "auto") in wanted
    with pytest.raises(SystemExit, match="finds no tests"):
        ahead.kernels_of(f"{file} -k nothing-of-that-name")


def test_the_first_sample_of_a_backend_is_compiled_too(ahead):
    one = ahead.Wanted(SampleRNNConfig(), "int8", 8)
    found = ahead.with_first_samples([one, one._replace(streams=64), one])
    assert [kernel.streams for kernel in found] == [1, 8, 64]


def test_what_is_compiled_ahead_is_not_compiled_again(ahead, fake_gpu, fake_nvrtc, monkeypatch, capsys):
    """Other processes compile it, into the cache. A kernel that the model cannot have is named and costs the others
    nothing."""

    from samplernn_fast.backends.cuda.gpu import Gpu
    from samplernn_fast.backends.cuda.program import Program

    monkeypatch.setenv("FAKE_NVRTC_COMPILER", COMPILE_FOR_CPU)
    small = ahead.Wanted(CASES["two-levels"], "float32", 1)
    too_many = small._replace(streams=100, exchange="cluster")
    assert ahead.compile_all([too_many, small], processes=2)
    lines = capsys.readouterr().out
    assert "100 streams, cluster: left out: 100 streams of this model" in lines and "all in" in lines
    Program.build(Gpu.open(0), *small)
    assert fake_nvrtc.compilations == 0
    assert not ahead.compile_all([too_many], processes=1) and ahead.compile_all([], processes=1)
    monkeypatch.setenv("FAKE_NVRTC_COMPILER", "false")
    assert not ahead.compile_all([small._replace(dtype="int8")], processes=1)
    assert "does not compile" in capsys.readouterr().out
