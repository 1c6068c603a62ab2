"""What plays the instrument: keys, MIDI from a fake port, OSC over real UDP."""

import json
import os
import random
import socket
import sys
import time
import types

import pytest

from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import ConfigError, MissingPackage
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.serving.playing import midi
from samplernn_fast.serving.playing.instrument import Instrument
from samplernn_fast.serving.playing.keyboard import KEYS, PAGE, names_of
from samplernn_fast.serving.playing.midi import Control, MidiControl, read_map, usual_map
from samplernn_fast.serving.playing.osc import OscControl
from samplernn_fast.serving.playing.parameters import table
from samplernn_fast.serving.playing.score import Start

CONFIG = SampleRNNConfig(sample_rate=8000)


@pytest.fixture(scope="module")
def played():
    return Engine("demo", backend="cpu", device="cpu")


@pytest.fixture
def instrument(played):
    return Instrument(played, Start(5))


@pytest.mark.parametrize(
    ("content", "names", "rest"),
    [
        (b"\x1b[A\x1b[B\x1bOC\x1bOD", ["up", "down", "right", "left"], b""),
        (b"[]f q", ["[", "]", "f", " ", "q"], b""),
        (b"\x1b[1;5A\x1b[3~\x1b[200~x", ["x"], b""),  # an arrow with ctrl, Delete, a paste
        (b"a\x1b", ["a"], b"\x1b"),
        (b"a\x1b[", ["a"], b"\x1b["),
        (b"\x1b[1;", [], b"\x1b[1;"),
        (b"\x1bq", ["q"], b""),  # Alt
        ("é\x00\x7fz".encode(), ["z"], b""),
        (b"", [], b""),
    ],
)
def test_keys_of_a_terminal(content, names, rest):
    assert names_of(content) == (names, rest)


def test_a_sequence_that_comes_in_parts_is_one_key():
    whole = b"\x1b[Ax\x1bOD\x1b[1;5Cq"
    for cut in range(len(whole) + 1):
        first, rest = names_of(whole[:cut])
        second, rest = names_of(rest + whole[cut:])
        assert ([*first, *second], rest) == (["up", "x", "left", "q"], b"")


def test_every_key_moves_a_parameter_and_stands_on_the_page():
    known, page = table(CONFIG), " ".join(PAGE)
    for name, key in KEYS.items():
        assert key.parameter in known and bool(key.steps) == (known[key.parameter].kind in ("number", "whole"))
        assert {" ": "space", "=": "+"}.get(name, name) in page
    assert {key.parameter for key in KEYS.values()} == set(known)


class Port:
    """A port of mido."""

    name = "Keys\n1"

    def __init__(self):
        self.waiting, self.closed = [], False

    def iter_pending(self):
        while self.waiting:
            yield self.waiting.pop(0)

    def close(self):
        self.closed = True


def send(control, instrument, *messages):
    """What is said of messages that mido itself makes."""
    mido = pytest.importorskip("mido")
    control._port.waiting += [mido.Message(kind, **values) for kind, values in messages]
    return list(control.poll(instrument))


def test_controllers_move_what_the_usual_map_says(instrument):
    control = MidiControl(Port(), usual_map(instrument.parameters), gated=False)
    cc = "control_change"
    messages = [(cc, {"control": number, "value": value}) for number, value in ((1, 127), (7, 0), (64, 127), (71, 0))]
    assert send(control, instrument, *messages, (cc, {"control": 9, "value": 3}), ("clock", {})) == []
    now = instrument.settings
    assert (now["temperature"], now["volume"], now["frozen"], now["top_k"]) == (1.5, 0.0, True, 1)
    assert send(control, instrument, (cc, {"control": 64, "value": 63}), (cc, {"control": 71, "value": 127})) == []
    assert now["frozen"] is False and now["top_k"] is None


def gates(instrument):
    instrument.make(1024)
    return [changes["gate"] for _, changes in instrument.changes if "gate" in changes]


