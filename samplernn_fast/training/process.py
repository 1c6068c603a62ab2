"""What a training run needs of its process: the others under torchrun, a working compiler, fast settings of the CPU."""

import ctypes
import gc
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from samplernn_fast import terminal
from samplernn_fast.backends import devices
from samplernn_fast.errors import BackendUnavailable, ConfigError, SampleRNNError
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.layers.cells import keep_scans_uncompiled

_MEETING = timedelta(minutes=10)
"""How long the processes of a run wait for each other when they start."""
_MOST_PROCESSES = 10**6


@dataclass(frozen=True)
class Launch:
    """What torchrun's environment variables say of this process."""

    rank: int = 0
    """The number of this process, from 0."""
    world_size: int = 1
    """How many processes train together."""
    local_rank: int | None = None
    """The number of this process's GPU; None where no variable says it."""

    @classmethod
    def from_environment(cls) -> Self:
        """Reads WORLD_SIZE, RANK and LOCAL_RANK; a variable that is empty is as good as none.

        Raises ConfigError where one is no number, where they contradict each other, or where some are missing that
        several processes need.
        """
        world_size = _number_of("WORLD_SIZE", 1, _MOST_PROCESSES)
        rank = _number_of("RANK", 0, (world_size or _MOST_PROCESSES) - 1)
        local_rank = _number_of("LOCAL_RANK", 0, _MOST_PROCESSES)
        if world_size is None and rank:
            raise ConfigError(f"the environment variable RANK is {rank}, but WORLD_SIZE is not set; {_ADVICE}")
        if (world_size or 1) > 1:
            _number_of("MASTER_PORT", 0, 65535)
            missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
            if missing:
                names = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
                raise ConfigError(f"the environment variable WORLD_SIZE is {world_size}, but {names}; {_ADVICE}")
        return cls(rank or 0, world_size or 1, local_rank)


_ADVICE = "start several processes by torchrun, or unset these variables to train in one"


def _number_of(name: str, low: int, high: int) -> int | None:
    """The whole number in an environment variable; None where it is not set, or empty. Raises ConfigError."""
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", text) or not low <= int(text) <= high:
        raise ConfigError(
            f"the environment variable {name} must be a whole number, {low} to {high}, got {text[:40]!r}; {_ADVICE}"
        )
    return int(text)


@contextmanager
def process_group(device_name: str) -> Iterator[tuple[int, int, torch.device]]:
    """Yields (rank, world size, device), read from torchrun's environment variables; a single process has none.

    Raises ConfigError for variables that cannot be used, and BackendUnavailable where the processes do not find each
    other.
    """
    device, launch = torch.device(devices.resolve_device(device_name)), Launch.from_environment()
    if launch.world_size == 1:
        yield 0, 1, device
        return
    if device.type == "cuda":
        device = _own_gpu(launch)
        torch.cuda.set_device(device)
    _meet(launch, "nccl" if device.type == "cuda" else "gloo")
    try:
        yield launch.rank, launch.world_size, device
    finally:
        # The threads of a group end when nothing holds it. One that still runs while Python ends may free a tensor of
        # Python's then, which kills the process. What averages gradients holds the group, and lies in a cycle.
        gc.collect()
        dist.destroy_process_group()


def _own_gpu(launch: Launch) -> torch.device:
    """The GPU that LOCAL_RANK names."""
    if launch.local_rank is None:
        raise ConfigError(f"LOCAL_RANK, the number of this process's GPU, is not set; {_ADVICE}")
    if launch.local_rank >= torch.cuda.device_count():
        raise BackendUnavailable(
            f"LOCAL_RANK is {launch.local_rank}, but torch sees {torch.cuda.device_count()} GPU(s)"
        )
    return torch.device("cuda", launch.local_rank)


def _meet(launch: Launch, backend: str) -> None:
    """Waits for the other processes. Raises BackendUnavailable where they do not come."""
    # Its functions keep for ever, as a default, the group that is there when it is first imported: none yet.
    import torch.distributed.nn.functional  # noqa: F401

    try:
        # Python hears nothing while torch waits, so ctrl-C and SIGTERM end the process without it.
        with terminal.handled(signal.SIG_DFL, signal.SIGINT, signal.SIGTERM):
            store, _, _ = next(rendezvous("env://", launch.rank, launch.world_size, timeout=_MEETING))
        # The other ranks wait while the first one validates, which may take longer than torch's limit of ten minutes.
        dist.init_process_group(
            backend, store=store, rank=launch.rank, world_size=launch.world_size, timeout=timedelta(hours=12)
        )
    except (RuntimeError, ValueError) as error:  # a network, a name or a port that is none, and who does not come
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise BackendUnavailable(
            f"process {launch.rank} of {launch.world_size} did not find the others at {where}:"
            f" {str(error).strip().partition(chr(10))[0][:200]}"
        ) from None


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
            f"compile=True cannot be used here: torch.compile fails ({reason}); leave it out, or install what it needs"
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
