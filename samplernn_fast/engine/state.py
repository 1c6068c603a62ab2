"""`EngineState`: all that changes while audio is made. It can be saved, restored and moved to another process."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplernn_fast.engine.temperature import Temperature
from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference import draw


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
        self.prompt_length = 0  # samples; a temperature over time begins behind the prompt
        self._temperature: Temperature = 1.0
        self.top_k, self.top_p = 0, 1.0

    @property
    def num_streams(self) -> int:
        """B, the number of streams."""
        return len(self.streams)

    @property
    def temperature(self) -> Temperature:
        """One number, one number per stream, or a function of the seconds since the prompt (`temperature.schedule`)."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: Temperature) -> None:
        if callable(value):
            self._temperature = value
            return
        values = np.asarray(value)
        if values.ndim == 0:
            self._temperature = draw.check_temperature(values.item())
        elif values.shape == (self.num_streams,):
            self._temperature = tuple(draw.check_temperature(one) for one in values.tolist())
        else:
            raise ConfigError(f"temperature must be one number or one per stream ({self.num_streams}), got {value!r}")

    def set_truncation(self, top_k: int | None, top_p: float | None) -> None:
        """Draw from the top_k likeliest levels, and from the top_p nucleus; None is off."""
        self.top_k, self.top_p = draw.check_truncation(top_k, top_p)

    def drawing(self, steps: int) -> draw.Drawing:
        """How the next `steps` samples of every stream are drawn."""
        temperature = self.temperatures(steps).to(self.history.device)
        return draw.Drawing(draw.Randomness(self.seed, self.streams), temperature, self.top_k, self.top_p)

    def temperatures(self, steps: int) -> Tensor:
        """The temperature of the next `steps` samples of every stream: (B, steps) float32."""
        if callable(self._temperature):
            times = np.maximum(0, self.t - self.prompt_length + np.arange(steps)) / self.config.sample_rate
            row = [draw.check_temperature(float(self._temperature(time))) for time in times]
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
        """Go on where `state_dict` was taken. CheckpointError if it is of another model or number of streams."""
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
