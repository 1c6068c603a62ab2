"""Four-bit weights of a whole model, from audio that the model itself makes."""

import numpy as np

from samplernn_fast.backends.int4.activations import Grams, grams_of
from samplernn_fast.backends.int4.choosing import choose
from samplernn_fast.models.layout import OUTPUT, is_matrix
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.modes import FourBits


def four_bits_of(weights: PackedWeights, levels: np.ndarray) -> dict[str, FourBits]:
    """Every matrix of the layout but the output layer's, its rows in order. levels: (B, L + T) of the model's audio, T
    whole top frames."""
    grams = grams_of(weights, levels)
    names = [name for name in weights.arrays if is_matrix(name) and name != OUTPUT]
    return {name: _matrix(weights, name, grams) for name in names}


def _matrix(weights: PackedWeights, name: str, grams: Grams) -> FourBits:
    """A matrix whose parts, of a layer each, may read different inputs."""
    array, config = weights[name], weights.config
    if name.endswith(".up"):  # all its maps read the same
        return choose(array.reshape(-1, array.shape[-1]), grams[name, 0])
    parts = list[FourBits]()
    for layer, matrix in enumerate(array if array.ndim == 3 else array[None]):
        inner = grams.get((name.replace("recurrent", "candidate"), layer))
        if inner is None or not name.endswith("recurrent"):
            parts.append(choose(matrix, grams[name, layer]))
        else:  # a GRU that resets before the product: its candidate reads the reset state
            parts.append(choose(matrix[: 2 * config.dim], grams[name, layer]))
            parts.append(choose(matrix[2 * config.dim :], inner))
    return FourBits.of_parts(parts)
