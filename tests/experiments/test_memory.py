"""The memory of a voice (section 3.3): who is heard, what is fed as silence, and what the shares are."""

import csv
import math
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from systems import SYSTEM_CASES

from samplernn_fast.audio import reading, writing
from samplernn_fast.audio.quantize import for_config
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.experiments import memory
from samplernn_fast.experiments.memory import Remembered, Settings, remember, write
from samplernn_fast.experiments.voices import TwoVoices, Voice, mean_pitch, pitches, praat, read_voices
from samplernn_fast.models import checkpoint
from samplernn_fast.models.registry import build_model

RATE = 8000
LOW, HIGH = Voice("low", 100.0, (98.0, 102.0, 130.0, 160.0)), Voice("high", 200.0, (190.0, 210.0))
VOICES = TwoVoices(LOW, HIGH)
NO_SOUNDS = np.zeros((0, 8), np.float32)


def hum(pitch, seconds=0.5, rate=RATE):
    """A sound with harmonics, which has a pitch as a voice does."""
    t = np.arange(round(seconds * rate)) / rate
    return 0.2 * sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 6))


@pytest.fixture
def with_praat():
    """Skips where Praat is not installed."""
    pytest.importorskip("parselmouth")


@pytest.mark.parametrize("pitch", [80.0, 125.3, 201.8, 400.0])
def test_the_pitch_of_a_sound_is_found(with_praat, pitch):
    assert mean_pitch(hum(pitch), RATE) == pytest.approx(pitch, rel=0.01)


@pytest.mark.parametrize(
    "clip", [np.zeros(4000), np.random.default_rng(0).normal(0, 0.1, 4000), hum(120)[:300], np.zeros(0)]
)
def test_silence_noise_and_scraps_have_no_voice(with_praat, clip):
    assert math.isnan(mean_pitch(clip, RATE))


def test_a_boundary_lies_between_voices():
    assert VOICES.boundary == pytest.approx(math.sqrt(100 * 200))
    assert [VOICES.of(pitch) for pitch in (90.0, 141.0, 142.0, math.nan)] == ["low", "low", "high", None]
    assert VOICES.accuracy() == (3 / 4 + 1) / 2


def test_voices_are_folders_or_patterns(with_praat, tmp_path):
    for name, pitch in (("anna", 220), ("bert", 110)):
        (tmp_path / name).mkdir()
        for number in range(2):
            writing.write(tmp_path / name / f"{number}.wav", hum(pitch + number), RATE)
            writing.write(tmp_path / f"{number}_{name}.wav", hum(pitch), RATE)
    of_folders = read_voices([str(tmp_path / "anna"), str(tmp_path / "bert")], RATE)
    of_patterns = read_voices([str(tmp_path / "?_anna.wav"), str(tmp_path / "*_bert.wav")], 16000)
    for found in (of_folders, of_patterns):
        assert (found.low.name, found.high.name) == ("bert", "anna") and found.accuracy() == 1
        assert found.low.pitch == pytest.approx(110, rel=0.02)


def test_a_pattern_without_words_has_the_name_of_its_folder(with_praat, tmp_path):
    for name, pitch in (("anna", 220), ("bert", 110)):
        (tmp_path / name).mkdir()
        writing.write(tmp_path / name / "0.wav", hum(pitch), RATE)
    found = read_voices([str(tmp_path / "anna" / "*.wav"), str(tmp_path / "bert" / "*.wav")], RATE)
    assert (found.low.name, found.high.name) == ("bert", "anna")


def test_what_are_not_two_voices_is_refused(with_praat, tmp_path):
    for name, pitch in (("a", 110), ("b", 111)):
        (tmp_path / name).mkdir()
        writing.write(tmp_path / name / "0.wav", hum(pitch), RATE)
    (tmp_path / "silent").mkdir()
    writing.write(tmp_path / "silent" / "0.wav", np.zeros(4000), RATE)
    with pytest.raises(ConfigError, match="two of different pitch"):
        read_voices([str(tmp_path / "a"), str(tmp_path / "b")], RATE)
    with pytest.raises(ConfigError, match="voices must be two"):
        read_voices([str(tmp_path / "a")], RATE)
    with pytest.raises(AudioError, match="none of 1 recordings has a voice"):
        read_voices([str(tmp_path / "a"), str(tmp_path / "silent")], RATE)
    with pytest.raises(AudioError, match="no recordings there"):
        read_voices([str(tmp_path / "a"), str(tmp_path / "*.flac")], RATE)


def test_without_praat_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    with pytest.raises(ConfigError, match="pip install praat-parselmouth"):
        praat()


def ends(*pairs):
    return Remembered("m", 1.0, None, tuple((math.nan, math.nan) for _ in pairs), pairs, 8000, NO_SOUNDS)


def test_shares_count_clips_whose_ends_are_voiced():
    found = ends(("a", "a"), ("a", "b"), ("b", "b"), (None, "a"), ("b", None), ("a", "a"))
    assert len(found.voiced) == 4 and found.kept.value == 3 / 4
    assert found.chance == 3 / 4 * 2 / 4 + 1 / 4 * 2 / 4
    assert math.isnan(ends((None, "a")).chance) and math.isnan(ends((None, "a")).kept.value)


