"""The `radio` command: endless sound into a pipe or a folder. `serving.radio` makes it."""

import contextlib
import functools
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from samplernn_fast import files, terminal
from samplernn_fast.audio.writing import WRITABLE, check_suffix
from samplernn_fast.backends import names
from samplernn_fast.commands.flags import Backend, Device, Dtype, NumThreads, OutputText, Seconds
from samplernn_fast.commands.generation.places import check_folder
from samplernn_fast.commands.live.serve import named
from samplernn_fast.errors import AudioError, ConfigError, DataError, Interrupted, quoted
from samplernn_fast.ranges import Range
from samplernn_fast.serving.radio import outlets
from samplernn_fast.serving.radio.log import LOG_FILE, STATES
from samplernn_fast.serving.radio.program import CHANGE, LOUDNESS, RadioSettings

if TYPE_CHECKING:
    from samplernn_fast.serving.radio.log import Log
    from samplernn_fast.serving.radio.outlets import Outlet
    from samplernn_fast.serving.radio.replaying import Replay
    from samplernn_fast.serving.radio.station import Station

_STANDARD_OUTPUT = "-"
_REPLAYED_SECONDS = 60.0  # how much a replay makes where nothing else is said


def radio(
    models: tyro.conf.Positional[tuple[str, ...]] = ("demo",),
    /,
    *,
    output: OutputText = None,
    format: Literal["wav", "s16", "f32", "flac", "ogg"] | None = None,
    real_time: bool = False,
    duration: Annotated[Seconds | None, Range(0, 1e9, above=True, unit="seconds")] = None,
    seed: int = 0,
    temperature: tuple[float, float] = (0.9, 1.05),
    top_p: tuple[float, float] | None = None,
    change: Annotated[float, CHANGE] = 60.0,
    loudness: Annotated[float, LOUDNESS] = -23.0,
    file_minutes: Annotated[float, Range(0.01, 1440, unit="minutes")] = 60.0,
    log: Path | None = None,
    state_seconds: Annotated[float, Range(1, 3600, unit="seconds")] = 60.0,
    replay: Path | None = None,
    start: Annotated[str, tyro.conf.arg(name="from")] = "0",
    device: Device = "auto",
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    num_threads: NumThreads = None,
) -> None:
    """Endless sound that nobody has to watch, into a pipe or a folder. The same command goes on.

    Models and seeds take turns with a cross-fade, the temperature wanders between two bounds, the loudness is kept, and
    a model that falls silent or is trapped in a loop is left within two seconds.

    Args:
        models: Run folders, .safetensors files, or bundled models: demo (spoken digits) and demo-piano.
        output: A folder for files of one length, or - for standard output; with --replay, an audio file.
        format: flac or ogg in a folder; wav, s16 or f32 (raw samples) on standard output.
        real_time: Make sound no faster than it is heard, in place of as fast as possible.
        duration: Seconds of sound, counted from the radio's beginning; without it, until ctrl-C.
        seed: The same seed, models and settings give the same sound.
        temperature: The bounds between which the temperature wanders.
        top_p: The bounds between which the nucleus wanders; without them, all levels are drawn from.
        change: Seconds until another model and another seed take over, on average.
        loudness: In LUFS (ITU-R BS.1770). No sample passes -1 dB of full scale.
        file_minutes: The length of a file.
        log: A folder for the log and the states, where the sound goes to standard output.
        state_seconds: After so many seconds of sound a state is saved, from which the radio can go on.
        replay: The log of a radio, or its folder: make a stretch of it again, sample by sample.
        start: Where that stretch begins, as seconds or as 01:23:00.
    """
    names.check(backend, dtype, device, num_threads)
    if output is None:
        what = "a folder, or - for standard output" if replay is None else "an audio file"
        raise ConfigError(f"output must be named: {what}")
    if replay is not None:
        begin = seconds_of(start)
        check_suffix(Path(output))
        if os.path.lexists(output):
            raise AudioError(f"{output} exists; choose another name")
        from samplernn_fast.serving.radio.replaying import Replay

        with terminal.waiting("loading the models"):
            played = Replay(replay, device, num_threads)
        _replay(played, Path(output), begin, _REPLAYED_SECONDS if duration is None else duration)
        return
    kind = _checked_kind(output, format, log)
    if output != _STANDARD_OUTPUT:
        _check_own(Path(output))
    settings = RadioSettings(seed, temperature, top_p, change, loudness)
    from samplernn_fast.engine.engine import Engine
    from samplernn_fast.models.places import model_file
    from samplernn_fast.serving.radio.replaying import header
    from samplernn_fast.serving.radio.station import Station

    found = {name: model_file(model).resolve() for name, model in named(models).items()}
    with terminal.waiting("loading the models"):
        engines = {name: Engine(file, backend, dtype, device, num_threads) for name, file in found.items()}
    folder = log if output == _STANDARD_OUTPUT else Path(output)
    job = _Job(output, kind, folder, file_minutes, state_seconds)
    job.play(functools.partial(Station, engines, settings), header(settings, found, engines), duration, real_time)


