"""Four-bit weights, kept between processes in a folder of the user's: choosing those of a large model takes a minute.

They do not lie beside the model, because models may lie where nobody can write, and are named by the hash of the
weights they stand for. A damaged file is as good as none, and so is a folder that cannot be written.
"""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from samplernn_fast import files
from samplernn_fast.backends import cache
from samplernn_fast.models.stored.arrays import hash_of
from samplernn_fast.models.stored.header import KEY
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.modes import CODE_RANGE, FACTOR_LIMIT, GROUP, FourBits

MOST_BYTES = 1 << 30
"""The bytes that all kept choices may have together. That of a model of 1,024 units has some 25 MB."""
_VERSION = 1  # of the file and of how weights are chosen
_PARTS = ("codes", "factors", "scales")


@dataclass(frozen=True)
class Chosen:
    """What was chosen for a model."""

    four_bits: dict[str, FourBits]
    """Name of a matrix -> its four bits. The matrices that are left out keep eight."""
    cost: float
    """What the mode costs beside float32, in bits per sample, as `Promise` measures it."""


def key(weights: PackedWeights) -> str:
    """A name for the choice that belongs to these weights."""
    return hash_of(weights.float32(), f"{_VERSION} {weights.config.fingerprint()}")


def read(name: str, weights: PackedWeights) -> Chosen | None:
    """What was kept under `name`, or None if there is none that is whole and fits these weights."""
    try:
        with safe_open(_path(name), "np") as content:
            cost, digest = json.loads((content.metadata() or {}).get(KEY, "null"))
            arrays = {one: content.get_tensor(one) for one in content.keys()}
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, AttributeError):  # a type that NumPy lacks
        return None
    with suppress(OSError, RuntimeError):
        os.utime(_path(name))  # used now: the last to go
    if digest != hash_of(arrays):  # the file is damaged
        return None
    found = {}
    for matrix in {one.rpartition(":")[0] for one in arrays}:
        four_bits = _four_bits(arrays, matrix, weights)
        if four_bits is None:
            return None
        found[matrix] = four_bits
    return Chosen(found, cost) if isinstance(cost, float) and math.isfinite(cost) else None


def write(name: str, chosen: Chosen) -> None:
    """Keep a choice. Does nothing where the folder cannot be written."""
    arrays = {
        f"{matrix}:{part}": np.ascontiguousarray(array)
        for matrix, four_bits in chosen.four_bits.items()
        for part, array in zip(_PARTS, four_bits.arrays, strict=True)
    }
    with suppress(OSError, RuntimeError, SafetensorError):
        path = _path(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.replacing(path) as temporary:
            save_file(arrays, temporary, metadata={KEY: json.dumps([float(chosen.cost), hash_of(arrays)])})
        cache.remove_old(path.parent, ".safetensors", MOST_BYTES)


def _path(name: str) -> Path:
    return cache.folder("int4") / f"{name}.safetensors"


def _four_bits(arrays: Mapping[str, np.ndarray], matrix: str, weights: PackedWeights) -> FourBits | None:
    """The four bits of a matrix among the arrays of a file, or None where they are not those of these weights."""
    if matrix not in weights.arrays:
        return None
    inputs = weights[matrix].shape[-1]
    rows, low, high = weights[matrix].size // inputs, *CODE_RANGE
    codes, factors, scales = (arrays.get(f"{matrix}:{part}", np.empty(0)) for part in _PARTS)
    shapes = [(rows, inputs), (rows, -(-inputs // GROUP)), (rows,)]
    alike = [codes.shape, factors.shape, scales.shape] == shapes
    if not alike or [codes.dtype, factors.dtype, scales.dtype] != [np.int8, np.int8, np.float32]:
        return None
    inside = np.all((codes >= low) & (codes <= high))
    inside = inside and np.all((factors >= -FACTOR_LIMIT) & (factors <= FACTOR_LIMIT))
    return FourBits(codes, factors, scales) if inside and np.isfinite(scales).all() else None
