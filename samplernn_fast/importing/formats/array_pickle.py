"""Reads pickles that hold NumPy arrays, numbers, lists and text only. One that asks for anything else is refused.

An array is made of its shape, a kind of number and bytes. A pickle never sets the state of an object of NumPy, which
would believe whatever it says, flags and fields included.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from samplernn_fast.importing.formats.pickles import Bounded, Call, Forbidden, Held, read_pickle_values, refusing
from samplernn_fast.untrusted import CHECKPOINT_BYTES, Unreadable, open_file

KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
"""The numbers that an array may hold, by NumPy's names without the byte order."""
_MOST_DIMENSIONS = 32


def read_pickle(path: Path) -> Any:
    """Reads a pickle of Python 2 or 3. Raises CheckpointError when it is damaged or asks to run code."""
    with refusing(path, "pickle", "array"), open_file(path, CHECKPOINT_BYTES) as opened:
        size = os.fstat(opened.fileno()).st_size
        return _finished(read_pickle_values(Bounded(opened, size), _Arrays(size).find))


class _Dtype(Held):
    """Stands for a dtype: a kind out of `KINDS`, and a byte order."""

    def __init__(self, kind: Any = None, *_: Any) -> None:
        super().__init__()
        if not isinstance(kind, str) or kind not in KINDS:
            found = kind[:20] if isinstance(kind, str) else type(kind).__name__
            raise Unreadable(f"an array in it holds {found!r}, and only numbers are read")
        self.numpy = np.dtype(kind)

    def build(self, state: Any) -> None:
        """Takes the byte order. What else NumPy would set stays as it is for numbers."""
        if not isinstance(state, tuple) or len(state) != 8 or state[1] not in ("<", ">", "|", "="):
            raise Unreadable("the state of a dtype in it is no byte order")
        if state[:1] + state[2:] != (3, None, None, None, -1, -1, 0):
            raise Unreadable("the state of a dtype in it is not that of plain numbers")
        if state[1] in "<>":
            self.numpy = self.numpy.newbyteorder(state[1])


class _Array(Held):
    """Stands for an array, which is there once its state is."""

    def __init__(self, arrays: "_Arrays") -> None:
        super().__init__()
        self._arrays = arrays
        self.numpy: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Takes (version, shape, dtype, whether columns come first, bytes). Files older than NumPy 1.0 lack the
        version."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise Unreadable("the state of an array in it is damaged")
        shape, dtype, columns_first, content = state[-4:]
        self.numpy = self._arrays.make(shape, dtype, bool(columns_first), content)


class _Arrays:
    """The functions that a pickle of arrays calls. They are ours, under all names that NumPy's ever had."""

    def __init__(self, size: int) -> None:
        """size: the file's bytes, of which twice as many may be handed on: one value can stand in many places."""
        self._left = 2 * size
        self._calls = {
            ("numpy", "ndarray"): Call(_refuse),
            ("numpy", "dtype"): Call(_Dtype),
            ("_codecs", "encode"): Call(self._encode),  # how Python 3 writes bytes for Python 2
        }
        for core in ("numpy.core", "numpy._core"):
            self._calls[f"{core}.multiarray", "_reconstruct"] = Call(lambda *_: _Array(self))
            self._calls[f"{core}.multiarray", "scalar"] = Call(self._scalar)
            self._calls[f"{core}.numeric", "_frombuffer"] = Call(self._of_buffer)

    def find(self, module: str, name: str) -> Call:
        """What stands for a name. Raises Forbidden for one that no array needs."""
        if (module, name) not in self._calls:
            raise Forbidden(f"{module}.{name}"[:100])
        return self._calls[module, name]

    def make(self, shape: Any, dtype: Any, columns_first: bool, content: Any) -> np.ndarray:
        """An array of exactly these bytes, which it may not change. Raises Unreadable where they do not fit."""
        if isinstance(content, str):  # bytes of Python 2
            content = self._encode(content)
        if not isinstance(content, (bytes, bytearray)) or not isinstance(dtype, _Dtype):
            raise Unreadable("an array in it has no bytes, or no kind of number")
        if not isinstance(shape, tuple) or not all(type(size) is int and size > 0 for size in shape):
            raise Unreadable("an array in it has a shape that is not of whole numbers above 0")
        if len(shape) > _MOST_DIMENSIONS or math.prod(shape) * dtype.numpy.itemsize != len(content):
            raise Unreadable("an array in it has another number of bytes than its shape")
        self._spend(len(content))
        return np.frombuffer(content, dtype.numpy).reshape(shape, order="F" if columns_first else "C")

    def _encode(self, text: Any, *_: Any) -> bytes:
        if not isinstance(text, str):
            raise Unreadable("bytes in it are no text")
        self._spend(len(text))
        return text.encode("latin1")

    def _scalar(self, dtype: Any, content: Any = b"", *_: Any) -> Any:
        return self.make((), dtype, False, content).item()

    def _of_buffer(self, content: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
        array = _Array(self)
        array.build((1, shape, dtype, order == "F", content))
        return array

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Unreadable("its arrays have more bytes than it")


def _refuse(*_: Any) -> Any:
    raise Unreadable("it makes an array without bytes")


def _finished(value: Any) -> Any:
    """The value, or the values of a dict or list, with arrays in the place of what stood for them."""
    if isinstance(value, dict):
        return {name: _array(one) for name, one in value.items()}
    return [_array(one) for one in value] if isinstance(value, list) else _array(value)


def _array(value: Any) -> Any:
    if not isinstance(value, _Array):
        return value
    if value.numpy is None:
        raise Unreadable("an array in it has no state")
    return value.numpy
