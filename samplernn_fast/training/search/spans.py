"""The values among which a search draws."""

import re
from dataclasses import dataclass
from typing import Any

from samplernn_fast.errors import ConfigError

_NO_RANGE = frozenset(("data", "out", "resume", "init_from", "max_steps", "max_minutes", "device", "seed"))
_NO_COMPARISON = frozenset(("quantization", "q_levels", "mean", "std", "gain", "sample_rate"))


@dataclass(frozen=True)
class Span:
    """The values that a setting may take: numbers between two, evenly or by their logarithm, or a few of any kind."""

    name: str
    """The setting, as Python has it."""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()
    """Words as a flag takes them; empty for numbers."""

    @classmethod
    def parse(cls, text: str) -> "Span":
        """Reads "lr=1e-4:1e-2:log", "dim=64:256", "rnn=gru,lstm". Raises ConfigError."""
        found = re.fullmatch(r"([A-Za-z][\w-]*)=(.+)", text)
        if found is None:
            raise ConfigError(f"range must be NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,..., got {text!r}")
        name, values = found[1].replace("-", "_"), found[2]
        if name in _NO_RANGE:
            raise ConfigError(f"range must be of a setting that is to be searched, and {name} is not one")
        if name in _NO_COMPARISON:
            raise ConfigError(f"range must be of a setting whose runs compare by bits, which those of {name} do not")
        if ":" not in values:
            choices = tuple(one.strip() for one in values.split(","))
            if len(set(choices)) < 2 or not all(choices):
                raise ConfigError(f"range must have two choices or more, all different, got {text!r}")
            return cls(name, choices=choices)
        low, _, rest = values.partition(":")
        high, _, scale = rest.partition(":")
        try:
            span = cls(name, float(low), float(high), scale == "log", not re.search(r"[.e]", (low + high).lower()))
        except ValueError:
            raise ConfigError(f"range must have two numbers with a colon between, got {text!r}") from None
        if scale not in ("", "log") or not span.low < span.high < float("inf") or (span.log and span.low <= 0):
            raise ConfigError(
                f"range must be LOW:HIGH or LOW:HIGH:log with LOW below HIGH, above 0 for log, got {text!r}"
            )
        return span

    def flag(self, trial: Any) -> list[str]:
        """The words that set what an Optuna trial has.

        Several numbers ("2 2 8") are several words, and true and false are flags of their own.
        """
        spelled, value = self.name.replace("_", "-"), self._value(trial)
        if value.lower() in ("true", "false"):
            return [f"--{spelled}" if value.lower() == "true" else f"--no-{spelled}"]
        return [f"--{spelled}", *value.split()]

    def _value(self, trial: Any) -> str:
        """The value that an Optuna trial has, as a flag takes it."""
        if self.choices:
            return str(trial.suggest_categorical(self.name, self.choices))
        if self.whole:
            return str(trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log))
        return f"{trial.suggest_float(self.name, self.low, self.high, log=self.log):.4g}"
