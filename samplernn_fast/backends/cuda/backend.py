"""The `cuda` backend: one persistent kernel walks all tiers for thousands of samples (csrc/cuda/device/persistent.cuh).

Where the driver does not let all blocks of that kernel run at the same time, every stage of a sample is a kernel
(csrc/cuda/device/stages.cuh).
"""

import torch
from torch import Tensor

from samplernn_fast.backends.cuda import constants
from samplernn_fast.backends.cuda.call import Call
from samplernn_fast.backends.cuda.gpu import missing
from samplernn_fast.backends.cuda.launcher import Launcher, ordinal
from samplernn_fast.backends.interface import missing_taps
from samplernn_fast.errors import BackendUnavailable, ConfigError, DeviceError
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.reference.draw import Drawing
from samplernn_fast.reference.known_levels import Hidden
from samplernn_fast.reference.modes import MODES, PROMISED_BITS
from samplernn_fast.reference.weights import PackedWeights


class CudaBackend:
    """Any model in float32, bfloat16 or int8 on a GPU of compute capability 8.0 or newer."""

    name = "cuda"
    dtypes: tuple[str, ...] = MODES
    promised: tuple[str, ...] = tuple(PROMISED_BITS)
    packed = True
    compiled_here = True

    @staticmethod
    def unavailable_reasons(config: PackedConfig, device: torch.device) -> list[str]:
        """Why this backend cannot run; empty when it can."""
        if device.type != "cuda":
            return [f"runs on a CUDA GPU, not on {device}"]
        return missing_taps(config) or missing(ordinal(device))

    def __init__(
        self,
        weights: PackedWeights,
        device: torch.device,
        dtype: str,
        num_threads: int | None = None,
        exchange: str = "auto",
        profile: bool = False,
        launcher: type[Launcher] = Launcher,
    ) -> None:
        """exchange: how blocks that make streams together tell each other their results, one of `constants.CHOICES`;
        "launches" is taken where the driver refuses another. profile: time the phases of a persistent kernel, for
        `Launcher.phase_times`, which slows it down a little. launcher: another kind, for measurements.
        BackendUnavailable if the kernels cannot be compiled or started."""
        if num_threads is not None:
            raise ConfigError("num_threads is for the cpu backend; cuda takes the whole GPU")
        if exchange not in constants.CHOICES:
            raise ConfigError(f"exchange must be one of {', '.join(constants.CHOICES)}, got {exchange!r}")
        if device.type == "cuda":  # the same GPU whichever becomes torch's current one
            device = torch.device("cuda", ordinal(device))
        self.config, self.device, self.dtype = weights.config, device, dtype
        self._h0 = torch.stack([weights[f"tier{tier}.h0"] for tier in range(len(self.config.ratios))]).float()
        self.launcher = launcher(weights, device, dtype, exchange, profile)
        try:  # One sample of one stream shows what cannot be compiled or started.
            silence = torch.full((1, self.config.lookback), self.config.q_zero, device=device)
            self.prime(self.init_hidden(1), silence, silence[:, :1])
        except DeviceError as error:
            raise BackendUnavailable(str(error)) from None

    def group_streams(self, streams: int) -> int:
        """The streams of one group of thread blocks."""
        return self.launcher.program(streams).group_streams

    def init_hidden(self, streams: int, context: Tensor | None = None) -> Hidden:
        """The initial hidden state of every tier, lowest first: (n, B, H) each."""
        return list(self._h0.to(self.device).unsqueeze(2).repeat(1, 1, streams, 1).unbind(0))

    @torch.inference_mode()
    def generate(self, hidden: Hidden, history: Tensor, t: int, drawing: Drawing, forced: Tensor) -> Tensor:
        """The levels (B, n) from time t on, on the CPU; advances `hidden`.

        ValueError where a logit is not a number, DeviceError where the GPU fails; `hidden` is then as it was.
        """
        return Call(self.launcher, hidden, history, t, forced, drawing).run(hidden)

    @torch.inference_mode()
    def prime(self, hidden: Hidden, history: Tensor, levels: Tensor) -> None:
        """Advance `hidden` over known levels (B, n), n a multiple of L, starting where a top frame starts."""
        Call(self.launcher, hidden, history, 0, levels, Drawing.unused(levels)).run(hidden)

    @torch.inference_mode()
    def score(self, hidden: Hidden, levels: Tensor) -> Tensor:
        """Log-probabilities (B, T, Q) of levels (B, L + T), T a multiple of L; advances `hidden`."""
        history, known = levels.split([self.config.lookback, levels.shape[1] - self.config.lookback], dim=1)
        logits = torch.empty(*known.shape, self.config.q_levels, device=self.device)
        Call(self.launcher, hidden, history, 0, known, Drawing.unused(known), logits).run(hidden)
        return torch.log_softmax(logits, dim=-1)
