"""What an engine needs of a backend. `reference.backend.ReferenceBackend` defines what every call computes."""

from typing import Any, Protocol

import numpy as np

from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layout import Hidden


def missing_taps(config: PackedConfig) -> list[str]:
    """Why kernels whose MLP reads samples cannot play a model; empty where they can, as `unavailable_reasons`."""
    return [] if config.taps else [f"has no kernels for {config.system}, whose MLP reads no samples"]


class Backend(Protocol):
    """One model's weights, ready to make audio on one device in one numeric mode. Letters as in `models.layout`.

    Calls take and return NumPy arrays on every device; what a backend computes with is its own affair. Levels are
    int64. Calls that advance a hidden state change its arrays in place. A backend that computes with torch also takes
    tensors on its device, and replaces them in the list, so that a GPU copies nothing between two calls.
    """

    name: str
    """What users call it: in the API, on the command line, in benchmarks and in tests."""
    dtypes: tuple[str, ...]
    """Its numeric modes; the first one is what "auto" takes."""
    promised: tuple[str, ...]
    """The modes that are offered only for a model for which they keep their promise."""
    packed: bool
    """This says whether it plays packed weights, which most systems with an RNN have, or the model itself."""
    compiled_here: bool
    """Whether its kernels are compiled on the user's machine, so that their first levels are checked."""
    batch_invariant: bool
    """Whether a stream's levels are the same, bit for bit, whatever runs beside it in the same call."""
    mixes: bool
    """Whether the streams of one call may be drawn in different ways: `generate` takes a `MixedDrawing` too."""
    hidden_on_device: bool
    """This says whether hidden states should be handed over as tensors on its device."""
    dtype: str
    """The numeric mode of this object."""
    device: Any
    """Where it computes, as `str` says it: cpu, cuda:0."""

    @staticmethod
    def unavailable_reasons(config: Any, device: str) -> list[str]:
        """Why it cannot run such a model on that device, a line for each reason; empty where it can. config: of a
        system that it plays, packed or not."""
        ...

    def __init__(self, weights: Any, device: str, dtype: str, num_threads: int | None = None) -> None:
        """weights: `PackedWeights`, or an `AudioModel` where `packed` is False, which is left as it is.

        Raises BackendUnavailable where it cannot be started after all, ConfigError for settings it has not.
        """
        ...

    def group_streams(self, streams: int) -> int:
        """How many neighbouring streams are computed together, where there are `streams`: groups begin at multiples of
        it. What goes wrong at the border of a group shows in its first or its last stream."""
        ...

    def init_hidden(self, streams: int, context: np.ndarray | None = None) -> Hidden:
        """The hidden state before the first sample, behind levels `context` (B, L) or endless silence. That of tiers
        is the learned initial state behind either, because they read the context when their first frame starts."""
        ...

    def prime(self, hidden: Hidden, history: np.ndarray, levels: np.ndarray) -> None:
        """Advance `hidden` over known levels (B, n) behind the history (B, L): whole top frames."""
        ...

    def score(self, hidden: Hidden, levels: np.ndarray) -> np.ndarray:
        """Log-probabilities (B, T, Q) of levels (B, L + T), T whole top frames; advances `hidden`."""
        ...

    def generate(self, hidden: Hidden, history: np.ndarray, t: int, drawing: Any, forced: np.ndarray) -> np.ndarray:
        """The levels (B, n) from time t on: those of `forced` (B, n) where it is not -1, else drawn; advances `hidden`.

        history (B, L): the levels before t. drawing: a `Drawing`, or a `MixedDrawing` where the backend mixes. Only
        `hidden` may be written to. Raises NotFinite where a logit is not finite, or returns a level of Q; DeviceError
        where a GPU fails. After an error the arrays of `hidden` may hold anything, and its tensors what they held.
        """
        ...
