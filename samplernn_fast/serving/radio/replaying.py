"""Makes any stretch of a radio again, from its log."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import AudioError, CheckpointError
from samplernn_fast.serving.radio.log import LOG_FILE, VERSION, read, states
from samplernn_fast.serving.radio.program import RadioSettings
from samplernn_fast.serving.radio.station import Station
from samplernn_fast.untrusted import Fields, Unreadable


def header(settings: RadioSettings, models: dict[str, Path], engines: dict[str, Engine]) -> dict[str, Any]:
    """The first line of a log: all that the sound depends on."""
    return {
        "is": "radio",
        "version": VERSION,
        **settings.to_dict(),
        "models": [
            {
                "name": name,
                "path": str(models[name]),
                "sha256": engine.model_sha256,
                "backend": engine.backend.name,
                "dtype": engine.dtype,
            }
            for name, engine in engines.items()
        ],
    }


class Replay:
    """A radio that was played, as its log tells."""

    def __init__(self, log: Path, device: str = "auto", num_threads: int | None = None) -> None:
        """log: the file, or its folder. Raises AudioError for one that cannot be read, CheckpointError where a model is
        not there any more, or is another one."""
        self._folder = log if log.is_dir() else log.parent
        self._entries = read(log)
        try:
            fields = Fields(self._entries[0], "its first line")
            pairs = {name: fields.value(name) for name in ("temperature", "top_p")}
            bounds = {name: None if pair is None else (float(pair[0]), float(pair[1])) for name, pair in pairs.items()}
            self._settings = RadioSettings(
                fields.integer("seed", 0, 2**64 - 1),
                bounds["temperature"] or (1.0, 1.0),
                bounds["top_p"],
                fields.number("change", 0, 1e9),
                fields.number("loudness", -1e3, 1e3),
            )
            models = [
                {key: str(one[key]) for key in ("name", "path", "sha256", "backend", "dtype")}
                for one in fields.value("models")
            ]
        except (Unreadable, KeyError, IndexError, TypeError, ValueError) as error:
            raise AudioError(f"{self._folder / LOG_FILE}: is no log of a radio: {error}") from None
        self._engines: dict[str, Engine] = {}
        for one in models:
            engine = Engine(one["path"], one["backend"], one["dtype"], device, num_threads)
            if engine.model_sha256 != one["sha256"]:
                raise CheckpointError(
                    f"{one['path']}: is not the model that was played; it was trained on, or replaced"
                )
            self._engines[one["name"]] = engine
        self.rate = self._station().rate

    def _station(self) -> Station:
        return Station(self._engines, self._settings)

    def samples(self, start: float, duration: float) -> Iterator[np.ndarray]:
        """Blocks (n,) float32 of the seconds from `start` on. They are the samples that were played."""
        first = round(start * self.rate)
        last = first + round(duration * self.rate)
        station = self._before(first)
        while station.position < last:
            position = station.position
            block = station.step()[max(0, first - position) : last - position]
            if len(block):
                yield block

    def _before(self, first: int) -> Station:
        """A station that stands at the newest state before a sample, or at its beginning."""
        for _, position, file in states(self._entries, self._folder):
            if position <= first:
                station = self._station()
                try:
                    station.load(file)
                except CheckpointError:
                    continue
                return station
        return self._station()
