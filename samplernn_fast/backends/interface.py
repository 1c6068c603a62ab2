"""What an engine needs of a backend."""

from typing import Protocol

import torch
from torch import Tensor

from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference.backend import Hidden
from samplernn_fast.reference.draw import Randomness
from samplernn_fast.reference.weights import PackedWeights


class Backend(Protocol):
    """What an engine needs of a backend; see `reference.ReferenceBackend` for what each call does."""

    name: str
    dtypes: tuple[str, ...]

    @staticmethod
    def unavailable_reasons(config: SampleRNNConfig, device: torch.device) -> list[str]: ...
    @classmethod
    def dtype_reasons(cls, weights: PackedWeights, device: torch.device, dtype: str) -> list[str]: ...
    def __init__(
        self, weights: PackedWeights, device: torch.device, dtype: str, num_threads: int | None = None
    ) -> None: ...
    def init_hidden(self, streams: int) -> Hidden: ...
    def prime(self, hidden: Hidden, history: Tensor, levels: Tensor) -> None: ...
    def score(self, hidden: Hidden, levels: Tensor) -> Tensor: ...
    def generate(
        self,
        hidden: Hidden,
        history: Tensor,
        t: int,
        randomness: Randomness,
        temperature: Tensor,
        top_k: int,
        top_p: float,
        forced: Tensor,
    ) -> Tensor: ...
