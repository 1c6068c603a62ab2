"""Pickles that hold NumPy arrays, numbers, lists and text only. One that asks for anything else is refused."""

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from samplernn_fast.errors import CheckpointError

# The functions that a pickle of an array calls. They are taken from NumPy itself, whose module names have changed.
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
    """The pickle asks for a name that no array needs."""


class _ArrayUnpickler(pickle.Unpickler):
    """Finds only the names in `_ARRAY_CALLS`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_CALLS:
            raise _Forbidden(f"{module}.{name}")
        return _ARRAY_CALLS[module, name]


def read_pickle(path: Path) -> Any:
    """Reads a pickle of Python 2 or 3. Raises CheckpointError when it is damaged or asks to run code."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged text gives warnings about escape sequences
            return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _Forbidden as error:
        raise CheckpointError(
            f"{path}: refused: it asks for {error}, which is no array and might run code; nothing of it was loaded"
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise CheckpointError(f"{path}: not a readable pickle, truncated or of another format ({reason})") from None
