"""The `play` command: a model as an instrument in the terminal. `serving.playing` does the work.

What can be refused is refused before anything large is loaded.
"""

import contextlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from samplernn_fast import files, terminal
from samplernn_fast.backends import names
from samplernn_fast.commands.flags import Backend, Device, Dtype, NumThreads, OutputText
from samplernn_fast.errors import AudioError, ConfigError, Interrupted, one_line
from samplernn_fast.models.places import model_file
from samplernn_fast.ranges import Range
from samplernn_fast.reference import limits
from samplernn_fast.serving import priority
from samplernn_fast.serving.priority import RealTime

if TYPE_CHECKING:
    import numpy as np

    from samplernn_fast.engine.engine import Engine
    from samplernn_fast.serving.playing.instrument import Instrument
    from samplernn_fast.serving.playing.outputs import Output
    from samplernn_fast.serving.playing.performing import Control
    from samplernn_fast.serving.playing.score import Score, Start
    from samplernn_fast.serving.playing.session import Session

_STANDARD_OUTPUT = "-"
_LIVE_SECONDS, _FILE_SECONDS = 0.016, 0.25  # of a block that somebody waits for, and of one of a file
_OTHER_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name))

OutputDevice = Annotated[str | None, tyro.conf.arg(aliases=["--device-name"])]


def play(
    model: tyro.conf.Positional[str] = "demo",
    /,
    *,
    output: OutputText = None,
    format: Literal["wav", "s16", "f32"] | None = None,
    pace: bool = False,
    duration: Annotated[float | None, Range(0, 86400, above=True, unit="seconds")] = None,
    temperature: float | None = None,
    top_k: Annotated[int | None, Range(1, limits.LEVELS)] = None,
    top_p: Annotated[float | None, limits.TOP_P] = None,
    volume: Annotated[float | None, Range(0, 1)] = None,
    seed: int | Literal["random"] | None = None,
    prompt: Path | None = None,
    score: Path | None = None,
    midi: tuple[str, ...] | None = None,
    map: Path | None = None,
    gate: bool = True,
    osc: Annotated[int | None, Range(0, 65535)] = None,
    block: Annotated[int | None, Range(1, 1 << 16, unit="samples")] = None,
    buffer: Annotated[float, Range(5, 10000, unit="milliseconds")] = 60.0,
    output_device: OutputDevice = None,
    list_devices: bool = False,
    list_midi: bool = False,
    device: Device = "auto",
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    num_threads: NumThreads = None,
    realtime_priority: bool = False,
    overwrite: bool = False,
) -> None:
    """Play a model as an instrument in the terminal, by keys, MIDI and OSC, to speakers, a pipe or a file.

    The key ? shows the keys, and q quits.

    Args:
        model: Run folder, .safetensors file, or a bundled model: demo (spoken digits) or demo-piano.
        output: In place of the speakers: - for standard output, or a file (.wav .flac .ogg .opus .mp3), which is made
            as fast as it can be and needs a duration or a score.
        format: What standard output gets: a WAV (the usual), or raw samples of 16 bits (s16) or float32 (f32).
        pace: Send no faster than the sound is played, so that keys are heard at once behind a pipe too.
        duration: Seconds until it ends; without it, until somebody quits.
        temperature: How wild the draw is at first; 1 without it.
        top_k: Draw from the k likeliest levels only, at first.
        top_p: Draw from the likeliest levels that together have this probability, at first.
        volume: From 0 to 1, which it is without it.
        seed: The same seed and the same moves give the same sound; random (the usual) says which it took.
        prompt: Audio file that the sound goes on from.
        score: Play what the key s saved once more, with the same sound.
        midi: Be played by MIDI: a port, or a part of its name, or nothing for the first one.
        map: YAML or JSON file that says what MIDI controllers move, in place of the usual map.
        gate: With MIDI, sound only while a note is held, as loud as it was struck.
        osc: Be played by OSC messages to this port of this machine; 0 takes a free one.
        block: Samples that are made at a time, a multiple of the model's grain; about 16 ms without it.
        buffer: Milliseconds of sound that are kept ready for the speakers: more is safer, less is quicker.
        output_device: The sound card: a number that --list-devices shows, or a part of a name.
        list_devices: Print the sound cards, and end.
        list_midi: Print the MIDI ports, and end.
        realtime_priority: Go before ordinary programs (on Linux, where the user may), so that busy ones do not make the
            sound late.
        overwrite: Replace a file that exists.
    """
    if list_devices or list_midi:
        _print_lists(list_devices, list_midi)
        return
    names.check(backend, dtype, device, num_threads)
    begins = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "volume": volume, "seed": seed}
    saved = _read_score(score, begins)
    where = _Where(output, format, pace, buffer / 1000, output_device, overwrite)
    where.check(duration is not None or saved is not None)
    if map is not None and midi is None:
        raise ConfigError("map says what MIDI moves, so it needs --midi")
    if midi is not None and len(midi) > 1:
        raise ConfigError(f"midi takes one port, got {len(midi)}; put a name with spaces into quotation marks")
    if where.is_file and not pace and (midi is not None or osc is not None):
        raise ConfigError("a file is made faster than anybody plays; add --pace, or leave out --midi and --osc")
    if realtime_priority:
        if output is not None and not pace:
            raise ConfigError("realtime_priority is for sound that is heard as it is made; add --pace, or leave it out")
        priority.check()
    model_file(model)
    if prompt is not None:
        from samplernn_fast.audio import reading

        reading.probe(prompt)
    where.check_speakers()  # behind what is wrong with the command itself
    with contextlib.ExitStack() as stack:
        from samplernn_fast.serving.playing.session import Session

        opened = _open_controls(stack, midi, osc)
        engine, levels = _load(model, prompt, (backend, dtype, device, num_threads))
        instrument = _instrument(engine, levels, saved, _start(begins, gate and midi is not None))
        controls = [*_midi_controls(opened.pop("midi", None), map, gate, instrument), *opened.values()]
        # The thread in which the sound card asks for samples begins later, and needs the priority too.
        realtime = stack.enter_context(RealTime(priority.MAKING, realtime_priority, inherited=True))
        session = Session(model, engine, instrument, levels, saved)
        _perform(stack, session, where, controls, block, duration, realtime)


