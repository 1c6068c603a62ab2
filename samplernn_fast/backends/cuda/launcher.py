"""Launches of one model's kernels on one GPU: which programs there are, and the levels that come back.

samplernn_fast._C reaches NVRTC and the driver; this file allocates with torch, hands pointers over and reads errors.
"""

import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samplernn_fast.backends.cuda import constants, packing
from samplernn_fast.backends.cuda.gpu import Gpu, driver_errors_as
from samplernn_fast.backends.cuda.program import NotAtOnce, Program
from samplernn_fast.errors import BackendUnavailable, DeviceError, NotFinite
from samplernn_fast.native import native
from samplernn_fast.reference.folding import PackedWeights

if TYPE_CHECKING:
    from samplernn_fast._C import CudaReadback

LAUNCH_STEPS = 4096
"""The largest number of samples that one launch makes of up to 8 streams: loading the weights anew is a small part."""
WATCHED_STEPS = 512
"""The same on a GPU whose display or system ends a kernel that runs for seconds, whatever the model's size."""
TIME_LIMIT_NS = 2_000_000_000
"""The longest time, in nanoseconds, that one thread block waits for another before the kernel gives up."""


@dataclass(frozen=True)
class PhaseTime:
    """The time that a profiled kernel's first block spent on one phase of a sample."""

    name: str
    seconds: float
    exchange_seconds: float
    """The part of `seconds` in which the block waited for other blocks and read their results."""
    times: int
    """How often the phase began; for the whole launch, its samples."""


class LaunchParams(NamedTuple):
    """The fields of `srnn::Params` (csrc/cuda/params.h) that a call fills for a launch, beside those of the launcher.
    Arrays are addresses on the GPU, and 0 is no array."""

    hidden: int
    new_hidden: int
    history: int
    forced: int
    levels: int
    logits: int
    temperature: int
    drawings: int
    t: int
    steps: int


@dataclass(frozen=True)
class Launched:
    """A launch whose error words and levels are on their way to the host."""

    readback: "CudaReadback"
    bytes: int
    start: int
    """The place of its first sample in the call."""


