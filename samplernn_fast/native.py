"""The one door to samplernn_fast._C, the compiled part: whether it was built, and why it cannot be used."""

import importlib
from types import ModuleType

from samplernn_fast.errors import BackendUnavailable


def native() -> ModuleType:
    """samplernn_fast._C. Raises BackendUnavailable, with what to do, where it was not built or cannot be loaded."""
    try:
        return importlib.import_module("samplernn_fast._C")
    except ImportError as error:
        raise BackendUnavailable(
            f"the native part is not built ({error}); install a C++ compiler, then pip install -e ."
        ) from None


def why_missing() -> str | None:
    """Why the compiled part cannot be used, in one line; None where it can."""
    try:
        native()
    except BackendUnavailable as error:
        return str(error)
    return None
