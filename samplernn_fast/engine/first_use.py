"""Kernels that are compiled on the user's machine are compared with plain torch when they first make audio.

A kernel that some driver or GPU computes wrongly then ends in an error, not in noise.
"""

import threading
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from samplernn_fast.backends.interface import Backend
from samplernn_fast.errors import DeviceError
from samplernn_fast.models.layout import Hidden
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.draw import multiply_high, truncate_ref, weights_ref
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.randomness import Drawing
from samplernn_fast.reference.weights import as_tensor, moved

# How many streams are compared where groups have fewer ends, and at most. Only a small model is computed by so many
# groups, and plain torch is quick with it.
_ROWS, _MOST_ROWS = 64, 272
_SAMPLES, _FEWEST_SAMPLES = 64, 16  # how many samples of a block are compared, of few streams and of many
_WORK = 512  # the number of samples, of all streams together, above which fewer of each are compared
_FEWEST = 8  # the smallest number of drawn samples of a stream, over all blocks so far, that a verdict needs
# The draws of a wrong kernel nearly always lie outside the levels that it makes, those of a right one hardly ever. One
# stream has few samples, so its share may be smaller before it counts as wrong.
_LEAST_SHARE, _LEAST_SHARE_OF_ONE = 0.75, 0.5
# By how much rounding may move the edge between two levels, as a share of the distribution, and a logit, in standard
# deviations of all logits. Modes that round weights moved edges by 0.015 at the farthest of 2,048 draws on each of
# eleven models, and logits by hundredths; float32 keeps 1e-4 of both.
_SLACK = {"float32": (1e-3, 1e-3), "float64": (1e-3, 1e-3)}
_SLACK_OF_ROUNDED_WEIGHTS = (0.03, 0.1)


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


def could_draw(
    logits: Tensor,
    levels: Tensor,
    draws: Tensor,
    temperature: Tensor,
    top_k: int,
    top_p: float,
    slack: tuple[float, float],
) -> Tensor:
    """Whether logits that differ from these by no more than `slack` (_SLACK) could give the levels: (B,) of bool.

    logits (B, Q), levels (B,), draws (B,) int64 below 2^32 and temperature (B,) are those of `sample_ref`. A level
    could be drawn where its part of the distribution has the draw or lies near it. The likeliest level, and with top_k
    or top_p the last one that is kept, may change places with another that is nearly as likely.
    """
    logits = logits.float()
    weights = weights_ref(logits, torch.where(temperature == 0, 1.0, temperature))
    kept = truncate_ref(weights, top_k, top_p)
    upper, total = kept.cumsum(dim=1), kept.sum(dim=1)
    here = levels[:, None]
    above = upper.gather(1, here)[:, 0]
    below = above - kept.gather(1, here)[:, 0]
    rank = multiply_high(draws, total)
    outside = torch.maximum(below - rank, rank - above).clamp(min=0) / total
    near = slack[1] * logits.std(dim=1)
    logit, highest = logits.gather(1, here)[:, 0], logits.amax(dim=1)
    likeliest = logit >= highest - near
    if not (0 < top_k < logits.shape[1]) and top_p >= 1:
        return likeliest | ((temperature > 0) & (outside <= slack[0]))
    least = torch.where(kept > 0, logits, torch.inf).amin(dim=1)
    return likeliest | ((temperature > 0) & (logit >= least - near))


class _Plain(ReferenceBackend):
    """Plain torch that follows levels instead of making them."""

    @torch.inference_mode()
    def judge(
        self,
        hidden: Hidden,
        history: np.ndarray,
        t: int,
        drawing: Drawing,
        made: np.ndarray,
        slack: tuple[float, float],
    ) -> np.ndarray:
        """Whether each of the levels `made` (B, n) could be drawn behind those before it: (B, n) of bool."""
        lookback, steps = self.config.lookback, made.shape[1]
        levels = as_tensor(np.concatenate((history, made), axis=1), self.device)
        draws = as_tensor(drawing.randomness.draws(t, steps).astype(np.int64), self.device)
        temperature = as_tensor(drawing.temperature, self.device)
        found = np.empty(made.shape, bool)
        with moved(hidden, self.device) as states:
            for step in range(steps):
                now = lookback + step
                self.run_frame_network(states, levels[:, :now], t + step)
                logits = self.run_sample_network(states, levels[:, :now], t + step)
                settings = draws[:, step], temperature[:, step], drawing.top_k, drawing.top_p, slack
                found[:, step] = could_draw(logits, levels[:, now], *settings).numpy()
        return found


class FirstUse:
    """Checks one backend's first levels, in one call or several. `done` when enough of them were compared."""

    def __init__(self, backend: Backend, weights: PackedWeights) -> None:
        self.done = False
        self._backend = backend
        self._weights: PackedWeights | None = weights
        self._drawn, self._same = Counter[int](), Counter[int]()
        self._lock = threading.Lock()

    def check(
        self,
        hidden: list[np.ndarray],
        history: np.ndarray,
        t: int,
        drawing: Drawing,
        forced: np.ndarray,
        made: np.ndarray,
    ) -> None:
        """Compare the levels `made` (B, n) with plain torch's; DeviceError where they are not the model's.

        The other arguments are those of the backend's `generate`, with `hidden` as it was before the call. Each level
        is judged by what plain torch computes from the levels that the backend made before it, so that one which
        rounding has changed does not count against those behind it. Threads may check at once.
        """
        weights = self._weights
        if weights is None:  # another thread was quicker and has finished the check
            return
        rows = compared_rows(len(made), self._backend.group_streams(len(made)))
        steps = max(_FEWEST_SAMPLES, min(_SAMPLES, _WORK // len(rows)))
        made, drawn = made[rows, :steps], forced[rows, :steps] < 0
        plain = _Plain(weights, "cpu", "float32")
        state = [h[:, rows].astype(np.float32) for h in hidden]
        slack = _SLACK.get(self._backend.dtype, _SLACK_OF_ROUNDED_WEIGHTS)
        right = plain.judge(state, history[rows], t, drawing.of_rows(rows, made.shape[1]), made, slack)
        same = (right & drawn).sum(axis=1).tolist()
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
