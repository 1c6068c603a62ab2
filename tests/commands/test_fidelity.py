"""The command `fidelity`."""

import pytest
from command_line import assert_one_line_error, run, strict_json
from recordings import RATE, noise, write
from words import HERTZ, write_words

pytestmark = pytest.mark.usefixtures("elsewhere")

KEPT = ("--labels", "([a-z]+)_", "--classifier", "words.safetensors")


@pytest.fixture
def data(tmp_path):
    """A data folder of three words, in folders too, and generated ones of two kinds."""
    write_words(tmp_path / "recordings", 12)
    split = ("--split", 70, 0, 30, "--pad-seconds", 0.25, "--gain", 1)
    assert run("prepare", "recordings", "-o", "data", "--sample-rate", RATE, *split) == 0
    write_words(tmp_path / "good", 5, seed=1)
    write_words(tmp_path / "low", 8, {"low": HERTZ["low"]}, seed=2)
    return "data"


def test_rows_for_the_data_and_for_each_folder(data, tmp_path, capsys):
    capsys.readouterr()
    assert run("fidelity", "good", "one word=low", "--data", data, *KEPT, "--epochs", 10, "--json") == 0
    told = strict_json(capsys.readouterr().out)
    assert told["classifier"]["classes"] == ["high", "low", "middle"] and told["classifier"]["split"] == "test"
    assert told["classifier"]["low"] <= told["classifier"]["accuracy"] <= told["classifier"]["high"]
    rows = {row["name"]: row for row in told["rows"]}
    assert list(rows) == ["train", "test", "good", "one word"]
    assert [rows[name]["clips"] for name in ("good", "one word")] == [15, 8]
    assert rows["good"]["fid"] < rows["one word"]["fid"]
    assert rows["good"]["inception"] > rows["one word"]["inception"]

    # The classifier is used again, and says the same.
    before = (tmp_path / "words.safetensors").read_bytes()
    assert run("fidelity", "good", "one word=low", "--data", data, *KEPT, "--json") == 0
    shown = capsys.readouterr()
    assert strict_json(shown.out) == told and "training" not in shown.err
    assert (tmp_path / "words.safetensors").read_bytes() == before


def test_text_says_what_is_better_and_what_was_not_seen(data, tmp_path, capsys):
    write(tmp_path / "good/long.wav", noise(RATE))
    assert run("fidelity", "good", "--data", data, *KEPT, "--epochs", 1) == 0
    shown = capsys.readouterr().out
    assert "classifier: 3 classes, right in " in shown and "recordings of the test split" in shown
    assert "lower is better: FID, AM; higher: IS, mIS" in shown
    assert "good: 1 clips are longer than 0.25 s" in shown
    assert [line.split()[0] for line in shown.splitlines() if line.startswith(("train ", "test ", "good "))] == [
        "train",
        "test",
        "good",
    ]


def test_a_file_that_cannot_be_read_is_left_out_and_told(data, tmp_path, capsys):
    (tmp_path / "good/broken.wav").write_bytes(b"RIFF")
    assert run("fidelity", "good", "--data", data, *KEPT, "--epochs", 1) == 1
    shown = capsys.readouterr()
    assert "left out good/broken.wav" in shown.err and "1 of 16 files could not be read" in shown.err
    assert "good" in shown.out  # the others are scored all the same


def test_labels_are_folders_unless_a_pattern_is_given(tmp_path, capsys):
    for word, pitch in HERTZ.items():
        write_words(tmp_path / "recordings" / word, 4, {"x": pitch})
    assert run("prepare", "recordings", "-o", "data", "--sample-rate", RATE, "--split", 100, 0, 0) == 0
    capsys.readouterr()
    assert run("fidelity", "--data", "data", "--classifier", "c.safetensors", "--epochs", 1, "--json") == 0
    told = strict_json(capsys.readouterr().out)
    assert told["classifier"]["classes"] == ["high", "low", "middle"]
    assert told["classifier"]["split"] == "train" and [row["name"] for row in told["rows"]] == ["train"]


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("missing",), "missing: no such file or folder"),
        (("recordings/..", "recordings/.."), "two rows would be called"),
        (("train=good",), "two rows would be called 'train'"),
        (("=good",), "clips must be NAME=FOLDER"),
        (("good", "--labels", "("), "labels must be a regular expression"),
        (("good", "--labels", "x"), "labels must have one group"),
        (("good", "--labels", "(george)"), "has no label by the pattern"),
        (("good", "--classifier", "no/c.safetensors"), "classifier: no is no folder"),
        (("good", "--epochs", "0"), "epochs must be"),
        (("good", "--data", "good"), "good: no data folder"),
        (("good", "--device", "tpu"), "device"),
    ],
)
def test_mistakes_are_refused_in_one_line(data, capsys, args, reason):
    capsys.readouterr()
    flags = dict(zip(("--data", "--labels", "--classifier"), (data, KEPT[1], KEPT[3]), strict=True))
    rest = [word for flag, value in flags.items() if flag not in args for word in (flag, value)]
    assert run("fidelity", *args, *rest) in (1, 2)
    assert reason in assert_one_line_error(capsys)


def test_a_folder_without_audio_and_one_clip_are_refused(data, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "one/a.wav", noise(RATE // 4))
    capsys.readouterr()
    assert run("fidelity", "empty", "--data", data, *KEPT) == 1
    assert "empty: holds no audio" in assert_one_line_error(capsys)
    assert run("fidelity", "one", "--data", data, *KEPT, "--epochs", 1) == 1
    assert "one: at least 2 audio files are needed, got 1" in capsys.readouterr().err


def test_a_classifier_of_other_data_is_refused(data, tmp_path, capsys):
    assert run("fidelity", "--data", data, *KEPT, "--epochs", 1) == 0
    assert run("prepare", "good", "-o", "other", "--sample-rate", RATE, "--split", 70, 0, 30) == 0
    capsys.readouterr()
    assert run("fidelity", "--data", "other", *KEPT) == 2
    assert "words.safetensors was trained on another data folder" in capsys.readouterr().err
