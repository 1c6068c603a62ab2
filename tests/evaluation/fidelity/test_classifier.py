"""The classifier of words: its spectrogram, its training, its file, and the scores that it gives to clips."""

import json
import math

import numpy as np
import pytest
import torch
from recordings import RATE, noise, write
from safetensors.torch import load_file, save_file
from words import HERTZ, write_words

from samplernn_fast.audio.finding import find_audio
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.preparation import prepare
from samplernn_fast.errors import AudioError, CheckpointError, ConfigError, DataError
from samplernn_fast.evaluation.fidelity.classifier import Classifier, amplitudes
from samplernn_fast.evaluation.fidelity.labels import FOLDER, classes_of, labels_of, read_pattern
from samplernn_fast.evaluation.fidelity.network import MEL_BANDS, WordNetwork, mel_bands, padded
from samplernn_fast.evaluation.fidelity.scores import Reader, Scorer
from samplernn_fast.evaluation.fidelity.training import train_classifier
from samplernn_fast.models.checkpoint import load_model
from samplernn_fast.models.stored.header import read_header


def test_a_sine_of_full_scale_has_0_db_in_its_band_and_silence_is_the_floor():
    network = WordNetwork(2, 8000, 4000)
    times = torch.arange(4000) / 8000
    sine, silence = torch.sin(2 * math.pi * 1000 * times), torch.zeros(4000)
    shown = network.spectrogram(torch.stack((sine, silence)))
    assert shown.shape[:2] == (2, MEL_BANDS)
    centres = mel_bands(8000, 256).argmax(dim=1) * 8000 / 256
    loudest = int(shown[0, :, 10].argmax())
    assert abs(centres[loudest] - 1000) < 100
    assert shown[0, loudest, 10].item() == pytest.approx(1, abs=0.07)  # of a scale where 45 dB are 1
    assert torch.all(shown[1] == -1)


