"""The process a training run lives in: ranks of torchrun, signals, and settings of a CPU."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from samplernn_fast.backends import devices
from samplernn_fast.errors import ConfigError


@contextmanager
def process_group(device_name: str) -> Iterator[tuple[int, int, torch.device]]:
    """(rank, world size, device): from torchrun's environment where there is one, else a single process."""
    device = devices.resolve_device(device_name)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield 0, 1, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # The other ranks wait while the first one validates, which may take longer than torch's ten minutes.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=12))
    try:
        yield dist.get_rank(), world_size, device
    finally:
        dist.destroy_process_group()


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that the loop stops between two steps; a second ctrl-C interrupts at once."""
    caught: list[int] = []

    def note(number: int, frame: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller keeps its own signals
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_compiler(device: torch.device) -> None:
    """ConfigError where torch.compile cannot make a program for `device`, asked before a run writes anything."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(2, device=device))
    except Exception as error:  # whatever the compiler, its cache, a driver or this Python's version raises
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"--compile: torch.compile does not work here ({reason}); train without --compile, or install what it needs"
        ) from None


@contextmanager
def fast_cpu_training() -> Iterator[None]:
    """Two settings without which a CPU wastes time in training; results do not depend on them but for denormals.

    An untrained softmax gives gradients below 1e-38, on which a CPU is slow: flushed to zero (first updates of a
    256-unit model: 3.0 s to 0.4 s). And glibc is told to reuse big freed blocks instead of returning them to the
    system, which would cost page faults at every step (up to 1.3x). The memory setting stays for the process, and torch
    sets denormals for threads that it starts from here on: begin training before other parallel work.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_mmap_threshold, 2**31 - 1)
        mallopt(m_trim_threshold, 2**31 - 1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