def test_notes_open_the_gate_as_loud_as_they_are_struck(played):
    instrument = Instrument(played, Start(5, gate=0.0))
    control = MidiControl(Port(), {}, gated=True)
    assert not instrument.make(128).any()
    send(control, instrument, ("note_on", {"note": 60, "velocity": 127}))
    assert instrument.make(128).any()
    send(control, instrument, ("note_on", {"note": 64, "velocity": 64}), ("note_off", {"note": 60}))
    send(control, instrument, ("note_on", {"note": 64, "velocity": 0}))  # is a note off
    assert gates(instrument) == [1.0, 64 / 127, 0.0]
    assert not instrument.make(128).any()


@pytest.mark.parametrize("number", [120, 123])
def test_a_released_note_gives_way_to_one_still_held_and_all_notes_end(played, number):
    instrument = Instrument(played, Start(5, gate=0.0))
    control = MidiControl(Port(), {}, gated=True)
    send(control, instrument, ("note_on", {"note": 1, "velocity": 100}), ("note_on", {"note": 2, "velocity": 50}))
    send(control, instrument, ("note_off", {"note": 2}), ("note_off", {"note": 9}))
    send(control, instrument, ("control_change", {"control": number, "value": 0}))
    assert gates(instrument) == [100 / 127, 50 / 127, 100 / 127, 0.0]


def test_without_a_gate_notes_change_nothing(instrument):
    control = MidiControl(Port(), {}, gated=False)
    send(control, instrument, ("note_on", {"note": 60, "velocity": 1}))
    instrument.make(64)
    assert instrument.changes == []


def test_a_flood_of_notes_takes_no_more_memory_than_a_few(played):
    instrument = Instrument(played, Start(5, gate=0.0))
    control = MidiControl(Port(), {}, gated=True)
    for number in range(5000):
        send(control, instrument, ("note_on" if number % 2 == 0 else "note_off", {"note": 60}))
    assert len(instrument._asked) <= 64
    assert gates(instrument)[-1] == 0.0 or instrument.settings["gate"] == 0.0


def write_map(tmp_path, text):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    return path


def test_a_map_in_yaml_or_json(tmp_path):
    text = """
cc20: {parameter: temperature, low: 0.2, high: 2, curve: exponential}
21: {parameter: freeze}
22: {parameter: volume, low: 1, high: 0}
"""
    wanted = {
        20: Control("temperature", 0.2, 2, "exponential"), 21: Control("freeze"), 22: Control("volume", 1, 0)
    }  # fmt: skip
    assert read_map(write_map(tmp_path, text), table(CONFIG)) == wanted
    as_json = json.dumps({"20": {"parameter": "temperature", "low": 0.2, "high": 2, "curve": "exponential"}})
    assert read_map(write_map(tmp_path, as_json), table(CONFIG)) == {20: wanted[20]}
    # Every place of a mapped controller is taken by what it moves.
    for control in [*wanted.values(), *midi.USUAL.values()]:
        one = table(CONFIG)[control.parameter]
        control.check(table(CONFIG))
        for value in range(128):
            one.change(one.at(value / 127, control.low, control.high, control.curve))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "the map must be names with values"),
        ("cc1: temperature", "cc1 of the map must be names with values"),
        ("cc1: {low: 1}", "has no parameter"),
        ("cc1: {parameter: warmth}", "controller 1: there is no parameter 'warmth'"),
        ("cc1: {parameter: seed}", "too few for a seed"),
        ("cc1: {parameter: volume, high: 2}", "volume must be 0 to 1, got 2"),
        ("cc1: {parameter: volume, low: loud}", "low of cc1 of the map must be a number"),
        ("cc1: {parameter: volume, curve: exponential}", "needs low and high above 0"),
        ("cc1: {parameter: volume, curve: round}", "curve must be linear or exponential, got 'round'"),
        ("cc1: {parameter: volume, speed: 1}", "controller cc1 has 'speed'"),
        ("cc120: {parameter: volume}", "a controller must be 0 to 119"),
        ("true: {parameter: volume}", "a controller must be 0 to 119"),
        ("x: [", "is not YAML"),
    ],
)
def test_a_map_that_cannot_be_is_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as refused:
        read_map(write_map(tmp_path, text), table(CONFIG))
    assert "map.yaml: " in str(refused.value)


