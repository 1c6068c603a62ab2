"""`Engine` holds a model's packed weights; `EngineState` is all that changes while audio is made."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplernn_fast import backends, sampling
from samplernn_fast.checkpoint import model_sha256
from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.first_use import FirstUse
from samplernn_fast.model import AudioModel, SampleRNN
from samplernn_fast.pace import Pace
from samplernn_fast.reference import Hidden
from samplernn_fast.weights import pack

Schedule = Sequence[tuple[float, float]]
Temperature = float | Sequence[float] | Callable[[float], float]
_COMPILED_HERE = ("cuda", "triton")


class EngineState:
    """Where every stream stands: hidden states, the last L levels, the time t, and how to draw.

    Made by `Engine.init_state`. `temperature`, `top_k` and `top_p` may be changed between two calls of `run`.
    """

    def __init__(
        self,
        hidden: list[Tensor],
        history: Tensor,
        seed: int,
        streams: np.ndarray,
        config: SampleRNNConfig,
        model_sha256: str,
    ) -> None:
        self.hidden, self.history, self.seed, self.streams = hidden, history, seed, streams
        self.config, self.model_sha256, self.t = config, model_sha256, 0
        self.prompt_length = 0  # a schedule of temperatures starts behind the prompt
        self._temperature: Temperature = 1.0
        self.top_k, self.top_p = 0, 1.0

    @property
    def num_streams(self) -> int:
        return len(self.streams)

    @property
    def temperature(self) -> Temperature:
        """One number, one number per stream, or a function of the time in seconds (as `schedule` makes)."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: Temperature) -> None:
        if callable(value):
            self._temperature = value
            return
        values = np.asarray(value)
        if values.ndim == 0:
            self._temperature = sampling.check_temperature(values.item())
        elif values.shape == (self.num_streams,):
            self._temperature = tuple(sampling.check_temperature(one) for one in values.tolist())
        else:
            raise ConfigError(f"temperature must be one number or one per stream ({self.num_streams}), got {value!r}")

    def set_truncation(self, top_k: int | None, top_p: float | None) -> None:
        """Draw from the top_k likeliest levels, and from the top_p nucleus; None is off."""
        self.top_k, self.top_p = sampling.check_truncation(top_k, top_p)

    def temperatures(self, steps: int) -> Tensor:
        """The temperature of the next `steps` samples of every stream: (B, steps) float32."""
        if callable(self._temperature):
            times = np.maximum(0, self.t - self.prompt_length + np.arange(steps)) / self.config.sample_rate
            row = [sampling.check_temperature(float(self._temperature(time))) for time in times]
            return torch.tensor(row, dtype=torch.float32).expand(self.num_streams, -1)
        column = torch.tensor(self._temperature, dtype=torch.float32)
        return column.reshape(-1, 1).expand(self.num_streams, steps)

    def state_dict(self) -> dict[str, Any]:
        """Everything but a temperature given as a function, as tensors and numbers that `torch.save` keeps."""
        return {
            "model_sha256": self.model_sha256,
            "hidden": [h.clone() for h in self.hidden],
            "history": self.history.clone(),
            "t": self.t,
            "prompt_length": self.prompt_length,
            "seed": self.seed,
            "streams": self.streams.tolist(),
            "temperature": None if callable(self._temperature) else self._temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. CheckpointError if it is another model's or another number of streams."""
        if saved.get("model_sha256") != self.model_sha256:
            raise CheckpointError("engine state does not fit: it was saved from another model")
        shapes = [tuple(h.shape) for h in saved["hidden"]], tuple(saved["history"].shape)
        expected = [tuple(h.shape) for h in self.hidden], tuple(self.history.shape)
        if shapes != expected:
            raise CheckpointError(f"engine state does not fit: expected shapes {expected}, got {shapes}")
        if int(saved["history"].min()) < 0 or int(saved["history"].max()) >= self.config.q_levels:
            raise CheckpointError(f"engine state does not fit: its levels must be 0 to {self.config.q_levels - 1}")
        for mine, theirs in zip(self.hidden, saved["hidden"], strict=True):
            mine.copy_(theirs)
        self.history = saved["history"].to(self.history.device, copy=True)
        self.t, self.prompt_length, self.seed = saved["t"], saved["prompt_length"], saved["seed"]
        self.streams = np.asarray(saved["streams"], dtype=np.uint32)
        self.top_k, self.top_p = saved["top_k"], saved["top_p"]
        if saved["temperature"] is not None:
            self.temperature = saved["temperature"]


class Engine:
    """Samples a model. Packs its weights once; they are read-only, so one engine may serve several threads.

    backend: "auto" or a name of `backends.BACKENDS`; dtype: "auto", "fastest" or one of the backend's numeric modes
    (see `backends.resolve_dtype`).
    num_threads: of the `cpu` backend; None chooses by the model's size and the number of streams.
    """

    def __init__(
        self,
        model: AudioModel,
        backend: str = "auto",
        dtype: str = "auto",
        device: str | torch.device = "auto",
        num_threads: int | None = None,
    ) -> None:
        if not isinstance(model, SampleRNN):
            raise ConfigError(
                "the one-tier baseline cannot be sampled: the engine runs tiers of frames; train and evaluate do work"
            )
        self.config = model.config
        self.model_sha256 = model_sha256(model)
        self.device = backends.resolve_device(device)
        backends.resolve(backend, self.config, self.device, dtype)  # refuses before the work of packing
        weights = pack(model)
        self.backend, self.dtype = backends.start(backend, weights, self.device, dtype, num_threads)
        self._first_use = FirstUse(self.backend.name, weights) if self.backend.name in _COMPILED_HERE else None
        self.pace = Pace(self.config.lookback)

    def init_state(
        self,
        num_streams: int = 1,
        seed: int = 0,
        temperature: Temperature = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        prompt: Tensor | np.ndarray | None = None,
        first_stream: int = 0,
    ) -> EngineState:
        """A fresh state: silence before, learned initial states, t = 0.

        A stream's audio depends on (model, seed, stream number) alone; streams are first_stream, first_stream + 1, ...
        prompt: levels (n,) or (B, n) of any length, which every stream has heard before it goes on.
        """
        if num_streams < 1 or first_stream < 0 or first_stream + num_streams > 2**32:
            raise ConfigError(f"streams must be numbered 0 to 2^32 - 1, got {num_streams} from {first_stream}")
        streams = np.arange(first_stream, first_stream + num_streams, dtype=np.uint32)
        history = torch.full((num_streams, self.config.lookback), self.config.q_zero, device=self.device)
        hidden = self.backend.init_hidden(num_streams)
        checked = sampling.check_seed(seed)
        state = EngineState(hidden, history, checked, streams, self.config, self.model_sha256)
        state.temperature = temperature
        state.set_truncation(top_k, top_p)
        if prompt is not None:
            levels = self._check_levels(prompt, "prompt", low=0)
            if levels.dim() == 1:
                levels = levels.expand(num_streams, -1)
            if levels.dim() != 2 or levels.shape[0] != num_streams:
                raise ConfigError(f"prompt must be (n,) or (B, n) with B = {num_streams}, got {tuple(levels.shape)}")
            self.run(state, levels.shape[1], forced=levels)
            state.prompt_length = state.t
        return state

    def run(self, state: EngineState, n: int, forced: Tensor | np.ndarray | None = None) -> Tensor:
        """The next n levels of every stream, (B, n) int64 on the CPU; advances `state`.

        forced: (B, n) levels to take instead of drawing, -1 where the model is free: prompts, injected silence.
        A call that fails or is interrupted leaves `state` whole, at the end of the last block that was made.
        """
        if n < 0:
            raise ConfigError(f"run: n must be at least 0, got {n}")
        forced_levels = self._check_forced(state, n, forced)
        blocks = []
        block_size = functools.partial(self.pace.samples, state.num_streams)
        for start, stop, known in _segments(state.t, forced_levels, self.config.lookback, block_size):
            block, hidden = forced_levels[:, start:stop], [h.clone() for h in state.hidden]
            if known:
                self.backend.prime(hidden, state.history, block)
            else:
                block = self._draw(state, hidden, block)
            newest = block[:, -self.config.lookback :].to(self.device)
            history = torch.cat((state.history, newest), dim=1)[:, -self.config.lookback :]
            blocks.append(block.cpu())
            # Signals wait for a call or a loop, so ctrl-C finds all three old or all three new.
            state.hidden, state.history, state.t = hidden, history, state.t + stop - start
        return torch.cat(blocks, dim=1) if blocks else torch.empty(state.num_streams, 0, dtype=torch.int64)

    def score(self, levels: Tensor | np.ndarray) -> Tensor:
        """Teacher-forced log-probabilities, natural log, from the initial state: (B, L + T) -> (B, T, Q), any T."""
        levels = self._check_levels(levels, "score", low=0)
        lookback = self.config.lookback
        if levels.dim() != 2 or levels.shape[1] < lookback:
            raise ConfigError(f"score: levels must be (B, L + T) with L = {lookback}, got {tuple(levels.shape)}")
        steps = levels.shape[1] - lookback
        if not steps:
            dtype = torch.float64 if self.dtype == "float64" else torch.float32
            return torch.empty(levels.shape[0], 0, self.config.q_levels, dtype=dtype, device=self.device)
        padded = torch.nn.functional.pad(levels, (0, -steps % lookback), value=self.config.q_zero)
        return self.backend.score(self.backend.init_hidden(levels.shape[0]), padded)[:, :steps]

    def _draw(self, state: EngineState, hidden: Hidden, forced: Tensor) -> Tensor:
        """The levels of a block, (B, steps); advances `hidden`, a copy of the state's, and nothing else."""
        steps, randomness = forced.shape[1], sampling.Randomness(state.seed, state.streams)
        with self.pace.timed(state.num_streams, steps):
            temperature = state.temperatures(steps).to(self.device)  # a function of the user's may take longest
            settings = (randomness, temperature, state.top_k, state.top_p, forced)
            try:
                block = self.backend.generate(hidden, state.history, state.t, *settings).cpu()
                sound = int(block.max()) < self.config.q_levels
            except (ValueError, IndexError):  # what the backends make of such a logit
                sound = False
        if not sound:
            raise CheckpointError("the model gives logits that are not finite numbers; its weights are too large")
        first_use = self._first_use  # another thread may be done with it meanwhile
        if first_use:
            before = [h[:, :1].cpu() for h in state.hidden]
            first = (randomness, temperature[:1].cpu(), state.top_k, state.top_p, forced[:1].cpu(), block[:1])
            first_use.check(before, state.history[:1].cpu(), state.t, *first)
            if first_use.done:
                self._first_use = None
        return block

    def _check_forced(self, state: EngineState, n: int, forced: Tensor | np.ndarray | None) -> Tensor:
        if forced is None:
            return torch.full((state.num_streams, n), -1, device=self.device)
        levels = self._check_levels(forced, "run: forced", low=-1)
        if tuple(levels.shape) != (state.num_streams, n):
            raise ConfigError(f"run: forced must be (B, n) = {(state.num_streams, n)}, got {tuple(levels.shape)}")
        return levels

    def _check_levels(self, values: Tensor | np.ndarray, what: str, low: int) -> Tensor:
        """Integers from `low` to Q - 1 as int64 on the engine's device; floats are not rounded quietly."""
        levels = torch.as_tensor(values)
        if levels.is_floating_point() and levels.numel():
            raise ConfigError(f"{what}: levels must be integers, got {levels.dtype}; quantise audio first")
        levels = levels.long().to(self.device)
        if levels.numel() and not (low <= int(levels.min()) and int(levels.max()) < self.config.q_levels):
            found = f"{int(levels.min())} to {int(levels.max())}"
            raise ConfigError(f"{what}: levels must be {low} to {self.config.q_levels - 1}, got {found}")
        return levels


def _segments(t: int, forced: Tensor, lookback: int, block_size: Callable[[], int]) -> Iterator[tuple[int, int, bool]]:
    """Cut (B, n) forced levels into (start, stop, known) pieces: whole top frames that every stream is given, which
    need no sample-level MLP, and pieces of block_size() samples, asked anew for each, that are stepped through; less
    than two of them that are left over are one."""
    known = (forced >= 0).all(dim=0).cpu().numpy()
    edges = [0, *(np.flatnonzero(np.diff(known)) + 1).tolist(), len(known)]
    for start, stop in itertools.pairwise(edges):
        if start < stop and known[start]:
            aligned = min(stop, start + -(t + start) % lookback)
            whole = aligned + (stop - aligned) // lookback * lookback
            if start < aligned:
                yield start, aligned, False
            if aligned < whole:
                yield aligned, whole, True
            start = whole
        while start < stop:
            block = block_size()
            end = stop if stop - start < 2 * block else start + block
            yield start, end, False
            start = end


@dataclass(frozen=True)
class TemperatureCurve:
    """A temperature over time, as `schedule` makes it; its text is what `--temperature` takes."""

    points: tuple[tuple[float, float], ...]

    def __call__(self, seconds: float) -> float:
        times, values = zip(*self.points, strict=True)
        return float(np.interp(seconds, times, values))

    def __str__(self) -> str:
        return ",".join(f"{time!r}:{value!r}" for time, value in self.points)


def schedule(points: Schedule) -> TemperatureCurve:
    """A temperature over time: straight lines between (seconds, temperature) points, constant before and after."""
    if not points or any(not math.isfinite(time) for time, _ in points):
        raise ConfigError(f"a temperature schedule needs (seconds, temperature) points, got {points!r}")
    ordered = sorted(points, key=lambda point: point[0])
    return TemperatureCurve(tuple((float(time), sampling.check_temperature(value)) for time, value in ordered))
