"""An evaluation in shares gives the result of one process, bit for bit."""

import json
import os
from pathlib import Path

import pytest
from command_line import run

pytestmark = pytest.mark.usefixtures("elsewhere")

FLAGS = ("--split", "train", "--batch-size", 2)


@pytest.fixture
def words(trained, data_folder):
    return ("evaluate", trained, "--data", data_folder, *FLAGS)


def test_shares_give_the_result_of_one_process(words, capsys):
    assert run(*words, "-o", "whole.json", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("whole.json").read_text())
    for index in (2, 0):
        assert run(*words, "-o", "shared.json", "--num-shards", 3, "--shard-index", index) == 0
        assert "are missing; samplernn-fast jobs status shared.job" in capsys.readouterr().out
    assert not Path("shared.json").exists()
    assert run(*words, "-o", "shared.json", "--num-shards", 3, "--shard-index", 1) == 0
    assert "train NLL" in capsys.readouterr().out
    assert Path("shared.json").read_bytes() == Path("whole.json").read_bytes()

    units = sorted(Path("shared.job/parts").iterdir())
    assert len(units) >= 3
    os.truncate(units[0], 20)
    Path("shared.json").unlink()
    assert run("jobs", "merge", "shared.json") == 1
    assert "1 of" in capsys.readouterr().err
    assert run(*words, "-o", "shared.json", "--num-shards", 1) == 0
    assert "is moved to" in capsys.readouterr().err
    assert Path("shared.json").read_bytes() == Path("whole.json").read_bytes()
    Path("shared.json").unlink()
    assert run("jobs", "merge", "shared.json") == 0
    assert Path("shared.json").read_bytes() == Path("whole.json").read_bytes()


def test_what_cannot_be_shared(words, data_folder, trained, capsys):
    assert run(*words, "--num-shards", 1) == 2
    assert "--out must name the file of the result" in capsys.readouterr().err
    assert run(*words, "-o", "scores.json", "--num-shards", 1) == 0
    assert run(*words[:-1], 3, "-o", "scores.json", "--num-shards", 1) == 2
    assert "batch_size is 2 there and 3 here" in capsys.readouterr().err.replace("--batch-size", "batch_size")


def test_an_array_of_jobs_may_evaluate_one_model_in_each(words, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(*words) == 0
    assert "train NLL" in capsys.readouterr().out


def test_merge_writes_the_file_that_was_named(words, capsys):
    Path("scores.json").write_text("mine")
    assert run(*words, "-o", "scores.txt", "--num-shards", 1) == 0
    assert run("jobs", "merge", "scores.txt") == 0
    assert Path("scores.json").read_text() == "mine"


def test_what_does_not_fit_leaves_no_job(data_folder, capsys):
    assert run("evaluate", "demo-piano", "--data", data_folder, "-o", "scores.json", "--num-shards", 1) == 1
    assert "Hz" in capsys.readouterr().err and not list(Path().iterdir())


def test_a_mixture_has_two_sums(data_folder, capsys):
    flags = (
        "--dim 16 --frame-sizes 2 2 4 --batch-size 4 --seq-len 64 --device cpu --max-steps 2 --sample-every 0".split()
    )
    assert run("train", "samplernn-gmm", "--data", data_folder, "--out", "mixture", *flags) == 0
    words = ("evaluate", "mixture", "--data", data_folder, *FLAGS)
    assert run(*words, "-o", "whole.json") == 0
    assert run(*words, "-o", "shared.json", "--num-shards", 1) == 0
    assert Path("shared.json").read_bytes() == Path("whole.json").read_bytes()
    assert json.loads(Path("shared.json").read_text())["nll_nats"]
