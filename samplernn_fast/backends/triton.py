"""The `triton` backend: the kernels of samplernn_fast.kernels on an NVIDIA GPU, a CUDA graph for each period of the top
tier. Triton is imported when a model is packed, not before, because that takes a second."""

import contextlib
import importlib
import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from samplernn_fast.backends.interface import missing_taps
from samplernn_fast.errors import BackendUnavailable, ConfigError, NotFinite
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layout import Hidden, is_matrix
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.known_levels import TeacherForced
from samplernn_fast.reference.randomness import Drawing
from samplernn_fast.reference.weights import DeviceWeights, as_tensor, moved

if TYPE_CHECKING:
    from samplernn_fast.kernels.walk import Walk

_KEPT_WALKS = 4  # most numbers of streams whose buffers and graphs are kept
_TILE_STREAMS = 16  # the smallest tile of kernels/product.py; larger ones are whole numbers of it
_OLDEST = (8, 0)  # the lowest compute capability that the kernels run on


class TritonBackend(TeacherForced):
    """Sampling on NVIDIA GPUs, for any model. In mode bfloat16 the weights and inputs of products are bfloat16, and
    their sums float32."""

    name = "triton"
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    promised: tuple[str, ...] = ("bfloat16",)
    packed = True
    compiled_here = True
    batch_invariant = False
    mixes = False
    hidden_on_device = True

    @staticmethod
    def unavailable_reasons(config: PackedConfig, device: str) -> list[str]:
        """Why this backend cannot run; empty when it can. Without a GPU it can in Triton's interpreter only."""
        if found := missing_taps(config):
            return found
        elsewhere = [f"runs on NVIDIA GPUs, not on {device}"]
        on_gpu = device.startswith("cuda")
        if not on_gpu and not os.environ.get("TRITON_INTERPRET"):
            return elsewhere  # before Triton is imported
        try:
            triton = importlib.import_module("triton")
        except ImportError as error:
            return [f"Triton cannot be imported ({error}); it comes with torch for CUDA, or by pip install triton"]
        if not on_gpu:
            return [] if triton.knobs.runtime.interpret else elsewhere
        if torch.version.hip is not None:
            return ["runs on NVIDIA GPUs, and this torch is built for AMD's"]
        capability = torch.cuda.get_device_capability(device)
        if capability < _OLDEST:
            return [f"needs a GPU of compute capability 8.0 or newer, {device} has {capability[0]}.{capability[1]}"]
        return []

    def __init__(
        self,
        weights: PackedWeights,
        device: str,
        dtype: str,
        num_threads: int | None = None,
        style: str = "",
    ) -> None:
        """style: one of `kernels.product.STYLES`, for tests and benchmarks; "" chooses by the number of streams."""
        if num_threads is not None:
            raise ConfigError("num_threads is for the cpu backend; triton runs on a GPU")
        self.config, self.device, self.dtype, self.style = weights.config, torch.device(device), dtype, style
        self.matrix_type = getattr(torch, dtype)
        self.weights = DeviceWeights.of(weights, device, torch.float32)
        for name in filter(is_matrix, self.weights.tensors):  # rounded once, from float64
            self.weights.tensors[name] = torch.tensor(weights[name], dtype=self.matrix_type, device=device)
        self._walks: OrderedDict[int, Walk] = OrderedDict()
        self._lock = threading.Lock()  # a walk's buffers can serve one call at a time
        self._last: torch.cuda.Event | None = None  # the end of what the last call has started
        if self.device.type == "cuda":
            self._try_out()

    def _try_out(self) -> None:
        """Prime one top frame of silence. A kernel that cannot be compiled or started fails here, while `auto` can take
        another backend."""
        silence = np.full((1, self.config.lookback), self.config.q_zero)
        try:
            self.prime(self.init_hidden(1), silence, silence)
        except Exception as error:  # Triton and the compilers that it starts raise errors of any class
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BackendUnavailable(f"its kernels cannot be compiled or started ({reason})") from error

    def group_streams(self, streams: int) -> int:
        """The streams of one tile of a matrix product, or all where they are fewer."""
        return min(streams, _TILE_STREAMS)

    @torch.inference_mode()
    def generate(self, hidden: Hidden, history: np.ndarray, t: int, drawing: Drawing, forced: np.ndarray) -> np.ndarray:
        """Levels of n samples, (B, n); `ReferenceBackend.generate` says what the arguments are. Raises NotFinite where
        a logit is not finite."""
        truncate = 0 < drawing.top_k < self.config.q_levels or drawing.top_p < 1
        recent, wanted = as_tensor(history, self.device).int(), as_tensor(forced, self.device).int()
        known: list[bool] = (wanted >= 0).all(dim=0).tolist()
        made: list[Tensor] = []
        with self._alone(), moved(hidden, self.device) as states:
            walk = self._walk(len(forced))
            walk.prepare(truncate)
            for start in range(0, forced.shape[1], walk.columns):
                stop = min(start + walk.columns, forced.shape[1])
                levels = torch.cat((recent, wanted[:, start:stop]), dim=1)
                walk.load(states, levels, t + start, drawing.slice(start, stop))
                self._run(walk, t + start, known[start:stop])
                walk.save(states)
                made.append(walk.read_levels(0, stop - start).clone())
                recent = torch.cat((recent, made[-1]), dim=1)[:, -self.config.lookback :]
                if walk.failed():
                    raise NotFinite("a logit is not a finite number")
        levels = torch.cat(made, dim=1)
        if self.config.q_levels <= 256:
            levels = levels.byte()  # a quarter of what would have to be copied to the host
        return levels.cpu().numpy().astype(np.int64)

    def _run(self, walk: "Walk", t: int, known: list[bool]) -> None:
        """Make samples from time t on: single steps up to the first period that starts, then whole periods, then single
        steps. known: whether a sample is forced in every stream, so that a single step needs no draw."""
        lookback, steps = self.config.lookback, len(known)
        head = min(-t % lookback, steps)
        for step in range(head):
            walk.step((t + step) % lookback, step, not known[step])
        walk.advance(head)
        periods = (steps - head) // lookback
        for _ in range(periods):
            walk.period()
        done = head + periods * lookback
        for step in range(done, steps):
            walk.step(step - done, step - done, not known[step])

    def _walk(self, streams: int) -> "Walk":
        """The walk for a number of streams, made or kept. The one that was not used for longest is dropped."""
        from samplernn_fast.kernels.walk import Walk

        if streams not in self._walks:
            self._walks[streams] = Walk(self.weights, streams, self.device, self.style)
        self._walks.move_to_end(streams)
        while len(self._walks) > _KEPT_WALKS:
            self._walks.popitem(last=False)
        return self._walks[streams]

    @contextlib.contextmanager
    def _alone(self):
        """Let one call run at a time, on this device, and after all that the last call has started, even on another
        cuda_stream."""
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
        """Select this GPU, and float32 products without rounded inputs (TF32), whatever torch is set to."""
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
    def prime(self, hidden: Hidden, history: np.ndarray, levels: np.ndarray) -> None:
        """Advance `hidden` over known levels; see `TeacherForced.prime`."""
        with self._on_device():
            super().prime(hidden, history, levels)

    def score(self, hidden: Hidden, levels: np.ndarray) -> np.ndarray:
        """Log-probabilities of known levels; see `TeacherForced.score`."""
        with self._on_device():
            return super().score(hidden, levels)

    def linear(self, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        """x times w plus bias, by torch. For a bfloat16 matrix x is rounded to bfloat16; sums are float32."""
        from samplernn_fast.kernels.product import library_product

        if w.dtype == torch.float32:
            return linear(x, w, bias)
        rows = x.reshape(-1, x.shape[-1]).to(w.dtype)
        out = torch.empty(rows.shape[0], w.shape[0], device=x.device)
        library_product(rows, w, out)
        return (out if bias is None else out.add_(bias)).unflatten(0, x.shape[:-1])

    def scan(self, tier: int, layer: int, gates: Tensor, state: Tensor) -> Tensor:
        """One layer over all frames, frame by frame, each a step of its cell; see `TeacherForced.scan`."""
        from samplernn_fast.kernels.cells import CellScratch, CellStep, CellWeights, launch_cell
        from samplernn_fast.kernels.product import blocks_for, style_for

        name, (frames, streams) = f"tier{tier}.", gates.shape[:2]
        bias_n = self.weights[name + "bias_n"][layer] if self.config.rnn == "gru" and self.config.reset_after else None
        weights = CellWeights(self.weights[name + "recurrent"][layer], bias_n)
        style = self.style or style_for(streams, self.matrix_type)
        blocks = blocks_for(style, self.config.dim, self.config.dim, self.matrix_type, self.device, weights.gates)
        scratch = CellScratch.make(streams, weights)
        out = torch.empty(frames + 1, streams, self.config.dim, dtype=self.matrix_type, device=self.device)
        out[0] = state[:, : self.config.dim]
        for frame in range(frames):
            step = CellStep(state, state, hidden=out[frame], new_hidden=out[frame + 1], conditioning=gates[frame])
            launch_cell(weights, step, scratch, blocks)
        return out[1:]