@dataclass(frozen=True)
class _Job:
    """What is played, once every flag is checked. ctrl-C and SIGTERM lose nothing."""

    output: str
    kind: str
    folder: Path | None
    """The folder of the log and the states; None keeps neither."""
    file_minutes: float
    state_seconds: float

    def play(self, station: "Callable[[], Station]", told: dict[str, Any], duration: float | None, paced: bool) -> None:
        """station: makes one that stands at its beginning. told: the first line of a log. paced: in real time.

        Raises Interrupted where a signal ends it.
        """
        from samplernn_fast.serving.radio.broadcast import Broadcast, Clock

        rate = station().rate
        with terminal.interrupts(signal.SIGTERM) as caught, self._log(told) as log:
            broadcast = Broadcast(station, self._outlet(rate, told), log, self.state_seconds, duration)
            self._say_begin(broadcast.station, paced)
            with self._bar(broadcast.station.position / rate, duration) as bar:

                def show() -> None:
                    name, seed = broadcast.station.playing
                    bar.move_to(broadcast.station.position / rate, f"{name} with seed {seed}")

                show()  # the first block of a large model takes its time
                ended = broadcast.play(duration, Clock(rate) if paced else None, lambda: bool(caught), show)
            if not ended:
                raise Interrupted(self._told(broadcast.station.position / rate), caught[0])
        if self.output != _STANDARD_OUTPUT:
            self._print_made(Path(self.output))

    def _print_made(self, folder: Path) -> None:
        """Prints where the sound lies."""
        made = sorted(folder.glob(f"radio-*.{self.kind}"))
        if len(made) > 1:
            print(f"{folder}: {terminal.counted(len(made), 'file')}, {made[0].name} to {made[-1].name}")
        elif made:
            print(made[0])

    def _say_begin(self, station: "Station", paced: bool) -> None:
        """Prints what is played, where it goes, and how it is stopped."""
        seconds = station.position / station.rate
        begins = f"goes on after {terminal.duration(seconds)} of sound" if seconds else "begins"
        place = "standard output" if self.output == _STANDARD_OUTPUT else self.output
        speed = "as fast as it is heard" if paced else "as fast as it can"
        stops = "ctrl-C stops it" if terminal.is_watched() else "SIGTERM stops it"  # a service gets no ctrl-C
        kept = "" if self.folder is None else " and keeps its place"
        terminal.say(f"the radio {begins}: {', '.join(station.names)} to {place}, {speed}; {stops}{kept}")

    def _bar(self, done: float, duration: float | None) -> terminal.Bar:
        """How far the radio is. In a terminal, only sound for a folder has a bar: the program that takes sound from a
        pipe, such as a player, writes there too."""
        shown = self.output != _STANDARD_OUTPUT or not terminal.is_watched()
        return terminal.audio_bar(None if duration is None else max(done, duration), shown, start=done)

    def _told(self, seconds: float) -> str:
        """What is kept of a radio that was stopped, and how to go on."""
        told = f"stopped after {terminal.duration(seconds)} of sound"
        if self.folder is None:
            return f"{told}; the same command begins anew, and goes on where --log names a folder"
        told += f"; the same command goes on from there, in {self.folder}"
        if self.output == _STANDARD_OUTPUT or not seconds:
            return told
        return f"{told}; with --duration {math.ceil(seconds)} it makes a file of what is in none yet"

    @contextlib.contextmanager
    def _log(self, told: dict[str, Any]) -> "Iterator[Log | None]":
        """The log, in a folder that no other radio plays into meanwhile."""
        from samplernn_fast.serving.radio.log import Log

        if self.folder is None:
            yield None
            return
        told = told | {"state_seconds": self.state_seconds}
        if self.output != _STANDARD_OUTPUT:
            told |= {"file_minutes": self.file_minutes, "format": self.kind}
        log = Log(self.folder, told)
        flag = "--log" if self.output == _STANDARD_OUTPUT else "--output"
        refusal = DataError(f"{self.folder}: another radio plays into this folder; name another by {flag}")
        with files.held(self.folder, refusal=refusal):
            log.begin()
            yield log

    def _outlet(self, rate: int, told: dict[str, Any]) -> "Outlet":
        if self.output == _STANDARD_OUTPUT:
            return outlets.PipeOutlet(sys.stdout.buffer, self.kind, rate, self.folder)
        length = max(rate, round(60 * self.file_minutes * rate))
        return outlets.FolderOutlet(Path(self.output), self.kind, rate, length, told)


