"""What a listener may change while a model plays."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from samplernn_fast.errors import ConfigError, did_you_mean, quoted
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.reference import limits

RESET = "reset"
"""The change that lets a model begin again; it is no setting, because it is over at once."""


@dataclass(frozen=True)
class Settings:
    """How a stream sounds from some position on."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    frozen: bool = False
    """Whether the model returns again and again to the moment at which this was set."""

    def changed(self, changes: Mapping[str, Any], config: AudioConfig) -> "Settings":
        """The settings after some changes of these names; `RESET` may be among them, and changes none.

        Raises ConfigError where a name or a value cannot be, for a model of this config.
        """
        names = ("temperature", "top_k", "top_p", "frozen")
        for name in changes:
            if name not in (*names, RESET):
                raise ConfigError(f"there is no setting {quoted(name)}{did_you_mean(name, names)}")
        for name in ("frozen", RESET):
            if not isinstance(changes.get(name, False), bool):
                raise ConfigError(f"{name} must be true or false, got {quoted(changes[name])}")
        if isinstance(changes.get("temperature"), bool):
            raise ConfigError("temperature must be a number")
        found = replace(self, **{name: value for name, value in changes.items() if name != RESET})
        limits.check_temperature(found.temperature)
        limits.check_truncation(found.top_k, found.top_p, config.q_levels)
        if config.mixture and (found.top_k is not None or found.top_p is not None):
            raise ConfigError(f"{config.system} draws from a mixture of Gaussians, which top_k and top_p do not change")
        return found
