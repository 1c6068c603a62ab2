"""What a training run needs of its process: the others under torchrun, a working compiler, fast settings of the CPU."""

import ctypes
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from samplernn_fast import terminal
from samplernn_fast.backends import devices
from samplernn_fast.errors import BackendUnavailable, ConfigError, SampleRNNError
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.layers.cells import keep_scans_uncompiled
from samplernn_fast.terminal import duration

_MEETING = timedelta(minutes=10)
"""How long the processes of a run wait for each other when they start."""
_FIRST, _LOOK_AGAIN = "samplernn_fast/first", 0.02  # the key of the first process's name, and seconds between two looks
_MOST_PROCESSES = 10**6
_MOST_RESTARTS = 10**9


@dataclass(frozen=True)
class Launch:
    """What torchrun's environment variables say of this process."""

    rank: int = 0
    """The number of this process, from 0."""
    world_size: int = 1
    """How many processes train together."""
    local_rank: int | None = None
    """The number of this process's GPU; None where no variable says it."""
    restarts: int = 0
    """How often torchrun has started the processes of this run again because one of them had ended."""
    max_restarts: int = 0
    """How often it may."""

    @classmethod
    def from_environment(cls) -> Self:
        """Reads WORLD_SIZE, RANK, LOCAL_RANK and two that begin with TORCHELASTIC; an empty one is as good as none.

        Raises ConfigError where one is no number, where they contradict each other, or where some are missing that
        several processes need.
        """
        world_size = _number_of("WORLD_SIZE", 1, _MOST_PROCESSES)
        rank = _number_of("RANK", 0, (world_size or _MOST_PROCESSES) - 1)
        local_rank = _number_of("LOCAL_RANK", 0, _MOST_PROCESSES)
        restarts = _number_of("TORCHELASTIC_RESTART_COUNT", 0, _MOST_RESTARTS) or 0
        max_restarts = _number_of("TORCHELASTIC_MAX_RESTARTS", 0, _MOST_RESTARTS) or 0
        if world_size is None and rank:
            raise ConfigError(f"the environment variable RANK is {rank}, but WORLD_SIZE is not set; {_ADVICE}")
        if (world_size or 1) > 1:
            _number_of("MASTER_PORT", 0, 65535)
            missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
            if missing:
                names = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
                raise ConfigError(f"the environment variable WORLD_SIZE is {world_size}, but {names}; {_ADVICE}")
        return cls(rank or 0, world_size or 1, local_rank, restarts, max_restarts)


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
        # Python's then, which kills the process.
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
            store = dist.PrefixStore(_name_of_meeting(store, launch), store)
            # The others wait while the first one validates, which may take longer than torch's limit of ten minutes.
            dist.init_process_group(
                backend, store=store, rank=launch.rank, world_size=launch.world_size, timeout=timedelta(hours=12)
            )
    except (RuntimeError, ValueError) as error:  # a network, a name or a port that is none, and who does not come
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise BackendUnavailable(
            f"process {launch.rank} of {launch.world_size} did not find the others at {where}:"
            f" {str(error).strip().partition(chr(10))[0][:200]}"
        ) from None


def _name_of_meeting(store: dist.Store, launch: Launch) -> str:
    """A name that only the processes of this very start have, under which they find each other in torchrun's store.

    torchrun keeps one store while it starts processes again, where the addresses of the dead would be found. So the
    first process draws a name, and each of the others greets it with a name of its own, until that comes back: who
    answers is alive. Raises RuntimeError where somebody does not come.
    """
    own, deadline = secrets.token_hex(8), time.monotonic() + _MEETING.total_seconds()

    def read(key: str) -> str:
        return store.get(key).decode() if store.check([key]) else ""

    if launch.rank == 0:
        store.set(_FIRST, own)
    waiting, name = set(range(1, launch.world_size)) if launch.rank == 0 else {launch.rank}, own
    while waiting:
        if launch.rank == 0:
            for rank in sorted(waiting):
                if greeting := read(f"{own}/{rank}/greets"):
                    store.set(f"{own}/{rank}/answer", greeting)
                    waiting.remove(rank)
        elif name := read(_FIRST):
            store.set(f"{name}/{launch.rank}/greets", own)
            waiting -= {launch.rank} if read(f"{name}/{launch.rank}/answer") == own else set()
        if time.monotonic() > deadline:
            raise RuntimeError(f"timed out after {duration(_MEETING.total_seconds())}")
        time.sleep(_LOOK_AGAIN if waiting else 0)
    return name


class LostProcess(SampleRNNError):
    """Another process of this run ended while this one waited for it."""


@contextmanager
def _meeting() -> Iterator[None]:
    """Around what all processes of a run do together. Raises LostProcess where one of them is gone."""
    try:
        yield
    except RuntimeError as error:  # torch has no class of its own for that
        place = r"^\[[^]]*\] *"  # in torch's source
        reason = re.sub(place, "", str(error).strip()).partition("\n")[0].partition(". ")[0][:200]
        raise LostProcess(
            f"process {dist.get_rank()} of {dist.get_world_size()} lost another process of this run ({reason});"
            " torchrun starts such a run again as often as it may, and the same command goes on from its last"
            " checkpoint"
        ) from None


def added(tensor: Tensor) -> Tensor:
    """`tensor`, which now holds the sum over all processes; they call this and what follows at the same point."""
    with _meeting():
        dist.all_reduce(tensor)
    return tensor


def gathered(tensor: Tensor, world_size: int) -> list[Tensor]:
    """The tensors of all processes, of one shape, in the order of their ranks."""
    found = [torch.empty_like(tensor) for _ in range(world_size)]
    with _meeting():
        dist.all_gather(found, tensor.contiguous())
    return found


def highest(numbers: Sequence[float], device: torch.device) -> list[float]:
    """The highest of each number over all processes."""
    shared = torch.tensor(list(numbers), dtype=torch.float64, device=device)
    with _meeting():
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return shared.tolist()


def most_restarts(world_size: int, device: torch.device) -> int:
    """How often torchrun has started this run again; each machine counts for itself, and the highest count is it."""
    own = Launch.from_environment().restarts
    return own if world_size == 1 else int(highest([own], device)[0])


def take_from_first(model: AudioModel) -> None:
    """Gives every process the weights of the first one: initial ones may differ between kinds of processors."""
    with _meeting():
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)


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
    if world_size > 1:
        try:
            failed = any(highest([failure is not None], device))
        except LostProcess:
            if failure is None:
                raise
        else:
            if failed and failure is None:
                raise SampleRNNError("the first process of this run failed; its message says why")
    if failure is not None:
        raise failure


def forward_of(model: AudioModel, compiled: bool) -> Any:
    """The model as the loop calls it: compiled if asked for."""
    if not compiled:
        return model
    keep_scans_uncompiled(model)
    return torch.compile(model)


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