@pytest.fixture
def ports(monkeypatch):
    """The system's MIDI ports; what is opened is a `Port`."""
    mido = pytest.importorskip("mido")
    names = ["Through:0", "Keystation 49:0", "Keystation 49:1"]
    monkeypatch.setattr(mido.backend, "load", lambda: None)
    monkeypatch.setattr(mido, "get_input_names", lambda: names)
    monkeypatch.setattr(mido, "open_input", lambda name: types.SimpleNamespace(name=name))
    return names


def test_a_port_is_found_by_a_part_of_its_name(ports):
    assert midi.open_port(None).name == "Through:0"
    assert midi.open_port("thr").name == "Through:0"
    assert midi.open_port("Keystation 49:1").name == "Keystation 49:1"
    for name, message in (("keystation", "2 MIDI ports have 'keystation'"), ("organ", "no MIDI port has 'organ'")):
        with pytest.raises(ConfigError, match=f"{message} in the name; list_midi"):
            midi.open_port(name)
    ports.clear()
    with pytest.raises(ConfigError, match="there is no MIDI port"):
        midi.open_port(None)


def test_a_system_without_midi_says_so_in_one_line(ports, monkeypatch, capfd, tmp_path):
    mido = sys.modules["mido"]

    def broken(*args):
        os.write(2, b"ALSA lib seq_hw.c: as the library itself writes\n")
        raise SystemError("no sequencer")

    monkeypatch.setattr(mido, "open_input", broken)
    with pytest.raises(ConfigError, match="the MIDI port 'Through:0' cannot be opened: no sequencer"):
        midi.open_port(None)
    monkeypatch.setattr(mido, "get_input_names", broken)
    monkeypatch.setattr(midi, "_SEQUENCER", str(tmp_path))
    with pytest.raises(ConfigError, match="this system cannot tell its MIDI ports: no sequencer"):
        midi.list_ports()
    if sys.platform == "linux":
        monkeypatch.setattr(midi, "_SEQUENCER", str(tmp_path / "seq"))
        with pytest.raises(ConfigError, match=r"no MIDI: there is no .*seq; try `modprobe snd-seq`"):
            midi.list_ports()
    os.write(2, b"heard again\n")
    assert capfd.readouterr().err == "heard again\n"


@pytest.mark.parametrize(
    ("modules", "call", "message"),
    [
        (("mido",), midi.list_ports, "MIDI needs mido and python-rtmidi; pip install mido python-rtmidi"),
        (("rtmidi", "mido.backends.rtmidi"), midi.list_ports, "MIDI needs python-rtmidi; pip install mido"),
        (("pythonosc",), lambda: OscControl(0), "OSC needs python-osc; pip install python-osc"),
    ],
)
def test_a_missing_package_is_one_line(monkeypatch, modules, call, message):
    for name in [one for one in sys.modules if one.split(".")[0] in ("mido", "pythonosc")]:
        monkeypatch.delitem(sys.modules, name)
    for name in modules:
        if name != "mido.backends.rtmidi":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackage, match=message):
        call()


@pytest.fixture
def osc():
    pytest.importorskip("pythonosc")
    control = OscControl(0)
    yield control
    control.close()