@pytest.mark.parametrize(("rate", "window"), [(8000, 256), (16000, 512), (44100, 1024), (2000, 64)])
def test_every_band_hears_something_and_together_they_hear_all(rate, window):
    bands = mel_bands(rate, window)
    assert torch.all(bands.sum(dim=1) > 0) and torch.all(bands >= 0)
    frequencies = torch.arange(window // 2 + 1) * rate / window
    inside = (frequencies > 100) & (frequencies < 0.9 * rate / 2)
    assert torch.all(bands[:, inside].sum(dim=0) > 0)


def test_clips_are_cut_or_followed_by_silence():
    clips = padded([torch.ones(3), torch.ones(7)], 5)
    assert clips.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_labels_come_from_the_name_or_the_folder():
    def named(*paths):
        from samplernn_fast.data.manifest import Recording

        return [Recording(path, "train", 0, 1, "") for path in paths]

    assert labels_of(named("a/seven/1.wav", "two/x.wav"), read_pattern(FOLDER), "data") == ["seven", "two"]
    assert labels_of(named("7_george_0.wav"), read_pattern(r"(\d)_"), "data") == ["7"]
    with pytest.raises(DataError, match=r"the recording x\.wav has no label"):
        labels_of(named("x.wav"), read_pattern(FOLDER), "data")
    for text, reason in (("(", "regular expression"), ("x", "one group .* got 0"), ("(a)(b)", "got 2")):
        with pytest.raises(ConfigError, match=reason):
            read_pattern(text)


def test_the_words_of_a_data_folder_are_learnt(words, classifier):
    assert classifier.classes == ("high", "low", "middle")
    split, accuracy, total = Scorer(classifier, words).accuracy()
    assert (split, total) == ("test", len(words.recordings("test")))
    assert accuracy.value >= 0.95 and accuracy.low < accuracy.value


def test_data_is_near_data_and_other_sounds_are_far(words, classifier, tmp_path):
    scorer = Scorer(classifier, words)
    more = write_words(tmp_path / "more", 20, seed=1)
    one_word = write_words(tmp_path / "one", 60, {"low": HERTZ["low"]}, seed=2)
    for number in range(30):
        write(tmp_path / f"noise/{number}.wav", noise(RATE // 4, seed=number))
    rows = {row.name: row for row in scorer.splits()}
    for name, folder in (("more", more), ("one", one_word), ("noise", tmp_path / "noise")):
        rows[name] = scorer.files(name, find_audio(folder), Reader(classifier))
    near = max(rows[name].fid for name in ("train", "test", "more"))
    assert near < 0.1 * rows["one"].fid and near < 0.1 * rows["noise"].fid
    assert min(rows["train"].inception_score, rows["more"].inception_score) > 2.2 and rows["one"].inception_score < 1.2
    assert rows["train"].am_score < rows["more"].am_score + 0.05 < rows["one"].am_score
    assert rows["more"].fid < 20 * rows["more"].real_fid < rows["one"].fid
    assert rows["more"].shares == pytest.approx({"high": 1 / 3, "low": 1 / 3, "middle": 1 / 3}, abs=0.06)
    assert rows["one"].shares["low"] > 0.95 and rows["one"].clips == 60


def test_a_new_classifier_of_the_same_seed_says_the_same(words, labels):
    made = [train_classifier(words, labels, epochs=1, seed=seed).network.state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert not torch.equal(made[0]["output.weight"], made[2]["output.weight"])


def test_a_classifier_is_kept_in_a_file(words, labels, classifier, tmp_path):
    file = tmp_path / "words.safetensors"
    classifier.save(file)
    loaded = Classifier.load(file)
    clips = [amplitudes(words, one) for one in words.recordings("test")]
    assert np.array_equal(loaded.judge(clips).features, classifier.judge(clips).features)
    assert (loaded.classes, loaded.labels.pattern) == (classifier.classes, labels.pattern)
    loaded.check(file, words, labels)
    with pytest.raises(ConfigError, match="trained on labels"):
        loaded.check(file, words, read_pattern("(x)"))
    again = tmp_path / "other"
    prepare(write_words(tmp_path / "in", 4), again, sample_rate=RATE)
    with pytest.raises(ConfigError, match="trained on another data folder"):
        loaded.check(file, AudioData.open(again), labels)
    with pytest.raises(CheckpointError, match="holds a classifier of samplernn_fast, not a model"):
        load_model(file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"classes": ["one"]}, "fewer than two classes"),
        ({"classes": "low"}, "must be a list"),
        ({"classes": ["a", "b"]}, "must be"),
        ({"samples": 0}, "whole number"),
        ({"samples": 10**9}, "whole number"),
        ({"sample_rate": "fast"}, "whole number"),
        ({"labels": "("}, "regular expression"),
        ({"sample_rate": 500}, "whole number"),
        ({"epochs": 0}, "whole number"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(classifier, tmp_path, change, reason):
    file = tmp_path / "words.safetensors"
    classifier.save(file)
    header = read_header_of(file)
    header["info"] |= change
    save_file(load_file(file), file, metadata={"samplernn_fast": json.dumps(header)})
    with pytest.raises(CheckpointError, match=reason) as caught:
        Classifier.load(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"classes": ["high", "middle", "low"]}, "other classes"),
        ({"classes": ["high", "low", "low"]}, "other classes"),
        ({"sample_rate": 16000}, "another sample rate"),
    ],
)
def test_a_file_that_says_something_else_than_the_data_is_refused(words, labels, classifier, tmp_path, change, reason):
    file = tmp_path / "words.safetensors"
    classifier.save(file)
    header = read_header_of(file)
    header["info"] |= change
    save_file(load_file(file), file, metadata={"samplernn_fast": json.dumps(header)})
    with pytest.raises(ConfigError, match=reason):
        Classifier.load(file).check(file, words, labels)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("blocks.0.1.running_var", -1.0, "variance below 0"),
        ("output.weight", 3e38, "no usable numbers"),
        ("blocks.3.1.weight", 3e38, "no usable numbers"),
        ("output.bias", math.nan, "not finite"),
    ],
)
def test_weights_that_give_no_numbers_are_refused(words, classifier, tmp_path, name, value, reason):
    file = tmp_path / "words.safetensors"
    classifier.save(file)
    tensors = load_file(file)
    tensors[name] = torch.full_like(tensors[name], value)
    save_file(tensors, file, metadata={"samplernn_fast": json.dumps(read_header_of(file))})
    with pytest.raises(CheckpointError, match=reason):
        Classifier.load(file).judge(amplitudes(words, one) for one in words.recordings("test"))


