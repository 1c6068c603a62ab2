"""What a checkpoint's tensors do not say: the quantiser and the sample rate, from flags, a file, or files beside it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from samplernn_fast.audio.laws import QUANTIZATIONS
from samplernn_fast.errors import CheckpointError, ConfigError

DEFAULT_SAMPLE_RATE = 16000
"""What all four projects write audio at unless told otherwise; no checkpoint stores it. PRiSM once wrote 22050 Hz."""


@dataclass
class Settings:
    """Settings by name, with where they came from. What the user says stands above what lies beside the file."""

    given: Mapping[str, Any] = field(default_factory=dict)
    given_from: str = "config"
    beside: Mapping[str, Any] = field(default_factory=dict)
    beside_from: str = ""
    notes: list[str] = field(default_factory=list)
    """Lines for the user: what was assumed, and what was read from where."""

    def add_beside(self, values: Mapping[str, Any], source: str) -> None:
        """Settings found beside the checkpoint or inside it."""
        self.beside, self.beside_from = values, source
        self.notes.append(f"settings read from {source}")

    def find(self, names: Iterable[str]) -> tuple[Any, str]:
        """The first setting of these names, and where it stands; (None, "") when there is none. A dot goes deeper."""
        for values, source in ((self.given, self.given_from), (self.beside, self.beside_from)):
            for name in names:
                value = _lookup(values, name)
                if value is not None:
                    return value, source
        return None, ""

    def agree(self, facts: Mapping[str, Any], source: str) -> None:
        """CheckpointError where a setting contradicts the tensors: `facts`, under the project's own names."""
        for name, fact in facts.items():
            value, where = self.find([name])
            if isinstance(value, str) and isinstance(fact, str):
                value, fact = value.lower(), fact.lower()
            value = list(value) if isinstance(value, tuple) else value
            if value is not None and value != fact:
                raise CheckpointError(
                    f"{source}: {where} says {name} = {value}, but the tensors are of {fact}; give the right --config"
                )

    def sample_rate(self) -> int:
        """In Hz; the projects' default, said in `notes`, when nothing tells."""
        value, source = self.find(["sample_rate"])
        if value is None:
            self.notes.append(
                f"sample_rate {DEFAULT_SAMPLE_RATE} Hz is assumed, because the checkpoint holds none; "
                "if the model learnt from another rate, give --sample-rate"
            )
            return DEFAULT_SAMPLE_RATE
        if type(value) is not int or value < 1:
            raise ConfigError(f"{source}: sample_rate must be a whole number of Hz, got {value!r}")
        return value

    def quantization(self, project: str, names: Iterable[str], kinds: tuple[str, ...]) -> str:
        """The project's quantiser among `kinds` ("linear", "mu-law"), asked for by name when nothing tells which.

        names: where the project's own settings keep it. Raises ConfigError.
        """
        allowed = [kind for kind in kinds if f"{kind}-{project}" in QUANTIZATIONS]
        value, source = self.find(["quantization", *names])
        if value is None and len(allowed) > 1:
            raise ConfigError(
                f"quantization is not in the checkpoint: give --quantization {' or '.join(allowed)},"
                f" or a --config with the key quantization"
            )
        kind = str(allowed[0] if value is None else value).removesuffix(f"-{project}")
        if kind not in allowed:
            raise ConfigError(
                f"{source}: quantization of this {project} checkpoint must be {' or '.join(allowed)}, got {value!r}"
            )
        return f"{kind}-{project}"


def read_settings(file: Path) -> dict[str, Any]:
    """A JSON or YAML file of settings. Raises ConfigError."""
    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{file}: settings cannot be read ({error.strerror})") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: not JSON or YAML ({' '.join(str(error).split())[:100]})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: settings must be names with values, found {type(values).__name__}")
    return values


def _lookup(values: Mapping[str, Any], name: str) -> Any:
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    unresolved = isinstance(found, str) and found.startswith("${")  # hydra's reference to another setting
    return None if unresolved else found
