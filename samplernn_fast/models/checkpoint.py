"""Models and training checkpoints on disk: safetensors and JSON, so that loading one runs no code.

A run folder holds model.safetensors (the best model so far), last.safetensors (everything that exact resumption
needs), config.json (the same settings, to read), log.csv and samples/.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from samplernn_fast._version import __version__
from samplernn_fast.errors import CheckpointError
from samplernn_fast.files import replacing
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.places import CONFIG_FILE as CONFIG_FILE
from samplernn_fast.models.places import LAST_FILE as LAST_FILE
from samplernn_fast.models.places import MODEL_FILE as MODEL_FILE
from samplernn_fast.models.places import model_file as model_file
from samplernn_fast.models.places import model_path as model_path
from samplernn_fast.models.registry import build_model, config_from_dict
from samplernn_fast.untrusted import Fields, open_file, parse_json

FORMAT_VERSION = 1
_KEY = "samplernn_fast"
_HEADER_BYTES = 1 << 24  # most bytes of our header; a place in the data has some twenty for each row of a batch
_MOST_LIST = 2 * _HEADER_BYTES  # most bytes of the list of tensors, in which our header is text
_MOST_TENSORS = 20_000
_MOST_LISTS = 10_000  # lists and mappings of our header
AUDIO_KINDS = ("model", "training")
"""The kinds of files that hold a model: it alone, or with everything that exact resumption needs."""
CLASSIFIER_KIND = "classifier"
"""The kind of a file that holds a classifier of words."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The types that weights may be stored in."""


def save_model(path: Path, model: AudioModel, info: dict[str, Any] | None = None) -> None:
    """Write one .safetensors file that holds a model whole: weights, config, and `info` (JSON-able)."""
    header = {"kind": "model", "config": model.config.to_dict(), "info": info or {}}
    _write(path, model.state_dict(), header)


def save_training(path: Path, tensors: dict[str, Tensor], config: AudioConfig, progress: dict[str, Any]) -> None:
    """Write a training checkpoint: weights under "model.", anything else under other prefixes, `progress` as JSON."""
    _write(path, tensors, {"kind": "training", "config": config.to_dict(), "progress": progress})


def save_classifier(path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Write the weights of a classifier of words, and `info` (JSON-able), which says of what it is one."""
    _write(path, tensors, {"kind": CLASSIFIER_KIND, "info": info})


def load_model(path: str | Path) -> AudioModel:
    """The model of a run folder, of a single .safetensors file, or a bundled one by its name, on the CPU.

    Raises CheckpointError when there is none, or when the file is damaged, of another format or version, or holds
    a value that is not finite.
    """
    return _load(Path(path))[0]


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
    with _opened(file, kinds) as (opened, header):
        return {name: opened.get_tensor(name) for name in opened.keys()}, header


def read_header(file: Path) -> dict[str, Any]:
    """The header of a file, without its tensors. Raises CheckpointError."""
    with _opened(file, AUDIO_KINDS) as (_, header):
        return header


@contextmanager
def _opened(file: Path, kinds: Sequence[str]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The open file and its header. What goes wrong in the block is a CheckpointError too."""
    if not os.path.lexists(file):
        raise CheckpointError(f"{file}: no such file")
    try:
        with open_file(file) as opened:  # a pipe or a device is refused here
            length = int.from_bytes(opened.read(8), "little")
        if length > _MOST_LIST:
            raise ValueError(f"its list of tensors would have {length} bytes")
        with safe_open(file, framework="pt") as opened:
            header, count = _header(file, (opened.metadata() or {}).get(_KEY, "null"), kinds), len(opened.keys())
            if count > _MOST_TENSORS:
                raise ValueError(f"it lists {count} tensors")
            yield opened, header
    except CheckpointError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error)[:400].split())[:200]
        raise CheckpointError(f"{file}: not a readable checkpoint, truncated or of another format ({reason})") from None


def _header(file: Path, text: str, kinds: Sequence[str]) -> dict[str, Any]:
    """Our header in a file: its kind, config, and what else belongs to that kind. Raises CheckpointError."""
    # A million empty lists are short as text and take 100 MB once they are read.
    small = len(text) <= _HEADER_BYTES and text.count("[") + text.count("{") <= _MOST_LISTS
    header = parse_json(text) if small else None
    if not isinstance(header, dict) or header.get("kind") not in (*AUDIO_KINDS, CLASSIFIER_KIND):
        raise CheckpointError(f"{file}: a safetensors file, but not one of samplernn_fast")
    if header["kind"] not in kinds:
        raise CheckpointError(f"{file}: holds a {header['kind']} of samplernn_fast, not a {kinds[0]}")
    if header.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{file}: format version {str(header.get('format_version'))[:20]}, this program reads {FORMAT_VERSION};"
            " made by another version of samplernn_fast"
        )
    parts = Fields(header, "the header")
    parts.fields("progress" if header["kind"] == "training" else "info")
    parts.text("made_by")
    return header


def describe(path: str | Path) -> dict[str, Any]:
    """Config, size, identity and provenance of a model. Raises as `load_model`."""
    model, file, header = _load(Path(path))
    return {
        "file": str(file),
        "config": header["config"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "model_sha256": model_sha256(model),
        "info": header.get("info") or header.get("progress", {}),
        "made_by": header["made_by"],
    }


def model_sha256(model: AudioModel) -> str:
    """Identity of a model: a hash of its config and weights, the same wherever it is stored."""
    digest = hashlib.sha256(model.config.fingerprint().encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        # As bytes, because numpy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    _replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _load(path: Path) -> tuple[AudioModel, Path, dict[str, Any]]:
    """A model, the file it came from, and that file's header."""
    file = model_file(path)
    tensors, header = read(file)
    if header["kind"] == "training":
        tensors = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    model = _blank_model(file, header, sum(tensor.numel() for tensor in tensors.values()))
    fill(model, tensors, file)
    return model, file, header


def _blank_model(file: Path, header: dict[str, Any], present: int) -> AudioModel:
    """A model of a header's config, to be filled. present: how many values the file has for it."""
    config = config_in(header, file)
    if config.least_values > present:
        raise CheckpointError(
            f"{file}: its model settings are of a network of at least {config.least_values} values,"
            f" and it holds {present}"
        )
    with _usable_settings(file):
        return build_model(config, seed=None)


def config_in(header: dict[str, Any], file: Path) -> AudioConfig:
    """The settings of the model in a file's header. Raises CheckpointError."""
    with _usable_settings(file):
        return config_from_dict(header["config"])


@contextmanager
def _usable_settings(file: Path) -> Iterator[None]:
    """Errors of settings that are not those of any model become a CheckpointError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file}: its model settings cannot be used: {error}") from None


def _write(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    header |= {"format_version": FORMAT_VERSION, "made_by": f"samplernn_fast {__version__}"}
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _replace(path, lambda temporary: save_file(copies, temporary, metadata={_KEY: json.dumps(header)}))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            write(temporary)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written ({error}); what was there before is kept") from None