def test_a_classifier_of_low_sample_rates_is_refused(tmp_path, labels):
    prepare(write_words(tmp_path / "in", 4), tmp_path / "data", sample_rate=500)
    with pytest.raises(DataError, match="needs 1000 Hz or more, got 500 Hz"):
        train_classifier(AudioData.open(tmp_path / "data"), labels)


def test_training_and_loading_leave_torchs_generator_alone(words, labels, classifier, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    classifier.save(tmp_path / "words.safetensors")
    Classifier.load(tmp_path / "words.safetensors")
    train_classifier(words, labels, epochs=1, seed=9)
    assert torch.equal(torch.get_rng_state(), before)


def read_header_of(file):
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return json.loads(opened.metadata()["samplernn_fast"])


def test_other_files_are_no_classifiers(trained, tmp_path):
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        Classifier.load(tmp_path / "text")
    with pytest.raises(CheckpointError, match="is a folder"):
        Classifier.load(tmp_path)
    with pytest.raises(CheckpointError, match="holds a model of samplernn_fast, not a classifier"):
        Classifier.load(trained / "model.safetensors")
    assert read_header(trained / "model.safetensors")["kind"] == "model"


def test_data_that_cannot_be_learnt_from_is_refused(words, tmp_path, labels):
    recordings = write_words(tmp_path / "in", 6)
    prepare(recordings, tmp_path / "joined", sample_rate=RATE, join=True)
    prepare(recordings, tmp_path / "alone", sample_rate=RATE, join=True, join_seconds=0.1)  # a word a medley
    for folder in ("joined", "alone"):
        with pytest.raises(DataError, match="recordings are joined"):
            classes_of(AudioData.open(tmp_path / folder), labels)
    with pytest.raises(DataError, match="2 to 1000 classes, got 1"):
        classes_of(words, read_pattern("(_)"))
    (tmp_path / "test.txt").write_text("high_*.wav\n")
    prepare(recordings, tmp_path / "apart", sample_rate=RATE, test_files=tmp_path / "test.txt")
    with pytest.raises(DataError, match="test split has recordings of 'high', and train has none"):
        classes_of(AudioData.open(tmp_path / "apart"), labels)


def test_files_that_cannot_be_read_are_named_and_long_ones_are_cut(words, classifier, tmp_path):
    folder = write_words(tmp_path / "in", 3)
    (folder / "broken.wav").write_bytes(b"RIFF")
    write(folder / "long.wav", noise(2 * RATE))
    said, done = [], []
    reader = Reader(classifier, 1.0, said.append, lambda: done.append(1))
    scores = Scorer(classifier, words).files("in", find_audio(folder), reader)
    assert (scores.clips, scores.longer, reader.unread, len(done)) == (10, 1, 1, 11)
    assert len(said) == 1 and "broken.wav" in said[0]


def test_a_set_none_of_which_can_be_read_is_refused(words, classifier, tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"RIFF")
    with pytest.raises(AudioError, match="broken: at least 2 clips are needed, got 0"):
        Scorer(classifier, words).files("broken", find_audio(tmp_path), Reader(classifier))


def test_clips_are_heard_as_loud_as_their_files_are(words, classifier, tmp_path):
    sound = noise(RATE // 10)
    write(tmp_path / "a.wav", sound)
    (read,) = Reader(classifier).clips([tmp_path / "a.wav"])
    assert read == pytest.approx(sound / 32768, abs=1e-6)
    (louder,) = Reader(classifier, 1.5).clips([tmp_path / "a.wav"])
    assert louder == pytest.approx(1.5 * sound / 32768, abs=1e-6)
