"""Bits of known levels under a model, with the state carried from one batch to the next.

`scorer` chooses what scores a batch: the training forward, or the kernels of a backend. `likelihood.evaluate` reads
recordings with it, and `LevelScorer` scores sounds whose levels come slice by slice, generated ones for example.
"""

import math
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from samplernn_fast.backends import devices
from samplernn_fast.backends.registry import BACKENDS
from samplernn_fast.data.batches import EvalBatch
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import ConfigError
from samplernn_fast.models.base import AudioModel, State
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.gaussian import MixtureModel
from samplernn_fast.models.layout import Hidden

_MAX_LOGITS = 1 << 25  # most logits of one batch: 128 MiB in float32
_MAX_PRODUCTS = 1 << 35  # most products of one call on a CPU, each weight being one a sample: 0.25 seconds of a core
_MAX_SAMPLES = 4096  # most samples of a row of one batch, unless a top frame is longer

Score = Callable[[EvalBatch], Tensor]
"""A function from a batch to its bits (1, B, T), and for a mixture (2, B, T) with its nats."""


class LevelScorer:
    """Scores several sounds side by side, whose levels come slice by slice, each from silence and the initial state.

    They are scored as `evaluate` scores a recording, so the numbers compare.
    """

    def __init__(
        self, model: AudioModel, streams: int = 1, *, backend: str = "auto", dtype: str = "auto", device: str = "auto"
    ) -> None:
        """streams: how many sounds. backend, dtype, device and errors: as in `evaluate`."""
        target = device_of(model, device)
        self._config, self._score = model.config, scorer(model, backend, dtype, target)
        frame = self._config.top_frame
        piece = frame * max(1, piece_samples(model, target) // (streams * frame))
        self._steps = min(steps_at_once(self._config, streams), piece)
        # The context of the next level, and the levels that are not scored yet.
        self._levels = torch.full((streams, self._config.lookback), self._config.q_zero)
        self._bits, self._count, self._begun = torch.zeros(streams, dtype=torch.float64), 0, False

    def add(self, levels: Tensor | np.ndarray) -> None:
        """Goes on with the next levels: (B, n) integers."""
        self._levels = torch.cat((self._levels, torch.as_tensor(levels).long()), dim=1)
        while self._levels.shape[1] >= self._config.lookback + self._steps:
            self._take(self._steps)

    def bits(self) -> list[float]:
        """The mean bits per sample of each sound, which ends here. NaN where nothing came."""
        rest = self._levels.shape[1] - self._config.lookback
        if rest:
            padding = -rest % self._config.top_frame
            self._levels = torch.nn.functional.pad(self._levels, (0, padding), value=self._config.q_zero)
            self._take(rest, padding)
        return (self._bits / self._count).tolist() if self._count else [math.nan] * len(self._bits)

    def _take(self, steps: int, padding: int = 0) -> None:
        """Scores the next levels; the padding behind them does not count."""
        rows, lookback = self._levels.shape[0], self._config.lookback
        batch = EvalBatch(
            self._levels[:, : lookback + steps + padding].contiguous(),
            torch.full((rows,), not self._begun),
            torch.arange(steps + padding).expand(rows, -1) < steps,
            torch.arange(rows),
        )
        self._bits += (self._score(batch)[0].double().cpu() * batch.mask).sum(dim=1)
        self._levels, self._count, self._begun = self._levels[:, steps:], self._count + steps, True


def steps_at_once(config: AudioConfig, rows: int) -> int:
    """How many samples of each row one batch has: whole top frames, whose logits take little memory."""
    per_row = max(1, _MAX_LOGITS // (rows * config.outputs * config.top_frame))
    return config.top_frame * min(per_row, max(1, _MAX_SAMPLES // config.top_frame))


def piece_samples(model: AudioModel, device: torch.device) -> int:
    """How many samples of all rows are scored in one call, so that a CPU is done with it within a second."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return _MAX_PRODUCTS // parameters if device.type == "cpu" else sys.maxsize


def device_of(model: AudioModel, device: str) -> torch.device:
    """The device by name; "auto" is where the model is."""
    return next(model.parameters()).device if device == "auto" else torch.device(devices.resolve_device(device))


def scorer(model: AudioModel, backend: str, dtype: str, device: torch.device) -> Score:
    """What scores batches of this model, one after another with the state carried; see `evaluate` for the settings.

    Raises ConfigError and BackendUnavailable for settings that do not fit the model.
    """
    chosen = _choose(model, device) if backend == "auto" else backend
    if chosen == "forward" and dtype != "auto":
        other = "leave dtype out" if model.config.mixture else f"name a backend to score in {dtype}"
        raise ConfigError(f"the training forward scores in the model's own dtype; {other}")
    return _score_forward(model, device) if chosen == "forward" else _score_backend(model, chosen, dtype, device)


def _choose(model: AudioModel, device: torch.device) -> str:
    """What scores fastest: on a CPU our kernels, which other processes slow down less than torch's threads."""
    if not model.config.packed or next(model.parameters()).dtype != torch.float32:
        return "forward"
    return "forward" if BACKENDS["cpu"].unavailable_reasons(model.config, str(device)) else "cpu"


def _score_forward(model: AudioModel, device: torch.device) -> Score:
    """A function from a batch to its bits (1, B, T), and for a mixture (2, B, T) with its nats, in torch.

    It keeps the hidden state between batches, so that a network of convolutions does not compute its context again.
    """
    model = model.to(device)
    hidden: State = ()

    @torch.inference_mode()
    def score(batch: EvalBatch) -> Tensor:
        nonlocal hidden
        levels = batch.levels.to(device)
        rows = levels.shape[0]
        kept = model.init_hidden(rows) if bool(batch.reset.any()) else tuple(_first_rows(hidden, rows))
        outputs, hidden = model.follow(kept, levels)
        targets = levels[:, model.config.lookback :]
        bits = model.bits(outputs, targets)
        return torch.stack((bits, model.nats(outputs, targets))) if isinstance(model, MixtureModel) else bits[None]

    return score


def _score_backend(model: AudioModel, backend: str, dtype: str, device: torch.device) -> Score:
    """A function from a batch to its bits (1, B, T), by the kernels of a backend. It keeps the state between batches.

    ConfigError for a mixture, which backends do not score.
    """
    if model.config.mixture:
        raise ConfigError(
            f"backend must be auto or forward for {model.config.system}, whose densities no backend scores, got"
            f" {backend!r}"
        )
    engine = Engine(model, backend=backend, dtype=dtype, device=device)
    hidden: Hidden = []

    def score(batch: EvalBatch) -> Tensor:
        nonlocal hidden
        levels = batch.levels.numpy().astype(np.int64)
        if bool(batch.reset.any()):
            hidden = engine.backend.init_hidden(len(levels))
        else:
            hidden = [np.ascontiguousarray(h[:, : len(levels)]) for h in hidden]
        logp = engine.backend.score(hidden, levels)
        found = np.take_along_axis(logp, levels[:, model.config.lookback :, None], axis=2)[None, ..., 0]
        return torch.from_numpy(-found / math.log(2))

    return score


def _first_rows(state: Sequence[Tensor], rows: int) -> list[Tensor]:
    """The states (n, rows, H) of the recordings that still go on: the shortest of a group are its last rows."""
    return [h if h.shape[1] == rows else h[:, :rows].contiguous() for h in state]
