"""The `cuda` backend: one persistent kernel walks all tiers for thousands of samples
(csrc/cuda/device/persistent.cuh). Where the driver does not let all of its blocks run at the same time, every stage of
a sample is a kernel (stages.cuh).

samplernn_fast._C reaches NVRTC and the driver; this file allocates with torch, hands pointers over and reads errors.
"""

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from samplernn_fast import cuda_plan
from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.cpu_backend import CpuBackend
from samplernn_fast.cuda_device import Gpu, NotAtOnce, Program, driver_errors_as, missing, native
from samplernn_fast.errors import BackendUnavailable, ConfigError, DeviceError
from samplernn_fast.sampling import Randomness
from samplernn_fast.weights import PackedWeights

if TYPE_CHECKING:
    from samplernn_fast._C import CudaReadback

Hidden = list[Tensor]

LAUNCH_STEPS = 4096
"""Samples of one launch of up to 8 streams: loading the weights anew is then a small part of it."""
WATCHED_STEPS = 512
"""The same on a GPU whose display or system ends a kernel that runs for seconds, whatever the model's size."""
TIME_LIMIT_NS = 2_000_000_000
"""Of one wait of one block for the others."""


def launch_steps(streams: int, watched: bool = False) -> int:
    """Samples of one launch at most: many streams take longer for a sample. watched: long kernels are ended."""
    return max(1, (WATCHED_STEPS if watched else LAUNCH_STEPS) * 8 // max(8, streams))


@dataclass(frozen=True)
class _Drawing:
    """How the samples of a call are drawn; temperature (B, n)."""

    randomness: Randomness
    temperature: Tensor
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True)
class StageTime:
    """What a profiled kernel's first block spent on one stage."""

    name: str
    seconds: float
    exchange_seconds: float
    """Of them waiting for other blocks and reading what they gave."""
    times: int
    """How often the stage began; of the whole launch, its samples."""


@dataclass(frozen=True)
class _Launched:
    """A launch whose error words and levels are on their way to the host."""

    readback: "CudaReadback"
    bytes: int
    start: int  # of its first sample, in the call


