"""Where the instrument's sound goes: speakers by a fake sound card whose callback the test drives, pipes and files."""

import io
import os
import struct
import sys

import numpy as np
import pytest
import soundfile
from sound_card import Card

from samplernn_fast.audio import writing
from samplernn_fast.errors import AudioError, ConfigError, MissingPackage
from samplernn_fast.serving.playing import speakers
from samplernn_fast.serving.playing.outputs import Clock, Recording, StandardOutput

soxr = pytest.importorskip("soxr")

BLOCK, BUFFER = 128, 0.06


@pytest.fixture
def insert(monkeypatch):
    """insert(card): the machine has these sound cards."""

    def insert(card):
        monkeypatch.setitem(sys.modules, "sounddevice", card.module)
        return card

    return insert


def sound(samples):
    """Samples that are all different, so that none can be lost or repeated unseen."""
    return np.linspace(-0.9, 0.9, samples).astype(np.float32)


def feed(output, samples, block=BLOCK):
    """Writes blocks while they are wanted. Returns what is left."""
    while len(samples) and output.wait() == 0:
        output.write(samples[:block])
        samples = samples[block:]
    return samples


def test_no_sample_is_lost_or_repeated(insert):
    card = insert(Card())
    output, given = speakers.Speakers(8000, BLOCK, BUFFER), sound(40 * BLOCK)
    (stream,) = card.streams
    left = feed(output, given)
    assert stream.calls == ["start"] and len(given) - len(left) == 3 * BLOCK  # within 480 samples, 60 ms
    random = np.random.default_rng(1)
    while len(left):
        stream.play(int(random.integers(1, 200)))
        left = feed(output, left)
    output.finish()
    while not output.drained():
        stream.play(50)
    heard = np.concatenate(stream.heard)
    assert np.array_equal(heard[: len(given)], given) and not heard[len(given) :].any()
    assert output.underruns == 0
    output.close()
    assert stream.calls == ["start", "stop", "close"]


def test_sound_begins_when_the_buffer_is_full(insert):
    card = insert(Card())
    output = speakers.Speakers(8000, BLOCK, 0.2)
    output.write(sound(BLOCK))
    assert card.streams[0].calls == []
    feed(output, sound(100 * BLOCK))
    assert card.streams[0].calls == ["start"]
    assert 0 < output.wait() <= 0.2


def test_underruns_are_counted_and_are_silent(insert):
    card = insert(Card())
    output, given = speakers.Speakers(8000, BLOCK, BUFFER), sound(8 * BLOCK)
    stream, left = card.streams[0], feed(output, given)
    made = len(given) - len(left)
    first = stream.play(made + 16)  # more than there is
    assert np.array_equal(first[:made], given[:made]) and not first[made:].any()
    assert output.underruns == 1
    stream.play(10)
    assert output.underruns == 2
    feed(output, left)
    stream.play(10, underflow=True)  # the card says itself that it was late
    assert output.underruns == 3
    assert np.array_equal(stream.heard[-1], given[made : made + 10])  # what is late comes whole
    stream.play(10)
    assert output.underruns == 3


def test_the_end_is_no_underrun(insert):
    card = insert(Card())
    output = speakers.Speakers(8000, BLOCK, BUFFER)
    output.write(sound(BLOCK))
    output.finish()
    assert card.streams[0].calls == ["start"]  # a sound shorter than the buffer is played too
    card.streams[0].play(BLOCK + 100)
    assert output.drained() and output.underruns == 0


def test_a_sound_that_is_given_up_is_silent_at_once(insert):
    card = insert(Card())
    output = speakers.Speakers(8000, BLOCK, BUFFER)
    feed(output, sound(20 * BLOCK))
    output.close()
    assert card.streams[0].calls == ["start", "abort", "close"]


