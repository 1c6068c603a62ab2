"""bench/gpu/absent.py: kernels compiled for a GPU that is not in the machine, by a real NVRTC."""

import contextlib
import inspect
import re
import sys
from pathlib import Path

import pytest
from cases import CASES
from compilers import nvrtc_or_skip
from fake_gpu import MULTIPROCESSORS, SHARED_BYTES

from bench.gpu import absent, choices, compile_ahead
from bench.gpu.wanted import Wanted
from samplernn_fast.backends import cache
from samplernn_fast.backends.cuda import gpu, grouping, program
from samplernn_fast.backends.cuda.gpu import Gpu
from samplernn_fast.backends.cuda.program import Program
from samplernn_fast.errors import BackendUnavailable

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")
ROOT = Path(__file__).parents[2]
SMALL = CASES["two-levels"]


@pytest.fixture(autouse=True)
def without_a_driver(monkeypatch, tmp_path):
    """The folder of compiled kernels of a machine that has no GPU."""
    nvrtc_or_skip((9, 0))
    monkeypatch.setenv("SAMPLERNN_FAST_LIBCUDA", str(tmp_path / "no-libcuda"))
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path))
    return tmp_path / "cubins"


def built(card, config, *others):
    with absent.in_place_of_the_driver(card) as there:
        return Program.build(there, config, *others)


def test_programs_are_those_of_the_gpu(without_a_driver):
    alone, cluster, tagged = (
        built(absent.CARDS[name], SMALL, "int8", 1, exchange)
        for name, exchange in [("a100", "auto"), ("h200", "cluster"), ("h200", "tagged")]
    )
    assert alone.group == grouping.Grouping(1, 1, 1, "alone", 1)
    assert cluster.group == grouping.Grouping(1, 1, 4, "cluster", 2)
    assert (tagged.group.blocks, tagged.first_look) == (SMALL.dim, 650)
    assert 0 < tagged.shared_bytes <= 227 << 10 and tagged.weight_bytes > SMALL.dim**2
    assert len(list(without_a_driver.iterdir())) == 3
    same = built(absent.CARDS["h100"], SMALL, "int8", 1, "tagged")
    assert len(list(without_a_driver.iterdir())) == 3  # an H100 takes the kernels of an H200
    assert same.key != tagged.key  # but what was measured of one is nothing for the other


def test_what_has_no_room_there_is_left_out():
    a100 = absent.CARDS["a100"]
    (*_, kernel) = built(a100, SMALL, "float32", 2, "launches").kernels.values()
    assert kernel.blocks_per_multiprocessor(256, 163 << 10) == 1
    assert kernel.blocks_per_multiprocessor(256, (163 << 10) + 1) == kernel.active_clusters(16, 256, 0) == 0
    with pytest.raises(BackendUnavailable, match="do not fit into thread block clusters of NVIDIA A100"):
        built(a100, SMALL, "int8", 1, "cluster")


def test_a_machine_that_has_the_gpu_finds_what_was_compiled(fake_gpu, monkeypatch, without_a_driver):
    """The driver is played. What it makes of real machine code does not matter: by then it was found or compiled."""
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(without_a_driver.parent))
    fake_gpu.set_device(SHARED_BYTES, 163 << 10)
    fake_gpu.set_device(MULTIPROCESSORS, 12)
    built(absent.Card("as it is played", (9, 0), 12, 163 << 10), SMALL, "int8", 1, "tagged")
    (kept,) = without_a_driver.iterdir()
    monkeypatch.setattr(cache.Store, "write", lambda *about: pytest.fail("it was compiled again"))
    with contextlib.suppress(BackendUnavailable):
        Program.build(Gpu.open(0), SMALL, "int8", 1, "tagged")
    kept.unlink()
    with pytest.raises(pytest.fail.Exception, match="compiled again"):
        Program.build(Gpu.open(0), SMALL, "int8", 1, "tagged")


def test_a_card_tells_what_the_backend_asks_for():
    """All that the cuda backend reads of a device, but for what is done with a real one."""
    text = "".join(inspect.getsource(module) for module in (program, gpu, grouping))
    asked = set(re.findall(r"\bdevice\.([a-z_]+)", text)) - {"type", "index"}
    assert {"name", "multiprocessors", "shared_bytes", "clusters", "capability"} <= asked
    assert all(hasattr(absent.CARDS["h200"], name) for name in asked)
    host = (ROOT / "csrc" / "python" / "cuda_driver.h").read_text()
    named = re.findall(r'\{"(\w+)", size\[', host)
    assert named == list(absent._SIZES[1:])


def test_the_program_compiles_for_it(monkeypatch, capsys, without_a_driver):
    command = "bench/sampling_speed.py --dim 8 --batch-size 1 --backend cuda --dtype int8"
    monkeypatch.setattr(sys, "argv", ["compile_ahead.py", "--processes", "1", "--for", "h200", command])
    compile_ahead.main()
    printed = capsys.readouterr().out
    assert printed.startswith("1 kernels by 1 processes\n1: dim 8 gru int8, 1 streams, auto: ")
    assert "left out" not in printed and len(list(without_a_driver.iterdir())) == 1
    assert "no-libcuda" in compile_ahead.build(Wanted(SMALL, "int8", 1))[1]  # without --for it is GPU 0
    monkeypatch.setattr(sys, "argv", ["compile_ahead.py", "--processes", "0", command])
    with pytest.raises(SystemExit):
        compile_ahead.main()
    assert "--processes: must be at least 1, got 0" in capsys.readouterr().err


def test_so_does_that_of_choices(monkeypatch, capsys, without_a_driver):
    case = "8/int8/1/tagged threads=64 first_look=100"
    monkeypatch.setattr(sys, "argv", ["choices.py", "--compile-only", "--for", "a100", case])
    choices.main()
    assert len(list(without_a_driver.iterdir())) == 1 and capsys.readouterr().out == f"{case}: compiled\n"
    monkeypatch.setattr(sys, "argv", ["choices.py", "--for", "a100", case])
    with pytest.raises(SystemExit):
        choices.main()
    assert "--for is for --compile-only" in capsys.readouterr().err
