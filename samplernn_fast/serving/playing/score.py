"""Scores: what was played on the instrument, in a JSON file that makes the same sound again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samplernn_fast import files
from samplernn_fast.errors import ConfigError
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.reference import limits
from samplernn_fast.serving.live.slot import Change, grain_of
from samplernn_fast.serving.playing.parameters import AMPLITUDE, check_changes
from samplernn_fast.untrusted import Fields, Unreadable, read_json

_VERSION = 1
_SCORE_BYTES = 1 << 24
MOST_CHANGES = 50_000
"""The most changes of a score: a quarter of an hour of controllers that never rest."""
_FAR = 1 << 53  # positions are exact as numbers of JSON below it


@dataclass(frozen=True)
class Start:
    """The settings with which the instrument begins."""

    seed: int
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    volume: float = 1.0
    gate: float = 1.0
    """How loud the note is that is held at first; 0 where a player must hold one."""

    def check(self, config: AudioConfig) -> None:
        """Raises ConfigError where a model of this config cannot begin so."""
        values = asdict(self)
        limits.check_seed(values.pop("seed"))
        check_changes(values, config)


@dataclass(frozen=True)
class Score:
    """What was played, and on what."""

    model: str
    """What the player called the model."""
    sha256: str
    rate: int
    """Samples a second."""
    backend: str
    dtype: str
    prompt_sha256: str | None
    start: Start
    samples: int
    """How long it is."""
    changes: list[Change]
    """Positions, in samples since the beginning, and the settings that change there; in their order."""

    def write(self, path: Path, commands: Mapping[str, str]) -> None:
        """Writes it. commands: lines for whoever opens the file, by what they do. OSError passes through."""
        told = {"is": "score", "version": _VERSION, "commands": dict(commands), **asdict(self)}
        rows = [json.dumps({"at": at, **changes}) for at, changes in told.pop("changes")]
        listed = "[\n    " + ",\n    ".join(rows) + "\n  ]" if rows else "[]"
        text = json.dumps(told, indent=2).removesuffix("\n}")
        files.write_text(path, f'{text},\n  "changes": {listed}\n}}\n')

    def sha256_of_moves(self) -> str:
        """The hash of all that was played."""
        told = {"start": asdict(self.start), "samples": self.samples, "changes": self.changes}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def check(self, config: AudioConfig, sha256: str, prompt_sha256: str | None) -> None:
        """Raises ConfigError where it cannot be played on a model of this hash that has heard this prompt."""
        if self.sha256 != sha256:
            raise ConfigError(
                f"the score was played on another model ({self.model}, {self.sha256[:12]}), this one is {sha256[:12]}"
            )
        if self.prompt_sha256 != prompt_sha256:
            wanted = "the same prompt as then" if self.prompt_sha256 else "no prompt"
            raise ConfigError(f"the score needs {wanted}, because the model would begin from another sound")
        self.start.check(config)
        check_score(self.changes, config)


def check_score(changes: Iterable[Change], config: AudioConfig) -> list[Change]:
    """The changes of a score in the order of their positions. Raises ConfigError for one that cannot be."""
    entries, grain = list(changes), grain_of(config)
    if len(entries) > MOST_CHANGES:
        raise ConfigError(f"a score may have {MOST_CHANGES} changes, got {len(entries)}")
    for at, one in entries:
        if at % grain:
            raise ConfigError(f"a score changes settings at multiples of {grain} samples, got {at}")
        check_changes(one, config)
    return sorted(entries, key=lambda entry: entry[0])


def read_score(path: Path) -> Score:
    """The score in a file. Raises ConfigError where there is none."""
    try:
        fields = Fields(read_json(path, _SCORE_BYTES), "the score")
        if not fields.has("is") or fields.value("is") != "score":
            raise Unreadable("is no score")
        fields.integer("version", _VERSION, _VERSION)
        changes = fields.value("changes")
        if not isinstance(changes, list):
            raise Unreadable("changes of the score must be a list")
        prompt = fields.value("prompt_sha256")
        return Score(
            model=fields.text("model"),
            sha256=fields.text("sha256"),
            rate=fields.integer("rate", 1, 1 << 31),
            backend=fields.text("backend"),
            dtype=fields.text("dtype"),
            prompt_sha256=None if prompt is None else fields.text("prompt_sha256"),
            start=_start(fields.mapping("start")),
            samples=fields.integer("samples", 0, _FAR),
            changes=[_change(entry) for entry in changes],
        )
    except Unreadable as error:
        raise ConfigError(f"{path}: {error}") from None


def _start(values: Mapping[str, Any]) -> Start:
    known = set(Start.__dataclass_fields__)
    if set(values) != known:
        raise Unreadable(f"start of the score must have {', '.join(sorted(known))}")
    AMPLITUDE.check("volume", values["volume"])
    return Start(**values)


def _change(entry: Any) -> Change:
    at = Fields(entry, "a change of the score").integer("at", 0, _FAR)
    return at, {name: value for name, value in entry.items() if name != "at"}
