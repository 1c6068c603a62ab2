"""`Session`: an instrument with the model that it plays, and how both are written down."""

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from samplernn_fast._version import __version__
from samplernn_fast.audio.takes import comment
from samplernn_fast.engine.engine import Engine
from samplernn_fast.models.places import short_name
from samplernn_fast.serving.playing.instrument import Instrument
from samplernn_fast.serving.playing.score import Score


class Kept(NamedTuple):
    """What `Session.save` wrote."""

    path: Path
    settings: str
    """The `generate` command with the settings that hold now."""
    whole: bool
    """Whether the score has all changes; one that has too many ends before the first that it misses."""


@dataclass(frozen=True)
class Session:
    """What is played."""

    model: str
    """As the player called it."""
    engine: Engine
    instrument: Instrument
    prompt: np.ndarray | None
    """Levels."""
    saved: Score | None
    """What is played once more."""

    def score(self) -> Score:
        """What was played so far."""
        instrument, engine = self.instrument, self.engine
        end = instrument.position if instrument.recorded_until is None else instrument.recorded_until
        return Score(
            model=self.model,
            sha256=engine.model_sha256,
            rate=engine.config.sample_rate,
            backend=engine.backend.name,
            dtype=engine.dtype,
            prompt_sha256=prompt_hash(self.prompt),
            start=instrument.start,
            samples=end,
            changes=list(instrument.changes),
        )

    def save(self) -> Kept:
        """Writes the score under a name that nothing has here. OSError passes through."""
        score = self.score()
        path = _free_name(f"{short_name(self.model)}-seed{score.start.seed}")
        again = shlex.join(["samplernn-fast", "play", self.model, "--score", str(path)])
        settings = self.settings_line()
        score.write(path, {"play": again, "generate": settings})
        return Kept(path, settings, self.instrument.recorded_until is None)

    def settings_line(self) -> str:
        """The `generate` command with the settings that hold now: what the model plays if nobody touches it."""
        now, seconds = self.instrument.settings, self.instrument.position / self.engine.config.sample_rate
        words = ["samplernn-fast", "generate", self.model, "--seed", str(now["seed"])]
        words += ["--temperature", f"{now['temperature']:g}"]
        for name in ("top_k", "top_p"):
            if now[name] is not None:
                words += [f"--{name.replace('_', '-')}", f"{now[name]:g}"]
        return shlex.join([*words, "--duration", f"{max(1, round(seconds))}"])

    def comment(self) -> str:
        """The metadata of a file, as `generate` writes them."""
        start, engine = self.instrument.start, self.engine
        info = {
            "made_by": f"samplernn_fast {__version__}",
            "model_sha256": engine.model_sha256,
            "backend": engine.backend.name,
            "dtype": engine.dtype,
            "device": engine.device,
            "seed": start.seed,
            "temperature": start.temperature,
            "top_k": start.top_k,
            "top_p": start.top_p,
            "prompt_sha256": prompt_hash(self.prompt),
            "score_sha256": None if self.saved is None else self.saved.sha256_of_moves(),
        }
        return comment(info, 0)


def prompt_hash(levels: np.ndarray | None) -> str | None:
    """The hash of a prompt's levels, as `Stream.info` has it."""
    return None if levels is None else hashlib.sha256(levels.tobytes()).hexdigest()


def _free_name(stem: str) -> Path:
    """A name here that nothing has."""
    number = 1
    while True:
        path = Path(f"{stem}{'' if number == 1 else f'-{number}'}.json")
        if not path.exists():
            return path
        number += 1