class Launcher:
    """One model's weights and programs on one GPU. Threads may share it."""

    def __init__(
        self, weights: PackedWeights, device: torch.device, dtype: str, exchange: str = "auto", profile: bool = False
    ) -> None:
        """exchange: one of `constants.CHOICES`, as `Program.build` takes it. profile: time the phases of a persistent
        kernel, for `phase_times`. BackendUnavailable without a GPU of that number."""
        self.config, self.device, self.dtype, self.exchange = weights.config, device, dtype, exchange
        self._profiled, self._profile = profile, torch.empty(0, dtype=torch.int64, device=device)
        self._weights = packing.pack_weights(weights, dtype).to(device)
        self._programs: dict[int, Program] = {}
        self._spare: list[CudaReadback] = []
        self._lock = threading.Lock()
        with driver_errors_as(BackendUnavailable):
            self._gpu = Gpu.open(ordinal(device))

    def program(self, streams: int) -> Program:
        """The kernels for this number of streams; compiled when they are first asked for."""
        with self._lock:
            if streams not in self._programs:
                built = self._build(streams)
                if built.weight_bytes != self._weights.nbytes:
                    sizes = f"{built.weight_bytes} bytes of weights, packed were {self._weights.nbytes}"
                    raise BackendUnavailable(f"the kernel reads {sizes}: install the package again")
                self._programs[streams] = built
                if self._profile.nbytes == 0:
                    self._profile = torch.zeros(built.profile_bytes // 8, dtype=torch.int64, device=self.device)
            return self._programs[streams]

    def wait_before_looks(self, streams: int, key: str, ticks: int) -> None:
        """From now on the program of this key, which is for this number of streams, has another `Program.first_look`.
        Nothing happens where it does not wait, or where another program has taken its place because the driver has
        refused it."""
        with self._lock:
            program = self._programs.get(streams)
            if program is not None and program.key == key and program.waits:
                self._programs[streams] = replace(program, first_look=ticks)

    def steps(self, streams: int) -> int:
        """The largest number of samples of one launch on this GPU."""
        return launch_steps(streams, watched=bool(self._gpu.device.run_time_limit))

    def launch(self, streams: int, out: Tensor, start: int, params: LaunchParams) -> Launched:
        """Put zeros, the kernels and the copy of their results into torch's CUDA stream, in this order.

        out: int32 error words and then levels, which the launch fills. start: the place of its first sample in the
        call.
        """
        program = self.program(streams)
        try:
            self._start(program, out, params)
        except native().CudaTooLargeError as error:
            if not program.group.cooperative:
                raise
            with self._lock:
                self._use_launches(str(error))
            self._start(self.program(streams), out, params)
        with self._lock:
            readback = self._spare.pop() if self._spare else None
        if readback is None or readback.bytes < out.nbytes:
            readback = native().CudaReadback(self._gpu.device, out.nbytes)
        readback.start(out.data_ptr(), out.nbytes, cuda_stream(self.device))
        return Launched(readback, out.nbytes, start)

    def collect(self, launched: Launched) -> np.ndarray:
        """Wait for a launch: its levels, int32 in a row. Raises what its error words say."""
        content = launched.readback.wait(launched.bytes)
        with self._lock:
            self._spare.append(launched.readback)
        words = native().CUDA_ERROR_BYTES
        error = native().cuda_error(content[:words])
        if error["code"] == native().CUDA_NOT_FINITE:
            raise NotFinite(f"stream {error['place']} has a logit that is not finite")
        if error["code"] != 0:
            raise DeviceError(self._timeout(error, launched.start))
        return np.frombuffer(content, np.int32, offset=words)

    @torch.inference_mode()
    def phase_times(self) -> list[PhaseTime]:
        """Where the time of all launches since the last call went, the whole launches last; empty unless profiled."""
        rows = self._profile.view(-1, 3).tolist()
        self._profile.zero_()
        if not rows or rows[-1][0] == 0:
            return []
        *phases, (ticks, nanoseconds, samples) = rows
        tick = nanoseconds / ticks * 1e-9
        names = constants.phase_names(self.config)
        times = [PhaseTime(name, row[0] * tick, row[1] * tick, row[2]) for name, row in zip(names, phases, strict=True)]
        waited = sum(one.exchange_seconds for one in times)
        return [*times, PhaseTime("whole launches", nanoseconds * 1e-9, waited, samples)]

    def _build(self, streams: int) -> Program:
        """Builds a program for `self.exchange`. Where its blocks cannot all run at once, takes "launches" from now on
        and builds that."""
        try:
            built = Program.build(self._gpu, self.config, self.dtype, streams, self.exchange, self._profiled)
            if built.group.cooperative and not self._gpu.device.cooperative:
                raise NotAtOnce(f"{self._gpu.device.name} has no cooperative launch")
        except NotAtOnce as reason:
            self._use_launches(str(reason))
            built = Program.build(self._gpu, self.config, self.dtype, streams, self.exchange)
        return built

    def _start(self, program: Program, out: Tensor, params: LaunchParams) -> None:
        queue, device = cuda_stream(self.device), self._gpu.device
        workspace = torch.empty(program.workspace_bytes, dtype=torch.uint8, device=self.device)
        for zeroed in (out, workspace):
            device.clear(zeroed.data_ptr(), zeroed.nbytes, queue)
        packed = native().cuda_params(
            weights=self._weights.data_ptr(),
            workspace=workspace.data_ptr(),
            error=out.data_ptr(),
            profile=self._profile.data_ptr(),
            time_limit=TIME_LIMIT_NS,
            first_look=program.first_look,
            **params._asdict(),
        )
        program.launch(queue, packed, params.t, params.steps)

    def _use_launches(self, reason: str) -> None:
        """From now on no launch is cooperative; cooperative programs are built again. The caller holds the lock."""
        if self.exchange == "launches":
            return
        self.exchange = "launches"
        self._programs = {streams: built for streams, built in self._programs.items() if not built.group.cooperative}
        logging.getLogger(__name__).warning("the cuda backend goes on with one kernel for each stage: %s", reason)

    def _timeout(self, error: dict[str, int], start: int) -> str:
        place = constants.exchange_names(self.config)[error["place"]]
        exchange = f"exchange number {error['sequence']} of this place in the launch"
        sample = start + max(error["step"], 0)  # -1 is what blocks make for the first sample, before it
        return (
            f"the GPU kernel gave up: block {error['block']} waited more than {TIME_LIMIT_NS / 1e9:.0f} s for "
            f"{place} ({exchange}, sample {sample} of the call); where other programs share the GPU try "
            "again, else use another backend and report this"
        )


def launch_steps(streams: int, watched: bool = False) -> int:
    """The largest number of samples of one launch: many streams take longer for a sample. watched: the system ends
    kernels that run long."""
    return max(1, (WATCHED_STEPS if watched else LAUNCH_STEPS) * 8 // max(8, streams))


def ordinal(device: torch.device) -> int:
    """The GPU's number. Where a library plays the GPU, tensors of the CPU are those of GPU 0."""
    if device.index is not None or device.type != "cuda":
        return device.index or 0
    return torch.cuda.current_device()


def cuda_stream(device: torch.device) -> int:
    """The handle of torch's current CUDA stream on this device; the default stream, 0, where a GPU is played."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
