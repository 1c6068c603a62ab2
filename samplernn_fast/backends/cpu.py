"""The `cpu` backend: samplernn_fast._C, a C++ engine that knows no torch. This file only hands arrays over."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from samplernn_fast.models.config import PackedConfig
from samplernn_fast.native import native, why_missing
from samplernn_fast.reference.draw import Drawing
from samplernn_fast.reference.known_levels import Hidden
from samplernn_fast.reference.limits import THREADS
from samplernn_fast.reference.modes import MODES, PROMISED_BITS
from samplernn_fast.reference.weights import PackedWeights, packed_hidden

if TYPE_CHECKING:
    from samplernn_fast._C import ModelDims


class CpuBackend:
    """Native sampling on the CPU, any model, in float32, bfloat16 or int8; see `interface.Backend` for the calls."""

    name = "cpu"
    dtypes: tuple[str, ...] = MODES
    promised: tuple[str, ...] = tuple(PROMISED_BITS)
    packed = True
    compiled_here = False

    @staticmethod
    def unavailable_reasons(config: PackedConfig, device: torch.device) -> list[str]:
        """Why this backend cannot run; empty when it can."""
        reasons = [] if device.type == "cpu" else [f"runs on the CPU, not on {device}"]
        missing = why_missing()
        return [*reasons, missing] if missing else reasons

    def __init__(
        self,
        weights: PackedWeights,
        device: torch.device,
        dtype: str,
        num_threads: int | None = None,
        isa: str = "",
    ) -> None:
        """num_threads: None chooses by the work. isa: one of `_C.available_isas()`, "" for the best; for tests."""
        self.config, self.device, self.dtype = weights.config, device, dtype
        weights = weights.to("cpu", torch.float32)
        self._h0 = [weights[f"tier{tier}.h0"] for tier in range(len(self.config.ratios))]
        tensors = {name: tensor.numpy() for name, tensor in weights.tensors.items()}
        if num_threads is not None:
            THREADS.check("num_threads", num_threads, whole=True)
        self.native = native().CpuEngine(model_dims(self.config), tensors, isa, dtype, num_threads or 0)

    def group_streams(self, streams: int) -> int:
        """All of them: they are one group here, whichever thread makes which."""
        return streams

    def init_hidden(self, streams: int, context: Tensor | None = None) -> Hidden:
        """The initial hidden state of every tier, lowest first: (n, B, H) each."""
        return [h0.unsqueeze(1).repeat(1, streams, 1) for h0 in self._h0]

    def generate(self, hidden: Hidden, history: Tensor, t: int, drawing: Drawing, forced: Tensor) -> Tensor:
        """The levels (B, n) from time t on; advances `hidden`. ValueError where a logit is not finite."""
        levels = torch.cat((history, forced), dim=1).contiguous()
        self.native.generate(
            [h.numpy() for h in hidden],
            levels.numpy(),
            t,
            drawing.randomness.draws(t, forced.shape[1]).to(torch.uint32).contiguous().numpy(),
            drawing.temperature.float().contiguous().numpy(),
            drawing.top_k,
            drawing.top_p,
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


def model_dims(config: PackedConfig) -> "ModelDims":
    """The sizes as `csrc/model/layout.h` has them."""
    dims: ModelDims = native().ModelDims(
        dim=config.dim,
        q_levels=config.q_levels,
        n_rnn=config.n_rnn,
        taps=config.taps,
        hidden=packed_hidden(config),
        lstm=config.rnn == "lstm",
        reset_after=config.reset_after,
        skips=config.skip != "none",
        readers_all=config.skip == "full",
        reads_levels=config.reads_levels,
        frame_sizes=list(config.frame_sizes[1:]),
    )
    return dims
