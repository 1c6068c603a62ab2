"""MIDI by mido: notes open the gate, and controllers move parameters as a map says."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from samplernn_fast.errors import ConfigError, MissingPackage, one_line, quoted
from samplernn_fast.serving.playing.instrument import Instrument
from samplernn_fast.serving.playing.parameters import Curve, Parameter, parameter
from samplernn_fast.untrusted import Fields, Unreadable, read_yaml

_SEQUENCER = "/dev/snd/seq"  # by which Linux has MIDI
_HIGHEST = 127  # of what a controller and a velocity can be
_ALL_SOUND_OFF, _ALL_NOTES_OFF = 120, 123  # controllers that end all notes


@dataclass(frozen=True)
class Control:
    """What a controller moves."""

    parameter: str
    low: float | None = None
    """The value at its lowest place; None is the parameter's own."""
    high: float | None = None
    curve: Curve = "linear"

    def check(self, known: Mapping[str, Parameter]) -> None:
        """Raises ConfigError where it cannot be."""
        one = parameter(known, self.parameter)
        if one.kind == "seed":
            raise ConfigError("a controller has 128 places, too few for a seed")
        for bound in (self.low, self.high):
            if bound is not None:
                one.range.check(one.name, bound)
        if self.curve not in get_args(Curve):
            raise ConfigError(f"curve must be {' or '.join(get_args(Curve))}, got {quoted(self.curve)}")
        ends = (one.low if self.low is None else self.low, one.high if self.high is None else self.high)
        if self.curve == "exponential" and min(ends) <= 0:
            raise ConfigError(f"an exponential curve of {one.name} needs low and high above 0")


USUAL = {
    1: Control("temperature", 0.3, 1.5),
    7: Control("volume"),
    64: Control("freeze"),
    66: Control("pause"),
    71: Control("top_k", curve="exponential"),
    74: Control("top_p", 0.5, 1),
}
"""The map where none is given: modulation wheel, volume, sustain and sostenuto pedals, and two knobs."""


def usual_map(known: Mapping[str, Parameter]) -> dict[int, Control]:
    """`USUAL` without what a model does not have."""
    return {number: control for number, control in USUAL.items() if control.parameter in known}


def read_map(path: Path, known: Mapping[str, Parameter]) -> dict[int, Control]:
    """The map in a YAML or JSON file: numbers of controllers, and for each a parameter, low, high and curve.

    Raises ConfigError where it cannot be.
    """
    try:
        values = read_yaml(path)
        fields = Fields(values, "the map")
        found = {_number(name): _control(fields, name) for name in values}
    except Unreadable as error:
        raise ConfigError(f"{path}: {error}") from None
    for number, control in found.items():
        try:
            control.check(known)
        except ConfigError as error:
            raise ConfigError(f"{path}: controller {number}: {error}") from None
    return found


def _number(name: object) -> int:
    """The number of a controller that is written as 74 or cc74."""
    text = str(name).lower().removeprefix("cc")
    if isinstance(name, bool) or not text.isdecimal() or len(text) > 3 or int(text) >= _ALL_SOUND_OFF:
        raise Unreadable(f"a controller must be 0 to {_ALL_SOUND_OFF - 1}, as 74 or cc74, got {quoted(name)}")
    return int(text)


def _control(fields: Fields, name: Any) -> Control:
    inner = fields.fields(name)
    known = ("parameter", "low", "high", "curve")
    if unknown := [word for word in fields.mapping(name) if word not in known]:
        raise Unreadable(f"controller {name} has {quoted(unknown[0])}; it may have {', '.join(known)}")
    low, high = (inner.number_or_none(word, 0, 2.0**64) if inner.has(word) else None for word in ("low", "high"))
    curve: Any = inner.text("curve") if inner.has("curve") else "linear"
    return Control(inner.text("parameter"), low, high, curve)


class MidiControl:
    """Lets a port of mido play an instrument."""

    name = "MIDI"

    def __init__(self, port: Any, controls: Mapping[int, Control], gated: bool) -> None:
        """gated: whether there is sound only while a note is held."""
        self._port, self._controls, self._gated = port, controls, gated
        self._notes: dict[tuple[int, int], int] = {}  # velocities of the notes that are held, the newest last
        self.words = one_line(port.name)

    waits_for: list[int] = []
    """mido has nothing that becomes readable, so it is asked several times in each block."""

    def poll(self, instrument: Instrument) -> Iterable[str]:
        """Does what came since the last call. Yields what is wrong with a message."""
        for message in self._port.iter_pending():
            try:
                self._take(message, instrument)
            except ConfigError as error:
                yield str(error)

    def _take(self, message: Any, instrument: Instrument) -> None:
        if message.type == "control_change":
            if message.control in (_ALL_SOUND_OFF, _ALL_NOTES_OFF):
                self._notes.clear()
                self._gate(instrument)
            elif control := self._controls.get(message.control):
                one = parameter(instrument.parameters, control.parameter)
                share = message.value / _HIGHEST
                instrument.set(one.name, one.at(share, control.low, control.high, control.curve))
        elif message.type in ("note_on", "note_off"):
            note = message.channel, message.note
            self._notes.pop(note, None)
            if message.type == "note_on" and message.velocity:
                self._notes[note] = message.velocity
            self._gate(instrument)

    def _gate(self, instrument: Instrument) -> None:
        """The newest note that is held says how loud the sound is."""
        if self._gated:
            velocity = next(reversed(self._notes.values()), 0)
            instrument.change({"gate": velocity / _HIGHEST})


def _mido() -> Any:
    try:
        import mido

        mido.backend.load()
    except ImportError as error:
        missing = "python-rtmidi" if error.name == "rtmidi" else "mido and python-rtmidi"
        raise MissingPackage(f"MIDI needs {missing}; pip install mido python-rtmidi (extra `live`)") from None
    return mido


@contextlib.contextmanager
def _without_alsa_lines() -> Iterator[None]:
    """ALSA itself writes to standard error what goes wrong, which is said here in a line that can be understood."""
    try:
        before = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def list_ports() -> list[str]:
    """The names of the ports that send MIDI. Raises MissingPackage, and ConfigError where the system has no MIDI."""
    mido = _mido()
    try:
        with _without_alsa_lines():
            return [str(name) for name in mido.get_input_names()]
    except Exception as error:  # the errors of rtmidi have no common base that is stable
        if sys.platform == "linux" and not os.path.exists(_SEQUENCER):
            raise ConfigError(f"this system has no MIDI: there is no {_SEQUENCER}; try `modprobe snd-seq`") from None
        raise ConfigError(f"this system cannot tell its MIDI ports: {one_line(error)}") from None


def open_port(name: str | None) -> Any:
    """The port with this name, or the only one that has it in its name; None takes the first. Raises ConfigError."""
    mido, ports = _mido(), list_ports()
    if not ports:
        raise ConfigError("there is no MIDI port; connect a keyboard, or start the program that sends")
    found = [port for port in ports if name in (None, port)][:1]
    found = found or [port for port in ports if str(name).lower() in port.lower()]
    if len(found) != 1:
        problem = f"{len(found)} MIDI ports have" if found else "no MIDI port has"
        raise ConfigError(f"{problem} {quoted(name)} in the name; list_midi shows those there are")
    try:
        with _without_alsa_lines():
            return mido.open_input(found[0])
    except Exception as error:  # as above
        raise ConfigError(f"the MIDI port {quoted(one_line(found[0]))} cannot be opened: {one_line(error)}") from None
