"""The command `publish`, and a model of the Hub in other commands."""

import json
import sys
from pathlib import Path

import pytest
from command_line import assert_one_line_error, make, run
from hub import Repo

from samplernn_fast.evaluation.listening.sources import named_systems
from samplernn_fast.serving.audition.checkpoints import Checkpoints
from samplernn_fast.serving.audition.favourites import Favourite, gone
from samplernn_fast.serving.audition.grid import default_folder

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_publish_to_the_hub_and_play_from_there(hub, trained, capsys):
    assert run("publish", trained, "--to", "me/strings", "--license", "mit", "--private", "--test") == 0
    shown = capsys.readouterr()
    assert shown.out.endswith("/me/strings\n") and hub.repos["me/strings"].private
    assert "| test split |" in hub.repos["me/strings"].files["README.md"].decode()
    assert make("hf:me/strings", "-o", "new.wav") == 0 and Path("new.wav").is_file()
    assert run("info", "hf:me/strings", "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert run("info", trained, "--json") == 0
    assert told["model_sha256"] == json.loads(capsys.readouterr().out)["model_sha256"]
    asked = len(hub.asked)
    assert make("hf:me/none", "-o", "none.wav") == 1
    assert "hf:me/none: no such model on the Hub" in assert_one_line_error(capsys) and len(hub.asked) > asked


def test_publish_refuses_in_one_line(trained, capsys):
    for args, reason in (
        (["--license", "mit"], "either --to, a repository of the Hub, or --out, a folder; got none"),
        (["--to", "a/b", "-o", "c", "--license", "mit"], "got both"),
        (["-o", "out"], "--license must say under which terms others may use the model"),
        (["--to", "album", "--license", "mit"], "a repository of the Hub must be named owner/name, got 'album'"),
        (["-o", "out", "--license", "mit", "--private"], "--private is for a repository of the Hub"),
        (["-o", "out", "--license", "mit", "--data", "none", "--test"], "none: no such folder"),
    ):
        assert run("publish", trained, *args) in (1, 2)
        assert reason in assert_one_line_error(capsys)
    assert run("publish", "none", "-o", "out", "--license", "mit") == 1
    assert "none: no such run folder" in assert_one_line_error(capsys)
    assert not Path("out").exists()
    assert run("publish", trained, "-o", "out", "--license", "mit") == 0
    assert run("publish", trained, "-o", "out", "--license", "mit") == 1
    assert (
        "out/model.safetensors exists; choose another name, or replace it with --overwrite" in capsys.readouterr().err
    )


def test_a_folder_that_may_not_be_written_is_refused_before_torch_is_loaded(trained, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "samplernn_fast.publishing.repository", None)  # it loads torch
    Path("album").mkdir()
    Path("album/cover.jpg").touch()
    Path("given").mkdir()
    Path("given/config.json").touch()
    for folder, reason in (
        ("album", "album holds something else than a model (cover.jpg)"),
        ("given", "given/config.json exists; choose another name, or replace it with --overwrite"),
        (trained, "holds a training run, which is never overwritten"),
        ("album/cover.jpg", "folder must be a folder, and album/cover.jpg is none"),
    ):
        assert run("publish", trained, "-o", folder, "--license", "mit") in (1, 2)
        assert reason in assert_one_line_error(capsys)


def test_a_model_of_the_hub_stands_wherever_one_is_named(hub, trained, data_folder, capsys):
    hub.repos["me/tune"] = Repo(commits=[{"model.safetensors": (trained / "model.safetensors").read_bytes()}])
    train = "--batch-size 2 --seq-len 64 --max-steps 1 --device cpu".split()
    assert run("train", "--init-from", "hf:me/tune", "--data", data_folder, "--out", "on", *train) == 0
    assert run("evaluate", "hf:me/tune", "--data", data_folder) == 0
    assert run("radio", "hf:me/tune", "-o", "radio", "--duration", "0.05") == 0
    one, other = named_systems(("hf:me/tune@main", "second=hf:me/tune"))
    one.check()
    assert one.is_model() and (one.name, other.source) == ("tune", "hf:me/tune")
    (row,) = Checkpoints(["hf:me/tune"]).rows
    assert (row.model, row.source, row.problem) == ("hf:me/tune", "tune", "")
    assert gone([Favourite("a.wav", row.model, row.label, row.sha256, 1.0, 0, 1.0)]) == []
    assert default_folder("hf:me/tune").parent == default_folder("demo").parent
