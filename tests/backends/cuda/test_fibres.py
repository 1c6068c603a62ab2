"""The shim itself: what a kernel does that no kernel may do is refused, and what threads tell each other is right."""

import ctypes
import re
import subprocess
from collections.abc import Callable

import pytest
from binaries import FLAGS, SHIM, compiler, fibres_library
from fake_gpu import ROOT

LEFT = "a thread of block . has left, others wait at .*"
# The threads of two blocks of 64, which are a cluster, do this, and the shim says that; "" stands for no complaint.
KERNELS = {
    "block_sync(); warp_sync(); cluster_sync(); barrier_sync(1, 64);": "",
    "if (t != 3) block_sync();": LEFT,
    "if (t != 3) barrier_sync(1, 64);": LEFT,
    "if (t != 3 || b == 0) cluster_sync();": LEFT,
    "if (t < 9) block_sync();\nelse block_sync();": "threads of block . meet at .*:1. and at .*:1.",
    "if (t < 9) barrier_sync(1, 64);\nelse barrier_sync(1, 64);": "threads meet at .*, at barrier 1 of block .",
    "if (t < 9) warp_sync();\nelse if (t < 32) warp_sync();": "threads of block . meet at .* and at .*",
    "barrier_sync(2, t == 5 ? 32 : 64);": "different numbers of threads at barrier 2 of block .",
    "if (t == 3) barrier_arrive(2, 64);\nbarrier_sync(2, 64);": f"a thread is twice at barrier 2 of block .|{LEFT}",
    "if (t < 32) barrier_sync(1, 64);\nelse barrier_sync(3, 64);": "deadlock: .*32 threads of block 0 at .*",
    "if (b == 0) push_word(shared_memory(), 1, t);": "(a store arrives .* of block 1, which has left)?",
    "if (b == 0) push_word(shared_memory(), 1, t);\ncluster_sync();": "",
    "need(warp_sum(uint32_t(t)) == (t < 32 ? 496 : 1520));": "",
    "need(warp_sum(uint64_t(t) << 40) == uint64_t(t < 32 ? 496 : 1520) << 40);": "",
    "need(warp_sum(t % 32 == 7 ? 1e30f : 1.0f) == 1e30f);": "",
    "need(warp_max(t % 32 == 7 ? 5 : -t) == 5 && warp_max(-1 - t) == (t < 32 ? -1 : -33));": "",
    "need(warp_all(t % 32 != 7) == false && warp_all(true));\nneed(warp_all(t < 32) == (t < 32));": "",
    "need(warp_before(uint32_t(1)) == uint32_t(t % 32));": "",
    "need(warp_first(t % 32 < 7 ? -1 : t % 32) == 7);": "",
    "need(barrier_any(1, 64, b == 1 && t == 9) == (b == 1));\nneed(!barrier_any(1, 64, false));": "",
    "need(warp_sum(uint32_t(1)) == 31);": "a kernel was not given what it needs",
}
PROGRAM = """
#define SRNN_SHIM
#include "prims_shim.h"
using namespace srnn;
static void need(bool given) {
  if (!given && simt::runtime->problem.empty())
    simt::runtime->problem = "a kernel was not given what it needs";
}
static void kernel() {
  [[maybe_unused]] const int t = thread_id(), b = block_id();
  THIS
}
extern "C" const char* run_kernel(unsigned schedule) {
  static unsigned char memory[2][64];
  static std::string said;
  said = simt::run(2, 64, 2, {memory[0], memory[1]}, kernel, schedule, {});
  return said.c_str();
}
"""


@pytest.fixture
def run_kernel(tmp_path) -> Callable[[str, int], list[str]]:
    """A function that tells what the shim says of a kernel under each of some schedules."""

    def run(text: str, schedules: int) -> list[str]:
        command = [*compiler(), *FLAGS, "-Wno-unused-function", "-shared", f"-I{SHIM}", f"-I{ROOT / 'csrc'}"]
        command += ["-x", "c++", "-", "-x", "none", str(fibres_library()), "-o", str(tmp_path / "kernel.so")]
        subprocess.run(command, input=PROGRAM.replace("THIS", text), text=True, check=True)
        library = ctypes.CDLL(str(tmp_path / "kernel.so"))
        library.run_kernel.restype = ctypes.c_char_p
        return [library.run_kernel(schedule).decode() for schedule in range(schedules)]

    return run


@pytest.mark.parametrize("text", KERNELS)
def test_the_shim_refuses_what_no_kernel_may_do(run_kernel, text):
    said = run_kernel(text, 20)
    assert all(re.fullmatch(KERNELS[text], one) for one in said), said
    assert any(said) == bool(KERNELS[text])
