"""samplernn_fast.generate, stream, load and Audio: the calls most users need."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
import soundfile
import torch
from cases import make_model
from small import CONFIG, RATE, assert_one_line, make

import samplernn_fast as srnn
from samplernn_fast.audio import quantize, reading, resampling, writing
from samplernn_fast.engine import pace
from samplernn_fast.engine.prompt import prompt_levels
from samplernn_fast.errors import AudioError, CheckpointError, ConfigError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.stored.arrays import describe


def test_audio_has_the_shape_and_range_it_promises(model):
    made = make(model, num_samples=3)
    assert made.samples.shape == made.tokens.shape == (3, 160)
    assert made.samples.dtype == np.float32 and made.tokens.dtype.kind == "i"
    assert made.sample_rate == RATE
    assert -1 <= made.samples.min() < 0 < made.samples.max() <= 1
    assert 0 <= made.tokens.min() and made.tokens.max() < CONFIG.q_levels
    assert np.array_equal(made.samples, quantize.for_config(CONFIG).decode(made.tokens))
    assert len({tuple(row) for row in made.tokens.tolist()}) == 3


def test_a_model_is_taken_in_every_form(model, run_folder):
    expected = make(model).tokens
    for form in (
        run_folder,
        str(run_folder),
        run_folder / "model.safetensors",
        srnn.Engine(model),
        srnn.load(run_folder),
    ):
        assert np.array_equal(make(form).tokens, expected)
    assert srnn.load(run_folder).config == CONFIG


def test_info_says_how_it_was_made(model, run_folder):
    settings = {"num_samples": 2, "first_stream": 5, "temperature": 0.9, "top_k": 30, "top_p": 0.95, "device": "cpu"}
    made = make(run_folder, duration=0.1, backend="reference", dtype="float64", **settings)
    info = made.info
    assert info["streams"] == [5, 6] and info["seed"] == 1
    assert (info["temperature"], info["top_k"], info["top_p"]) == (0.9, 30, 0.95)
    assert (info["backend"], info["dtype"], info["device"]) == ("reference", "float64", "cpu")
    assert info["made_by"] == f"samplernn_fast {srnn.__version__}"
    assert info["prompt_sha256"] is None
    seconds_of_audio = made.samples.shape[1] / RATE
    assert info["x_real_time"] == pytest.approx(seconds_of_audio / info["seconds"], rel=0.01)
    assert info["rtf"] == pytest.approx(info["seconds"] / seconds_of_audio, rel=0.01)
    assert info["samples_per_second"] == pytest.approx(made.tokens.size / info["seconds"], rel=0.01)
    assert json.loads(json.dumps(info)) == info
    off = make(model).info
    assert (off["top_k"], off["top_p"]) == (None, None)


def test_one_hash_names_a_model_everywhere(model, run_folder, tmp_path):
    elsewhere = tmp_path / "copy.safetensors"
    checkpoint.save_model(elsewhere, model, {"other": "history"})
    hashes = {
        make(model).info["model_sha256"],
        make(run_folder).info["model_sha256"],
        describe(run_folder)["model_sha256"],
        describe(elsewhere)["model_sha256"],
        srnn.Engine(model).model_sha256,
    }
    assert len(hashes) == 1
    assert make_model(CONFIG, seed=1, dtype=torch.float32).config == CONFIG
    assert srnn.Engine(make_model(CONFIG, seed=1, dtype=torch.float32)).model_sha256 not in hashes


def test_rows_do_not_depend_on_how_many_there_are(engine):
    together = make(engine, num_samples=4).tokens
    for stream in range(4):
        assert np.array_equal(make(engine, first_stream=stream).tokens[0], together[stream])
    assert np.array_equal(make(engine, num_samples=2, first_stream=2).tokens, together[2:])


def test_a_longer_piece_begins_with_the_shorter_one(model):
    assert np.array_equal(make(model, duration=0.05).tokens[:, :160], make(model).tokens)
    assert make(model, duration=1 / RATE).tokens.shape == (1, 1)
    assert make(model, duration=1e-9).tokens.shape == (1, 1)


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf"), 86401])
def test_impossible_durations_are_refused(model, duration):
    with pytest.raises(ConfigError, match="duration must be above 0 and at most 86400 seconds") as raised:
        make(model, duration=duration)
    assert_one_line(raised)


@pytest.mark.parametrize("block_seconds", [0.001, 0.0137, 1.0])
def test_a_stream_is_what_generate_makes(model, block_seconds):
    expected = make(model, num_samples=2, duration=0.1)
    blocks, heard = [], 0
    for block in srnn.stream(model, num_samples=2, seed=1, block_seconds=block_seconds):
        assert block.dtype == np.float32 and block.shape == (2, round(block_seconds * RATE))
        blocks.append(block)
        heard += block.shape[1]
        if heard >= 800:
            break
    assert np.array_equal(np.concatenate(blocks, axis=1)[:, :800], expected.samples)


def test_a_stream_can_be_put_down_and_taken_up(model, run_folder):
    first = srnn.stream(model, seed=3, block_seconds=0.005)
    next(first)
    saved = first.state_dict()
    expected = [next(first) for _ in range(3)]
    second = srnn.stream(run_folder, seed=77, block_seconds=0.005)
    second.load_state_dict(saved)
    assert all(np.array_equal(next(second), block) for block in expected)
    assert second.info()["seed"] == 3


def test_a_stream_changes_temperature_between_blocks(model):
    stream = srnn.stream(model, seed=1, block_seconds=0.01)
    steady = srnn.stream(model, seed=1, block_seconds=0.01)
    assert np.array_equal(next(stream), next(steady))
    stream.state.temperature = 0
    greedy = np.concatenate([next(stream) for _ in range(3)], axis=1)
    assert not np.array_equal(greedy, np.concatenate([next(steady) for _ in range(3)], axis=1))
    with pytest.raises(ConfigError):
        stream.state.temperature = -1


@pytest.mark.parametrize("block_seconds", [0, -1, float("nan"), 3601, None, "1"])
def test_impossible_blocks_are_refused(model, block_seconds):
    with pytest.raises(ConfigError, match="block_seconds must be above 0"):
        srnn.stream(model, block_seconds=block_seconds)


def test_stopping_keeps_what_is_done(model, monkeypatch):
    asked = []
    monkeypatch.setattr(pace.Pace, "samples", lambda self, streams: RATE // 4)
    stopped = make(model, duration=50, should_stop=lambda: len(asked) == 2 or asked.append(None))
    assert stopped.tokens.shape == (1, 2 * RATE // 4)
    assert np.array_equal(stopped.tokens, make(model, duration=0.5).tokens)
    assert stopped.info["x_real_time"] == pytest.approx(0.5 / stopped.info["seconds"], rel=0.01)
    nothing = make(model, num_samples=2, should_stop=lambda: True)
    assert nothing.tokens.shape == nothing.samples.shape == (2, 0)


def test_progress_goes_to_standard_error(model, monkeypatch, capsys):
    monkeypatch.setattr("samplernn_fast.terminal.is_watched", lambda: True)
    make(model, progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and "x real time" in shown.err and "s of audio" in shown.err
    make(model)
    assert capsys.readouterr() == ("", "")


def test_the_models_own_rate_is_needed(model):
    timeless = make_model(dataclasses.replace(CONFIG, sample_rate=0), dtype=torch.float32)
    with pytest.raises(ConfigError, match="no sample rate"):
        make(timeless)


def sines(seconds, rate, channels=1):
    t = np.arange(int(seconds * rate))[:, None] / rate
    return (0.5 * np.sin(2 * np.pi * (200 + 100 * np.arange(channels)) * t)).astype(np.float32)


def test_a_prompt_file_of_another_rate_and_two_channels(model, tmp_path):
    pytest.importorskip("soxr", reason="soxr, which changes sample rates, is not installed")
    path = tmp_path / "prompt.wav"
    writing.write(path, sines(0.05, 22050, channels=2), 22050)
    made = make(model, prompt=path)
    samples, _ = reading.read(path, sample_rate=RATE)
    assert 390 < len(samples) < 410
    assert np.array_equal(made.tokens, make(model, prompt=samples).tokens)
    assert not np.array_equal(made.tokens, make(model).tokens)
    assert made.tokens.shape == (1, 160)  # what follows the prompt, not the prompt
    assert len(made.info["prompt_sha256"]) == 64
    mono, _ = reading.read(path)
    resampled = resampling.resample(mono, 22050, RATE)
    assert np.array_equal(
        make(model, prompt=mono, prompt_sample_rate=22050).tokens, make(model, prompt=resampled).tokens
    )
    pair = make(model, num_samples=2, prompt=np.stack([mono, mono]), prompt_sample_rate=22050)
    assert np.array_equal(pair.tokens[0], make(model, prompt=resampled).tokens[0])


def test_a_prompt_gets_the_gain_and_the_16_bits_of_the_training_data():
    samples = sines(0.1, RATE)[:, 0]
    fine = dataclasses.replace(CONFIG, quantization="linear", q_levels=65536)
    assert np.array_equal(prompt_levels(fine, samples), 32768 + np.rint(samples * 0.5 * 32768))
    pcm = np.rint(samples * 0.5 * 32768).astype(int)
    table = quantize.for_config(CONFIG).lut_int16()
    assert np.array_equal(prompt_levels(CONFIG, samples), table[pcm + 32768])
    loud = dataclasses.replace(CONFIG, gain=1.0)
    assert not np.array_equal(prompt_levels(loud, samples), prompt_levels(CONFIG, samples))


def test_prompts_shorter_than_a_frame(model):
    for length in (1, 3):
        prompt = np.full(length, 0.9, np.float32)
        made = make(model, prompt=prompt)
        assert made.tokens.shape == (1, 160)
        engine = srnn.Engine(model)
        state = engine.init_state(1, seed=1)
        engine.run(state, length, forced=prompt_levels(CONFIG, prompt)[None])
        assert np.array_equal(engine.run(state, 160), made.tokens)


def test_a_prompt_for_each_stream(engine):
    prompts = np.stack([sines(0.01, RATE)[:, 0], np.zeros(80, np.float32)])
    made = make(engine, num_samples=2, prompt=prompts)
    for stream in range(2):
        alone = make(engine, prompt=prompts[stream], first_stream=stream)
        assert np.array_equal(alone.tokens[0], made.tokens[stream])


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        (np.array([0, np.nan], np.float32), AudioError, "NaN or infinite"),
        (np.array([0, 3], np.int16), ConfigError, "prompt must be float samples"),
        (np.zeros((1, 1, 4), np.float32), ConfigError, "prompt must be float samples"),
        (np.float32(0), ConfigError, "prompt must be float samples"),
        (np.zeros(0, np.float32), ConfigError, r"prompt must have samples, got none \(0,\); leave it out"),
        (np.zeros((2, 0), np.float32), ConfigError, r"prompt must have samples, got none \(2, 0\); leave it out"),
        (np.zeros((2, 4), np.float32), ConfigError, r"prompt must have one row, got the shape \(2, 4\)"),
    ],
    ids=["nan", "integers", "3-d", "scalar", "empty", "empty rows", "too many rows"],
)
def test_prompts_that_cannot_be_used(model, prompt, error, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no cast may grumble before the error
        with pytest.raises(error, match=message) as raised:
            make(model, prompt=prompt)
    assert_one_line(raised)


def test_prompt_files_that_cannot_be_used(model, tmp_path):
    broken = tmp_path / "nan.wav"
    soundfile.write(broken, np.array([0, np.nan, 0], np.float32), RATE, subtype="FLOAT")
    text = tmp_path / "text.wav"
    text.write_text("not audio")
    for path in (broken, text, tmp_path / "missing.wav", tmp_path):
        with pytest.raises(AudioError, match=str(path)) as raised:
            make(model, prompt=path)
        assert_one_line(raised)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"temperature": -1}, ConfigError, "temperature must be 0 or between"),
        ({"temperature": float("nan")}, ConfigError, "temperature must be 0 or between"),
        ({"temperature": [1.0, 1.0]}, ConfigError, r"temperature must be one number, got an array"),
        ({"seed": -1}, ConfigError, r"seed must be a whole number from 0 to 2\^64 - 1, got -1$"),
        ({"seed": "random"}, ConfigError, "got 'random'; None draws one in generate and stream"),
        ({"top_k": 0}, ConfigError, "top_k must be"),
        ({"top_p": 0}, ConfigError, "top_p must be"),
        ({"num_samples": 0}, ConfigError, "num_samples must be"),
        ({"num_samples": 2.0}, ConfigError, "num_samples must be a whole number"),
        ({"num_samples": True}, ConfigError, "num_samples must be 1 to 4294967296, got True, which is no number"),
        ({"num_samples": np.True_}, ConfigError, "num_samples must be 1 to .*, got True, which is no number"),
        ({"num_samples": "2"}, ConfigError, "num_samples must be"),
        ({"first_stream": None}, ConfigError, "first_stream must be"),
        ({"backend": None}, ConfigError, "backend must be one of auto, .*got None"),
        ({"dtype": 5}, ConfigError, "dtype must be auto, .*got 5"),
        ({"device": None}, ConfigError, "device must be auto, .*got None"),
        ({"backend": "quantum"}, ConfigError, "backend must be one of auto, .*got 'quantum'"),
        ({"device": "abacus"}, ConfigError, "device must be"),
    ],
    ids=str,
)
def test_impossible_settings_are_one_line(model, settings, error, message):
    with pytest.raises(error, match=message) as raised:
        make(model, **settings)
    assert_one_line(raised)


def test_models_that_cannot_be_loaded(run_folder, tmp_path):
    whole = (run_folder / "model.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "folder").mkdir()
    for name in ("half.safetensors", "empty.safetensors", "folder", "missing"):
        with pytest.raises(CheckpointError, match=name) as raised:
            srnn.load(tmp_path / name)
        assert_one_line(raised)
