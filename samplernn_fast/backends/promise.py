"""Whether a numeric mode keeps its promise for a model (`reference.modes.PROMISED_BITS`), measured before use."""

import math

import numpy as np
import torch
from torch import Tensor

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.reference.draw import Drawing, Randomness
from samplernn_fast.reference.modes import PROMISED_BITS
from samplernn_fast.reference.weights import PackedWeights

_STREAMS, _STEPS = 8, 128  # how much audio the modes are compared on: streams, and samples of each


class Promise:
    """Compares the modes of one model on audio that the model itself makes, from its first sound on.

    What is measured is the mean divergence of a mode's distributions from float32's. Sums of int8 are exact and those
    of bfloat16 differ by rounding only, so what a mode costs is measured on the CPU whichever backend will run it.
    Engines that the comparison needs are made once: `made` hands them on to whoever wants one of the same mode.
    """

    def __init__(self, weights: PackedWeights, num_threads: int | None = None) -> None:
        self._weights, self._num_threads = weights, num_threads
        self._made: dict[str, CpuBackend] = {}
        self._levels: Tensor | None = None

    def broken(self, mode: str) -> list[str]:
        """Why a mode would not keep its promise for this model; empty where it does."""
        exact, fast = (self._engine(name) for name in ("float32", mode))
        try:
            divergence = self._divergence(exact, fast)
        except ValueError as error:  # a logit that is not finite
            return [f"the model cannot be checked ({error})"]
        if divergence <= PROMISED_BITS[mode]:
            return []
        return [f"it would cost {divergence:.3g} bit a sample, more than {PROMISED_BITS[mode]}; use float32"]

    def made(self, mode: str) -> CpuBackend | None:
        """The engine of that mode on the CPU, where the comparison has made one."""
        return self._made.get(mode)

    def _engine(self, mode: str) -> CpuBackend:
        if mode not in self._made:
            self._made[mode] = CpuBackend(self._weights, torch.device("cpu"), mode, self._num_threads)
        return self._made[mode]

    def _divergence(self, exact: CpuBackend, fast: CpuBackend) -> float:
        """The mean divergence from float32, in bits per sample. Levels that float32 never draws cost nothing."""
        levels = self._audio(exact)
        p, q = (engine.score(engine.init_hidden(_STREAMS), levels) for engine in (exact, fast))
        apart = torch.where(p == -math.inf, 0.0, p.exp() * (p - q))
        return apart.sum(dim=-1).mean().item() / math.log(2)

    def _audio(self, exact: CpuBackend) -> Tensor:
        """Levels (B, L + T) that the model makes in float32, behind silence. ValueError where a logit is no number."""
        if self._levels is None:
            config = self._weights.config
            steps = config.lookback * max(1, _STEPS // config.lookback)
            silence = torch.full((_STREAMS, config.lookback), config.q_zero)
            free = torch.full((_STREAMS, steps), -1)
            drawing = Drawing(Randomness(0, np.arange(_STREAMS, dtype=np.uint32)), torch.ones(_STREAMS, steps))
            drawn = exact.generate(exact.init_hidden(_STREAMS), silence, 0, drawing, free)
            self._levels = torch.cat((silence, drawn), dim=1)
        return self._levels
