"""The `reproduce` command: what it prints, and what it refuses in one line before any work."""

import subprocess
import sys

import pytest
from command_line import ALL_IN_ONE, TINY, assert_one_line_error, run, subprocess_of

from samplernn_fast.commands.experiments.command import EXPERIMENTS


def refused(capsys, status, *words):
    """The one line in which `reproduce` is refused."""
    assert run("reproduce", *words) == status
    return assert_one_line_error(capsys)


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_alone_it_lists_the_experiments(words, capsys):
    assert run("reproduce", *words) == (0 if words else 2)
    shown = capsys.readouterr()
    text = shown.out if words else shown.err
    assert all(f"  {name} " in text for name in EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_help_of_an_experiment_names_it(name, capsys):
    assert run("reproduce", name, "--help") == 0
    assert capsys.readouterr().out.startswith(f"usage: samplernn-fast reproduce {name} [-h]")
    assert f"ee samplernn-fast reproduce {name} --help" in refused(capsys, 2, name, "--seeds", "x")


def test_a_word_that_is_no_experiment_gets_a_guess(capsys):
    assert "did you mean table1?" in refused(capsys, 2, "tabel1", "--data", "d", "--out", "o")


TABLE = ("table1", "--data", "{data}", "--out", "{out}")
MEMORY = ("memory", "--voices", "a", "b", "--out", "{out}")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (TABLE, "must be given once, by minutes or by steps"),
        ((*TABLE, "--steps", "1", "--minutes", "1"), "must be given once"),
        ((*TABLE, "--steps", "0"), "--steps must be 1 to"),
        ((*TABLE, "--minutes", "inf"), "--minutes must be above 0"),
        ((*TABLE, "--steps", "1", "--device", "tpu"), "--device must be auto"),
        (
            (*TABLE, "--steps", "1", "--shard-index", "2", "--num-shards", "2"),
            "--shard-index must be 0 to --num-shards - 1, got 2 of 2",
        ),
        (("figure2", "--data", "{data}", "--out", "{out}"), "paper-2tier/seed0 is not there; train it first"),
        (MEMORY, "--data must be given, to train two models on, or else models"),
        ((*MEMORY, "--models", "none"), "none: no such run folder"),
        (
            (*MEMORY, "--data", "{data}", "--silence", "-1"),
            "--silence must be",
        ),
        ((*MEMORY, "--data", "{data}", "--steps", "1", "--minutes", "1"), "must be given once"),
    ],
)
def test_what_cannot_be_meant_is_one_line(words, what, data_folder, tmp_path, capsys):
    out = tmp_path / "out"
    status = 1 if "no such" in what else 2
    assert what in refused(capsys, status, *(word.format(data=data_folder, out=out) for word in words))
    assert not out.exists()


SEARCH = ("laptop", "--data", "{data}", "--out", "{out}")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("labtop",), "did you mean laptop?"),
        ((*SEARCH, "--range", "lr=1e-3:1e-2"), "must be given once, by minutes or by steps"),
        ((*SEARCH, "--range", "lr=1e-2:1e-3", "--steps", "1"), "--range must be LOW:HIGH"),
        ((*SEARCH, "--range", "learning=1:2", "--steps", "1"), "laptop has no setting 'learning'"),
        ((*SEARCH, "--range", "lr=1:2", "lr=3:4", "--steps", "1"), "--range must name each setting once"),
        ((*SEARCH, "--range", "q-levels=64,256", "--steps", "1"), "whose runs compare by bits"),
        ((*SEARCH, "--range", "lr=1:2", "--steps", "1", "--", "--max-steps", "5"), "--max-steps belongs to the search"),
        ((*SEARCH, "--range", "lr=1:2", "--steps", "1", "--", "--dim", "0"), "--dim must be 1 to"),
        ((*SEARCH, "--range", "lr=1:2", "--steps", "1", "--", "--lr=3"), "lr is set for all trials behind the --"),
        ((*SEARCH, "--range", "lr=1:2", "--steps", "1", "--", "--device", "tpu"), "--device must be auto"),
    ],
)
def test_a_search_that_cannot_be_meant_is_one_line(words, what, data_folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("search", *(word.format(data=data_folder, out=out) for word in words)) == 2
    assert what in assert_one_line_error(capsys) and not out.exists()


def test_a_search_prints_what_to_train(data_folder, tmp_path, capsys):
    words = ("laptop", "--data", data_folder, "--out", tmp_path / "out", "--steps", "1", "--trials", "2")
    assert run("search", *words, "--range", "lr=1e-3:1e-2:log", "rnn=gru,lstm", "--", *TINY.split()) == 0
    shown = capsys.readouterr().out
    assert (
        shown.count("samplernn-fast train laptop --dim 16") == 2
        and "| 1 |" in shown
        and "| 2 |" in shown
        and "--out best-2" in shown
    )
    assert (tmp_path / "out" / "search.md").is_file()


def test_voices_are_read_before_anything_is_trained(data_folder, tmp_path, capsys):
    pytest.importorskip("parselmouth")
    out = tmp_path / "out"
    words = ("memory", "--data", data_folder, "--out", out, "--steps", "1", "--voices", tmp_path / "none", tmp_path)
    assert "none" in refused(capsys, 1, *words) and not out.exists()


def test_refusals_come_before_torch(tmp_path):
    lines = [
        "reproduce table9 --data d --out o",
        "reproduce table1 --data d --out o",
        "reproduce table1 --data d --out o --steps 1 --device tpu",
        "reproduce figure2 --data d --out o",
        "reproduce memory --voices a b --out o --models none",
    ]
    done = subprocess.run([sys.executable, "-c", ALL_IN_ONE, *lines], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(lines) and not list(tmp_path.iterdir())


def test_a_table_is_printed_and_written(data_folder, tmp_path):
    words = ("table2", "--data", data_folder, "--out", tmp_path / "out", "--steps", "1")
    done = subprocess_of("reproduce", *words)
    assert done.returncode == 0, done.stderr
    assert b"RNN-GMM" in done.stdout and b"-2.782" in done.stdout
    page = (tmp_path / "out" / "table2.md").read_text()
    assert "Made by `samplernn-fast reproduce table2 --data" in page
    again = subprocess_of("reproduce", *words)
    assert again.stdout == done.stdout and b"step 1" not in again.stderr
