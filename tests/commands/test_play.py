"""`samplernn-fast play`: standard output, files, scores, MIDI and OSC together, and what is refused."""

import io
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from command_line import RATE, assert_one_line_error, run, strict_json, subprocess_of, told
from sound_card import Card

import samplernn_fast as srnn
from samplernn_fast.audio import reading, writing
from samplernn_fast.serving.playing import speakers

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def model(trained):
    return trained


def f32(content):
    return np.frombuffer(content, "<f4")


def played(*args):
    """What a command sends to standard output."""
    done = subprocess_of("play", *args, "-o", "-")
    assert done.returncode == 0, done.stderr
    return done


def test_raw_samples_are_those_of_generate_bit_for_bit(model):
    settings = {"seed": 4, "temperature": 0.8, "top_k": 20, "top_p": 0.9}
    flags = [str(part) for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    wanted = srnn.generate(model, duration=0.51, **settings).samples[0]
    done = played(model, *flags, "--duration", "0.51", "--format", "f32")
    assert np.array_equal(f32(done.stdout), wanted)
    first, last = told(done.stderr.decode()).splitlines()
    assert first.endswith(f"seed 4, to standard output in place of a sound card, raw float32 samples at {RATE} Hz")
    assert last == "played 0.5 s, 0 underruns"
    done = played(model, *flags, "--duration", "0.51", "--format", "s16", "--block", 64)
    assert done.stdout == writing.pcm_16(wanted)


def test_a_wav_has_the_length_that_was_asked_for(model):
    samples, rate = soundfile.read(io.BytesIO(played(model, "--seed", 1, "--duration", 0.2).stdout))
    assert rate == RATE
    assert np.array_equal(samples * 32768, np.frombuffer(writing.pcm_16(generated(model, 0.2)), "<i2"))


def generated(model, duration, **settings):
    return srnn.generate(model, duration=duration, **{"seed": 1} | settings).samples[0]


def test_endless_sound_ends_quietly_when_its_reader_leaves(model):
    command = [sys.executable, "-m", "samplernn_fast", "play", str(model), "-o", "-", "--seed", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        wav = started.stdout.read(44 + 2 * RATE)
        started.stdout.close()
        error = told(started.stderr.read().decode())
        assert started.wait(60) == 0
    assert wav[40:44] == b"\xff" * 4 and wav[44:] == writing.pcm_16(generated(model, 1.0))
    assert error.count("\n") == 2 and "Traceback" not in error and "played" in error


def test_pace_takes_as_long_as_the_sound(model):
    began = time.monotonic()
    done = played(model, "--duration", 1, "--pace", "--format", "s16", "--buffer", 100)
    assert len(done.stdout) == 2 * RATE and time.monotonic() - began > 0.9


def test_a_file_says_how_it_was_made(model, tmp_path, capsys):
    assert run("play", model, "-o", "x.wav", "--duration", "0.3", "--seed", "1", "--temperature", "0.9") == 0
    shown = capsys.readouterr()
    assert shown.out == "" and "x.wav in place of a sound card" in shown.err
    samples, _ = reading.read(tmp_path / "x.wav")
    assert np.array_equal(samples, np.round(generated(model, 0.3, temperature=0.9) * 32768) / 32768)
    comment = strict_json(soundfile.SoundFile("x.wav").comment)
    assert (comment["seed"], comment["temperature"], comment["score_sha256"]) == (1, 0.9, None)
    assert run("play", model, "-o", "x.wav", "--duration", "0.3") == 1
    assert "exists; choose another name" in assert_one_line_error(capsys)
    assert run("play", model, "-o", "x.wav", "--duration", "0.1", "--overwrite") == 0
    assert reading.probe(tmp_path / "x.wav").frames == 0.1 * RATE


def test_speakers_play_all_of_it(model, monkeypatch, capsys):
    card = Card(rates=(RATE,), runs=True)
    monkeypatch.setitem(sys.modules, "sounddevice", card.module)
    assert run("play", model, "--duration", "0.5", "--seed", "1", "--buffer", "200") == 0
    (stream,) = card.streams
    assert stream.calls == ["start", "stop", "close"]
    heard, wanted = np.concatenate(stream.heard), generated(model, 0.5)
    shown = capsys.readouterr().err
    assert "to Built-in at 8000 Hz" in shown and "played 0.5 s, " in shown
    if "0 underruns" in shown:  # a machine that is busy with other things may make it late
        assert np.array_equal(heard[: len(wanted)], wanted) and not heard[len(wanted) :].any()
    assert np.isin(wanted, heard).all()


def test_lists_end_the_command(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", Card().module)
    assert run("play", "--list-devices") == 0
    assert capsys.readouterr().out.splitlines() == speakers.list_devices()
    mido = pytest.importorskip("mido")
    monkeypatch.setattr(mido.backend, "load", lambda: None)
    monkeypatch.setattr(mido, "get_input_names", lambda: ["Keys"])
    assert run("play", "--list-midi") == 0
    assert capsys.readouterr().out == "Keys\n"


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        ("-o x.wav", 2, "a file needs an end: give --duration, or a --score"),
        ("-o x.txt --duration 1", 2, "the suffix must be one of"),
        ("-o gone/x.wav --duration 1", 1, "gone: no such folder"),
        ("-o x.wav --duration 1 --format s16", 2, "--format is that of standard output|format is that of"),
        ("-o x.wav --duration 1 --osc 0", 2, "add --pace, or leave out --midi and --osc"),
        ("-o x.wav --duration 1 --output-device 3", 2, "choose one"),
        ("-o - --map m.yaml", 2, "it needs --midi"),
        ("-o - --midi a b", 2, "takes one port, got 2"),
        ("-o - --score gone.json", 2, "gone.json: No such file"),
        ("-o - --score gone.json --seed 3", 2, "a score has a seed of its own; leave out --seed"),
        ("-o - --score gone.json --top-k 3", 2, "leave out --top-k"),
        ("-o - --buffer 1", 2, "--buffer must be 5 to 10000 milliseconds, got 1"),
        ("-o - --volume 2", 2, "--volume must be 0 to 1, got 2"),
        ("-o - --temperature -1", 2, "--temperature must be"),
        ("-o - --block 100", 2, "--block must be a multiple of 64 samples for this model, got 100"),
        ("-o - --prompt gone.wav", 1, "gone.wav: "),
        ("--pace", 2, "speakers have a pace of their own"),
        ("--osc 70000 -o -", 2, "--osc must be 0 to 65535, got 70000"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(args, status, message, model, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", Card().module)
    assert run("play", model, *args.split()) == status
    assert re.search(message, assert_one_line_error(capsys))


def test_what_is_not_installed_is_one_line(model, monkeypatch, capsys):
    for name, args in (("sounddevice", ()), ("mido", ("-o", "-", "--midi")), ("pythonosc", ("-o", "-", "--osc", "0"))):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, name, None)
            assert run("play", model, *args) == 1
        shown = assert_one_line_error(capsys)
        assert "pip install" in shown and "(extra `live`)" in shown


def test_a_missing_model_is_told_before_a_missing_package(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert run("play", "nope") == 1
    assert "nope: no such run folder" in assert_one_line_error(capsys)


def test_an_interrupted_file_keeps_what_was_made(model, tmp_path):
    command = [sys.executable, "-m", "samplernn_fast", "play", str(model), *"-o x.wav --duration 3600 --seed 1".split()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as started:
        while not (begins := told(started.stderr.readline())):
            assert started.poll() is None
        assert "in place of a sound card" in begins
        while sum(path.stat().st_size for path in tmp_path.glob(".*.tmp")) < 10_000:  # some of it is in the file
            assert started.poll() is None
            time.sleep(0.01)
        started.send_signal(signal.SIGINT)
        error = started.stderr.read()
        assert started.wait(60) == 130
    assert re.fullmatch(r"samplernn-fast: interrupted after [\d.]+ (s|min), 0 underruns; \S+ has them\n", error)
    samples, _ = reading.read(tmp_path / "x.wav")
    assert len(samples) and np.array_equal(samples[:800], np.round(generated(model, 0.1) * 32768) / 32768)


def test_osc_and_midi_are_heard_in_the_sound(model, monkeypatch, tmp_path, capsys):
    mido, osc_udp = pytest.importorskip("mido"), pytest.importorskip("pythonosc.udp_client")
    from samplernn_fast.serving.playing import midi, osc

    class Port:
        name = "Keys"
        waiting = [[], [mido.Message("note_on", note=60, velocity=127)], [], [mido.Message("note_off", note=60)]]

        def iter_pending(self):
            return self.waiting.pop(0) if self.waiting else []

        def close(self):
            self.waiting = None

    port, clients = Port(), []
    take = osc.OscControl.poll

    def poll(control, instrument):
        if not clients:
            clients.append(osc_udp.SimpleUDPClient("127.0.0.1", control.port))
            for _ in range(3):
                clients[0].send_message("/temperature", "hot")
            clients[0].send_message("/volume", 0.5)
        return take(control, instrument)

    monkeypatch.setattr(midi, "open_port", lambda name: port)
    monkeypatch.setattr(osc.OscControl, "poll", poll)
    args = ["--midi", "--osc", "0", "--duration", "0.5", "--pace", "-o", "x.wav", "--seed", "1"]
    assert run("play", model, *args) == 0
    shown = capsys.readouterr().err
    assert shown.count("temperature must be") == 1 and "3 messages of OSC refused" in shown
    assert "MIDI at Keys\n" in shown and "OSC at 127.0.0.1:" in shown and port.waiting is None
    samples, _ = reading.read(tmp_path / "x.wav")
    plain = generated(model, 0.5)
    sounding = np.flatnonzero(samples)
    assert 0 < len(sounding) and sounding[-1] < 0.4 * RATE  # the note was released
    middle = sounding[0] + 60
    assert samples[middle] == pytest.approx(plain[middle] / 2, abs=2 / 32768)