def say(osc, instrument, *packets):
    """What is said of packets that come by UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for packet in packets:
            sender.sendto(packet, ("127.0.0.1", osc.port))
    said = []
    for _ in packets:  # those of the loopback address are there at once, but a poll takes a few at a time
        said += osc.poll(instrument)
    return said


def message(address, *values):
    from pythonosc.osc_message_builder import OscMessageBuilder

    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value)
    return builder.build().dgram


def test_osc_moves_every_parameter(osc, instrument):
    said = say(
        osc, instrument,
        message("/temperature", 0.5), message("/top_k", 20), message("/top_p", 0.75), message("/volume", 1),
        message("/freeze", True), message("/pause", 1.0), message("/reset"), message("/seed", 12),
        message("/top_k", 20.0),
    )  # fmt: skip
    assert said == []
    wanted = {"temperature": 0.5, "top_k": 20, "top_p": 0.75, "volume": 1.0, "frozen": True, "paused": True, "seed": 12}
    assert {name: instrument.settings[name] for name in wanted} == wanted
    instrument.make(64)
    assert instrument.changes[0][1]["reset"] is True
    assert say(osc, instrument, message("/seed"), message("/pause", 0), message("/top_p", 1)) == []
    assert instrument.settings["seed"] != 12 and instrument.settings["top_p"] is None


def test_a_bundle_is_done_at_once(osc, instrument):
    from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
    from pythonosc.osc_message import OscMessage

    for when in (IMMEDIATELY, time.time() + 100):
        bundle = OscBundleBuilder(when)
        bundle.add_content(OscMessage(message("/temperature", 0.25)))
        bundle.add_content(OscMessage(message("/volume", 0.5)))
        assert say(osc, instrument, bundle.build().dgram) == []
        assert (instrument.settings["temperature"], instrument.settings["volume"]) == (0.25, 0.5)
        instrument.set("temperature", 1.0)


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (("/warmth", 1), "'/warmth': there is no parameter 'warmth' here"),
        (("/temperature", 9.0), "'/temperature': temperature must be 0.05 to 5, got 9.0"),
        (("/temperature", float("nan")), "temperature must be 0.05 to 5, got nan"),
        (("/temperature", "hot"), "temperature must be 0.05 to 5, got 'hot'"),
        (("/temperature", True), "temperature must be 0.05 to 5, got True"),
        (("/temperature",), "temperature takes one value, got 0"),
        (("/temperature", 1.0, 2.0), "temperature takes one value, got 2"),
        (("/temperature", [1.0]), "temperature must be 0.05 to 5, got"),
        (("/top_k", 2.5), "top_k must be a whole number"),
        (("/top_k", 999), "top_k must be 1 to 256 levels"),
        (("/freeze", 3), "freeze must be 0 or 1, got 3"),
        (("/freeze", None), "freeze takes one value, got nil"),
        (("/seed", -4), "seed must be a whole number"),
        (("/seed", b"\0\1"), "seed must be a whole number"),
        (("/a/b",), "there is no parameter 'a/b'"),
    ],
)
def test_a_message_that_cannot_be_obeyed_is_said_and_changes_nothing(osc, instrument, packet, said):
    before = dict(instrument.settings)
    (found,) = say(osc, instrument, message(*packet))
    assert said in found and found.isprintable()
    assert instrument.settings == before


def test_garbage_never_ends_the_sound(osc, instrument):
    damaged, draw = (
        [b"", b"x", b"/", b"#bundle", b"#bundle\0" + b"\xff" * 20, b"/temperature\0\0\0\0,f\0\0"],
        random.Random(3),
    )
    nested = b""
    for _ in range(2500):  # bundles in each other, deeper than Python calls itself
        nested = b"#bundle\0" + b"\0" * 8 + len(nested).to_bytes(4, "big") + nested
    good = [message("/temperature", 0.5), message("/seed", 3), message("/top_p", 0.5)]
    for _ in range(400):
        content = bytearray(draw.choice(good))
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        damaged.append(bytes(content[: draw.randint(1, len(content))]))
    damaged += [draw.randbytes(draw.randint(1, 60)) for _ in range(400)]
    said = []
    for packet in [*damaged, nested]:
        said += say(osc, instrument, packet)
    assert len(said) > 500 and all(len(line) < 1100 for line in said)
    assert say(osc, instrument, message("/volume", 0.125)) == []
    assert instrument.settings["volume"] == 0.125 and len(instrument.make(64)) == 64


def test_a_flood_leaves_time_for_the_sound(osc, instrument):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(150):
            sender.sendto(b"x", ("127.0.0.1", osc.port))
    assert len(list(osc.poll(instrument))) == 100 and len(list(osc.poll(instrument))) == 50


def test_a_port_that_is_taken_is_refused(osc):
    with pytest.raises(ConfigError, match=f"osc must be a free port of UDP, and {osc.port} is not"):
        OscControl(osc.port)
