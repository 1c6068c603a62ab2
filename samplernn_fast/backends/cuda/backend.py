"""The `cuda` backend: one persistent kernel walks all tiers for thousands of samples (csrc/cuda/device/persistent.cuh).

Where the driver does not let all blocks of that kernel run at the same time, every stage of a sample is a kernel
(csrc/cuda/device/stages.cuh).
"""

import functools
import logging
import threading
import time

import numpy as np
import torch

from samplernn_fast.backends.cuda import constants, first_look
from samplernn_fast.backends.cuda.call import Call
from samplernn_fast.backends.cuda.gpu import missing
from samplernn_fast.backends.cuda.launcher import Launcher, launch_steps, ordinal
from samplernn_fast.backends.cuda.program import Program
from samplernn_fast.backends.interface import missing_taps
from samplernn_fast.errors import BackendUnavailable, ConfigError, DeviceError, SampleRNNError, is_out_of_memory
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layout import Hidden
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.modes import MODES, PROMISED_BITS
from samplernn_fast.reference.randomness import Drawing, MixedDrawing, Randomness


class CudaBackend:
    """Models whose sample-level MLP reads samples, in float32, bfloat16 or int8, on a GPU of compute capability 8.0 or
    newer."""

    name = "cuda"
    dtypes: tuple[str, ...] = MODES
    promised: tuple[str, ...] = tuple(mode for mode in MODES if mode in PROMISED_BITS)
    packed = True
    compiled_here = True
    batch_invariant = True
    mixes = True
    hidden_on_device = True

    @staticmethod
    def unavailable_reasons(config: PackedConfig, device: str) -> list[str]:
        """Why this backend cannot run; empty when it can."""
        if not device.startswith("cuda"):
            return [f"runs on a CUDA GPU, not on {device}"]
        return missing_taps(config) or missing(ordinal(torch.device(device)))

    def __init__(
        self,
        weights: PackedWeights,
        device: str,
        dtype: str,
        num_threads: int | None = None,
        exchange: str = "auto",
        profile: bool = False,
    ) -> None:
        """exchange: how blocks that make streams together tell each other their results, one of `constants.CHOICES`;
        "launches" is taken where the driver refuses another. profile: time the phases of a persistent kernel, for
        `Launcher.phase_times`, which slows it down a little; its warps wait for packets as is best on an H200
        (`first_look`), and not as is measured to be best here. BackendUnavailable if the kernels cannot be compiled or
        started."""
        if num_threads is not None:
            raise ConfigError("num_threads is for the cpu backend; cuda takes the whole GPU")
        if exchange not in constants.CHOICES:
            raise ConfigError(f"exchange must be one of {', '.join(constants.CHOICES)}, got {exchange!r}")
        where = torch.device(device)
        if where.type == "cuda":  # the same GPU whichever becomes torch's current one
            where = torch.device("cuda", ordinal(where))
        self.config, self.device, self.dtype = weights.config, where, dtype
        self._h0 = [weights[f"tier{tier}.h0"].astype(np.float32) for tier in range(len(self.config.ratios))]
        self.launcher = Launcher(weights, where, dtype, exchange, profile)
        self._measured: set[int] = set()  # The waits of these numbers of streams have been measured.
        self._measures = first_look.measurable(where) and not profile
        self._measuring = threading.Lock()
        try:  # One sample of one stream shows what cannot be compiled or started.
            silence = self._silence(1)
            self.prime(self.init_hidden(1), silence, silence[:, :1])
        except DeviceError as error:
            raise BackendUnavailable(str(error)) from None

    def group_streams(self, streams: int) -> int:
        """The streams of one group of thread blocks."""
        return self.launcher.program(streams).group.batch

    def init_hidden(self, streams: int, context: np.ndarray | None = None) -> Hidden:
        """The initial hidden state of every tier, lowest first: (n, B, H) each."""
        return [np.repeat(h0[:, None], streams, axis=1) for h0 in self._h0]

    @torch.inference_mode()
    def generate(
        self, hidden: Hidden, history: np.ndarray, t: int, drawing: Drawing | MixedDrawing, forced: np.ndarray
    ) -> np.ndarray:
        """The levels (B, n) from time t on; advances `hidden`.

        NotFinite where a logit is not finite, DeviceError where the GPU fails; `hidden` is then as it was.
        """
        self._measure_first_look(Call.program_streams(drawing, forced.shape[0]))
        return Call(self.launcher, hidden, history, t, forced, drawing).run(hidden)

    @torch.inference_mode()
    def prime(self, hidden: Hidden, history: np.ndarray, levels: np.ndarray) -> None:
        """Advance `hidden` over known levels (B, n), n a multiple of L, starting where a top frame starts."""
        Call(self.launcher, hidden, history, 0, levels, Drawing.unused(levels)).run(hidden)

    @torch.inference_mode()
    def score(self, hidden: Hidden, levels: np.ndarray) -> np.ndarray:
        """Log-probabilities (B, T, Q) of levels (B, L + T), T a multiple of L; advances `hidden`."""
        history, known = np.split(levels, [self.config.lookback], axis=1)
        logits = torch.empty(*known.shape, self.config.q_levels, device=self.device)
        Call(self.launcher, hidden, history, 0, known, Drawing.unused(known), logits).run(hidden)
        return torch.log_softmax(logits, dim=-1).cpu().numpy()

    def _measure_first_look(self, streams: int) -> None:
        """Find out, when so many streams are first drawn, how long warps had best wait before they look for packets.

        It takes some 50 launches of up to 1,024 samples, once: what was found is kept in the user's cache. Where a
        launch fails the wait stays as it is.
        """
        if not self._measures or streams in self._measured:
            return
        with self._measuring:
            program = self.launcher.program(streams)
            few = program.group.batch <= first_look.MOST_STREAMS
            if streams not in self._measured and program.waits and few:
                self._search(streams, program)
            self._measured.add(streams)

    def _search(self, streams: int, program: Program) -> None:
        """Give a program the wait with which it is fastest."""
        ticks = program.first_look
        try:
            ticks = first_look.kept_or_best(program.key, ticks, functools.partial(self._seconds, streams, program))
        except (SampleRNNError, RuntimeError) as error:
            if not isinstance(error, SampleRNNError) and not is_out_of_memory(error):
                raise
            logging.getLogger(__name__).debug("the wait before looks was not measured: %s", error)
        finally:
            self.launcher.wait_before_looks(streams, program.key, ticks)

    def _seconds(self, streams: int, program: Program, ticks: int) -> float:
        """The time of a quarter of a whole launch of a program with a wait, from silence. DeviceError where the
        launcher has another program by now."""
        self.launcher.wait_before_looks(streams, program.key, ticks)
        steps = min(self.launcher.steps(streams), -(-launch_steps(streams) // 4))
        silence, undrawn = self._silence(streams), np.full((streams, steps), -1)
        drawing = Drawing(Randomness(0, np.zeros(streams, np.uint32)), np.ones(undrawn.shape, np.float32))
        hidden = [torch.from_numpy(one).to(self.device) for one in self.init_hidden(streams)]
        call = Call(self.launcher, hidden, silence, 0, undrawn, drawing)
        began = time.perf_counter()
        call.run(hidden)
        taken = time.perf_counter() - began
        if self.launcher.program(streams).key != program.key:
            raise DeviceError("the driver no longer takes the kernel that was to be timed")
        return taken

    def _silence(self, streams: int) -> np.ndarray:
        """The history (B, L) before a first sample."""
        return np.full((streams, self.config.lookback), self.config.q_zero)
