"""Torch models and training checkpoints on disk: safetensors and JSON, so that loading one runs no code.

`stored` reads models without torch, and this module makes torch models of what it has read.

A run folder holds model.safetensors (the best model so far), last.safetensors (everything that exact resumption
needs), config.json (the same settings, to read), log.csv and samples/.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from samplernn_fast.errors import CheckpointError
from samplernn_fast.files import replacing
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import AudioConfig, SparseSampleRNNConfig
from samplernn_fast.models.places import CONFIG_FILE as CONFIG_FILE
from samplernn_fast.models.places import LAST_FILE as LAST_FILE
from samplernn_fast.models.places import MODEL_FILE as MODEL_FILE
from samplernn_fast.models.places import model_file as model_file
from samplernn_fast.models.places import model_path as model_path
from samplernn_fast.models.registry import build_model
from samplernn_fast.models.stored import arrays as stored
from samplernn_fast.models.stored import blocks
from samplernn_fast.models.stored.arrays import ModelArrays
from samplernn_fast.models.stored.header import (
    AUDIO_KINDS,
    CLASSIFIER_KIND,
    metadata,
    opened,
    read_header,
    usable_settings,
)

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The types that weights may be stored in."""


def save_model(path: Path, model: AudioModel, info: dict[str, Any] | None = None) -> None:
    """Write one .safetensors file that holds a model whole: weights, config, and `info` (JSON-able)."""
    tensors = model.state_dict()
    if isinstance(model.config, SparseSampleRNNConfig):
        tensors = {name: torch.from_numpy(one) for name, one in blocks.encoded(model.config, _arrays(model)).items()}
    _write(path, tensors, "model", {"config": model.config.to_dict(), "info": info or {}})


def copy_model(file: Path, to: Path, info: dict[str, Any]) -> None:
    """Write the model in `file`, which may be a training checkpoint, to a file of its own, with another `info`.

    The weights keep the types that they are stored in. Raises CheckpointError as `load_model`.
    """
    model, header = load_model(file), read_header(file)
    if header["kind"] != "model":
        save_model(to, model, info)
        return
    tensors, _ = read(file)
    _write(to, tensors, "model", {"config": model.config.to_dict(), "info": info})


def save_training(path: Path, tensors: dict[str, Tensor], config: AudioConfig, progress: dict[str, Any]) -> None:
    """Write a training checkpoint: weights under "model.", anything else under other prefixes, `progress` as JSON."""
    _write(path, tensors, "training", {"config": config.to_dict(), "progress": progress})


def save_classifier(path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Write the weights of a classifier of words, and `info` (JSON-able), which says of what it is one."""
    _write(path, tensors, CLASSIFIER_KIND, {"info": info})


def load_model(path: str | Path) -> AudioModel:
    """The model of a run folder, of a single .safetensors file, or a bundled one by its name, on the CPU.

    Raises CheckpointError when there is none, or when the file is damaged, of another format or version, or holds
    a value that is not finite.
    """
    file = model_file(path)
    return build(stored.read_file(file)[0], file)


def as_model(model: str | Path | AudioModel) -> AudioModel:
    """A model, loaded where it is named: by a run folder, a .safetensors file, or "demo".

    Raises ConfigError for anything else, and CheckpointError where it cannot be loaded.
    """
    if isinstance(model, (str, Path)):
        return load_model(model)
    if not isinstance(model, AudioModel):
        raise stored.no_model(model)
    return model


def build(model: ModelArrays, source: Path | str) -> AudioModel:
    """A torch model with a copy of these arrays. Raises CheckpointError, which begins with `source`, where they do not
    fit."""
    with usable_settings(Path(source)):
        built = build_model(model.config, seed=None)
    fill(built, {name: torch.from_numpy(array) for name, array in model.arrays.items()}, source)
    return built


def arrays_of(model: AudioModel) -> ModelArrays:
    """The arrays of a torch model, which may share its memory; those in bfloat16 become float32."""
    return ModelArrays(model.config, _arrays(model), model_sha256(model))


def _arrays(model: AudioModel) -> dict[str, np.ndarray]:
    """The arrays of `arrays_of` by name."""
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy() for name, tensor in tensors.items()
    }


def fill(model: AudioModel, tensors: dict[str, Tensor], source: Path | str) -> None:
    """Copy `tensors` into a model; CheckpointError names one that `check` refuses, or that is not the model's."""
    wanted = model.state_dict()
    check(tensors, wanted, source)
    extra = sorted(set(tensors) - set(wanted))
    if extra:
        raise CheckpointError(f"{source}: does not belong to this model: {', '.join(extra[:3])}")
    model.load_state_dict(tensors)


def check(tensors: dict[str, Tensor], wanted: dict[str, Tensor], source: Path | str, *, exactly: bool = False) -> None:
    """CheckpointError names the first of `wanted` that is missing, misshapen, of another kind or not finite.

    exactly: the dtype must be the same; otherwise other floats of 16 to 64 bits are taken for floats.
    """
    for name, tensor in wanted.items():
        if name not in tensors:
            raise CheckpointError(f"{source}: tensor {name} is missing")
        found = tensors[name]
        if found.shape != tensor.shape:
            shapes = tuple(tensor.shape), tuple(found.shape)
            raise CheckpointError(f"{source}: tensor {name} must be {shapes[0]}, found {shapes[1]}")
        alike = FLOATS if tensor.dtype in FLOATS and not exactly else (tensor.dtype,)
        if found.dtype not in alike:
            raise CheckpointError(f"{source}: tensor {name} must be {tensor.dtype}, found {found.dtype}")
        if not torch.isfinite(found.to(tensor.dtype)).all():  # one that is finite in float64 need not stay so
            raise CheckpointError(f"{source}: tensor {name} holds a value that is not finite")


def read(file: Path, kinds: Sequence[str] = AUDIO_KINDS) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a file of one of these kinds, and its header. Raises CheckpointError."""
    with opened(file, kinds, "pt") as (content, header):
        return {name: content.get_tensor(name) for name in content.keys()}, header


def model_sha256(model: AudioModel) -> str:
    """Identity of a model: a hash of its config and weights, the same wherever it is stored."""
    # As bytes, because NumPy has no bfloat16.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    arrays = {name: tensor.flatten().view(torch.uint8).numpy() for name, tensor in tensors.items()}
    return stored.hash_of(arrays, model.config.fingerprint())


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    _replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _write(path: Path, tensors: dict[str, Tensor], kind: str, parts: dict[str, Any]) -> None:
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _replace(path, lambda temporary: save_file(copies, temporary, metadata=metadata(kind, parts)))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            write(temporary)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written ({error}); what was there before is kept") from None
