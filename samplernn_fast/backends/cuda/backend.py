"""The `cuda` backend: one persistent kernel walks all tiers for thousands of samples (csrc/cuda/device/persistent.cuh).

Where the driver does not let all blocks of that kernel run at the same time, every stage of a sample is a kernel
(csrc/cuda/device/stages.cuh).
"""

import numpy as np
import torch

from samplernn_fast.backends.cuda import constants
from samplernn_fast.backends.cuda.call import Call
from samplernn_fast.backends.cuda.gpu import missing
from samplernn_fast.backends.cuda.launcher import Launcher, ordinal
from samplernn_fast.backends.interface import missing_taps
from samplernn_fast.errors import BackendUnavailable, ConfigError, DeviceError
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layout import Hidden
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.modes import MODES, PROMISED_BITS
from samplernn_fast.reference.randomness import Drawing, MixedDrawing


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
        `Launcher.phase_times`, which slows it down a little. BackendUnavailable if the kernels cannot be compiled or
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
        try:  # One sample of one stream shows what cannot be compiled or started.
            silence = np.full((1, self.config.lookback), self.config.q_zero)
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
