"""The `cpu` backend: samplernn_fast._C, a C++ engine. This file only hands arrays over, and needs no torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from samplernn_fast.errors import ConfigError, NotFinite
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layout import Hidden, packed_hidden
from samplernn_fast.native import native, why_missing
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.limits import THREADS
from samplernn_fast.reference.modes import INT4, MODES, PROMISED_BITS, FourBits
from samplernn_fast.reference.randomness import Drawing, MixedDrawing

if TYPE_CHECKING:
    from samplernn_fast._C import ModelDims

_AT_ONCE = 1 << 16  # logits whose logarithms are taken at once, because they fit into a cache


class CpuBackend:
    """Native sampling on the CPU, any model, in four numeric modes; see `interface.Backend` for the calls."""

    name = "cpu"
    dtypes: tuple[str, ...] = (*MODES, INT4)
    promised: tuple[str, ...] = tuple(PROMISED_BITS)
    packed = True
    compiled_here = False
    batch_invariant = True
    mixes = True
    hidden_on_device = False

    @staticmethod
    def unavailable_reasons(config: PackedConfig, device: str) -> list[str]:
        """Why this backend cannot run; empty when it can."""
        reasons = [] if device == "cpu" else [f"runs on the CPU, not on {device}"]
        missing = why_missing()
        return [*reasons, missing] if missing else reasons

    def __init__(
        self,
        weights: PackedWeights,
        device: str,
        dtype: str,
        num_threads: int | None = None,
        isa: str = "",
        four_bits: Mapping[str, FourBits] | None = None,
    ) -> None:
        """num_threads: None chooses by the work. isa: one of `_C.available_isas()`, "" for the best; for tests.
        four_bits: the matrices of four bits, for the mode int4 alone, which `Promise` chooses; those that are left out
        have eight."""
        if (four_bits is not None) != (dtype == INT4):
            raise ConfigError(f"four_bits are for the mode {INT4}, which needs them, and the mode is {dtype}")
        self.config, self.device, self.dtype = weights.config, device, dtype
        arrays = weights.float32()
        self._h0 = [arrays[f"tier{tier}.h0"] for tier in range(len(self.config.ratios))]
        if num_threads is not None:
            THREADS.check("num_threads", num_threads, whole=True)
        given = {name: one.arrays for name, one in (four_bits or {}).items()}
        self.four_bits = frozenset(given)
        self.native = native().CpuEngine(model_dims(self.config), arrays, isa, dtype, num_threads or 0, given)

    def group_streams(self, streams: int) -> int:
        """All of them: they are one group here, whichever thread makes which."""
        return streams

    def init_hidden(self, streams: int, context: np.ndarray | None = None) -> Hidden:
        """The initial hidden state of every tier, lowest first: (n, B, H) each."""
        return [np.repeat(h0[:, None], streams, axis=1) for h0 in self._h0]

    def generate(
        self, hidden: Hidden, history: np.ndarray, t: int, drawing: Drawing | MixedDrawing, forced: np.ndarray
    ) -> np.ndarray:
        """The levels (B, n) from time t on; advances `hidden`. NotFinite where a logit is not finite."""
        levels = np.concatenate((history, forced), axis=1)
        how = drawing if isinstance(drawing, MixedDrawing) else MixedDrawing.of(drawing, t)
        temperature = np.ascontiguousarray(how.temperature)
        given = how.seeds, how.streams, how.times, temperature, how.top_k, how.top_p
        try:
            self.native.generate(hidden, levels, t, *given)
        except native().NotFiniteError as error:
            raise NotFinite(error) from None
        return levels[:, self.config.lookback :].copy()

    def prime(self, hidden: Hidden, history: np.ndarray, levels: np.ndarray) -> None:
        """Advance `hidden` over known levels (B, n), n a multiple of L, starting where a top frame starts."""
        self.native.prime(hidden, np.concatenate((history, levels), axis=1), 0)

    def score(self, hidden: Hidden, levels: np.ndarray) -> np.ndarray:
        """Log-probabilities (B, T, Q) of levels (B, L + T), T a multiple of L; advances `hidden`."""
        logits = self.native.score(hidden, np.ascontiguousarray(levels))
        rows, size = logits.reshape(-1, logits.shape[-1]), max(1, _AT_ONCE // logits.shape[-1])
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            part -= part.max(axis=1, keepdims=True)
            part -= np.log(np.exp(part).sum(axis=1, keepdims=True))
        return logits


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
