"""Kernels that are compiled on the user's machine are compared with plain torch when they first make audio.

A kernel that some driver or GPU computes wrongly then ends in an error, not in noise.
"""

import threading

import torch
from torch import Tensor

from samplernn_fast.errors import DeviceError
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.draw import Drawing
from samplernn_fast.reference.known_levels import Hidden
from samplernn_fast.reference.weights import PackedWeights

_SAMPLES = 64  # the largest number of samples of one block that are compared
_FEWEST = 8  # the smallest number of drawn samples, over all blocks so far, that a verdict needs
# A mode that rounds weights draws another level once in hundreds of samples, a wrong kernel nearly always.
_LEAST_SHARE = 0.75


class FirstUse:
    """Checks one backend's first levels, in one call or several. `done` when enough of them were compared."""

    def __init__(self, name: str, weights: PackedWeights) -> None:
        self.name, self.done = name, False
        self._weights: PackedWeights | None = weights
        self._drawn = self._same = 0
        self._lock = threading.Lock()

    def check(self, hidden: Hidden, history: Tensor, t: int, drawing: Drawing, forced: Tensor, made: Tensor) -> None:
        """Compare the levels `made` (B, n) of stream 0 with plain torch's; DeviceError where they are not the model's.

        The other arguments are those of the backend's `generate`, with `hidden` as it was before the call. Every second
        sample is drawn again behind the others, which are taken as they were made. Threads may check at once.
        """
        weights = self._weights
        if weights is None:  # another thread was quicker and has finished the check
            return
        again = forced[:1, :_SAMPLES].cpu().clone()
        again[:, ::2] = made[:1, :_SAMPLES:2]
        drawn = again < 0
        plain = ReferenceBackend(weights, torch.device("cpu"), "float32")
        state = [h[:, :1].to("cpu", torch.float32, copy=True) for h in hidden]
        levels = plain.generate(state, history[:1].cpu(), t, drawing.of_first_stream(_SAMPLES), again)
        with self._lock:
            self._drawn += int(drawn.sum())
            self._same += int((levels == made[:1, :_SAMPLES])[drawn].sum())
            all_drawn, same = self._drawn, self._same
        if all_drawn < _FEWEST:
            return
        if same < _LEAST_SHARE * all_drawn:
            raise DeviceError(
                f"the {self.name} backend made levels that are not the model's: {same} of {all_drawn} are as"
                " plain torch draws them; use another backend (samplernn-fast doctor lists them) and report this"
            )
        self.done, self._weights = True, None
