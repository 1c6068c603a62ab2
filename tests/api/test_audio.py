"""`Audio` in a session or a notebook, and what generation takes: names of models, texts, audio as a prompt."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile
import torch
from cases import make_model
from small import CONFIG, RATE, assert_one_line, make

import samplernn_fast as srnn
from samplernn_fast.audio import reading
from samplernn_fast.engine.pace import Pace
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.models.places import BUNDLED


def test_a_session_shows_audio_in_one_short_line(model):
    made = make(model, num_samples=2, duration=0.5)
    assert repr(made) == "Audio(2 x 0.50 s at 8000 Hz, seed 1)"
    assert made.seconds == 0.5


def test_a_notebook_plays_audio(model):
    made = make(model, num_samples=2, duration=0.1)
    wavs = re.findall(r'<audio controls[^>]* src="data:audio/wav;base64,([^"]*)"></audio>', made._repr_html_())
    for wav, row in zip(wavs, made.samples, strict=True):
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(wav)))
        assert rate == RATE and np.array_equal(samples, np.round(row * 32768) / 32768)


def test_a_notebook_is_not_filled_with_hours(model):
    made = make(model, duration=0.1)
    hour = srnn.Audio(np.zeros((2, 31 * RATE), np.float32), np.zeros((2, 31 * RATE), np.int64), RATE)
    assert "save(path)" in hour._repr_html_() and len(hour._repr_html_()) < 1000
    empty = srnn.Audio(made.samples[:, :0], made.tokens[:, :0], RATE)
    assert empty._repr_html_() == "<div>Audio(1 x 0.00 s at 8000 Hz)</div>"


def test_an_engine_takes_the_name_of_a_model(model, run_folder, monkeypatch):
    expected = make(model).tokens
    for name in (run_folder, str(run_folder), run_folder / "model.safetensors"):
        assert np.array_equal(make(srnn.Engine(name)).tokens, expected)
    monkeypatch.setitem(BUNDLED, "demo", run_folder / "model.safetensors")
    assert np.array_equal(make(srnn.Engine("demo")).tokens, expected)


@pytest.mark.parametrize("take", [srnn.Engine, srnn.generate, srnn.load])
@pytest.mark.parametrize("model", [3, None, {"weights": 1}, torch.nn.Linear(1, 1)])
def test_what_is_no_model_is_told_what_to_give(take, model):
    with pytest.raises(ConfigError, match="a model must be a run folder, ") as raised:
        take(model)
    assert_one_line(raised)


def test_audio_goes_on_as_it_would_have(model, tmp_path):
    whole = make(model, num_samples=2, duration=0.1)
    begun = make(model, num_samples=2, duration=0.06)
    rest = make(model, num_samples=2, duration=0.04, prompt=begun)
    assert np.array_equal(np.concatenate((begun.tokens, rest.tokens), axis=1), whole.tokens)
    one = make(model, duration=0.06)
    both = make(model, num_samples=2, prompt=one)  # every stream hears the one
    assert np.array_equal(both.tokens[0], make(model, prompt=one).tokens[0])
    with pytest.raises(ConfigError, match="one row, or one for each of 3 streams"):
        make(model, num_samples=3, prompt=begun)


def test_audio_of_another_model_is_heard_as_audio(model):
    pytest.importorskip("soxr", reason="soxr, which changes sample rates, is not installed")
    other = make(make_model(CONFIG, seed=1, dtype=torch.float32), duration=0.1)
    expected = make(model, prompt=other.samples[0], prompt_sample_rate=RATE)
    assert np.array_equal(make(model, prompt=other).tokens, expected.tokens)
    faster = srnn.Audio(other.samples, other.tokens, 2 * RATE)
    expected = make(model, prompt=other.samples[0], prompt_sample_rate=2 * RATE)
    assert np.array_equal(make(model, prompt=faster).tokens, expected.tokens)
    with pytest.raises(ConfigError, match="prompt_sample_rate must be the prompt's own rate, 16000 Hz, got 8000"):
        make(model, prompt=faster, prompt_sample_rate=RATE)


def test_a_temperature_is_a_text_in_python_too(model):
    assert np.array_equal(make(model, temperature="0.7").tokens, make(model, temperature=0.7).tokens)
    curve = make(model, temperature="0:0.2,0.01:1.5")
    assert curve.info["temperature"] == "0.0:0.2,0.01:1.5"
    assert not np.array_equal(curve.tokens, make(model, temperature=0.2).tokens)
    stream = srnn.stream(model)
    stream.state.temperature = "0:0.2,0.01:1.5"
    for text in ("hot", "0:1,2", "1:2:3", "0:nan", ""):
        with pytest.raises(ConfigError, match="temperature must be") as raised:
            make(model, temperature=text)
        assert_one_line(raised)


def test_a_curve_may_fall_to_zero(model):
    made = make(model, temperature="0:1,0.01:0")
    greedy = make(model, temperature="0:1,0.01:0", seed=2)
    assert made.tokens.shape == greedy.tokens.shape == (1, 160)


def test_no_seed_draws_one_and_tells_it(model):
    first, second = make(model, seed=None), make(model, seed=None)
    assert first.info["seed"] != second.info["seed"] and not np.array_equal(first.tokens, second.tokens)
    assert np.array_equal(make(model, seed=first.info["seed"]).tokens, first.tokens)


def test_a_stream_saves_what_generate_makes(model, tmp_path, monkeypatch):
    monkeypatch.setattr(Pace, "samples", lambda self, streams: 100)
    stream = srnn.stream(model, num_samples=2, seed=1)
    saved = stream.save(tmp_path / "x.wav", 0.1)
    assert [path.name for path in saved.paths] == ["x-00.wav", "x-01.wav"] and saved.seconds == 0.1
    kept = make(model, num_samples=2, duration=0.1).save(tmp_path / "y.wav")
    assert [path.read_bytes() for path in saved.paths] == [path.read_bytes() for path in kept]
    with pytest.raises(AudioError, match=r"x-00\.wav exists; choose another name, or replace it with overwrite=True"):
        stream.save(tmp_path / "x.wav", 0.1)
    later = stream.save(tmp_path / "x.wav", 0.1, overwrite=True)
    whole = make(model, num_samples=2, duration=0.2).samples
    assert np.array_equal(reading.read(later.paths[1])[0], np.round(whole[1, 800:] * 32768) / 32768)
    assert stream.save(tmp_path / "z.wav", 0.1, should_stop=lambda: True).paths == []
    assert not list(tmp_path.glob("z*")) and not list(tmp_path.glob(".*"))