@dataclass(frozen=True)
class _Where:
    """Where the sound goes, as the flags say it."""

    output: str | None
    format: Literal["wav", "s16", "f32"] | None
    pace: bool
    buffer: float
    """Seconds."""
    card: str | None
    overwrite: bool

    @property
    def is_file(self) -> bool:
        return self.output not in (None, _STANDARD_OUTPUT)

    def check(self, ends: bool) -> None:
        """Raises ConfigError or AudioError for flags that do not go together. ends: whether the sound has an end."""
        if self.format is not None and self.output != _STANDARD_OUTPUT:
            raise ConfigError("format is that of standard output; add -o -, or name a file by its suffix")
        if self.pace and self.output is None:
            raise ConfigError("speakers have a pace of their own; --pace needs --output")
        if self.card is not None and self.output is not None:
            raise ConfigError("output_device is a sound card, which --output takes the place of; choose one")
        if self.output == _STANDARD_OUTPUT and sys.stdout.isatty():
            raise ConfigError("standard output is a terminal, which cannot play; put a program behind |")
        if self.output is not None and self.is_file:
            from samplernn_fast.audio.writing import check_suffix

            path = Path(self.output)
            check_suffix(path)
            if not ends:
                raise ConfigError("a file needs an end: give --duration, or a --score")
            if not path.parent.is_dir():
                raise AudioError(f"{path.parent}: no such folder")
            files.check_free(path, AudioError, overwrite=self.overwrite)

    def check_speakers(self) -> None:
        """Raises MissingPackage where sound for the speakers cannot reach them."""
        if self.output is None:
            from samplernn_fast.serving.playing.speakers import load_sounddevice

            load_sounddevice()

    def open(self, session: "Session", block: int, frames: int | None) -> "Output":
        """Opens it. Raises AudioError, ConfigError or MissingPackage where that cannot be."""
        from samplernn_fast.serving.playing.outputs import Clock, Recording, StandardOutput

        rate = session.engine.config.sample_rate
        if self.output is None:
            from samplernn_fast.serving.playing.speakers import Speakers

            return Speakers(rate, block, self.buffer, self.card)
        clock = Clock(rate, max(self.buffer, block / rate)) if self.pace else None
        if self.is_file:
            assert frames is not None
            return Recording(Path(self.output), rate, frames, session.comment(), clock)
        return StandardOutput(sys.stdout.fileno(), self.format or "wav", rate, frames, clock)


def _print_lists(devices: bool, ports: bool) -> None:
    if devices:
        from samplernn_fast.serving.playing.speakers import list_devices

        print("\n".join(list_devices()) or "there is no sound card here")
    if ports:
        from samplernn_fast.serving.playing.midi import list_ports

        print("\n".join(map(one_line, list_ports())) or "there is no MIDI port here")


def _read_score(path: Path | None, begins: dict[str, Any]) -> "Score | None":
    """The score to play. Raises ConfigError where it cannot be, or flags say something else than it."""
    if path is None:
        return None
    from samplernn_fast.serving.playing.score import read_score

    given = [name for name, value in begins.items() if value is not None]
    if given:
        raise ConfigError(f"a score has a {given[0]} of its own; leave out --{given[0].replace('_', '-')}")
    return read_score(path)


def _start(begins: dict[str, Any], gated: bool) -> "Start":
    from samplernn_fast.serving.playing.score import Start

    given = {name: value for name, value in begins.items() if value is not None}
    if given.get("seed", "random") == "random":
        given["seed"] = limits.random_seed()
    return Start(**given, gate=0.0 if gated else 1.0)


