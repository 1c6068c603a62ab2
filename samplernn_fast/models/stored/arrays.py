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
from samplernn_fast.models.config import AudioConfig, PackedConfig, RecurrentConfig
from samplernn_fast.models.places import model_file
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
        prefix = "model." if header["kind"] == "training" else ""
        slices = {name: content.get_slice(name) for name in content.keys() if name.startswith(prefix)}
        types = {name: one.get_dtype() for name, one in slices.items()}
        present = sum(math.prod(one.get_shape()) for one in slices.values())
        readable = (*_TYPES, blocks.INDEX_TYPE)
        arrays = {name: content.get_tensor(name) for name, kind in types.items() if kind in readable}
        odd = {name: kind for name, kind in types.items() if kind not in readable}
    if any(kind == _BFLOAT16 for kind in odd.values()):
        arrays |= _bfloat16(file, [name for name, kind in odd.items() if kind == _BFLOAT16])
    config = config_in(header, file)
    if config.least_stored > present:
        raise CheckpointError(
            f"{file}: its model settings are of a network of at least {config.least_stored} values,"
            f" and it holds {present}"
        )
    arrays = blocks.decoded(config, {name.removeprefix(prefix): array for name, array in arrays.items()}, file)
    odd |= {name: blocks.INDEX_TYPE for name, array in arrays.items() if array.dtype == np.int32}
    for name, kind in odd.items():
        if kind != _BFLOAT16:
            raise CheckpointError(f"{file}: tensor {name.removeprefix(prefix)} must hold weights, found {kind}")
    with np.errstate(over="ignore"):  # a value that becomes infinite is refused below
        weights = {name: array.astype(np.float32) for name, array in arrays.items()}
    _check(weights, parameters(config) if isinstance(config, PackedConfig) and config.packed else None, file)
    return ModelArrays(config, weights, sha256_of(config, weights), str(file)), header


def describe(path: str | Path) -> dict[str, Any]:
    """Config, size, identity and provenance of a model. Raises as `read_model`."""
    file = model_file(path)
    model, header = read_file(file)
    return {
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


def _check(weights: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]] | None, file: Path) -> None:
    """CheckpointError names the first of the wanted arrays that is missing, misshapen or not finite, or one that is not
    wanted. wanted: None where only the values are checked."""
    for name, shape in (wanted or {}).items():
        if name not in weights:
            raise CheckpointError(f"{file}: tensor {name} is missing")
        if weights[name].shape != shape:
            raise CheckpointError(f"{file}: tensor {name} must be {shape}, found {weights[name].shape}")
    check_finite(weights, f"{file}: tensor ")
    extra = sorted(set(weights) - set(wanted)) if wanted is not None else []
    if extra:
        raise CheckpointError(f"{file}: does not belong to this model: {', '.join(extra[:3])}")


def check_finite(weights: Mapping[str, np.ndarray], said_before: str = "", said_behind: str = "") -> None:
    """CheckpointError names the first array that holds a value that is not finite, between two texts."""
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{said_before}{name} holds a value that is not finite{said_behind}")


def _bfloat16(file: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Arrays that are stored in bfloat16, which NumPy does not have, as float32: its upper half is a bfloat16."""
    wanted, found = set(names), {}
    for name, entry in deserialize(file.read_bytes()):
        if name in wanted:
            halves = np.frombuffer(entry["data"], "<u2").astype(np.uint32) << np.uint32(16)
            found[name] = halves.view(np.float32).reshape(entry["shape"])
    return found
