"""The demo's whole way, shortened: synthesised music, a data folder, a run, an audio file."""

import numpy as np
import pytest

from samplernn_fast.audio import reading, synthetic
from samplernn_fast.commands import demo
from samplernn_fast.errors import AudioError, ConfigError


def test_plucked_music_is_music():
    tune = synthetic.plucked_music(2.0, seed=1)
    assert tune.dtype == np.float32 and tune.shape == (16000,)
    assert np.abs(tune).max() == pytest.approx(0.5)
    assert np.array_equal(tune, synthetic.plucked_music(2.0, seed=1))
    assert not np.array_equal(tune, synthetic.plucked_music(2.0, seed=2))
    spectrum = np.abs(np.fft.rfft(tune))
    assert spectrum[: len(spectrum) // 4].sum() > spectrum[len(spectrum) // 2 :].sum()


def test_the_whole_way(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_RECORDINGS", 4)
    monkeypatch.setattr(demo, "_RECORDING_SECONDS", 1.0)
    monkeypatch.setattr(demo, "_RESULT_SECONDS", 0.25)
    target = tmp_path / "tune.wav"
    for _ in range(2):  # a second demo in the same place starts afresh
        lines = list(demo.run_demo(target, minutes=0.02, seed=0, overwrite=True))
        samples, rate = reading.read(target)
        assert rate == demo.SAMPLE_RATE and len(samples) == 2000
        assert str(target) in lines[-1] and "x real time" in lines[-1]
        assert (tmp_path / "tune-run" / "run" / "model.safetensors").is_file()


def test_what_cannot_work_is_said_first(tmp_path):
    with pytest.raises(ConfigError, match="minutes"):
        list(demo.run_demo(tmp_path / "a.wav", minutes=0, seed=0))
    with pytest.raises(AudioError, match=r"\.wav"):
        list(demo.run_demo(tmp_path / "a.txt", minutes=1, seed=0))
    with pytest.raises(ConfigError, match="seed"):
        list(demo.run_demo(tmp_path / "a.wav", minutes=1, seed=-1))
    (tmp_path / "kept.wav").write_bytes(b"mine")
    with pytest.raises(AudioError, match="overwrite"):
        list(demo.run_demo(tmp_path / "kept.wav", minutes=1, seed=0))
    assert [path.name for path in tmp_path.iterdir()] == ["kept.wav"]
