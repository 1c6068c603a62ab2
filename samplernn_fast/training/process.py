"""What a training run needs of its process: a rank under torchrun, a compiler that works, fast settings of the CPU."""

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from samplernn_fast.backends import devices
from samplernn_fast.errors import ConfigError, SampleRNNError
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.cells import keep_scans_uncompiled


@contextmanager
def process_group(device_name: str) -> Iterator[tuple[int, int, torch.device]]:
    """Yields (rank, world size, device), read from torchrun's environment variables; a single process has none."""
    device = devices.resolve_device(device_name)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield 0, 1, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # The other ranks wait while the first one validates, which may take longer than torch's limit of ten minutes.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=12))
    try:
        yield dist.get_rank(), world_size, device
    finally:
        dist.destroy_process_group()


def highest(numbers: Sequence[float], device: torch.device) -> list[float]:
    """The highest of each number over all processes, which all of them call at the same point."""
    shared = torch.tensor(list(numbers), dtype=torch.float64, device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return shared.tolist()


@contextmanager
def first_process_alone(world_size: int, device: torch.device) -> Iterator[None]:
    """Around what the first of `world_size` processes does while the others wait. Where it fails, all of them end.

    Without it, the others would wait for ever at the next point where they meet. They raise SampleRNNError.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if world_size > 1 and any(highest([failure is not None], device)) and failure is None:
        raise SampleRNNError("the first process of this run failed; its message says why")
    if failure is not None:
        raise failure


def forward_of(model: AudioModel, compiled: bool, world_size: int, device: torch.device) -> Any:
    """The model as the loop calls it: compiled if asked for, and averaging gradients over several processes."""
    forward: Any = model
    if compiled:
        keep_scans_uncompiled(model)
        forward = torch.compile(model)
    if world_size > 1:
        ids = [device.index] if device.type == "cuda" else None
        forward = torch.nn.parallel.DistributedDataParallel(forward, device_ids=ids, broadcast_buffers=False)
    return forward


def check_compiler(device: torch.device) -> None:
    """Raises ConfigError where torch.compile does not work for `device`. A run calls it before it writes anything."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(2, device=device))
    except Exception as error:  # compiler, cache, driver and Python version raise many kinds
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"--compile: torch.compile does not work here ({reason}); train without --compile, or install what it needs"
        ) from None


@contextmanager
def fast_cpu_training() -> Iterator[None]:
    """Sets two things without which a CPU wastes time in training. Results change by nothing but denormals.

    Denormals are flushed to zero: an untrained softmax gives gradients below 1e-38, on which a CPU is slow (the first
    updates of a 256-unit model took 3.0 s instead of 0.4 s). glibc reuses big blocks of memory that were freed; giving
    them back to the system costs page faults at every update (up to 1.3x).

    The setting of glibc stays for the process. torch flushes denormals in threads that it starts from here on, so
    begin training before other parallel work.
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
