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
    write(tmp_path / "one/a.wav", noise(RATE // 4))
    write_words(tmp_path / "low", 8, {"low": HERTZ["low"]}, seed=2)
    return "data"


def test_rows_for_the_data_and_for_each_folder(data, tmp_path, capsys):
    capsys.readouterr()
    assert run("fidelity", "good", "one word=low", "--data", data, *KEPT, "--epochs", 10, "--json") == 0
    told = strict_json(capsys.readouterr().out)
    assert told["classifier"]["classes"] == ["high", "low", "middle"] and told["classifier"]["split"] == "test"
    assert told["classifier"]["accuracy_low"] <= told["classifier"]["accuracy"] <= told["classifier"]["accuracy_high"]
    rows = {row["name"]: row for row in told["rows"]}
    assert list(rows) == ["train", "test", "good", "one word"]
    assert [rows[name]["clips"] for name in ("good", "one word")] == [15, 8]
    assert rows["good"]["fid"] < rows["one word"]["fid"]
    assert rows["good"]["inception_score"] > rows["one word"]["inception_score"]
    assert [row["fid_to"] for row in told["rows"]] == ["halves", "train", "train", "train"]

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
    assert "recordings of the test split; 3: high, low, middle" in shown
    assert "lower is better: FID, AM; higher: IS" in shown
    assert "good: longer than 0.25 s, whose rest was not seen: 1 clips" in shown
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
        (("lr=0.1",), "0.1: no such file or folder"),
        (("one",), "one: at least 2 clips are needed, got 1"),
        (("missing",), "missing: no such file or folder"),
        (("recordings/..", "recordings/.."), "two rows would be called"),
        (("train=good",), "the row train is that of the data"),
        (("=good",), "a set of clips is FOLDER or NAME=FOLDER"),
        (("good", "--labels", "("), "labels must be a regular expression"),
        (("good", "--labels", "x"), "labels must have one group"),
        (("good", "--labels", "(george)"), "has no label by the pattern"),
        (("good", "--classifier", "good/low_0.wav/c.safetensors"), "cannot be written"),
        (("data2=data",), "data is a data folder, and no folder of clips"),
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


def test_a_folder_without_audio_is_refused(data, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    assert run("fidelity", "empty", "--data", data, *KEPT) == 1
    assert "empty: holds no audio" in assert_one_line_error(capsys)


def test_a_set_that_cannot_be_read_costs_no_other_its_row(data, tmp_path, capsys):
    for name in ("a.wav", "b.wav"):
        (tmp_path / "broken").mkdir(exist_ok=True)
        (tmp_path / "broken" / name).write_bytes(b"RIFF")
    capsys.readouterr()
    assert run("fidelity", "broken", "good", "--data", data, *KEPT, "--epochs", 1, "--json") == 1
    shown = capsys.readouterr()
    assert [row["name"] for row in strict_json(shown.out)["rows"]] == ["train", "test", "good"]
    assert "2 of 17 files could not be read" in shown.err and "broken: at least 2 clips are needed, got 0" in shown.err


def test_folders_may_have_an_equals_sign_and_rejected_clips_do_not_count(data, tmp_path, capsys):
    write_words(tmp_path / "lr=0.1", 4)
    write_words(tmp_path / "lr=0.1/rejected", 7)
    capsys.readouterr()
    assert run("fidelity", "lr=0.1", "--data", data, *KEPT, "--epochs", 1, "--json") == 0
    row = strict_json(capsys.readouterr().out)["rows"][-1]
    assert (row["name"], row["clips"]) == ("lr=0.1", 12)


def test_a_file_that_was_trained_otherwise_is_not_taken_quietly(data, capsys):
    assert run("fidelity", "--data", data, *KEPT, "--epochs", 1, "--seed", 3) == 0
    assert run("fidelity", "--data", data, *KEPT, "--epochs", 1, "--seed", 3) == 0
    for flags, reason in (
        (("--epochs", 2), "epochs: words.safetensors was trained with 1, got 2"),
        (("--seed", 4), "seed"),
    ):
        capsys.readouterr()
        assert run("fidelity", "--data", data, *KEPT, *flags) == 2
        assert reason in capsys.readouterr().err


def test_a_classifier_of_other_data_is_refused(data, tmp_path, capsys):
    assert run("fidelity", "--data", data, *KEPT, "--epochs", 1) == 0
    assert run("prepare", "good", "-o", "other", "--sample-rate", RATE, "--split", 70, 0, 30) == 0
    capsys.readouterr()
    assert run("fidelity", "--data", "other", *KEPT) == 2
    assert "words.safetensors was trained on another data folder" in capsys.readouterr().err
