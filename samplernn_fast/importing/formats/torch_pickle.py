"""What the names in a pickle of torch stand for here: tensors that are only described, plain values, and stand-ins.

No function of torch is called, and nothing is read yet: a `TensorRecord` says where the values of a tensor lie, and
`torch_file` reads them, with checks. Lightning leaves its settings as objects of omegaconf beside the tensors; they
become stand-ins that can do nothing, so neither package is needed. A name that is neither is refused.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch

from samplernn_fast.importing.formats.pickles import Call, Forbidden, Held
from samplernn_fast.untrusted import Unreadable

_MOST_NAME = 200  # characters of a module and a name in it
# What Lightning and hydra leave beside the tensors, and torch's own values. None of it is imported or called.
_INERT = re.compile(
    r"(omegaconf|pytorch_lightning|lightning|lightning_fabric)\.[\w.]+|typing\.Any|pathlib\.\w*Path|_codecs\.encode"
    r"|numpy\.(ndarray|dtype|dtypes\.\w+|_?core\.multiarray\.(_reconstruct|scalar)|_?core\.numeric\._frombuffer)"
    r"|torch\.([a-z]\w*\d\w*|bool|half|float|double|short|int|long|per_\w+|Size|device|Tensor|\w+Tensor)"
    r"|torch\.(serialization\._get_layout|nn\.parameter\.\w+|optim\.[\w.]+)"
    r"|(builtins|__builtin__)\.(dict|list|int|float|str|bool|set|frozenset|bytearray|complex|tuple|unicode|long)"
)
_AS_DICT = re.compile(r"collections\.(OrderedDict|defaultdict|Counter)|[\w.]*\.AttributeDict")
_STORAGES = {
    "FloatStorage": (torch.float32, 4),
    "DoubleStorage": (torch.float64, 8),
    "HalfStorage": (torch.float16, 2),
    "BFloat16Storage": (torch.bfloat16, 2),
    "LongStorage": (torch.int64, 8),
    "IntStorage": (torch.int32, 4),
    "ShortStorage": (torch.int16, 2),
    "CharStorage": (torch.int8, 1),
    "ByteStorage": (torch.uint8, 1),
    "BoolStorage": (torch.bool, 1),
    "ComplexFloatStorage": (None, 8),
    "ComplexDoubleStorage": (None, 16),
    "QInt8Storage": (None, 1),
    "QUInt8Storage": (None, 1),
    "QInt32Storage": (None, 4),
    "QUInt4x2Storage": (None, 1),
    "QUInt2x4Storage": (None, 1),
    "UntypedStorage": (None, 1),
}
"""torch's classes of storage: the dtype of those that are read, and the bytes of a value."""


@dataclass(frozen=True)
class StorageRecord:
    """Values of one type in a row, outside the pickle."""

    key: str
    """Under which they are found."""
    type: str
    """The name of torch's class, one of `_STORAGES`."""
    offset: int = 0
    """How many values stand before the first one, in a view of another storage."""

    @property
    def dtype(self) -> torch.dtype | None:
        """None for a type that is not read."""
        return _STORAGES[self.type][0]

    @property
    def itemsize(self) -> int:
        """The bytes of a value."""
        return _STORAGES[self.type][1]


@dataclass(frozen=True)
class TensorRecord:
    """Where the values of a tensor are; nothing of it is checked yet."""

    storage: Any = None
    offset: Any = 0
    size: Any = ()
    stride: Any = ()
    other: str = ""
    """What it is, where it is another thing than a plain tensor of numbers."""


class TorchNames:
    """Gives the pickle what stands for its names and for storages outside it."""

    def __init__(self) -> None:
        self.storages: dict[str, StorageRecord] = {}
        """Finds a storage by its key, in a file where the storages follow."""

    def find(self, module: str, name: str) -> Call:
        """What stands for a name. Raises Forbidden for one that no checkpoint needs."""
        whole = f"{module}.{name}"
        if len(whole) > _MOST_NAME:
            raise Forbidden(f"{whole[:60]}...")
        if module == "torch._utils" and name.startswith("_rebuild_"):
            return Call(_REBUILD.get(name) or _other(name))
        if whole == "torch._tensor._rebuild_from_type_v2":
            return Call(_of_type)
        if module in ("torch", "torch.cuda", "torch.storage") and name in _STORAGES:
            return _StorageType(name)
        if _AS_DICT.fullmatch(whole):
            return Call(_dict)
        if _INERT.fullmatch(whole):
            return Call(lambda *_: Held())
        raise Forbidden(whole)

    def persistent(self, identifier: Any) -> StorageRecord:
        """The storage that an identifier names: ("storage", class, key, device, number of values, view)."""
        if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
            raise Unreadable("it asks for what is no storage")
        kind, key = identifier[1:3]
        if not isinstance(kind, _StorageType) or not isinstance(key, (str, int)):
            raise Unreadable("a storage in it has no type or no key")
        view = identifier[5] if len(identifier) == 6 else None
        offset = view[1] if isinstance(view, tuple) and len(view) == 3 else 0
        if type(offset) is not int:
            raise Unreadable("a view in it has no place")
        record = StorageRecord(str(key)[:_MOST_NAME], kind.name, offset)
        if self.storages.setdefault(record.key, record).type != record.type:
            raise Unreadable("a storage in it has two types")
        return record


class _StorageType(Call):
    """Stands for a class of storages; a pickle may name it and not call it."""

    def __init__(self, name: str) -> None:
        super().__init__(_refuse)
        self.name = name


def _refuse(*_: Any) -> Any:
    raise Unreadable("it makes a storage by itself")


def _plain(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> TensorRecord:
    """What torch's `_rebuild_tensor` and `_rebuild_tensor_v2` get; the last of seven is what turns signs."""
    turned = len(rest) > 2 and isinstance(rest[2], dict) and any(rest[2].values())
    return TensorRecord(storage, offset, size, stride, "a view that turns signs" if turned else "")


def _other(name: str) -> Any:
    """A function for every other kind of tensor: sparse, meta, quantized, nested, of a type without a storage."""
    words = name.removeprefix("_rebuild_").replace("_", " ")
    return lambda *_: TensorRecord(other=f"a {words}")


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _of_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """A tensor of a subclass, or with attributes: the tensor in it."""
    if not isinstance(function, Call) or not isinstance(arguments, tuple):
        raise Unreadable("a tensor in it is made of nothing")
    return function.function(*arguments)


def _dict(*arguments: Any) -> dict[Any, Any]:
    """An empty dict, or one of the pairs that Python 2 hands over."""
    pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
    if not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], (str, int)) for pair in pairs
    ):
        raise Unreadable("a dict in it is not made of pairs")
    return {key: value for key, value in pairs}


_REBUILD = {
    "_rebuild_tensor": _plain,
    "_rebuild_tensor_v2": _plain,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
    "_rebuild_tensor_v3": _other("_rebuild_tensor of a type that is not read"),
}
