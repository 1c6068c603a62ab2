"""What a checkpoint's tensors do not say, quantization and sample rate: from flags, a file, or files beside it."""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samplernn_fast.audio.laws import QUANTIZATIONS
from samplernn_fast.audio.limits import RATES
from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.untrusted import Unreadable, read_json, read_yaml

DEFAULT_SAMPLE_RATE = 16000
"""The rate in Hz at which all four projects write audio by default. PRiSM's was once 22050. No checkpoint stores it."""


@dataclass
class Settings:
    """Settings by name, and where they came from. What the user gives overrules what is found beside the file."""

    given: Mapping[str, Any] = field(default_factory=dict)
    """What the user gives."""
    given_from: str = "config"
    """Where that stands, for messages."""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What was found beside the checkpoint or inside it."""
    beside_from: str = ""
    """Where that was found, for messages."""
    notes: list[str] = field(default_factory=list)
    """Lines for the user: what was assumed, and what was read from where."""

    def add_beside(self, values: Mapping[str, Any], source: str) -> None:
        """Takes in settings that were found beside the checkpoint or inside it."""
        self.beside, self.beside_from = values, source
        self.notes.append(f"settings read from {source}")

    def find(self, names: Iterable[str]) -> tuple[Any, str]:
        """The first setting of these names, and where it stands; (None, "") when there is none.

        A dot in a name leads into a setting that is itself a mapping.
        """
        for values, source in ((self.given, self.given_from), (self.beside, self.beside_from)):
            for name in names:
                value = _lookup(values, name)
                if value is not None:
                    return value, source
        return None, ""

    def agree(self, facts: Mapping[str, Any], source: str) -> None:
        """Raises CheckpointError where a setting contradicts `facts`, which the tensors say, by the project's names."""
        for name, fact in facts.items():
            value, where = self.find([name])
            if isinstance(value, str) and isinstance(fact, str):
                value, fact = value.lower(), fact.lower()
            value = list(value) if isinstance(value, tuple) else value
            if value is not None and value != fact:
                raise CheckpointError(
                    f"{source}: {where} says {name} = {_short(value)}, but the tensors are of {_short(fact)};"
                    " give the config of this model"
                )

    def sample_rate(self) -> int:
        """The sample rate in Hz. Where no setting says it, it is the projects' default, and `notes` says so."""
        value, source = self.find(["sample_rate"])
        if value is None:
            self.notes.append(
                f"sample_rate {DEFAULT_SAMPLE_RATE} Hz is assumed, because the checkpoint holds none; "
                "if the model learnt from another rate, give it as sample_rate"
            )
            return DEFAULT_SAMPLE_RATE
        RATES.check(f"{source}: sample_rate", value, whole=True)
        return int(value)

    def quantization(self, project: str, names: Iterable[str], kinds: tuple[str, ...]) -> str:
        """The project's quantization, one of `kinds` ("linear", "mu-law") in that project's rule.

        names: what the project's own settings call it. Raises ConfigError where no setting says which it is and the
        project has several, or where a setting names one that it does not have.
        """
        allowed = [kind for kind in kinds if f"{kind}-{project}" in QUANTIZATIONS]
        value, source = self.find(["quantization", *names])
        if value is None and len(allowed) > 1:
            raise ConfigError(
                f"the checkpoint holds no quantization: give {' or '.join(allowed)} as quantization,"
                " by itself or in a config"
            )
        kind = str(allowed[0] if value is None else value)[:40].removesuffix(f"-{project}")
        if kind not in allowed:
            raise ConfigError(
                f"{source}: quantization of this {project} checkpoint must be {' or '.join(allowed)},"
                f" got {_short(value)}"
            )
        return f"{kind}-{project}"


def given_settings(
    config: str | Path | Mapping[str, Any] | None, quantization: str | None = None, sample_rate: int | None = None
) -> Settings:
    """What the user says, from a file or a mapping, under the two values that flags can give. Raises ConfigError."""
    values = dict(config) if isinstance(config, Mapping) else {} if config is None else read_settings(Path(config))
    flags = {"quantization": quantization, "sample_rate": sample_rate}
    given = values | {name: value for name, value in flags.items() if value is not None}
    where = "config" if config is None or isinstance(config, Mapping) else str(config)
    return Settings(given, where)


def read_settings(file: Path) -> dict[str, Any]:
    """Reads a JSON or YAML file of settings. Raises ConfigError when it cannot be read, or holds no mapping."""
    try:
        values = read_json(file) if file.suffix == ".json" else read_yaml(file)
    except Unreadable as error:
        raise ConfigError(f"{file}: settings cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: settings must be names with values, found {type(values).__name__}")
    return values


def _short(value: Any) -> str:
    """A setting for a message; a long list, text or number is cut."""
    return _REPR.repr(value)


_REPR = reprlib.Repr()
_REPR.maxlist = 20
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60


def _lookup(values: Mapping[str, Any], name: str) -> Any:
    """The value under a name with dots; None where there is none, or only a reference of hydra to another setting."""
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    unresolved = isinstance(found, str) and found.startswith("${")
    return None if unresolved else found
