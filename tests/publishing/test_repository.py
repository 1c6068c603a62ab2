"""Models in folders and on a stand-in for the Hub: sent, fetched, kept in the cache, refused."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hub import STRANGER, Repo, commit_hash
from small import assert_one_line, make

import samplernn_fast as srnn
from samplernn_fast import hub as hub_module
from samplernn_fast.errors import CheckpointError, ConfigError, MissingPackage
from samplernn_fast.models import checkpoint
from samplernn_fast.models.stored.header import read_header
from samplernn_fast.publishing.card import MARKER

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def offline(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return hub


def same(one, two):
    return checkpoint.model_sha256(one) == checkpoint.model_sha256(two)


def python_of(card):
    """The code that a card shows."""
    return re.search(r"```python\n(.*?)```", card, re.DOTALL)[1].replace("duration=10", "duration=0.05")


def test_a_folder_holds_a_model_and_what_its_card_says_plays_it(trained, monkeypatch):
    folder = srnn.save_pretrained(trained, "mine/album", license="mit", about="Plucked *strings*.")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert same(srnn.from_pretrained(folder), srnn.load(trained)) and same(srnn.load("mine/album"), srnn.load(trained))
    card = (folder / "README.md").read_text()
    assert "# album\n" in card and "\nPlucked *strings*.\n" in card
    known = json.loads((folder / "config.json").read_text())
    assert known["model"] == srnn.load(trained).config.to_dict() and known["library_name"] == "samplernn-fast"
    monkeypatch.chdir(folder)
    exec(python_of(card))
    assert soundfile.info("take.wav").frames == 400


def test_where_a_run_lay_is_not_told(trained, data_folder):
    srnn.save_pretrained(trained, "out", license="mit")
    content = Path("out/model.safetensors").read_bytes() + Path("out/README.md").read_bytes()
    assert str(trained.parent).encode() not in content and str(data_folder.parent).encode() not in content
    info = read_header(Path("out/model.safetensors"))["info"]
    assert info["data"] == data_folder.name and info["training"]["out"] == trained.name and info["step"] == 3
    srnn.save_pretrained(trained / "last.safetensors", "last", license="mit")
    header = read_header(Path("last/model.safetensors"))
    assert header["kind"] == "model" and "batches" not in header["info"]
    assert same(srnn.load("last"), srnn.load(trained / "last.safetensors"))


def test_weights_keep_their_type():
    srnn.save_pretrained("demo", "out", license="cc-by-sa-4.0", name="Digits")
    assert Path("out/model.safetensors").stat().st_size < 3_000_000  # as float32 they would have 5.7 MB
    assert np.array_equal(make("out").tokens, make("demo").tokens)
    assert "# Digits\n" in Path("out/README.md").read_text()


def test_nothing_is_lost_by_writing_to_a_folder(trained, model):
    srnn.save_pretrained(model, "out", license="mit")
    readme = Path("out/README.md")
    readme.write_text(readme.read_text() + "\nMy words.\n")
    with pytest.raises(CheckpointError, match=r"out/model.safetensors exists; .*overwrite=True"):
        srnn.save_pretrained(trained, "out", license="mit")
    assert same(srnn.load("out"), model)
    srnn.save_pretrained(trained, "out", license="mit", overwrite=True)
    assert same(srnn.load("out"), srnn.load(trained)) and readme.read_text().endswith("\n\nMy words.\n")
    Path("foreign").mkdir()
    Path("foreign/README.md").write_text("# A project\n")
    with pytest.raises(CheckpointError, match=r"README.md exists"):
        srnn.save_pretrained(model, "foreign", license="mit")
    readme.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="its text would be lost; move it away"):
        srnn.save_pretrained(model, "out", license="mit", overwrite=True)
    for place in (trained, trained / "log.csv"):
        with pytest.raises(ConfigError, match=r"training run, which is never overwritten|must be a folder"):
            srnn.save_pretrained(model, place, license="mit", overwrite=True)
    with pytest.raises(ConfigError, match="license must say under which terms"):
        srnn.save_pretrained(model, "new")
    with pytest.raises(ConfigError, match="model must be a AudioModel or text or a path, got 7"):
        srnn.save_pretrained(7, "new", license="mit")
    assert not Path("new").exists()


def test_a_folder_of_something_else_is_left_alone(model):
    Path("album").mkdir()
    for name in ("README.md", "song.wav"):
        Path("album", name).write_text("mine\n")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"album holds something else than a model \(song.wav\)"):
            srnn.save_pretrained(model, "album", license="mit", overwrite=overwrite)
    assert sorted(path.name for path in Path("album").iterdir()) == ["README.md", "song.wav"]
    Path("page/.git").mkdir(parents=True)
    for name in ("README.md", "LICENSE"):
        Path("page", name).write_text("mine\n")
    srnn.save_pretrained(model, "page", license="other", overwrite=True)
    Path("page/take.wav").write_text("what it sounds like")
    srnn.save_pretrained(model, "page", license="other", overwrite=True)
    assert Path("page/take.wav").exists() and Path("page/LICENSE").read_text() == "mine\n"


def test_a_model_goes_to_the_hub_and_comes_back(hub, trained):
    address = srnn.push_to_hub(trained, "me/strings", license="mit", private=True, message="First")
    assert address.endswith("/me/strings") and hub.repos["me/strings"].private
    assert set(hub.repos["me/strings"].files) == {"README.md", "config.json", "model.safetensors"}
    assert hub.repos["me/strings"].messages == ["First"]  # one commit for all of it
    assert same(srnn.from_pretrained("me/strings"), srnn.load(trained))
    assert any("resolve/main/config.json" in one for one in hub.asked)  # which is what the Hub counts as a download
    card = hub.repos["me/strings"].files["README.md"].decode()
    assert "samplernn-fast generate hf:me/strings -o new.wav" in card
    exec(python_of(card))
    assert soundfile.info("take.wav").frames == 400
    assert np.array_equal(make("hf:me/strings").tokens, make(trained).tokens)


def test_news_are_asked_for(hub, model, trained, monkeypatch):
    srnn.push_to_hub(model, "me/news", license="mit")
    assert same(srnn.from_pretrained("me/news"), model) and same(srnn.load("hf:me/news"), model)
    srnn.push_to_hub(trained, "me/news", license="mit")
    assert same(srnn.from_pretrained("me/news"), srnn.load(trained))
    hub.asked.clear()
    assert same(srnn.load("hf:me/news"), model) and not hub.asked  # within a minute a name stays the same model
    monkeypatch.setattr("samplernn_fast.hub._NEWS_SECONDS", 0.0)
    assert same(srnn.load("hf:me/news"), srnn.load(trained))


def test_words_of_others_stay_on_the_hub(hub, model):
    hub.repos["me/page"] = Repo(commits=[{"README.md": b"---\nlanguage: en\n---\n# By hand\n", "LICENSE": b"mine"}])
    for text in ("# By hand\n", "# By hand\n"):
        srnn.push_to_hub(model, "me/page", license="other")
        card = hub.repos["me/page"].files["README.md"].decode()
        assert card.endswith(f"{MARKER}\n\n{text}") and card.count("By hand") == 1 and "language: en\n" in card
    assert hub.repos["me/page"].files["LICENSE"] == b"mine"


def test_an_older_revision_is_fetched(hub, model, trained):
    srnn.push_to_hub(model, "me/two", license="mit")
    srnn.push_to_hub(trained, "me/two", license="mit")
    first = commit_hash(1)
    assert same(srnn.from_pretrained("me/two", revision=first), model)
    assert same(srnn.load(f"hf:me/two@{first}"), model)
    assert same(srnn.from_pretrained("me/two"), srnn.load(trained))
    Path("me/two").mkdir(parents=True)
    with pytest.raises(ConfigError, match="revision is one of a repository of the Hub, and me/two is a folder"):
        srnn.from_pretrained("me/two", revision=first)


REFUSED = {
    "me/none": r"hf:me/none: no such model on the Hub, or a private one; .* HF_TOKEN",
    "me/secret": r"hf:me/secret: no such model on the Hub, or a private one",
    "me/gated": r"hf:me/gated: its owner gives it to whom they allow; ask on https://huggingface.co/me/gated",
    "me/text": r"hf:me/text: it has no model.safetensors, so it holds no model of samplernn_fast",
    "hf:me/text@old": r"hf:me/text@old: it has no revision 'old'; leave it out",
    "me/broken": r"model.safetensors: not a readable checkpoint",
    "me": r"'me': no such folder, and not owner/name of a repository of the Hub",
    "../x": r"'../x': no such folder, and not owner/name",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_fetched_is_refused_in_one_line(hub, name, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    files = {"README.md": b"text"}
    hub.repos |= {"me/secret": Repo(private=True), "me/gated": Repo(gated=True), "me/text": Repo(commits=[files])}
    hub.repos["me/broken"] = Repo(commits=[{"model.safetensors": b"import os"}])
    with pytest.raises(CheckpointError, match=REFUSED[name]) as raised:
        srnn.from_pretrained(name)
    assert_one_line(raised)


def test_a_name_of_the_hub_must_be_one():
    for wrong in ("hf:me", "hf:a/b/c", "hf:a b/c", "hf:a/b@", "hf:a--b/c", "hf:-a/b"):
        with pytest.raises(ConfigError, match="must be named owner/name, got"):
            srnn.load(wrong)
    with pytest.raises(ConfigError, match="revision must be that of the name, x, got 'y'"):
        srnn.from_pretrained("hf:a/b@x", revision="y")


def test_what_was_fetched_is_there_without_a_network(hub, model, monkeypatch):
    srnn.push_to_hub(model, "me/kept", license="mit")
    srnn.from_pretrained("me/kept")
    for broken, reason in ((503, "the Hub answered 503"), (500, "the Hub answered 500")):
        hub.broken = broken
        assert same(srnn.from_pretrained("me/kept"), model)
        with pytest.raises(CheckpointError, match=f"hf:me/other: {reason}") as raised:
            srnn.from_pretrained("me/other")
        assert_one_line(raised)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}")
    assert same(srnn.from_pretrained("me/kept"), model)
    for call in (lambda: srnn.from_pretrained("me/other"), lambda: srnn.push_to_hub(model, "me/new", license="mit")):
        with pytest.raises(CheckpointError, match="the Hub cannot be reached") as raised:
            call()
        assert_one_line(raised)


def test_offline_the_hub_is_not_asked(hub, model, monkeypatch):
    srnn.push_to_hub(model, "me/kept", license="mit")
    srnn.from_pretrained("me/kept")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert same(srnn.from_pretrained("me/kept"), model)
    for call in (lambda: srnn.from_pretrained("me/other"), lambda: srnn.push_to_hub(model, "me/kept", license="mit")):
        with pytest.raises(CheckpointError, match=r"HF_HUB_OFFLINE is set, and .*; unset it and try again") as raised:
            call()
        assert_one_line(raised)
    assert hub.asked == []


def test_who_may_not_write_is_told_so(hub, model, monkeypatch):
    srnn.push_to_hub(model, "me/mine", license="mit")
    with pytest.raises(CheckpointError, match="hf:me/mine@new: it has no revision 'new'; make the branch first"):
        srnn.push_to_hub(model, "me/mine", license="mit", revision="new")
    with pytest.raises(CheckpointError, match=r"this account may not write there \(403\); log in .* may write"):
        srnn.push_to_hub(model, "me/mine", license="mit", token=STRANGER)
    with pytest.raises(CheckpointError, match="is there already and is public, so nothing was sent"):
        srnn.push_to_hub(model, "me/mine", license="mit", private=True)
    with pytest.raises(ConfigError, match="license must say"):
        srnn.push_to_hub(model, "me/mine")
    assert len(hub.repos["me/mine"].messages) == 1


@pytest.mark.parametrize("token", ["hf_SECRET x", "hf_SECRET\nx", "hf_SECR\u00c9T", " "])
def test_a_token_that_is_none_is_not_printed(hub, model, token):
    for call in (
        lambda: srnn.from_pretrained("me/album", token=token),
        lambda: srnn.push_to_hub(model, "me/album", license="mit", token=token),
    ):
        with pytest.raises(ConfigError, match="token must be one word") as refused:
            call()
        assert "SECR" not in str(refused.value)
    assert hub_module._checked(" hf_word \n") == "hf_word"


def test_an_address_or_a_long_name_is_no_folder(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="is an address"):
        srnn.save_pretrained(model, "s3://bucket/album", license="mit")
    with pytest.raises(CheckpointError, match="no such folder"):
        srnn.from_pretrained("a" * 5000)
    assert not list(tmp_path.iterdir())


def test_without_huggingface_hub_it_is_named(monkeypatch, model):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackage, match="need huggingface_hub; pip install huggingface_hub"):
        srnn.from_pretrained("me/any")
    with pytest.raises(MissingPackage):
        srnn.push_to_hub(model, "me/any", license="mit")
    srnn.save_pretrained(model, "out", license="mit")  # a folder needs none


def test_a_token_of_the_environment_is_not_shown_either(hub, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("Illegal header value b'Bearer hf_SEC RET'")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(CheckpointError, match=r"Bearer \*\*\*") as raised:
        srnn.from_pretrained("me/none")
    assert "SEC" not in str(raised.value) and "RET" not in str(raised.value)


def test_no_repository_is_made_for_a_branch_that_it_would_not_have(hub, model):
    with pytest.raises(CheckpointError, match=r"hf:me/new@draft: no such repository.*; leave revision out"):
        srnn.push_to_hub(model, "me/new", license="mit", revision="draft")
    assert "me/new" not in hub.repos
    srnn.push_to_hub(model, "me/new", license="mit", revision="main")
    assert hub.repos["me/new"].messages


def test_a_name_of_any_length_is_refused_in_one_line():
    for name in ("a" * 5000, "a/" * 3000, "a\0b"):
        with pytest.raises(CheckpointError, match="no such folder, and not owner/name") as raised:
            srnn.from_pretrained(name)
        assert_one_line(raised)
