"""`Engine` plays a model: it holds the packed weights, and every call advances an `EngineState`."""

import functools
import itertools
import numbers
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from samplernn_fast.backends import registry
from samplernn_fast.backends.devices import resolve_device
from samplernn_fast.backends.interface import Backend
from samplernn_fast.engine.memory import arrays_of, as_array
from samplernn_fast.engine.pace import Pace
from samplernn_fast.engine.state import EngineState
from samplernn_fast.engine.temperature import Temperature
from samplernn_fast.errors import CheckpointError, ConfigError, NotFinite, is_out_of_memory
from samplernn_fast.models.layout import Hidden
from samplernn_fast.models.stored.arrays import ModelArrays, no_model, read_model
from samplernn_fast.reference import limits
from samplernn_fast.reference.randomness import Drawing, MixedDrawing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from samplernn_fast.engine.first_use import FirstUse
    from samplernn_fast.models.base import AudioModel

_KNOWN_AT_ONCE = 1 << 16  # samples
_NOT_FINITE = "the model gives logits that are not finite numbers; its weights are too large"


class Engine:
    """Samples a model. Packs its weights once; they are read-only, so one engine may serve several threads.

    model: a run folder, a .safetensors file, "demo" for the bundled model, or a model that is loaded already.
    backend: "auto" or a name of `registry.BACKENDS`; dtype: "auto", "fastest" or one of the backend's numeric modes
    (see `registry.start`). num_threads: of the `cpu` backend; None chooses by the model's size and the streams.
    num_streams: about how many streams are going to run at once, by which "auto" chooses between a GPU's backends. Any
    number may run.
    """

    def __init__(
        self,
        model: "str | Path | ModelArrays | AudioModel",
        backend: str = "auto",
        dtype: str = "auto",
        device: "str | torch.device" = "auto",
        num_threads: int | None = None,
        num_streams: int = 1,
    ) -> None:
        limits.STREAMS.check("num_streams", num_streams, whole=True)
        weights, where = _weights(model), resolve_device(device)
        # This refuses before the work of packing.
        registry.resolve(backend, weights.config, where, dtype, num_streams=num_streams)
        started = registry.start(backend, weights, where, dtype, num_threads, num_streams)
        first_use = None
        if started.compiled_here:
            from samplernn_fast.engine.first_use import FirstUse

            first_use = FirstUse(started, weights.packed)
        self._take(weights.arrays, started, first_use)

    @classmethod
    def of(cls, model: "ModelArrays | AudioModel", backend: Backend) -> Self:
        """An engine on a backend that was made from this model's packed weights, in a way that no name stands for.

        Its levels are not compared with plain torch when it is first used: whoever makes it checks it.
        """
        engine = cls.__new__(cls)
        engine._take(_weights(model).arrays, backend, None)
        return engine

    def _take(self, model: ModelArrays, backend: Backend, first_use: "FirstUse | None") -> None:
        self.config, self.model_sha256 = model.config, model.sha256
        self.backend, self.dtype, self.device = backend, backend.dtype, str(backend.device)
        self.pace = Pace(self.config.top_frame)
        self.most_mixed = int(limits.STREAMS.high)
        """The largest number of streams in a call for several states; `together.warm_up` finds it for a GPU."""
        self._first_use = first_use

    @property
    def mixes(self) -> bool:
        """This says whether one call of the backend may make streams of several states.

        It may not before the backend's first levels were compared with plain torch.
        """
        return self.backend.mixes and self._first_use is None

    def init_state(
        self,
        num_streams: int = 1,
        seed: int = 0,
        temperature: Temperature = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        prompt: "Tensor | np.ndarray | None" = None,
        first_stream: int = 0,
    ) -> EngineState:
        """A fresh state: silence before, learned initial states, t = 0.

        A stream's audio depends on (model, seed, stream number) alone; streams are first_stream, first_stream + 1, ...
        prompt: levels (n,) or (B, n) of any length, which every stream has heard before it goes on.
        """
        limits.STREAMS.check("num_streams", num_streams, whole=True)
        whole = isinstance(first_stream, numbers.Integral)
        if not whole or first_stream < 0 or first_stream + num_streams > 2**32:
            raise ConfigError(f"streams must be numbered 0 to 2^32 - 1, got {num_streams} from {first_stream}")
        try:
            history = np.full((num_streams, self.config.lookback), self.config.q_zero)
            streams = np.arange(first_stream, first_stream + num_streams, dtype=np.uint32)
            hidden = self.backend.init_hidden(num_streams)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ConfigError(f"{num_streams} streams at once take more memory than there is") from None
        checked = limits.check_seed(seed)
        state = EngineState(hidden, history, checked, streams, self.config, self.model_sha256)
        state.temperature = temperature
        state.set_truncation(top_k, top_p)
        if prompt is not None:
            levels = self._check_levels(prompt, "prompt", low=0)
            if levels.ndim == 1:
                levels = np.repeat(levels[None], num_streams, axis=0)
            if levels.ndim != 2 or len(levels) != num_streams:
                several = "" if num_streams == 1 else f", or one for each of {num_streams} streams"
                raise ConfigError(f"prompt must have one row{several}, got the shape {levels.shape}")
            if 0 < levels.shape[1] < self.config.least_prompt:
                raise ConfigError(
                    f"prompt must have at least {self.config.least_prompt} samples, a frame of this"
                    f" {self.config.system} model, which hears whole ones; got {levels.shape[1]}"
                )
            self.run(state, levels.shape[1], forced=levels)
            state.prompt_length = state.t
        return state

    def run(self, state: EngineState, n: int, forced: "Tensor | np.ndarray | None" = None) -> np.ndarray:
        """The next n levels of every stream, (B, n) int64; advances `state`.

        forced: (B, n) levels to take instead of drawing, -1 where the model is free: prompts, injected silence.
        A call that fails or is interrupted leaves `state` whole, at the end of the last slice that was made. Raises
        CheckpointError for a state of another model; one that was made in another numeric mode goes on in this one.
        """
        self.check_state(state)
        if isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 0:
            raise ConfigError(f"run: n must be a whole number, 0 or more, got {n!r}")
        n, all_forced = int(n), self._check_forced(state, n, forced)
        made: list[np.ndarray] = []
        slice_size = functools.partial(self.pace.samples, state.num_streams)
        some = None if forced is None else all_forced
        for start, stop, known in _slices(state.t, n, some, self.config.top_frame, slice_size):
            levels, hidden = all_forced[:, start:stop], self.hidden_of(state)
            if known:
                self.backend.prime(hidden, state.history, levels)
            else:
                with self.pace.timed(state.num_streams, stop - start):
                    drawing = state.drawing(stop - start)  # a temperature that is the user's function may take longest
                    given = state.history, state.t, drawing, levels
                    levels = self.generated(hidden, *given)
                first_use = self._first_use
                if first_use is not None:
                    first_use.check(state.hidden, *given, levels)
                    self._first_use = None if first_use.done else first_use
            past = self.newest_of(state.history, levels)
            made.append(levels)
            state.advance(hidden, past, stop - start)
        if len(made) == 1:
            return made[0]
        return np.concatenate(made, axis=1) if made else np.empty((state.num_streams, 0), np.int64)

    def check_state(self, state: EngineState) -> None:
        """Raises ConfigError for what is no state, and CheckpointError for a state of another model."""
        if not isinstance(state, EngineState):
            raise ConfigError(f"run: state must be an EngineState, which init_state makes, got {state!r:.60}")
        state.check_model(self.model_sha256)

    def generated(
        self, hidden: Hidden, history: np.ndarray, t: int, drawing: Drawing | MixedDrawing, forced: np.ndarray
    ) -> np.ndarray:
        """What the backend generates, as `Backend.generate`. Raises CheckpointError where a logit is not finite."""
        try:
            levels = self.backend.generate(hidden, history, t, drawing, forced)
        except NotFinite:
            raise CheckpointError(_NOT_FINITE) from None
        if levels.size and int(levels.max()) >= self.config.q_levels:
            raise CheckpointError(_NOT_FINITE)
        return levels

    def hidden_of(self, state: EngineState) -> Hidden:
        """A state's hidden states, where and in the numbers that the backend computes with them, for it to advance."""
        if self.backend.hidden_on_device:
            from samplernn_fast.reference.weights import as_tensors

            return as_tensors(state.kept, self.device, self.state_dtype)
        return [np.array(h, self.state_dtype, order="C") for h in arrays_of(state.kept)]

    def newest_of(self, history: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """The last L levels, (B, L), where levels (B, n) come after the history (B, L)."""
        lookback = self.config.lookback
        return np.concatenate((history, levels[:, -lookback:]), axis=1)[:, -lookback:]

    @property
    def state_dtype(self) -> type[np.floating]:
        """The numbers that the backend computes hidden states with."""
        return np.float64 if self.dtype == "float64" else np.float32

    def score(self, levels: "Tensor | np.ndarray") -> np.ndarray:
        """Teacher-forced log-probabilities, natural log, from the initial state: float32, or float64 in that mode.

        levels: (B, n), at least L of them, the model's lookback. The first L are heard only, so the result is
        (B, T, Q) with T = n - L: row t has the probabilities of level L + t, given all levels before it. ConfigError
        for a mixture, which has densities in place of these probabilities.
        """
        if self.config.mixture:
            raise ConfigError(
                f"score: {self.config.system} predicts densities and no probabilities of levels; evaluate measures it"
            )
        levels = self._check_levels(levels, "score", low=0)
        lookback = self.config.lookback
        if levels.ndim != 2 or not len(levels) or levels.shape[1] < lookback:
            raise ConfigError(
                f"score: levels must be (B, n) with n at least the model's lookback, {lookback}, got {levels.shape}"
            )
        steps = levels.shape[1] - lookback
        if not steps:
            dtype = np.float64 if self.dtype == "float64" else np.float32
            return np.empty((len(levels), 0, self.config.q_levels), dtype)
        silence = ((0, 0), (0, -steps % self.config.top_frame))
        padded = np.pad(levels, silence, constant_values=self.config.q_zero)
        hidden = self.backend.init_hidden(len(levels), levels[:, :lookback])
        return self.backend.score(hidden, padded)[:, :steps]

    def _check_forced(self, state: EngineState, n: int, forced: Any) -> np.ndarray:
        if forced is None:
            return np.broadcast_to(np.int64(-1), (state.num_streams, n))
        levels = self._check_levels(forced, "run: forced", low=-1)
        if levels.shape != (state.num_streams, n):
            raise ConfigError(f"run: forced must be (B, n) = {(state.num_streams, n)}, got {levels.shape}")
        return levels

    def _check_levels(self, values: Any, what: str, low: int) -> np.ndarray:
        """A copy of integers from `low` to Q - 1, as int64 in rows; floats are not rounded quietly."""
        try:
            levels = as_array(values)
        except (TypeError, ValueError, RuntimeError):
            raise ConfigError(f"{what}: levels must be integers, got {values!r:.60}") from None
        if levels.size and levels.dtype.kind not in "iub":
            if levels.dtype.kind != "f":
                raise ConfigError(f"{what}: levels must be integers, got {values!r:.60}")
            raise ConfigError(f"{what}: levels must be integers, got {levels.dtype}; quantize audio first")
        if levels.size and not (low <= int(levels.min()) and int(levels.max()) < self.config.q_levels):
            found = f"{int(levels.min())} to {int(levels.max())}"
            raise ConfigError(f"{what}: levels must be {low} to {self.config.q_levels - 1}, got {found}")
        return levels.astype(np.int64, order="C")


def _weights(model: "str | Path | ModelArrays | AudioModel") -> registry.Weights:
    """The weights of a model, read where it is named: by a run folder, a .safetensors file, or "demo".

    Raises ConfigError for anything else, and CheckpointError where it cannot be loaded.
    """
    if isinstance(model, (str, Path)):
        return registry.Weights(read_model(model))
    if isinstance(model, ModelArrays):
        return registry.Weights(model)
    if "torch" in sys.modules:  # or it cannot be a torch model
        from samplernn_fast.models.base import AudioModel
        from samplernn_fast.models.checkpoint import arrays_of

        if isinstance(model, AudioModel):
            return registry.Weights(arrays_of(model), model)
    raise no_model(model)


def _slices(
    t: int, n: int, forced: np.ndarray | None, frame: int, slice_size: Callable[[], int]
) -> Iterator[tuple[int, int, bool]]:
    """Cut a call of n samples into slices (start, stop, known) from time t on.

    forced: its levels (B, n), of which some are known; None where none is. frame: the samples of a top frame. A known
    slice is whole top frames that every stream is given, about `_KNOWN_AT_ONCE` samples at most, so that a signal is
    heard within a long prompt; it needs no draws. The others are stepped through, slice_size() samples at a time, which
    is asked anew for each; a rest of less than two sizes is one slice.
    """
    known = None if forced is None else np.asarray(np.all(forced >= 0, axis=0))
    edges = [0, *([] if known is None else (np.flatnonzero(np.diff(known)) + 1).tolist()), n]
    for start, stop in itertools.pairwise(edges):
        if start < stop and known is not None and known[start]:
            aligned = min(stop, start + -(t + start) % frame)
            whole = aligned + (stop - aligned) // frame * frame
            if start < aligned:
                yield start, aligned, False
            piece = -(-_KNOWN_AT_ONCE // frame) * frame
            for first in range(aligned, whole, piece):
                yield first, min(first + piece, whole), True
            start = whole
        while start < stop:
            size = slice_size()
            end = stop if stop - start < 2 * size else start + size
            yield start, end, False
            start = end
