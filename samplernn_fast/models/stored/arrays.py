"""A model as NumPy arrays: what is packed, hashed and described without torch.

`read_model` reads one from disk. `models.checkpoint` makes one of a torch model, and a torch model of one.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import deserialize

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.models.config import AudioConfig, PackedConfig, RecurrentConfig, SparseSampleRNNConfig
from samplernn_fast.models.places import model_file
from samplernn_fast.models.sparse.blocks import block_share
from samplernn_fast.models.stored import blocks
from samplernn_fast.models.stored.header import AUDIO_KINDS, config_in, opened
from samplernn_fast.models.stored.parameters import parameters

_TYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
"""Types of floating-point numbers, by safetensors' names, that NumPy has too."""
_BFLOAT16 = "BF16"


@dataclass(frozen=True)
class ModelArrays:
    """A model of any system, without its network: its settings and its arrays, which nobody changes."""

    config: AudioConfig
    arrays: dict[str, np.ndarray]
    """Name -> array, as in the state dict of the torch model."""
    sha256: str
    """Identity of the model: a hash of its settings and weights, the same wherever it is stored."""
    source: str = "the model"
    """Where it was read from, for messages."""

    @property
    def size(self) -> int:
        """How many numbers are learnt."""
        return sum(array.size for name, array in self.arrays.items() if not is_constant(self.config, name))


def is_constant(config: AudioConfig, name: str) -> bool:
    """Whether an array is not learnt: an initial state that is zero."""
    return isinstance(config, RecurrentConfig) and not config.learn_h0 and name.endswith("h0")


def read_model(path: str | Path) -> ModelArrays:
    """The model of a run folder, of a .safetensors file, or a bundled one by its name, in float32.

    Raises CheckpointError where there is none, or where the file is damaged or of another format or version. Where the
    system has packed weights, every array is checked too; `models.checkpoint.build` checks those of other systems.
    """
    return read_file(model_file(path))[0]


def read_file(file: Path) -> tuple[ModelArrays, dict[str, Any]]:
    """The model in a file, and the file's header. Raises as `read_model`."""
    with opened(file, AUDIO_KINDS, "np") as (content, header):
        config, prefix = config_in(header, file), "model." if header["kind"] == "training" else ""
        slices = {
            name.removeprefix(prefix): content.get_slice(name) for name in content.keys() if name.startswith(prefix)
        }
        # Shapes are compared before memory is taken for anything.
        _check_shapes(config, {name: tuple(one.get_shape()) for name, one in slices.items()}, file)
        types = {name: one.get_dtype() for name, one in slices.items()}
        readable = (*_TYPES, blocks.INDEX_TYPE)
        arrays = {name: content.get_tensor(prefix + name) for name, kind in types.items() if kind in readable}
    if _BFLOAT16 in types.values():
        arrays |= _bfloat16(file, prefix, [name for name, kind in types.items() if kind == _BFLOAT16])
    for name, kind in types.items():
        if name not in arrays:
            raise CheckpointError(f"{file}: tensor {name} must hold weights, found {kind}")
    if isinstance(config, SparseSampleRNNConfig):
        arrays = blocks.decoded(config, arrays, file)
    for name, array in arrays.items():
        if array.dtype == np.int32:
            raise CheckpointError(f"{file}: tensor {name} must hold weights, found {blocks.INDEX_TYPE}")
    with np.errstate(over="ignore"):  # a value that becomes infinite is refused below
        weights = {name: array.astype(np.float32, copy=False) for name, array in arrays.items()}
    check_finite(weights, f"{file}: tensor ")
    return ModelArrays(config, weights, sha256_of(config, weights), str(file)), header


def describe(path: str | Path) -> dict[str, Any]:
    """Config, size, identity and provenance of a model, and of a sparse one its share of blocks. Raises as
    `read_model`."""
    file = model_file(path)
    model, header = read_file(file)
    config = model.config
    share = block_share(config, model.arrays) if isinstance(config, SparseSampleRNNConfig) else None
    return ({} if share is None else {"block_share": share}) | {
        "file": str(file),
        "config": header["config"],
        "parameters": model.size,
        "model_sha256": model.sha256,
        "info": header.get("info") or header.get("progress", {}),
        "made_by": header["made_by"],
    }


def sha256_of(config: AudioConfig, weights: Mapping[str, np.ndarray]) -> str:
    """The identity of a model, see `ModelArrays.sha256`: its weights by name, each as bytes in its own type."""
    return hash_of(weights, config.fingerprint())


def hash_of(arrays: Mapping[str, np.ndarray], text: str = "") -> str:
    """A hash of a text and of arrays, each by its name and as bytes in its own type."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def no_model(given: object) -> ConfigError:
    """The refusal of something that is given for a model and names none."""
    return ConfigError(
        'a model must be a run folder, a .safetensors file, "demo", or what samplernn_fast.load returns, got'
        f" {type(given).__name__}"
    )


def _check_shapes(config: AudioConfig, shapes: dict[str, tuple[int, ...]], file: Path) -> None:
    """CheckpointError names the first array that a file lacks, or has in another shape, or that is not the model's.

    Of a system without packed weights only the number of values is known here.
    """
    present = sum(math.prod(shape) for shape in shapes.values())
    if isinstance(config, SparseSampleRNNConfig):
        shapes = blocks.whole_shapes(config, shapes, file)
    elif config.least_values > present:
        raise CheckpointError(
            f"{file}: its model settings are of a network of at least {config.least_values} values,"
            f" and it holds {present}"
        )
    if not (isinstance(config, PackedConfig) and config.packed):
        return
    wanted = parameters(config)
    for name, shape in wanted.items():
        if name not in shapes:
            raise CheckpointError(f"{file}: tensor {name} is missing")
        if shapes[name] != shape:
            raise CheckpointError(f"{file}: tensor {name} must be {shape}, found {shapes[name]}")
    extra = sorted(set(shapes) - set(wanted))
    if extra:
        raise CheckpointError(f"{file}: does not belong to this model: {', '.join(extra[:3])}")


def check_finite(weights: Mapping[str, np.ndarray], said_before: str = "", said_behind: str = "") -> None:
    """CheckpointError names the first array that holds a value that is not finite, between two texts."""
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{said_before}{name} holds a value that is not finite{said_behind}")


def _bfloat16(file: Path, prefix: str, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Arrays that are stored in bfloat16, which NumPy does not have, as float32: its upper half is a bfloat16. prefix:
    what their names begin with in the file."""
    wanted, found = {prefix + name: name for name in names}, {}
    for stored, entry in deserialize(file.read_bytes()):
        if stored in wanted:
            halves = np.frombuffer(entry["data"], "<u2").astype(np.uint32) << np.uint32(16)
            found[wanted[stored]] = halves.view(np.float32).reshape(entry["shape"])
    return found
