"""Pickles that hold numbers only: NumPy arrays, lists and text. One that asks for anything else is refused."""

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from samplernn_fast.errors import CheckpointError

# What an array's pickle calls, taken from NumPy itself: the modules' names changed over the years.
_ARRAY_CALLS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),  # how Python 3 writes bytes for Python 2
} | {
    (module, name): function
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name, function in (
        ("_reconstruct", np.empty(0).__reduce__()[0]),  # type: ignore[index]
        ("scalar", np.float32(0).__reduce__()[0]),  # type: ignore[index]
    )
}


class _Forbidden(pickle.UnpicklingError):
    """A pickle asked for a name that no array needs."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_CALLS:
            raise _Forbidden(f"{module}.{name}")
        return _ARRAY_CALLS[module, name]


def read_pickle(path: Path) -> Any:
    """What a pickle of Python 2 or 3 holds. Raises CheckpointError when it is damaged or asks to run code."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in damaged text
            return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _Forbidden as error:
        raise CheckpointError(
            f"{path}: refused: it asks for {error}, which is no array and might run code; nothing of it was loaded"
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise CheckpointError(f"{path}: not a readable pickle, truncated or of another format ({reason})") from None