@pytest.mark.parametrize("name", ["rnn", "wavenet"])
def test_silence_is_fed_and_all_lengths_go_on_from_the_same_clips(name, tmp_path, monkeypatch):
    config = SYSTEM_CASES[name]
    file = tmp_path / "model.safetensors"
    checkpoint.save_model(file, build_model(config, seed=1))
    rate = config.sample_rate
    fed, heard = [], []
    run = memory.Engine.run

    def listen(self, state, n, forced=None):
        levels = run(self, state, n, forced=forced)
        fed.append((state.t, None if forced is None else set(np.unique(forced).tolist())))
        heard.append(levels)
        return levels

    monkeypatch.setattr(memory.Engine, "run", listen)
    monkeypatch.setattr(
        memory, "_pitches", lambda levels, engine: [100.0 if row.sum() % 2 else 200.0 for row in levels]
    )
    silences = (32 / rate, 64 / rate, 0.0)
    settings = Settings(clips=3, free_seconds=32 / rate, silences=silences, keep_clips=2)
    found = list(remember(file, "it", VOICES, settings))
    assert [one.silence for one in found] == list(silences) and all(len(one.ends) == 3 for one in found)
    engine = memory.Engine(file)
    state = engine.init_state(3, 0, 1.0)
    unbroken = run(engine, state, 64)
    assert np.array_equal(heard[0], unbroken[:, :32]) and np.array_equal(heard[5], unbroken[:, 32:])  # a silence of 0 s
    assert [t for t, _ in fed] == [32, 64, 96, 96, 128, 64]
    assert [levels for _, levels in fed] == [None, {config.q_zero}, None, {config.q_zero}, None, None]
    assert bool((heard[1] == config.q_zero).all()) and heard[1].shape == (3, 32)
    decode = for_config(config).decode
    assert [one.sounds.shape for one in found] == [(2, 96), (2, 128), (2, 64)]
    assert np.array_equal(found[0].sounds, decode(np.concatenate(heard[:3], axis=1)[:2]))
    assert np.array_equal(found[2].sounds, decode(unbroken[:2]))


def test_a_window_is_said_of_networks_that_have_one(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_pitches", lambda levels, engine: [100.0] * len(levels))
    windows = {}
    for name in ("wavenet", "rnn"):
        config = SYSTEM_CASES[name]
        checkpoint.save_model(tmp_path / f"{name}.safetensors", build_model(config))
        settings = Settings(clips=1, free_seconds=8 / config.sample_rate)
        (found,) = remember(tmp_path / f"{name}.safetensors", name, VOICES, settings)
        windows[name] = found.window_seconds
    assert windows == {"wavenet": SYSTEM_CASES["wavenet"].lookback / SYSTEM_CASES["wavenet"].sample_rate, "rnn": None}


def test_the_page_and_the_sheet_tell_every_clip(tmp_path):
    found = Remembered(
        "m", 0.5, 0.25, ((99.0, 101.0), (99.0, math.nan)), (("low", "low"), ("low", None)), 8000, NO_SOUNDS
    )
    written = write([found], VOICES, Settings(clips=2), "the command", tmp_path)
    page = written[0].read_text()
    assert "| m | 0.5 s | 0.25 s | 100 % [21, 100] | 100 % | 1 | 1 |" in page and "`the command`" in page
    lines = list(csv.DictReader(written[1].open()))
    assert [(line["first_hz"], line["last_voice"]) for line in lines] == [("99.0", "low"), ("99.0", "")]
    assert all(path.stat().st_size for path in written)


def test_pitches_are_those_of_voiced_frames_only(with_praat):
    clip = np.concatenate([hum(150), np.zeros(4000)])
    found = pitches(clip, RATE)
    assert 30 <= len(found) <= 60 and found == pytest.approx(150, rel=0.02)


def test_clips_that_are_not_kept_take_no_memory(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    checkpoint.save_model(file, build_model(SYSTEM_CASES["rnn"]))
    monkeypatch.setattr(memory, "_pitches", lambda levels, engine: [100.0] * len(levels))
    monkeypatch.setattr(memory, "_make", lambda engine, state, seconds, *rest, **known: np.zeros((50, 4000), np.int64))
    tracemalloc.start()
    for keep in (0, 2):
        (found,) = remember(file, "it", VOICES, Settings(clips=2000, keep_clips=keep))
        assert found.sounds.shape == (keep, 12000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6  # all clips would be 64 MB
    with pytest.raises(ConfigError, match="keep_clips must be 0 to 50, got 51"):
        list(remember(file, "it", VOICES, Settings(clips=60, keep_clips=51)))


def test_kept_clips_can_be_heard(tmp_path):
    sounds = np.stack([np.full(800, 0.25, np.float32), np.full(800, -0.5, np.float32)])
    found = Remembered("SampleRNN (3-tier)", 0.5, None, (), (), 8000, sounds)
    (tmp_path / "memory-clips").mkdir()
    (tmp_path / "memory-clips/mine.wav").write_bytes(b"kept")
    write([replace(found, sounds=sounds / 2)], VOICES, Settings(clips=2), "the command", tmp_path)
    written = write([found], VOICES, Settings(clips=2), "the command", tmp_path)  # in the place of the first ones
    clips = [path for path in written if path.suffix == ".wav"]
    assert [path.relative_to(tmp_path).as_posix() for path in clips] == [
        "memory-clips/SampleRNN-3-tier-0.5s-00.wav",
        "memory-clips/SampleRNN-3-tier-0.5s-01.wav",
    ]
    for path, sound in zip(clips, sounds, strict=True):
        assert np.allclose(reading.read(path)[0], sound, atol=1e-4)
    assert (tmp_path / "memory-clips/mine.wav").read_bytes() == b"kept"


def test_kept_clips_of_models_with_like_names_do_not_overwrite_each_other(tmp_path):
    found = [Remembered(name, 1.0, None, (), (), 8000, np.zeros((1, 80), np.float32)) for name in ("A b", "A-b")]
    written = write(found, VOICES, Settings(clips=1), "the command", tmp_path)
    clips = [path for path in written if path.suffix == ".wav"]
    assert len(set(clips)) == 2 and all(path.is_file() for path in clips)
