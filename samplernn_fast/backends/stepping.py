"""The `stepping` backend: any system, in plain torch, by the stepper that its model brings, all streams in one batch.

It is for systems without a packed layout. The draws are the project's own: `reference.draw` for levels,
`reference.mixture` for mixtures.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from torch.nn.utils import parametrize

from samplernn_fast.errors import ConfigError
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.layout import Hidden
from samplernn_fast.models.other_configs import MixtureConfig
from samplernn_fast.models.registry import build_model
from samplernn_fast.models.stored.arrays import check_finite
from samplernn_fast.reference.draw import finite_logits, sample_ref
from samplernn_fast.reference.mixture import draw_mixture
from samplernn_fast.reference.randomness import Drawing
from samplernn_fast.reference.weights import as_tensor, moved

_ALONE = 1 << 26  # the most products of a step's largest matrix, over all streams, for which one thread is faster
_KNOWN_SAMPLES = 1 << 14  # about how many samples of all streams together are followed at once


class _OneThread:
    """Within it torch computes with one thread; afterwards, when no call is within, with as many as before.

    The number of threads is the process's, so calls from several threads of Python are counted.
    """

    def __init__(self) -> None:
        self._lock, self._within, self._before = threading.Lock(), 0, 1

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._before = torch.get_num_threads()
                torch.set_num_threads(1)
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                torch.set_num_threads(self._before)


_one_thread = _OneThread()


class SteppingBackend:
    """Any system, any device torch runs on, float32 or float64; see `interface.Backend` for the calls."""

    name = "stepping"
    dtypes: tuple[str, ...] = ("float32", "float64")
    promised: tuple[str, ...] = ()
    packed = False
    compiled_here = False
    batch_invariant = False
    mixes = False
    hidden_on_device = True

    @staticmethod
    def unavailable_reasons(config: AudioConfig, device: str) -> list[str]:
        """Always empty, because every system brings a stepper."""
        return []

    def __init__(self, weights: AudioModel, device: str, dtype: str, num_threads: int | None = None) -> None:
        """weights: the model, of which a copy is made whose weight normalization is worked out once."""
        if num_threads is not None:
            raise ConfigError("num_threads is for the cpu backend; leave it out, because stepping has torch's threads")
        parameters = {name: parameter.detach().cpu().double() for name, parameter in weights.named_parameters()}
        check_finite(
            {name: tensor.numpy() for name, tensor in parameters.items()}, said_behind="; this model cannot make audio"
        )
        self.config, self.device, self.dtype = weights.config, torch.device(device), dtype
        self.model = _without_norms(weights).to(self.device, getattr(torch, dtype)).eval().requires_grad_(False)
        self._largest = max(parameter.numel() for parameter in self.model.parameters())

    def group_streams(self, streams: int) -> int:
        """All streams are one group, because a matrix product has all of them."""
        return streams

    @torch.inference_mode()
    def init_hidden(self, streams: int, context: np.ndarray | None = None) -> Hidden:
        """The hidden state behind the levels `context` (B, L), or endless silence."""
        levels = None if context is None else as_tensor(context, self.device)
        return [h.cpu().numpy().copy() for h in self.model.init_hidden(streams, levels)]

    @torch.inference_mode()
    def prime(self, hidden: Hidden, history: np.ndarray, levels: np.ndarray) -> None:
        """Advance `hidden` over known levels (B, n), n whole top frames, starting where a top frame starts."""
        with moved(hidden, self.device) as states:
            for _ in self._follow(states, as_tensor(np.concatenate((history, levels), axis=1), self.device)):
                pass

    @torch.inference_mode()
    def score(self, hidden: Hidden, levels: np.ndarray) -> np.ndarray:
        """Log-probabilities (B, T, Q) of levels (B, L + T), T whole top frames; advances `hidden`."""
        with moved(hidden, self.device) as states:
            outputs = self._follow(states, as_tensor(levels, self.device))
            return torch.cat([log_softmax(one, dim=-1) for one in outputs], dim=1).cpu().numpy()

    @torch.inference_mode()
    def generate(self, hidden: Hidden, history: np.ndarray, t: int, drawing: Drawing, forced: np.ndarray) -> np.ndarray:
        """The levels (B, n) from time t on: those of `forced` where it is not -1, else drawn; advances `hidden`."""
        alone = len(forced) * self._largest <= _ALONE
        levels = as_tensor(np.concatenate((history, forced), axis=1), self.device)
        finite = finite_logits(levels, self.config.q_levels)
        with _one_thread if alone else nullcontext(), moved(hidden, self.device) as states, finite:
            self._generate(states, levels, t, drawing)
        return levels[:, self.config.lookback :].cpu().numpy()

    def _generate(self, hidden: list[Tensor], levels: Tensor, t: int, drawing: Drawing) -> None:
        """Draws every -1 among the levels (B, L + n) from time t on; advances `hidden`."""
        lookback, done = self.config.lookback, 0
        forced = levels[:, lookback:].clone()
        draw = _drawer(self.config, drawing, t, forced)
        stepper, steps = self.model.stepper(tuple(hidden), t), forced.shape[1]
        while done < steps:
            outputs = stepper.step(levels[:, done : done + lookback])
            for output in outputs.unbind(1)[: steps - done]:
                given = forced[:, done]
                levels[:, lookback + done] = torch.where(given >= 0, given, draw(output, done))
                done += 1
        hidden[:] = stepper.hidden()

    def _follow(self, hidden: list[Tensor], levels: Tensor) -> Iterator[Tensor]:
        """Outputs (B, T, O) over known levels (B, L + T), in pieces of time; advances `hidden`."""
        lookback, frame = self.config.lookback, self.config.top_frame
        piece = frame * max(1, max(_KNOWN_SAMPLES, 2 * lookback) // (levels.shape[0] * frame))
        for start in range(0, levels.shape[1] - lookback, piece):
            outputs, hidden[:] = self.model.follow(tuple(hidden), levels[:, start : start + lookback + piece])
            yield outputs


def _drawer(config: AudioConfig, drawing: Drawing, t: int, forced: Tensor) -> Callable[[Tensor, int], Tensor]:
    """A function from the outputs (B, O) of the step-th sample of a call, and its step, to drawn levels (B,)."""
    temperature, steps = as_tensor(drawing.temperature, forced.device), forced.shape[1]
    if isinstance(config, MixtureConfig):
        words = as_tensor(drawing.randomness.words(t, steps).astype(np.int64), forced.device)
        return lambda outputs, step: draw_mixture(outputs, words[:, step], temperature[:, step], config)
    draws = as_tensor(drawing.randomness.draws(t, steps).astype(np.int64), forced.device)
    top_k, top_p = drawing.top_k, drawing.top_p
    return lambda outputs, step: sample_ref(outputs, draws[:, step], temperature[:, step], top_k, top_p)


def _without_norms(model: AudioModel) -> AudioModel:
    """A copy of a model in float64, with plain weights in place of normalized ones."""
    # No deepcopy: it shares the classes that torch makes for normalized layers, and taking norms off changes these.
    plain = build_model(model.config, seed=None).double()
    plain.load_state_dict(model.state_dict())
    for module in plain.modules():
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)
    return plain