@pytest.mark.parametrize(("rate", "card_rate"), [(8000, 48000), (16000, 44100), (22050, 48000)])
def test_another_rate_is_that_of_soxr_of_the_whole(insert, rate, card_rate):
    card = insert(Card(rates=(card_rate,)))
    output = speakers.Speakers(rate, BLOCK, BUFFER)
    (stream,) = card.streams
    assert output.rate == stream.rate == card_rate and f"resampled from {rate} Hz" in output.words
    time = np.arange(rate) / rate
    given = (0.5 * np.sin(2 * np.pi * 440 * time) + 0.3 * np.sin(2 * np.pi * 1900 * time)).astype(np.float32)
    left = given
    for _ in range(1000):
        left = feed(output, left)
        stream.play(441)
        if not len(left):
            break
    output.finish()
    while not output.drained():
        stream.play(441)
    heard, whole = np.concatenate(stream.heard), soxr.resample(given, rate, card_rate, quality="HQ")
    assert output.underruns == 0
    assert np.abs(heard[: len(whole)] - whole).max() < 1e-3 and np.abs(whole).max() > 0.5
    assert not heard[len(whole) :].any()


def test_a_rate_that_the_card_takes_is_not_resampled(insert, monkeypatch):
    monkeypatch.setattr(speakers, "load_soxr", lambda why: pytest.fail(why))
    assert insert(Card(rates=(8000, 48000))) and speakers.Speakers(8000, BLOCK, BUFFER).rate == 8000


def test_a_buffer_shorter_than_a_block_still_holds_one(insert):
    card = insert(Card())
    output = speakers.Speakers(8000, 512, 0.005)
    assert output.wait() == 0
    output.write(sound(512))
    assert output.wait() > 0 and card.streams[0].calls == ["start"]


def test_a_ring_loses_nothing_at_its_seam():
    ring, given, heard = speakers.Ring(100), sound(1000), []
    at = 0
    for size in (70, 30, 100, 1, 99, 60, 100, 37, 100, 100, 100, 100, 100, 3):
        ring.write(given[at : at + size])
        at += size
        with pytest.raises(AudioError, match="buffer of 100 samples is full"):
            ring.write(np.zeros(101 - ring.filled, np.float32))
        target = np.zeros(size, np.float32)
        assert ring.read_into(target) == size
        heard.append(target)
    assert at == 1000 and np.array_equal(np.concatenate(heard), given) and ring.filled == 0


@pytest.mark.parametrize(("device", "channels"), [(None, 2), ("built", 2), ("2", 1), ("Headset", 1)])
def test_a_card_is_chosen_by_number_or_name(insert, device, channels):
    card = insert(Card())
    assert "\n" not in speakers.Speakers(8000, BLOCK, BUFFER, device).words
    assert card.streams[0].channels == channels


@pytest.mark.parametrize(("device", "message"), [("7", "'7'"), ("Micro", "'Micro'"), ("t", "several have that name")])
def test_a_card_that_is_not_there_is_refused(insert, device, message):
    insert(Card())
    with pytest.raises(ConfigError, match=f"there is no sound card .*{message}.*list_devices"):
        speakers.Speakers(8000, BLOCK, BUFFER, device)


def test_a_machine_without_a_card_says_so(insert):
    insert(Card()).devices.clear()
    module = sys.modules["sounddevice"]
    module.query_devices = lambda device=None, kind=None: (_ for _ in ()).throw(module.PortAudioError("no default"))
    with pytest.raises(ConfigError, match="there is no sound card here; write elsewhere with -o"):
        speakers.Speakers(8000, BLOCK, BUFFER)


def test_a_card_that_does_not_start_or_stops_says_so(insert):
    card = insert(Card(broken=True))
    with pytest.raises(AudioError, match="the sound card cannot be started: Device unavailable"):
        feed(speakers.Speakers(8000, BLOCK, BUFFER), sound(10 * BLOCK))
    card.broken = False
    output = speakers.Speakers(8000, BLOCK, BUFFER)
    feed(output, sound(10 * BLOCK))
    card.streams[-1].finished()
    with pytest.raises(AudioError, match="the sound card stopped"):
        output.wait()


