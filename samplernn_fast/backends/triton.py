"""The `triton` backend: kernels/ on an NVIDIA GPU, one CUDA graph for each period of the top tier.

triton is imported when a model is packed, never before.
"""

import contextlib
import importlib
import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear

from samplernn_fast.errors import BackendUnavailable, ConfigError
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference import draw
from samplernn_fast.reference.known_levels import Hidden, TeacherForced
from samplernn_fast.reference.weights import PackedWeights, is_matrix

if TYPE_CHECKING:
    from samplernn_fast.kernels.schedule import Schedule

_KEPT_SCHEDULES = 4  # numbers of streams whose buffers and graphs are kept
_OLDEST = (8, 0)  # compute capability


class TritonBackend(TeacherForced):
    """Sampling on NVIDIA GPUs, any model, in float32 or bfloat16 (weights and products' inputs; sums are float32)."""

    name = "triton"
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    promised: tuple[str, ...] = ()
    compiled_here = True

    @staticmethod
    def unavailable_reasons(config: SampleRNNConfig, device: torch.device) -> list[str]:
        """Why this backend cannot run; empty when it can. Elsewhere than on a GPU it runs in Triton's interpreter."""
        elsewhere = [f"runs on NVIDIA GPUs, not on {device}"]
        if device.type != "cuda" and not os.environ.get("TRITON_INTERPRET"):
            return elsewhere  # without importing triton, which takes a second
        try:
            triton = importlib.import_module("triton")
        except ImportError as error:
            return [f"Triton cannot be imported ({error}); it comes with torch for CUDA, or by pip install triton"]
        if device.type != "cuda":
            return [] if triton.knobs.runtime.interpret else elsewhere
        if torch.version.hip is not None:
            return ["runs on NVIDIA GPUs, and this torch is built for AMD's"]
        found = torch.cuda.get_device_capability(device)
        if found < _OLDEST:
            return [f"needs a GPU of compute capability 8.0 or newer, {device} has {found[0]}.{found[1]}"]
        return []

    def __init__(
        self,
        weights: PackedWeights,
        device: torch.device,
        dtype: str,
        num_threads: int | None = None,
        style: str = "",
    ) -> None:
        """style: one of `kernels.products.STYLES`, "" chooses by the number of streams; for tests and benchmarks."""
        if num_threads is not None:
            raise ConfigError("num_threads is for the cpu backend; triton runs on a GPU")
        self.config, self.device, self.dtype, self.style = weights.config, device, dtype, style
        self.matrix_type = getattr(torch, dtype)
        tensors = {
            name: tensor.to(device, self.matrix_type if is_matrix(name) else torch.float32).contiguous()
            for name, tensor in weights.tensors.items()
        }
        self.weights = PackedWeights(weights.config, tensors)
        self._schedules: OrderedDict[int, Schedule] = OrderedDict()
        self._lock = threading.Lock()  # buffers of a schedule are one call's at a time
        self._last: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._try_out()

    def _try_out(self) -> None:
        """One top frame of silence: what cannot be compiled or started shows while `auto` can still move on."""
        silence = torch.full((1, self.config.lookback), self.config.q_zero, device=self.device)
        try:
            self.prime(self.init_hidden(1), silence, silence)
        except Exception as error:  # Triton and the compilers that it starts raise whatever they like
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BackendUnavailable(f"its kernels cannot be compiled or started ({reason})") from error

    @torch.inference_mode()
    def generate(
        self,
        hidden: Hidden,
        history: Tensor,
        t: int,
        drawing: draw.Drawing,
        forced: Tensor,
    ) -> Tensor:
        """As `reference.ReferenceBackend.generate`. ValueError where a logit is not finite."""
        known = (forced >= 0).all(dim=0).tolist()
        truncate = 0 < drawing.top_k < self.config.q_levels or drawing.top_p < 1
        made = []
        with self._alone():
            schedule = self._schedule(forced.shape[0])
            schedule.prepare(truncate)
            for start in range(0, forced.shape[1], schedule.columns):
                stop = min(start + schedule.columns, forced.shape[1])
                levels = torch.cat((history, forced[:, start:stop]), dim=1)
                heat = drawing.temperature[:, start:stop]
                schedule.load(hidden, levels, t + start, drawing.randomness, heat, drawing.top_k, drawing.top_p)
                self._run(schedule, t + start, known[start:stop])
                schedule.save(hidden)
                made.append(schedule.read_levels(0, stop - start).long())
                history = torch.cat((history, made[-1]), dim=1)[:, -self.config.lookback :]
                if schedule.failed():
                    raise ValueError("a logit is not a finite number")
        return torch.cat(made, dim=1)

    def _run(self, schedule: "Schedule", t: int, known: list[bool]) -> None:
        """Samples from time t on, `known` where every stream is forced: step by step up to a period's beginning, then
        whole periods, then what is left."""
        lookback, steps = self.config.lookback, len(known)
        head = min(-t % lookback, steps)
        for step in range(head):
            schedule.step((t + step) % lookback, step, not known[step])
        schedule.advance(head)
        periods = (steps - head) // lookback
        for _ in range(periods):
            schedule.period()
        done = head + periods * lookback
        for step in range(done, steps):
            schedule.step(step - done, step - done, not known[step])

    def _schedule(self, streams: int) -> "Schedule":
        from samplernn_fast.kernels.schedule import Schedule

        if streams not in self._schedules:
            self._schedules[streams] = Schedule(self.weights, streams, self.device, self.style)
        self._schedules.move_to_end(streams)
        while len(self._schedules) > _KEPT_SCHEDULES:
            self._schedules.popitem(last=False)
        return self._schedules[streams]

    @contextlib.contextmanager
    def _alone(self):
        """One call at a time, on this device, after what the last call has started, on whichever stream that was."""
        with self._lock, self._on_device():
            if self._last is not None:
                torch.cuda.current_stream().wait_event(self._last)
            try:
                yield
            finally:
                if self.device.type == "cuda":
                    self._last = torch.cuda.current_stream().record_event()

    @contextlib.contextmanager
    def _on_device(self):
        """On this GPU, with float32 products that are float32 even where torch was told to round their inputs."""
        if self.device.type != "cuda":
            yield
            return
        chosen = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.cuda.device(self.device):
                yield
        finally:
            torch.set_float32_matmul_precision(chosen)

    @torch.inference_mode()
    def prime(self, hidden: Hidden, history: Tensor, levels: Tensor) -> None:
        """As `TeacherForced.prime`."""
        with self._on_device():
            super().prime(hidden, history, levels)

    def score(self, hidden: Hidden, levels: Tensor) -> Tensor:
        """As `TeacherForced.score`."""
        with self._on_device():
            return super().score(hidden, levels)

    def linear(self, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        """torch's product; matrices of bfloat16 take inputs rounded alike, and sums are float32."""
        from samplernn_fast.kernels.products import library_product

        if w.dtype == torch.float32:
            return linear(x, w, bias)
        rows = x.reshape(-1, x.shape[-1]).to(w.dtype)
        out = torch.empty(rows.shape[0], w.shape[0], device=x.device)
        library_product(rows, w, out)
        return (out if bias is None else out.add_(bias)).unflatten(0, x.shape[:-1])

    def scan(self, tier: int, layer: int, gates: Tensor, state: Tensor) -> Tensor:
        """As `TeacherForced.scan`: one launch for each frame; the state of one is the next one's input."""
        from samplernn_fast.kernels.cells import CellInput, CellScratch, CellWeights, launch_cell
        from samplernn_fast.kernels.products import blocks_for, style_for

        name, (frames, batch) = f"tier{tier}.", gates.shape[:2]
        inner = self.weights[name + "bias_n"][layer] if self.config.rnn == "gru" and self.config.reset_after else None
        weights = CellWeights(self.weights[name + "recurrent"][layer], inner)
        style = self.style or style_for(batch)
        blocks = blocks_for(style, self.config.dim, self.config.dim, self.matrix_type, self.device, weights.gates)
        scratch = CellScratch.make(batch, weights)
        out = torch.empty(frames + 1, batch, self.config.dim, dtype=self.matrix_type, device=self.device)
        out[0] = state[:, : self.config.dim]
        for frame in range(frames):
            given = CellInput(read=gates[frame])
            launch_cell(weights, given, out[frame], out[frame + 1], 0, state, state, scratch, blocks)
        return out[1:]
