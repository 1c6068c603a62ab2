"""The one door to samplernn_fast._C, the compiled part: whether it was built, and why it cannot be used."""

import importlib
import importlib.util
from types import ModuleType

from samplernn_fast.errors import BackendUnavailable

_NAME = "samplernn_fast._C"


def native() -> ModuleType:
    """samplernn_fast._C. Raises BackendUnavailable, with what to do, where it was not built or cannot be loaded."""
    try:
        return importlib.import_module(_NAME)
    except ImportError as error:
        if importlib.util.find_spec(_NAME) is None:
            reason = "the native part is not built; install a C++ compiler, then pip install --no-deps -e ."
        else:
            reason = f"the native part is built, but cannot be loaded: {error}"
        raise BackendUnavailable(reason) from None


def why_missing() -> str | None:
    """Why the compiled part cannot be used, in one line; None where it can."""
    try:
        native()
    except BackendUnavailable as error:
        return str(error)
    return None
