"""Reads files that `torch.save` wrote: tensors, and settings as plain values. No code in them is run.

Lightning stores its settings as objects of omegaconf beside the tensors. They are read into stand-ins that can do
nothing, so neither package is needed. Anything else that is no tensor is refused.
"""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samplernn_fast.errors import CheckpointError

_STATE_KEYS = ("state_dict", "model_state_dict", "model")  # what a file that holds more calls its state dict
# The names of what Lightning and hydra leave beside the tensors. None of these packages is imported or called.
_INERT = re.compile(
    r"(omegaconf|pytorch_lightning|lightning|lightning_fabric)\.[\w.]+|typing\.Any|pathlib\.\w*Path"
    r"|numpy\.(ndarray|dtype|dtypes\.\w+|_?core\.multiarray\.(_reconstruct|scalar))"
)
_AS_DICT = re.compile(r"collections\.defaultdict|[\w.]*\.AttributeDict")
_AS_NAME = ("builtins.dict", "builtins.list", "builtins.int", "builtins.float", "builtins.str", "builtins.bool")


class _StandIn:
    """Keeps what a pickled object of another package held, and can do nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> "_StandIn":
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.held: Any = None

    def __setstate__(self, state: object) -> None:
        self.held = state


class _EmptyDict:
    """Stands for the classes that behave as a dict: making one gives a dict."""

    def __new__(cls, *args: object) -> dict:  # type: ignore[misc]
        return {}


def read_torch_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads the tensors of a state dict, and the hyper-parameters of a Lightning checkpoint as plain values, else {}.

    Raises CheckpointError for a damaged file, one that holds something else, or one that asks to run code.
    """
    content = _load(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: must hold a state dict, found {type(content).__name__}")
    nested = [key for key in _STATE_KEYS if isinstance(content.get(key), dict)]
    tensors = content[nested[0]] if nested else content
    others = [str(name) for name, value in tensors.items() if not isinstance(value, Tensor)]
    if others or not tensors:
        raise CheckpointError(f"{path}: must hold tensors by name, but {others[0] if others else 'it'} is none")
    parameters = _plain(content.get("hyper_parameters")) if nested else None
    return {str(name): tensor for name, tensor in tensors.items()}, parameters if isinstance(parameters, dict) else {}


def _load(path: Path) -> Any:
    """What `torch.load` gives for a file when it may make tensors and stand-ins only."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_stand_ins(path)):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: {_refusal(str(error))}") from None
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise CheckpointError(f"{path}: not a readable torch file, truncated or of another format ({reason})") from None


def _refusal(message: str) -> str:
    """One line about what torch's restricted unpickler refused."""
    asked = re.search(r"GLOBAL ([\w.]+)", message)
    if asked:
        return f"refused: it asks for {asked[1]}, which is no tensor and might run code; nothing of it was loaded"
    return f"not a readable torch file, truncated or damaged ({' '.join(message.split())[:100]})"


def _stand_ins(path: Path) -> list[Any]:
    """A pair (stand-in, name) for every harmless class of other packages that a zip file names."""
    if not zipfile.is_zipfile(path):
        return []
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    found: list[Any] = []
    for name in names:
        if _AS_DICT.fullmatch(name):
            found.append((type("_Dict", (_EmptyDict,), {}), name))
        elif name in _AS_NAME or _INERT.fullmatch(name):
            found.append((type("_Held", (_StandIn,), {}), name))
    return found


def _plain(value: Any, depth: int = 0) -> Any:
    """Settings as dicts, lists and values. omegaconf keeps a container's items in _content, and a value in _val."""
    held = value.held if isinstance(value, _StandIn) else getattr(value, "__dict__", None)
    if isinstance(held, dict):
        value = held.get("_content", held.get("_val"))
    if depth > 20:
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    return value if isinstance(value, (str, int, float, bool)) else None
