"""The demo's whole way, shortened: synthesised music, a data folder, a run, an audio file."""

import re

import numpy as np
import pytest

from samplernn_fast.audio import reading, synthetic
from samplernn_fast.commands import demo
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import AudioError, ConfigError, SampleRNNError
from samplernn_fast.models.config import SampleRNNConfig


def test_plucked_music_is_music():
    tune = synthetic.plucked_music(2.0, seed=1)
    assert tune.dtype == np.float32 and tune.shape == (16000,)
    assert np.abs(tune).max() == pytest.approx(0.5)
    assert np.array_equal(tune, synthetic.plucked_music(2.0, seed=1))
    assert not np.array_equal(tune, synthetic.plucked_music(2.0, seed=2))
    spectrum = np.abs(np.fft.rfft(tune))
    assert spectrum[: len(spectrum) // 4].sum() > spectrum[len(spectrum) // 2 :].sum()


@pytest.fixture
def short(monkeypatch):
    """A demo of a few seconds, whose model is a beginner."""
    for name, value in {"_RECORDINGS": 4, "_RECORDING_SECONDS": 1.0, "_RESULT_SECONDS": 0.25}.items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(demo, "_LEAST_STEPS", 3)
    monkeypatch.setattr(demo, "_NOISE_MARGIN", -100.0)


def test_the_whole_way(short, tmp_path):
    target = tmp_path / "tune.wav"
    lines = list(demo.run_demo(target, minutes=0.02, seed=0))
    samples, rate = reading.read(target)
    assert rate == demo.SAMPLE_RATE and len(samples) == 2000
    assert str(target) in lines[-1] and "x real time" in lines[-1]
    assert (tmp_path / "tune-run" / "run" / "model.safetensors").is_file()


def test_a_second_demo_uses_the_first_one_again(short, tmp_path):
    target, run = tmp_path / "tune.wav", tmp_path / "tune-run" / "run"
    list(demo.run_demo(target, minutes=0.001, seed=0))
    sound, model = target.read_bytes(), (run / "model.safetensors").stat().st_mtime_ns
    lines = list(demo.run_demo(target, minutes=0.001, seed=0, overwrite=True))
    assert lines[0] == f"{tmp_path / 'tune-run'} has this demo already, and is used again"
    assert target.read_bytes() == sound and (run / "model.safetensors").stat().st_mtime_ns == model
    lines = list(demo.run_demo(target, minutes=0.001, seed=1, overwrite=True))
    assert lines[0].startswith("synthesised") and target.read_bytes() != sound


def test_too_few_steps_are_made_up_for(short, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "_LEAST_STEPS", 7)
    lines = list(demo.run_demo(tmp_path / "tune.wav", minutes=1e-9, seed=0))
    assert re.fullmatch(r"1 step in \d+ s, too few for a sound: training goes on to 7, about .* more", lines[2])
    assert lines[3].startswith("trained 7 steps in ")
    assert capsys.readouterr().err.count("model   ") == 1  # what will happen is said once


def test_noise_is_no_result(short, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_NOISE_MARGIN", 1.5)
    with pytest.raises(SampleRNNError, match=r"too little: \d+\.\d\d bits .* noise and nothing was written.*--minutes"):
        list(demo.run_demo(tmp_path / "tune.wav", minutes=1e-9, seed=0))
    assert not (tmp_path / "tune.wav").exists()


def test_the_entropy_of_levels(make_data, tmp_path):
    data = make_data(tmp_path, [0.2])
    samples = np.fromfile(data / "audio.i16", "<i2")
    samples[:] = np.resize([-30000, -10000, 10000, 30000], len(samples))
    samples.tofile(data / "audio.i16")
    config = SampleRNNConfig(sample_rate=8000)
    assert demo.level_entropy(AudioData.open(data), config) == pytest.approx(2, abs=0.01)


def test_a_folder_of_something_else_is_left(short, tmp_path):
    (tmp_path / "song-run" / "audio").mkdir(parents=True)
    (tmp_path / "song-run" / "audio" / "mine.wav").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="that the demo did not make"):
        list(demo.run_demo(tmp_path / "song.wav", minutes=1e-9, seed=0))
    assert (tmp_path / "song-run" / "audio" / "mine.wav").read_bytes() == b"mine"


def test_what_cannot_work_is_said_first(tmp_path):
    with pytest.raises(ConfigError, match="minutes"):
        list(demo.run_demo(tmp_path / "a.wav", minutes=0, seed=0))
    with pytest.raises(ConfigError, match=r"\.wav"):
        list(demo.run_demo(tmp_path / "a.txt", minutes=1, seed=0))
    with pytest.raises(ConfigError, match="seed"):
        list(demo.run_demo(tmp_path / "a.wav", minutes=1, seed=-1))
    (tmp_path / "kept.wav").write_bytes(b"mine")
    with pytest.raises(AudioError, match="overwrite"):
        list(demo.run_demo(tmp_path / "kept.wav", minutes=1, seed=0))
    assert [path.name for path in tmp_path.iterdir()] == ["kept.wav"]
