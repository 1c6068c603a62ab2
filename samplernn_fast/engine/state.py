"""`EngineState`: all that changes while audio is made. It can be saved, restored and moved to another process."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplernn_fast.engine.temperature import Temperature, TemperatureCurve, parse
from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.reference import draw, limits
from samplernn_fast.untrusted import Fields, Unreadable

_MAX_TIME = 2**62  # samples; the native engines count time in signed 64 bits
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


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
        config: AudioConfig,
        model_sha256: str,
    ) -> None:
        self.hidden, self.history, self.seed, self.streams = hidden, history, seed, streams
        self.config, self.model_sha256, self.t = config, model_sha256, 0
        self.prompt_length = 0  # samples; a temperature over time begins behind the prompt
        self._temperature: Temperature = 1.0
        self.top_k, self.top_p = 0, 1.0

    @property
    def num_streams(self) -> int:
        """B, the number of streams."""
        return len(self.streams)

    @property
    def temperature(self) -> Temperature:
        """One number, one number per stream, or a function of the seconds since the prompt (`temperature.schedule`).

        A text such as "0:0.7,10:1.1" is taken as such a function.
        """
        return self._temperature

    @temperature.setter
    def temperature(self, value: Temperature) -> None:
        value = parse(value) if isinstance(value, str) else value
        self._temperature = value if callable(value) else self._checked(value)

    def _checked(self, value: Any) -> Temperature:
        """One temperature or one per stream, as numbers. Raises ConfigError."""
        several = "" if self.num_streams == 1 else f" or {self.num_streams}, one per stream"
        wanted = f"temperature must be one number{several}"
        try:
            values = np.asarray(value)
        except ValueError:  # lists of different lengths
            raise ConfigError(wanted) from None
        if values.ndim == 0:
            return limits.check_temperature(values.item())
        if values.shape != (self.num_streams,):
            raise ConfigError(f"{wanted}, got an array of the shape {values.shape}")
        return tuple(limits.check_temperature(one) for one in values.tolist())

    def set_truncation(self, top_k: int | None, top_p: float | None) -> None:
        """Draw from the top_k likeliest levels, and from the top_p nucleus; None is off."""
        self.top_k, self.top_p = self._checked_truncation(*limits.check_truncation(top_k, top_p, self.config.q_levels))

    def _checked_truncation(self, top_k: int, top_p: float) -> tuple[int, float]:
        """Returns both. ConfigError where one is on and the model has no probabilities of levels."""
        if self.config.mixture and (top_k or top_p < 1):
            raise ConfigError(
                f"top_k and top_p choose among levels, and {self.config.system} draws from a mixture of Gaussians;"
                " leave them out, or lower the temperature"
            )
        return top_k, top_p

    def drawing(self, steps: int) -> draw.Drawing:
        """How the next `steps` samples of every stream are drawn."""
        temperature = self.temperatures(steps).to(self.history.device)
        return draw.Drawing(draw.Randomness(self.seed, self.streams), temperature, self.top_k, self.top_p)

    def temperatures(self, steps: int) -> Tensor:
        """The temperature of the next `steps` samples of every stream: (B, steps) float32."""
        if callable(self._temperature):
            times = np.maximum(0, self.t - self.prompt_length + np.arange(steps)) / self.config.sample_rate
            if isinstance(self._temperature, TemperatureCurve):  # its points were checked when it was made
                row = torch.from_numpy(self._temperature.values(times)).float()
            else:
                values = [limits.check_temperature(float(self._temperature(time))) for time in times]
                row = torch.tensor(values, dtype=torch.float32)
            return row.expand(self.num_streams, -1)
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
        """Go on where `state_dict` was taken.

        Raises CheckpointError, which says what does not fit, where `saved` is of another model or number of streams
        or holds a value that cannot be; then nothing has changed.
        """
        try:
            self._take(saved)
        except (Unreadable, ConfigError) as error:
            raise CheckpointError(f"engine state does not fit: {error}") from None

    def _take(self, saved: Any) -> None:
        """Checks every entry of `saved`, and only then takes all of them. Raises Unreadable or ConfigError."""
        fields = Fields(saved, "the state")
        if fields.text("model_sha256") != self.model_sha256:
            raise Unreadable("it was saved from another model")
        given = fields.value("hidden")
        if not isinstance(given, (list, tuple)) or len(given) != len(self.hidden):
            raise Unreadable(f"hidden must be a list of {len(self.hidden)} tensors")
        hidden = [
            _like(mine, one, f"hidden[{tier}]") for tier, (mine, one) in enumerate(zip(self.hidden, given, strict=True))
        ]
        history = _like(self.history, fields.value("history"), "history")
        if int(history.min()) < 0 or int(history.max()) >= self.config.q_levels:
            raise Unreadable(f"its levels must be 0 to {self.config.q_levels - 1}")
        t = fields.integer("t", 0, _MAX_TIME)
        prompt_length = fields.integer("prompt_length", 0, t)
        seed = fields.integer("seed", 0, 2**64 - 1)
        streams = fields.integers("streams", self.num_streams, 0, 2**32 - 1)
        top_k = fields.integer("top_k", 0, limits.LEVELS)
        _, top_p = limits.check_truncation(None, fields.number("top_p", 0, 1))
        self._checked_truncation(top_k, top_p)
        temperature = self._temperature  # one that was a function was not saved, and the loader's own stays
        if isinstance(fields.value("temperature"), (list, tuple)):
            temperature = self._checked(fields.numbers("temperature", self.num_streams, 0, 1e3))
        elif fields.value("temperature") is not None:
            temperature = self._checked(fields.number("temperature", 0, 1e3))
        # Every entry is good: from here on nothing fails, so the state is all old or all new.
        self.hidden, self.history, self.t, self.prompt_length = hidden, history, t, prompt_length
        self.seed, self.streams = seed, np.asarray(streams, dtype=np.uint32)
        self._temperature, self.top_k, self.top_p = temperature, top_k, top_p


def _like(mine: Tensor, given: Any, name: str) -> Tensor:
    """A copy of a tensor of a saved state, of the dtype and on the device of `mine`. Raises Unreadable."""
    if not isinstance(given, Tensor) or given.layout != torch.strided or given.is_nested or given.is_meta:
        raise Unreadable(f"{name} must be a plain tensor")
    if given.shape != mine.shape:
        raise Unreadable(f"{name} must have the shape {tuple(mine.shape)}, got {tuple(given.shape)}")
    if given.dtype not in (_FLOATS if mine.is_floating_point() else _INTEGERS):
        raise Unreadable(f"{name} must hold {mine.dtype}, got {given.dtype}")
    copy = given.detach().to(mine.device, mine.dtype, copy=True)
    if not bool(torch.isfinite(copy).all()):
        raise Unreadable(f"{name} holds a value that is not finite")
    return copy