class CudaBackend:
    """Any model in float32, bfloat16 or int8 on a GPU of compute capability 8.0 or newer."""

    name = "cuda"
    dtypes: tuple[str, ...] = cuda_plan.MODES

    @staticmethod
    def unavailable_reasons(config: SampleRNNConfig, device: torch.device) -> list[str]:
        """Why this backend cannot run; empty when it can."""
        if device.type != "cuda":
            return [f"runs on a CUDA GPU, not on {device}"]
        return missing(_ordinal(device))

    @classmethod
    def dtype_reasons(cls, weights: PackedWeights, device: torch.device, dtype: str) -> list[str]:
        """Why a numeric mode would not keep its promise for this model; empty when it does. The sums of int8 are exact,
        so what it costs is measured on the CPU."""
        return CpuBackend.dtype_reasons(weights, torch.device("cpu"), dtype)

    def __init__(
        self,
        weights: PackedWeights,
        device: torch.device,
        dtype: str,
        num_threads: int | None = None,
        exchange: str = "auto",
        profile: bool = False,
    ) -> None:
        """exchange: of blocks that make streams together, one of `cuda_plan.CHOICES`, as `Program.build` takes it;
        "launches" where the driver refuses another. profile: time the stages of a persistent kernel, for `stage_times`,
        which slows it down a little. BackendUnavailable if the kernels cannot be compiled or started."""
        if num_threads is not None:
            raise ConfigError("num_threads is for the cpu backend; cuda takes the whole GPU")
        if exchange not in cuda_plan.CHOICES:
            raise ConfigError(f"exchange must be one of {', '.join(cuda_plan.CHOICES)}, got {exchange!r}")
        if device.type == "cuda":  # the same GPU whichever becomes torch's current one
            device = torch.device("cuda", _ordinal(device))
        self.config, self.device, self.dtype, self.exchange = weights.config, device, dtype, exchange
        self._profiled, self._profile = profile, torch.empty(0, dtype=torch.int64, device=device)
        self._h0 = torch.stack([weights[f"tier{tier}.h0"] for tier in range(len(self.config.ratios))]).float()
        self._weights = cuda_plan.pack_weights(weights, dtype).to(device)
        self._programs: dict[int, Program] = {}
        self._spare: list[CudaReadback] = []
        self._lock = threading.Lock()
        with driver_errors_as(BackendUnavailable):
            self._gpu = Gpu.open(_ordinal(device))
        try:  # one sample of one stream: what cannot be compiled or started shows here
            silence = torch.full((1, self.config.lookback), self.config.q_zero, device=device)
            self.prime(self.init_hidden(1), silence, silence[:, :1])
        except DeviceError as error:
            raise BackendUnavailable(str(error)) from None

    def init_hidden(self, streams: int) -> Hidden:
        """The initial hidden state of every tier, lowest first: (n, B, H) each."""
        return list(self._h0.to(self.device).unsqueeze(2).repeat(1, 1, streams, 1).unbind(0))

    @torch.inference_mode()
    def generate(
        self,
        hidden: Hidden,
        history: Tensor,
        t: int,
        randomness: Randomness,
        temperature: Tensor,
        top_k: int,
        top_p: float,
        forced: Tensor,
    ) -> Tensor:
        """As `reference.ReferenceBackend.generate`, but the levels are on the CPU. ValueError where a logit is not a
        number, DeviceError where the GPU fails; `hidden` is then as it was."""
        drawing = _Drawing(randomness, temperature, top_k, top_p)
        return _Call(self, hidden, history, t, forced, drawing).run(hidden)

    @torch.inference_mode()
    def prime(self, hidden: Hidden, history: Tensor, levels: Tensor) -> None:
        """Advance `hidden` over known levels (B, n), n a multiple of L, starting where a top frame starts."""
        _Call(self, hidden, history, 0, levels, _no_drawing(levels)).run(hidden)

    @torch.inference_mode()
    def score(self, hidden: Hidden, levels: Tensor) -> Tensor:
        """Log-probabilities (B, T, Q) of levels (B, L + T), T a multiple of L; advances `hidden`."""
        history, known = levels.split([self.config.lookback, levels.shape[1] - self.config.lookback], dim=1)
        logits = torch.empty(*known.shape, self.config.q_levels, device=self.device)
        _Call(self, hidden, history, 0, known, _no_drawing(known), logits).run(hidden)
        return torch.log_softmax(logits, dim=-1)

    def program(self, batch: int) -> Program:
        """The kernel for this number of streams; compiled when first asked for."""
        with self._lock:
            if batch not in self._programs:
                built = self._build(batch)
                if built.weight_bytes != self._weights.nbytes:
                    sizes = f"{built.weight_bytes} bytes of weights, packed were {self._weights.nbytes}"
                    raise BackendUnavailable(f"the kernel reads {sizes}: install the package again")
                self._programs[batch] = built
                if self._profile.nbytes == 0:
                    self._profile = torch.zeros(built.profile_bytes // 8, dtype=torch.int64, device=self.device)
            return self._programs[batch]

    def _build(self, batch: int) -> Program:
        """By the exchange, or from now on by launches where its blocks cannot all run at the same time."""
        try:
            built = Program.build(self._gpu, self.config, self.dtype, batch, self.exchange, self._profiled)
            if built.cooperative and not self._gpu.device.cooperative:
                raise NotAtOnce(f"{self._gpu.device.name} has no cooperative launch")
        except NotAtOnce as reason:
            self._use_launches(str(reason))
            built = Program.build(self._gpu, self.config, self.dtype, batch, self.exchange)
        return built

    def launch_steps(self, streams: int) -> int:
        """Samples of one launch on this GPU."""
        return launch_steps(streams, watched=bool(self._gpu.device.run_time_limit))

    def launch(self, batch: int, out: Tensor, start: int, **arguments: int | float) -> _Launched:
        """Put zeros, the kernel and the copy of its results into torch's stream; `out` are error words and levels."""
        program = self.program(batch)
        try:
            self._start(program, out, **arguments)
        except native().CudaTooLargeError as error:
            if not program.cooperative:
                raise
            with self._lock:
                self._use_launches(str(error))
            self._start(self.program(batch), out, **arguments)
        with self._lock:
            readback = self._spare.pop() if self._spare else None
        if readback is None or readback.bytes < out.nbytes:
            readback = native().CudaReadback(self._gpu.device, out.nbytes)
        readback.start(out.data_ptr(), out.nbytes, _stream(self.device))
        return _Launched(readback, out.nbytes, start)

    def _start(self, program: Program, out: Tensor, **arguments: int | float) -> None:
        stream, device = _stream(self.device), self._gpu.device
        workspace = torch.empty(program.workspace_bytes, dtype=torch.uint8, device=self.device)
        for zeroed in (out, workspace):
            device.clear(zeroed.data_ptr(), zeroed.nbytes, stream)
        packed = native().cuda_params(
            weights=self._weights.data_ptr(),
            workspace=workspace.data_ptr(),
            error=out.data_ptr(),
            profile=self._profile.data_ptr(),
            time_limit=TIME_LIMIT_NS,
            **arguments,
        )
        self.put(program, stream, packed, int(arguments["t"]), int(arguments["steps"]))

    def put(self, program: Program, stream: int, params: bytes, t: int, steps: int) -> None:
        """Put what makes `steps` samples into the stream, whose arrays are ready in it."""
        program.launch(stream, params, t, steps)

    def _use_launches(self, reason: str) -> None:
        """From now on no launch is cooperative. Programs for as many streams make as many. Under the lock."""
        if self.exchange == "launches":
            return
        self.exchange = "launches"
        self._programs = {batch: built for batch, built in self._programs.items() if not built.cooperative}
        logging.getLogger(__name__).warning("the cuda backend goes on with one kernel for each stage: %s", reason)

    def collect(self, launched: _Launched) -> np.ndarray:
        """Wait for a launch: its levels, int32 in a row. Raises what its error words say."""
        content = launched.readback.wait(launched.bytes)
        with self._lock:
            self._spare.append(launched.readback)
        words = native().CUDA_ERROR_BYTES
        error = native().cuda_error(content[:words])
        if error["code"] == native().CUDA_NOT_FINITE:
            raise ValueError(f"stream {error['place']} has a logit that is not finite")
        if error["code"] != 0:
            raise DeviceError(self._timeout(error, launched.start))
        return np.frombuffer(content, np.int32, offset=words)

    @torch.inference_mode()
    def stage_times(self) -> list[StageTime]:
        """Where the time of all launches since the last call went, the whole launches last; empty unless profiled."""
        rows = self._profile.view(-1, 3).tolist()
        self._profile.zero_()
        if not rows or rows[-1][0] == 0:
            return []
        *stages, (ticks, nanoseconds, samples) = rows
        tick = nanoseconds / ticks * 1e-9
        names = cuda_plan.stage_names(self.config)
        times = [StageTime(name, row[0] * tick, row[1] * tick, row[2]) for name, row in zip(names, stages, strict=True)]
        waited = sum(one.exchange_seconds for one in times)
        return [*times, StageTime("whole launches", nanoseconds * 1e-9, waited, samples)]

    def _timeout(self, error: dict[str, int], start: int) -> str:
        place = cuda_plan.exchange_names(self.config)[error["place"]]
        return (
            f"the GPU kernel gave up: block {error['block']} waited more than {TIME_LIMIT_NS / 1e9:.0f} s for "
            f"{place} (number {error['count']} of its kind, sample {start + error['step']} of the call); where other "
            "programs share the GPU try again, else use another backend and report this"
        )


class _Call:
    """One walk over forced (B, n) levels, -1 = free, from time t on; `logits` (B, n, Q) are filled if given."""

    def __init__(
        self,
        backend: CudaBackend,
        hidden: Hidden,
        history: Tensor,
        t: int,
        forced: Tensor,
        drawing: _Drawing,
        logits: Tensor | None = None,
    ) -> None:
        self.backend, self.t, self.forced, self.drawing, self.logits = backend, t, forced, drawing, logits
        self.batch, self.device = forced.shape[0], backend.device
        self.steps = backend.launch_steps(self.batch)
        self.program = backend.program(self.batch)
        self.hidden = self._rows(torch.stack(hidden), dim=2)
        self.recent = self._rows(history.to(self.device, torch.int32))
        seeds, streams = np.zeros(self.program.streams, np.uint64), np.zeros(self.program.streams, np.uint32)
        seeds[:], streams[: self.batch] = drawing.randomness.seed, drawing.randomness.streams
        # Signed, because torch moves those everywhere; the kernel takes the bits.
        self.seeds = torch.from_numpy(seeds.view(np.int64)).to(self.device)
        self.streams = torch.from_numpy(streams.view(np.int32)).to(self.device)

    def run(self, hidden: Hidden) -> Tensor:
        """The levels (B, n) int64 on the CPU; advances `hidden`. The next launch is put into the stream before the
        results of the last one are waited for."""
        blocks, waiting = [torch.empty(self.batch, 0, dtype=torch.int64, device="cpu")], None
        with driver_errors_as(DeviceError):
            for start in range(0, self.forced.shape[1], self.steps):
                launched = self._launch(start)
                if waiting is not None:
                    blocks.append(self._levels(waiting))
                waiting = launched
            if waiting is not None:
                blocks.append(self._levels(waiting))
        for mine, advanced in zip(hidden, self.hidden, strict=True):
            mine.copy_(advanced[:, : self.batch])
        return torch.cat(blocks, dim=1)

    def _rows(self, x: Tensor, dim: int = 0) -> Tensor:
        """x with a row of zeros for every stream that nobody asked for: their levels are given, 0, and not drawn."""
        shape = list(x.shape)
        shape[dim] = self.program.streams - self.batch
        return torch.cat((x, x.new_zeros(shape)), dim=dim) if shape[dim] else x.contiguous()

    def _levels(self, launched: _Launched) -> Tensor:
        levels = self.backend.collect(launched).astype(np.int64)
        return torch.from_numpy(levels).view(self.program.streams, -1)[: self.batch]

    def _launch(self, start: int) -> _Launched:
        config, part = self.backend.config, slice(start, start + self.steps)
        forced = self._rows(self.forced[:, part].to(self.device, torch.int32))
        temperature = self._rows(self.drawing.temperature[:, part].to(self.device, torch.float32))
        logits = None if self.logits is None else self._rows(self.logits[:, part])
        words = native().CUDA_ERROR_BYTES // 4
        out = torch.empty(words + forced.numel(), dtype=torch.int32, device=self.device)
        levels = out[words:].view_as(forced)
        new_hidden = torch.empty_like(self.hidden)  # blocks that lag behind still read the old one
        launched = self.backend.launch(
            self.batch,
            out,
            start,
            hidden=self.hidden.data_ptr(),
            new_hidden=new_hidden.data_ptr(),
            history=self.recent.data_ptr(),
            forced=forced.data_ptr(),
            levels=levels.data_ptr(),
            logits=0 if logits is None else logits.data_ptr(),
            temperature=temperature.data_ptr(),
            seeds=self.seeds.data_ptr(),
            streams=self.streams.data_ptr(),
            t=self.t + start,
            steps=forced.shape[1],
            top_k=self.drawing.top_k,
            top_p=self.drawing.top_p,
        )
        self.hidden = new_hidden
        if self.logits is not None and logits is not None:
            self.logits[:, part] = logits[: self.batch]
        # What a launch that failed left behind must not become an index of the next one.
        newest = torch.cat((self.recent, levels), dim=1)[:, -config.lookback :]
        self.recent = newest.clamp(0, config.q_levels - 1).contiguous()
        return launched


def _ordinal(device: torch.device) -> int:
    """The GPU's number. Where a library plays the GPU, tensors of the CPU are those of GPU 0."""
    if device.index is not None or device.type != "cuda":
        return device.index or 0
    return torch.cuda.current_device()


def _stream(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def _no_drawing(levels: Tensor) -> _Drawing:
    """For samples that are all given."""
    streams = np.zeros(levels.shape[0], np.uint32)
    return _Drawing(Randomness(0, streams), torch.ones(levels.shape, device=levels.device))
