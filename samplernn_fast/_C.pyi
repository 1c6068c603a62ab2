from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def philox(seed: int, stream: int, t0: int, n: int) -> NDArray[np.uint32]: ...
def philox_block(counter: Sequence[int], key: Sequence[int]) -> NDArray[np.uint32]: ...
def sample_levels(
    logits: NDArray[np.float32],
    draws: NDArray[np.uint32],
    temperature: NDArray[np.float32],
    top_k: int = 0,
    top_p: float = 1.0,
) -> NDArray[np.int32]: ...
def build_info() -> dict[str, str | int]: ...