def _replay(job: "Replay", path: Path, start: float, duration: float) -> None:
    """Makes a stretch of a radio again. Raises AudioError where the file exists or cannot be written."""
    from samplernn_fast.audio.writing import Writer

    with Writer(path, job.rate, frames=round(duration * job.rate)) as writer:
        with terminal.audio_bar(duration) as bar:
            for block in job.samples(start, duration):
                writer.write(block)
                bar.advance(len(block) / job.rate)
        writer.end()
        writer.finish(path)
    print(path)


def _checked_kind(output: str, kind: str | None, log: Path | None) -> str:
    """What the sound is written as. Raises ConfigError where it cannot go there."""
    if output == _STANDARD_OUTPUT:
        if kind in outlets.FILES:
            raise ConfigError(f"format must be one of {', '.join(outlets.PIPES)} on standard output, got {kind}")
        if sys.stdout.isatty():
            raise ConfigError("standard output is a terminal, which cannot show sound; name a program behind |")
        return kind or outlets.PIPES[0]
    if kind in outlets.PIPES:
        raise ConfigError(f"format must be one of {', '.join(outlets.FILES)} in a folder, got {kind}")
    if log is not None:
        raise ConfigError("log must be left out where output is a folder, which holds the log too")
    if Path(output).suffix.lower() in WRITABLE:
        raise ConfigError(f"output must be a folder, or - for standard output, got the name of a file: {output}")
    check_folder(Path(output))
    return kind or outlets.FILES[0]


def _check_own(folder: Path) -> None:
    """Raises ConfigError for a folder of something else. Among recordings `prepare` would train on a radio's sound."""
    other = files.something_else(folder, (LOG_FILE, STATES)) if folder.is_dir() else None
    if other is not None:
        raise ConfigError(f"{folder} holds something else than a radio ({other}); choose a new or an empty folder")


def seconds_of(text: str) -> float:
    """A time as seconds, or as hours, minutes and seconds: 01:23:00. Raises ConfigError."""
    if re.fullmatch(r"(\d+:)?(\d+:)?\d{1,9}(\.\d+)?", text):
        return sum(float(part) * 60**place for place, part in enumerate(reversed(text.split(":"))))
    raise ConfigError(f"--from must be seconds, or hours, minutes and seconds such as 01:23:00, got {quoted(text)}")
