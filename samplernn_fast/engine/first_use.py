"""Kernels that are compiled on the user's machine are compared with plain torch when they first make audio.

A kernel that some driver or GPU computes wrongly then ends in an error, not in noise.
"""

import threading
from collections import Counter

import numpy as np

from samplernn_fast.backends.interface import Backend
from samplernn_fast.errors import DeviceError
from samplernn_fast.models.layout import Hidden
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.randomness import Drawing

# How many streams are compared where groups have fewer ends, and at most. Only a small model is computed by so many
# groups, and plain torch is quick with it.
_ROWS, _MOST_ROWS = 64, 272
_SAMPLES, _FEWEST_SAMPLES = 64, 16  # how many samples of a block are compared, of few streams and of many
_WORK = 512  # the number of samples, of all streams together, above which fewer of each are compared
_FEWEST = 8  # the smallest number of drawn samples of a stream, over all blocks so far, that a verdict needs
# A mode that rounds weights draws another level once in hundreds of samples, a wrong kernel nearly always. One stream
# has few samples, so its share may be smaller before it counts as wrong: eight samples are half wrong by rounding in
# one of millions.
_LEAST_SHARE, _LEAST_SHARE_OF_ONE = 0.75, 0.5


def compared_rows(streams: int, group: int, wanted: int = _ROWS, most: int = _MOST_ROWS) -> list[int]:
    """Which of `streams` rows of a batch are compared: the first and the last of every group of `group` neighbouring
    rows, at most `most` of them, and others evenly between them, until there are `wanted`."""
    ends = {row for first in range(0, streams, group) for row in (first, min(first + group, streams) - 1)}
    if len(ends) >= most:
        return _evenly(sorted(ends), most)
    others = [row for row in range(streams) if row not in ends]
    return sorted(ends | set(_evenly(others, min(len(others), max(0, wanted - len(ends))))))


def _evenly(rows: list[int], number: int) -> list[int]:
    """That many of `rows`, the first and the last among them."""
    return [rows[place] for place in np.rint(np.linspace(0, len(rows) - 1, number)).astype(int)]


class FirstUse:
    """Checks one backend's first levels, in one call or several. `done` when enough of them were compared."""

    def __init__(self, backend: Backend, weights: PackedWeights) -> None:
        self.done = False
        self._backend = backend
        self._weights: PackedWeights | None = weights
        self._drawn, self._same = Counter[int](), Counter[int]()
        self._lock = threading.Lock()

    def check(
        self, hidden: Hidden, history: np.ndarray, t: int, drawing: Drawing, forced: np.ndarray, made: np.ndarray
    ) -> None:
        """Compare the levels `made` (B, n) with plain torch's; DeviceError where they are not the model's.

        The other arguments are those of the backend's `generate`, with `hidden` as it was before the call. Every second
        sample of the streams that are compared is drawn again behind the others, which are taken as they were made.
        Threads may check at once.
        """
        weights = self._weights
        if weights is None:  # another thread was quicker and has finished the check
            return
        rows = compared_rows(len(made), self._backend.group_streams(len(made)))
        steps = max(_FEWEST_SAMPLES, min(_SAMPLES, _WORK // len(rows)))
        made, again = made[rows, :steps], forced[rows, :steps]
        again[:, ::2] = made[:, ::2]
        drawn = again < 0
        plain = ReferenceBackend(weights, "cpu", "float32")
        state = [h[:, rows].astype(np.float32) for h in hidden]
        levels = plain.generate(state, history[rows], t, drawing.of_rows(rows, steps), again)
        same = ((levels == made) & drawn).sum(axis=1).tolist()
        with self._lock:
            self._drawn.update(dict(zip(rows, drawn.sum(axis=1).tolist(), strict=True)))
            self._same.update(dict(zip(rows, same, strict=True)))
            judged = {row: number for row, number in self._drawn.items() if number >= _FEWEST}
            same_of = {row: self._same[row] for row in judged}
            waiting = [row for row in rows if 0 < self._drawn[row] < _FEWEST]
        self._judge(judged, same_of)
        if judged and not waiting:
            self.done, self._weights = True, None

    def _judge(self, drawn: dict[int, int], same: dict[int, int]) -> None:
        """Raises DeviceError where too few levels are the same, of all streams or of one."""
        wrong = [row for row in drawn if same[row] < _LEAST_SHARE_OF_ONE * drawn[row]]
        if sum(same.values()) < _LEAST_SHARE * sum(drawn.values()):
            found = f"{sum(same.values())} of {sum(drawn.values())} are"
        elif wrong:
            found = f"{same[wrong[0]]} of {drawn[wrong[0]]} of stream {wrong[0]} are"
        else:
            return
        raise DeviceError(
            f"the {self._backend.name} backend made levels that are not the model's: {found} as plain torch draws"
            " them; use another backend (samplernn-fast doctor lists them) and report this"
        )
