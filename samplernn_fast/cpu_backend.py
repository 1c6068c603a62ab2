"""The `cpu` backend: samplernn_fast._C, a C++ engine that knows no torch. This file only hands arrays over."""

import importlib
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from samplernn_fast import sampling
from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.errors import ConfigError
from samplernn_fast.weights import PackedWeights, packed_hidden

if TYPE_CHECKING:
    from samplernn_fast._C import ModelDims

Hidden = list[Tensor]

# Bits a sample that a mode may cost beside float32, on audio.
_PROMISED_BITS = {"bfloat16": 0.002, "int8": 0.005}
_CHECK_STREAMS, _CHECK_STEPS = 8, 128


class CpuBackend:
    """Native sampling on the CPU, any model, in float32, bfloat16 or int8 (see csrc/cpu/int8.h)."""

    name = "cpu"
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "int8")

    @staticmethod
    def unavailable_reasons(config: SampleRNNConfig, device: torch.device) -> list[str]:
        """Why this backend cannot run; empty when it can."""
        reasons = [] if device.type == "cpu" else [f"runs on the CPU, not on {device}"]
        try:
            importlib.import_module("samplernn_fast._C")
        except ImportError as error:
            reasons.append(f"the native part is not built ({error}); install a C++ compiler, then pip install -e .")
        return reasons

    def __init__(
        self,
        weights: PackedWeights,
        device: torch.device,
        dtype: str,
        num_threads: int | None = None,
        isa: str = "",
    ) -> None:
        """num_threads: None chooses by the work. isa: one of `_C.available_isas()`, "" for the best; for tests."""
        from samplernn_fast import _C

        self.config = weights.config
        self._h0 = [weights[f"tier{tier}.h0"].float() for tier in range(len(self.config.ratios))]
        tensors = {name: tensor.float().contiguous().numpy() for name, tensor in weights.tensors.items()}
        if num_threads is not None and not 1 <= num_threads <= 256:
            raise ConfigError(f"num_threads must be 1 to 256, got {num_threads}")
        self.native = _C.CpuEngine(model_dims(self.config), tensors, isa, dtype, num_threads or 0)

    @classmethod
    def dtype_reasons(cls, weights: PackedWeights, device: torch.device, dtype: str) -> list[str]:
        """Why a numeric mode would not keep its promise for this model; empty when it does.

        bfloat16 and int8 promise a likelihood within 0.002 and 0.005 bit a sample of float32's on real audio. What is
        measured here is the mean divergence from float32 along audio that the model makes itself, from its first sound
        on.
        """
        if dtype == "float32":
            return []
        fast, exact = cls(weights, device, dtype), cls(weights, device, "float32")
        config = weights.config
        steps = config.lookback * max(1, _CHECK_STEPS // config.lookback)
        numbers = np.arange(_CHECK_STREAMS, dtype=np.uint32)
        levels = torch.full((_CHECK_STREAMS, config.lookback), config.q_zero)
        try:
            drawn = exact.generate(
                exact.init_hidden(_CHECK_STREAMS),
                levels,
                0,
                sampling.Randomness(0, numbers),
                torch.ones(_CHECK_STREAMS, steps),
                0,
                1.0,
                torch.full((_CHECK_STREAMS, steps), -1),
            )
        except ValueError as error:
            return [f"the model cannot be checked ({error})"]
        levels = torch.cat((levels, drawn), dim=1)
        p, q = (backend.score(backend.init_hidden(_CHECK_STREAMS), levels) for backend in (exact, fast))
        apart = torch.where(p == -math.inf, 0.0, p.exp() * (p - q))  # levels that never come cost nothing
        divergence, promised = apart.sum(dim=-1).mean().item() / math.log(2), _PROMISED_BITS[dtype]
        if divergence <= promised:
            return []
        return [f"it would cost {divergence:.3g} bit a sample, more than {promised}; use float32"]

    def init_hidden(self, streams: int) -> Hidden:
        """The initial hidden state of every tier, lowest first: (n, B, H) each."""
        return [h0.unsqueeze(1).repeat(1, streams, 1) for h0 in self._h0]

    def generate(
        self,
        hidden: Hidden,
        history: Tensor,
        t: int,
        randomness: sampling.Randomness,
        temperature: Tensor,
        top_k: int,
        top_p: float,
        forced: Tensor,
    ) -> Tensor:
        """As `reference.ReferenceBackend.generate`."""
        levels = torch.cat((history, forced), dim=1).contiguous()
        self.native.generate(
            [h.numpy() for h in hidden],
            levels.numpy(),
            t,
            randomness.draws(t, forced.shape[1]).to(torch.uint32).contiguous().numpy(),
            temperature.float().contiguous().numpy(),
            top_k,
            top_p,
        )
        return levels[:, self.config.lookback :].clone()

    def prime(self, hidden: Hidden, history: Tensor, levels: Tensor) -> None:
        """Advance `hidden` over known levels (B, n), n a multiple of L, starting where a top frame starts."""
        both = torch.cat((history, levels), dim=1).contiguous()
        self.native.prime([h.numpy() for h in hidden], both.numpy(), 0)

    def score(self, hidden: Hidden, levels: Tensor) -> Tensor:
        """Log-probabilities (B, T, Q) of levels (B, L + T), T a multiple of L; advances `hidden`."""
        logits = self.native.score([h.numpy() for h in hidden], levels.contiguous().numpy())
        return torch.log_softmax(torch.from_numpy(logits), dim=-1)


def model_dims(config: SampleRNNConfig) -> "ModelDims":
    """The sizes as `csrc/model/layout.h` has them."""
    from samplernn_fast import _C

    return _C.ModelDims(
        dim=config.dim,
        q_levels=config.q_levels,
        n_rnn=config.n_rnn,
        taps=config.frame_sizes[0],
        hidden=packed_hidden(config),
        lstm=config.rnn == "lstm",
        reset_after=config.reset_after,
        skips=config.skip != "none",
        readers_all=config.skip == "full",
        frame_sizes=list(config.frame_sizes[1:]),
    )
