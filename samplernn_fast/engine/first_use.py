"""Kernels that are compiled on the user's machine are compared with plain torch when they first make audio, so that one
which some driver or GPU does not agree with ends in an error, not in noise."""

import threading

import torch
from torch import Tensor

from samplernn_fast.errors import DeviceError
from samplernn_fast.reference.backend import Hidden, ReferenceBackend
from samplernn_fast.reference.draw import Randomness
from samplernn_fast.reference.weights import PackedWeights

# Of a block; and as many drawn in one block or several.
_SAMPLES, _FEWEST = 64, 8
# A rounded mode draws another level once in hundreds of samples, a wrong kernel nearly always.
_LEAST_SHARE = 0.75


class FirstUse:
    """Checks one backend once. `done` when enough samples were compared."""

    def __init__(self, name: str, weights: PackedWeights) -> None:
        self.name, self.done = name, False
        self._weights: PackedWeights | None = weights
        self._drawn = self._same = 0
        self._lock = threading.Lock()

    def check(
        self,
        hidden: Hidden,
        history: Tensor,
        t: int,
        randomness: Randomness,
        temperature: Tensor,
        top_k: int,
        top_p: float,
        forced: Tensor,
        made: Tensor,
    ) -> None:
        """Compare the first levels that a backend made of stream 0; DeviceError where they are not the model's.

        Arguments as of a backend's `generate`, with one stream and on the CPU, `hidden` as it was before; made (1, n).
        Every second sample is drawn again, the others are taken as they were made. Threads may check at once.
        """
        weights = self._weights
        if weights is None:  # another thread has been quicker
            return
        again = forced[:, :_SAMPLES].clone()
        again[:, ::2] = made[:, :_SAMPLES:2]
        drawn = again < 0
        plain = ReferenceBackend(weights, torch.device("cpu"), "float32")
        state = [h.to(torch.float32, copy=True) for h in hidden]
        one = Randomness(randomness.seed, randomness.streams[:1])
        levels = plain.generate(state, history, t, one, temperature[:, :_SAMPLES], top_k, top_p, again)
        with self._lock:
            self._drawn += int(drawn.sum())
            self._same += int((levels == made[:, :_SAMPLES])[drawn].sum())
            all_drawn, same = self._drawn, self._same
        if all_drawn < _FEWEST:
            return
        if same < _LEAST_SHARE * all_drawn:
            raise DeviceError(
                f"the {self.name} backend made levels that are not the model's: {same} of {all_drawn} are as"
                " plain torch draws them; use another backend (samplernn-fast doctor lists them) and report this"
            )
        self.done, self._weights = True, None
