"""`Memory` holds what a model remembers at one moment, wherever a backend keeps it."""

import sys
from typing import Any, NamedTuple

import numpy as np

from samplernn_fast.errors import DeviceError
from samplernn_fast.models.layout import Hidden


class Memory(NamedTuple):
    """It holds what a model remembers at one moment. Calls and states change nothing in it, so it costs no copy to
    keep."""

    hidden: Hidden
    """Arrays, or tensors where a backend of torch has made them."""
    history: np.ndarray
    """The last L levels, (B, L)."""
    t: int
    """The number of samples before this moment."""

    @property
    def arrays(self) -> list[np.ndarray]:
        """The hidden states, as `arrays_of` gives them."""
        return arrays_of(self.hidden)

    @property
    def nbytes(self) -> int:
        """The bytes that it takes."""
        return self.history.nbytes + sum(one.nbytes for one in self.hidden)


def arrays_of(hidden: Hidden) -> list[np.ndarray]:
    """Hidden states as arrays, which are only to be read, copied from a GPU where they lie there. Raises DeviceError
    where that gives them no more."""
    try:
        return [as_array(one) for one in hidden]
    except RuntimeError as error:  # torch's, behind an error of the GPU that no call survives
        raise DeviceError(f"the GPU does not give the hidden states back: {str(error).splitlines()[0]}") from None


def as_array(values: Any) -> np.ndarray:
    """An array of numbers, of a torch tensor too, on whichever device it is; bfloat16, which NumPy has not, is float32.

    Raises TypeError, ValueError or RuntimeError for what is no array.
    """
    # A tensor comes from nowhere else than torch, which another thread may be loading just now.
    torch = sys.modules.get("torch")
    kind = getattr(torch, "Tensor", None)
    if torch is not None and kind is not None and isinstance(values, kind):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)