def _open_controls(stack: contextlib.ExitStack, midi: tuple[str, ...] | None, osc: int | None) -> dict[str, Any]:
    """What MIDI and OSC come from, by name; opened before the model is loaded, because it may be refused."""
    opened: dict[str, Any] = {}
    if midi is not None:
        from samplernn_fast.serving.playing.midi import open_port

        opened["midi"] = stack.enter_context(contextlib.closing(open_port(midi[0] if midi else None)))
    if osc is not None:
        from samplernn_fast.serving.playing.osc import OscControl

        opened["osc"] = stack.enter_context(contextlib.closing(OscControl(osc)))
    return opened


def _midi_controls(port: Any, path: Path | None, gated: bool, instrument: "Instrument") -> "list[Control]":
    if port is None:
        return []
    from samplernn_fast.serving.playing.midi import MidiControl, read_map, usual_map

    known = instrument.parameters
    return [MidiControl(port, usual_map(known) if path is None else read_map(path, known), gated)]


def _load(model: str, prompt: Path | None, how: tuple[str, str, str, int | None]) -> "tuple[Engine, np.ndarray | None]":
    """The model, and the levels of the prompt."""
    with terminal.waiting("loading the model"):
        from samplernn_fast.engine.engine import Engine
        from samplernn_fast.engine.prompt import prompt_levels

        engine = Engine(model, *how)
    if not engine.config.sample_rate:
        raise ConfigError("this model has no sample rate yet: train it, or give its config one")
    return engine, None if prompt is None else prompt_levels(engine.config, prompt)


def _instrument(engine: "Engine", prompt: "np.ndarray | None", saved: "Score | None", start: "Start") -> "Instrument":
    from samplernn_fast.serving.playing.instrument import Instrument
    from samplernn_fast.serving.playing.session import prompt_hash

    if saved is None:
        return Instrument(engine, start, prompt)
    saved.check(engine.config, engine.model_sha256, prompt_hash(prompt))
    if (saved.backend, saved.dtype) != (engine.backend.name, engine.dtype):
        here = f"{engine.backend.name} in {engine.dtype}"
        terminal.say(one_line(f"the score was played by {saved.backend} in {saved.dtype}; {here} may sound different"))
    return Instrument(engine, saved.start, prompt, saved.changes)


def _perform(
    stack: contextlib.ExitStack,
    session: "Session",
    where: _Where,
    controls: "Sequence[Control]",
    block: int | None,
    duration: float | None,
    realtime: RealTime,
) -> None:
    """Plays. ctrl-C and SIGTERM end it; a file keeps what was made by then."""
    from samplernn_fast.serving.playing.display import StatusLine
    from samplernn_fast.serving.playing.instrument import check_block
    from samplernn_fast.serving.playing.keyboard import keyboard
    from samplernn_fast.serving.playing.performing import Performance

    instrument, rate = session.instrument, session.engine.config.sample_rate
    size = check_block(block, instrument.config, _FILE_SECONDS if where.is_file and not where.pace else _LIVE_SECONDS)
    frames = None if duration is None else max(1, round(duration * rate))
    if frames is None and session.saved is not None:
        frames = max(1, session.saved.samples)
    output = stack.enter_context(contextlib.closing(where.open(session, size, frames)))
    keys, line = (None if where.is_file and not where.pace else keyboard()), StatusLine()
    line.say(one_line(f"{session.model}, seed {instrument.start.seed}, to {output.words}"))
    for control in controls:
        line.say(f"{control.name} at {control.words}")
    if keys is not None:
        line.say("? shows the keys, q quits")
    performance = Performance(instrument, output, size, frames, keys, controls, line, session.save, realtime)
    with terminal.interrupts(*_OTHER_SIGNALS) as caught, keys.held() if keys is not None else contextlib.nullcontext():
        ended = performance.run(lambda: bool(caught))
    made = min(instrument.position, frames or instrument.position) / rate
    told = f"{terminal.audio_length(made)}, {terminal.counted(output.underruns, 'underrun')}"
    for name, count in performance.refused.items():
        told += f", {terminal.counted(count, 'message')} of {name} refused"
    if not ended and caught:
        kept = f"{where.output} has them" if where.is_file else _again(session, keys is not None)
        raise Interrupted(one_line(f"interrupted after {told}; {kept}"), caught[0])
    line.say(f"played {told}")


def _again(session: "Session", has_keys: bool) -> str:
    """How to hear once more what was played and is kept nowhere."""
    if session.saved is not None:
        return "the same command plays it once more"
    if not session.instrument.changes:
        return f"--seed {session.instrument.start.seed} plays it once more"
    return "its changes are not kept" + (", which the key s does" if has_keys else "")
