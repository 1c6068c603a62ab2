"""`Audio.save`: formats, the metadata that makes a piece again, and files that are in the way."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile
import torch
from cases import make_model
from small import CONFIG, RATE, assert_one_line, make

import samplernn_fast as srnn
from samplernn_fast.audio import quantize, reading
from samplernn_fast.engine.temperature import schedule
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.models.stored.arrays import describe


def comment_of(path):
    with soundfile.SoundFile(path) as file:
        return json.loads(file.comment)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_a_file_says_how_to_make_its_tokens_again(engine, run_folder, tmp_path, suffix):
    settings = {"temperature": [0.7, 1.2], "top_k": 50, "top_p": 0.98, "first_stream": 3, "num_samples": 2}
    made = make(engine, duration=0.1, seed=2**63 + 5, **settings)
    paths = made.save(tmp_path / f"piece{suffix}")
    assert [path.name for path in paths] == [f"piece-03{suffix}", f"piece-04{suffix}"]
    for row, path in enumerate(paths):
        told = comment_of(path)
        assert told["model_sha256"] == describe(run_folder)["model_sha256"]
        again = srnn.generate(
            run_folder,
            duration=0.1,
            seed=told["seed"],
            first_stream=told["streams"][0],
            temperature=told["temperature"],
            top_k=told["top_k"],
            top_p=told["top_p"],
            backend=told["backend"],
            dtype=told["dtype"],
            device=told["device"],
        )
        assert np.array_equal(again.tokens[0], made.tokens[row])


def test_wav_and_flac_hold_the_very_levels(tmp_path):
    config = dataclasses.replace(CONFIG, quantization="linear")
    made = make(make_model(config, dtype=torch.float32))
    for suffix in (".wav", ".flac"):
        [path] = made.save(tmp_path / f"out{suffix}")
        samples, rate = reading.read(path)
        assert rate == RATE
        assert np.array_equal(quantize.for_config(config).encode(samples), made.tokens[0])


def test_a_curve_of_temperature_is_told_in_words_that_make_it_again(model, tmp_path):
    made = make(model, temperature=schedule([(0, 0.2), (0.01, 1.5)]))
    [path] = made.save(tmp_path / "out.wav")
    told = comment_of(path)["temperature"]
    assert told == "0.0:0.2,0.01:1.5"
    again = make(model, temperature=told)
    assert np.array_equal(again.tokens, made.tokens)
    assert make(model, temperature=lambda seconds: 1.0).info["temperature"] == "function"
    long = make(model, temperature=schedule([(i / 7, 1 + 1 / (i + 3)) for i in range(300)]))
    assert len(long.save(tmp_path / "long.wav")) == 1  # the comment of a WAV has little room


def test_the_same_audio_is_the_same_file(model, tmp_path):
    for suffix in (".wav", ".flac"):
        first, second = (make(model).save(tmp_path / f"{name}{suffix}")[0] for name in "ab")
        assert first.read_bytes() == second.read_bytes()


def test_saving_replaces_nothing_unasked(model, tmp_path):
    pair = make(model, num_samples=2)
    kept = tmp_path / "out-01.wav"
    kept.write_bytes(b"mine")
    with pytest.raises(AudioError, match=r"out-01\.wav exists") as raised:
        pair.save(tmp_path / "out.wav")
    assert_one_line(raised)
    assert kept.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [kept]  # not even out-00.wav, which is in nobody's way
    paths = pair.save(str(tmp_path / "out.wav"), overwrite=True)
    assert [path.name for path in paths] == ["out-00.wav", "out-01.wav"]
    assert reading.read(kept)[0].shape == (160,)

    [single] = make(model).save(tmp_path / "one.flac")
    before = single.read_bytes()
    with pytest.raises(AudioError, match="exists"):
        make(model, seed=2).save(single)
    assert single.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "kind"), [("out.xyz", ConfigError), ("out", ConfigError), ("missing-folder/out.wav", AudioError)]
)
def test_places_that_cannot_be_written(model, tmp_path, name, kind):
    with pytest.raises(kind, match="out") as raised:
        make(model).save(tmp_path / name)
    assert_one_line(raised)
    assert list(tmp_path.iterdir()) == []
