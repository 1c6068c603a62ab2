"""Splits that are silent, or nearly so, on which no score says anything."""

import numpy as np
import pytest
from recordings import RATE, noise, write

from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.preparation import prepare


@pytest.fixture
def made(tmp_path):
    """made(valid, test): the report of a data folder with noise to train on."""

    def make(valid, test, **settings):
        write(tmp_path / "in/train.wav", noise(RATE))
        for name, samples in (("valid", valid), ("test", test)):
            write(tmp_path / "in" / f"{name}.wav", np.asarray(samples, np.int16))
            (tmp_path / f"{name}.txt").write_text(f"{name}*.wav\n")
        lists = {f"{name}_files": tmp_path / f"{name}.txt" for name in ("valid", "test")}
        return prepare(tmp_path / "in", tmp_path / "data", sample_rate=RATE, gain=1, **lists, **settings)

    return make


def test_a_silent_split_is_named_and_why_it_matters(made, tmp_path):
    report = made(np.zeros(4000), noise(4000, seed=1))
    assert [line for line in report.warnings if line.startswith("all of valid is silence, or nearly so (0.0%")]
    assert not [line for line in report.warnings if line.startswith("all of test")]
    assert "cannot tell which model is best" in report.summary()
    assert AudioData.open(tmp_path / "data").silent_splits() == {"valid": 0.0}


def test_three_samples_beside_a_silent_file_are_nearly_silence(made, tmp_path):
    write(tmp_path / "in/valid click.wav", np.array([9000, -9000, 9000], np.int16))
    report = made(np.zeros(4000), np.random.default_rng(0).integers(-3, 4, 4000))
    assert [line.split(" is ")[0] for line in report.warnings[-2:]] == ["all of valid", "all of test"]


def test_a_recording_with_long_pauses_is_sound(made):
    pauses = np.zeros(50 * RATE, np.int16)
    pauses[20 * RATE : 21 * RATE] = noise(RATE, seed=2)
    quiet = noise(RATE, seed=3) // 200
    assert made(pauses, quiet).warnings == ()


def test_words_of_one_length_that_are_padded_are_not_met_in_their_pauses_alone(made):
    """Every word has as many pieces as the next, and sound in the second one only."""
    word = np.zeros(16 * 1024, np.int16)
    word[1024:2048] = noise(1024, seed=4)
    assert made(np.tile(word, 1024), noise(4000, seed=1)).warnings == ()


def test_empty_splits_are_not_silent(tmp_path):
    write(tmp_path / "in/train.wav", noise(RATE))
    assert prepare(tmp_path / "in", tmp_path / "data", sample_rate=RATE, split=(1, 0, 0)).warnings == ()