def test_cards_are_listed(insert):
    insert(Card())
    first, second = speakers.list_devices()
    assert first == "*   1  Built-in (8 channels, 48000 Hz)" and second.startswith("    2  Headset\\n (1 channels")


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingPackage, match=r"pip install sounddevice \(extra `live`\)"):
        speakers.load_sounddevice()
    monkeypatch.delitem(sys.modules, "sounddevice")
    real = __import__

    def without_portaudio(name, *rest):
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest)

    monkeypatch.setattr("builtins.__import__", without_portaudio)
    with pytest.raises(MissingPackage, match="apt install libportaudio2"):
        speakers.load_sounddevice()


def test_a_clock_keeps_the_pace_and_forgets_what_was_missed():
    now = [100.0]
    clock = Clock(1000, ahead=0.05, now=lambda: now[0])
    assert clock.wait() == 0  # nothing was made: the sound begins when it does
    for _ in range(3):
        clock.made(20)
    assert clock.wait() == pytest.approx(0.01)
    now[0] += 0.02
    assert clock.wait() == 0 and clock.late == 0
    now[0] += 5  # somebody stopped the program
    clock.made(20)
    assert clock.late == 1 and clock.wait() == 0
    clock.made(60)
    assert clock.wait() == pytest.approx(0.03)  # and it does not hurry to catch up


def piped(form, given, frames=None, block=100):
    """What comes out of a pipe."""
    reader, writer = os.pipe()
    output = StandardOutput(writer, form, 8000, frames, None)
    for start in range(0, len(given), block):
        assert output.wait() == 0
        output.write(given[start : start + block])
    output.finish()
    assert output.drained()
    os.close(writer)
    with open(reader, "rb") as opened:
        return opened.read()


def test_formats_of_standard_output():
    given = np.random.default_rng(0).uniform(-1, 1, 2000).astype(np.float32)
    wanted = np.frombuffer(writing.encode(".wav", given, 8000)[44:], "<i2")
    assert np.array_equal(np.frombuffer(piped("f32", given), "<f4"), given)
    assert np.array_equal(np.frombuffer(piped("s16", given), "<i2"), wanted)
    wav = piped("wav", given)
    assert wav[:4] == b"RIFF" and struct.unpack("<I", wav[40:44]) == (2**32 - 1,)  # nobody knows how long
    samples, rate = soundfile.read(io.BytesIO(piped("wav", given, frames=2000)), dtype="int16")
    assert rate == 8000 and np.array_equal(samples, wanted) and wav[44:] == wanted.astype("<i2").tobytes()


def test_a_slow_reader_holds_up_nothing_but_the_sound():
    reader, writer = os.pipe()
    output = StandardOutput(writer, "f32", 8000, None, None)
    given, written = sound(200_000), 0
    while output.wait() == 0:
        output.write(given[written : written + 1000])
        written += 1000
    assert 10_000 <= written < 40_000  # a pipe has 64 KiB, and what waits here has as much at most
    taken = b""
    while not output.drained():
        taken += os.read(reader, 1000)
    os.close(writer)
    with open(reader, "rb") as opened:
        taken += opened.read()
    assert np.array_equal(np.frombuffer(taken, "<f4"), given[:written])


def test_a_reader_that_left_is_a_broken_pipe():
    reader, writer = os.pipe()
    output = StandardOutput(writer, "s16", 8000, None, None)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        output.write(sound(100))
    os.close(writer)


def test_a_file_appears_when_it_is_whole(tmp_path):
    path, given = tmp_path / "x.wav", sound(1000)
    output = Recording(path, 8000, 1000, "made by a test")
    output.write(given[:400])
    assert not path.exists()
    output.write(given[400:])
    output.finish()
    output.close()
    assert path.read_bytes()[-2000:] == writing.pcm_16(given) and os.listdir(tmp_path) == ["x.wav"]


def test_a_file_that_is_given_up_or_empty_is_none(tmp_path):
    given_up = Recording(tmp_path / "x.wav", 8000, 1000, "")
    given_up.write(sound(100))
    given_up.close()
    empty = Recording(tmp_path / "y.wav", 8000, 1000, "")
    empty.finish()
    empty.close()
    assert os.listdir(tmp_path) == []
