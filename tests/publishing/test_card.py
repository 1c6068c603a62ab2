"""What a card says of a model, what it leaves out, and what it keeps of the words of others."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from runs import tiny

import samplernn_fast as srnn
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.registry import SYSTEMS
from samplernn_fast.publishing.card import MARKER, Heading, card
from samplernn_fast.publishing.facts import facts_of, public_info
from samplernn_fast.publishing.licenses import check_license

HEADING = Heading("Piano", "cc-by-4.0")


@pytest.fixture(scope="module")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("published") / "run"
    srnn.train(tiny(data_folder, out, steps=3, eval_every=2, keep_every=1, eval_seconds=0.05), progress=False)
    return out


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_card_of_a_run_says_what_the_run_knows(run: Path, data_folder: Path) -> None:
    facts = facts_of(run, test=True)
    text = card(facts, HEADING)
    model = srnn.load(run)
    assert f"| parameters | {sum(one.numel() for one in model.parameters()):,} |" in text
    assert "| network | 3 tiers (frames of 2, 2, 8), GRU of 16 units |" in text
    assert re.search(r"\| training \| 1.3 s \| 5 \|\n\| validation \| 0.\d s \| 1 \|\n\| test \| 0.\d s \| 3 \|", text)
    assert "4 subsequences of 64 samples (0.032 s of audio)" in text and "| learning rate | 0.003 (Adam) |" in text
    assert re.search(r"\| updates \| [23] \|", text) and "| seed | 0 |" in text
    score = srnn.evaluate(run, data_folder, "test").nll_bits
    assert f"| test split | {score:.3f} bits per sample |" in text
    assert f"| validation split (its first 0.05 s) | {facts.valid_bits:.3f} bits per sample |" in text
    assert "8,000 Hz" in text and "4 kHz" in text and "which is little" in text
    known = front(text)
    assert known["license"] == "cc-by-4.0" and known["library_name"] == "samplernn-fast"
    assert known["pipeline_tag"] == "text-to-audio" and known["sample_rate"] == 8000
    values = [one["value"] for one in known["model-index"][0]["results"][0]["metrics"]]
    assert values == [round(facts.valid_bits, 4), round(score, 4)]


def test_the_hub_reads_the_card(run: Path) -> None:
    cards = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub, of the extra `hub`")
    read = cards.ModelCard(card(facts_of(run), HEADING)).data
    (result,) = read.eval_results
    assert result.metric_type == "bits-per-sample" and result.metric_value == round(facts_of(run).valid_bits, 4)
    assert (read.license, read.model_name, read.library_name) == ("cc-by-4.0", "Piano", "samplernn-fast")
    assert "samplernn" in read.tags


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_model_alone_has_a_card_without_gaps(system: str) -> None:
    settings = {"sample_rate": 16000, "dim": 16}
    config = SYSTEMS[system].config
    more = {"frame_sizes": (2, 4), "frame_size": 4, "blocks": 1, "layers": 2, "std": 0.5, "emb_size": 8}
    known = {one.name for one in dataclasses.fields(config)}
    model = SYSTEMS[system].model(config(**settings | {name: more[name] for name in more if name in known}), seed=0)
    text = card(facts_of(model), HEADING)
    assert "## Training\n" not in text and "## How well" not in text and "model-index" not in front(text)
    assert not re.search(r"None|nan|\| \||``|\(\)|  ", text.replace("| | |", "").replace("```", ""))
    assert "16,000 Hz" in text and (system in front(text)["tags"])


def test_the_score_of_a_kept_model_is_its_own(run: Path) -> None:
    one, two, three = sorted((run / "models").glob("step-*"))
    assert facts_of(one).valid_bits is None and facts_of(run / "last.safetensors").valid_bits is None
    for scored in (two, three):
        assert f"{facts_of(scored).valid_bits:.3f}" in scored.name
    assert facts_of(one).steps == 1 and facts_of(one).splits == facts_of(run).splits


def test_data_that_has_changed_or_moved_is_not_told_of(run: Path, make_data, tmp_path: Path) -> None:
    other = make_data(tmp_path / "other", [0.3, 0.2])
    with pytest.raises(DataError, match="trained on other data; data must be"):
        facts_of(run, other)
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes((run / "model.safetensors").read_bytes())
    assert facts_of(bare).splits == ()  # whether the folder is still the same is not known
    assert [split.name for split in facts_of(bare, other).splits] == ["train"]
    with pytest.raises(ConfigError, match="data must name the data folder with the test split"):
        facts_of(bare, other, test=True)


@pytest.mark.parametrize(
    "odd", [{}, [1], "text\n| a | <b>", 7, float("inf"), {"file": 1, "model_sha256": [2]}], ids=str
)
def test_what_a_file_says_of_itself_is_left_out_where_it_cannot_be_true(tmp_path: Path, model, odd: object) -> None:
    names = ("training", "initialized_from", "seconds", "step", "data", "valid_bits", "best_bits")
    checkpoint.save_model(tmp_path / "odd.safetensors", model, dict.fromkeys(names, odd))
    text = card(facts_of(tmp_path / "odd.safetensors"), HEADING)
    assert "inf" not in text and "<b>" not in text and ("7" in text) >= (odd == 7)


def test_a_model_that_was_trained_on_names_where_it_began(tmp_path: Path, model) -> None:
    for source, base in (("hf:me/first@v1", "me/first"), ("runs/first", None), ("hf:me", None)):
        begun = {"file": "first/model.safetensors", "model_sha256": "ab" * 32}
        info = {"training": {"init_from": source}, "initialized_from": begun}
        checkpoint.save_model(tmp_path / "on.safetensors", model, info)
        text = card(facts_of(tmp_path / "on.safetensors"), HEADING)
        assert front(text).get("base_model") == base
        assert "| weights | trained on from another model, whose SHA-256 begins with abababababab |" in text


def test_ones_own_text_is_kept(model) -> None:
    facts = facts_of(model)
    first = card(facts, HEADING)
    mine = first.replace("license: cc-by-4.0\n", "license: mit\nlanguage: en\n") + "\n## How I made it\n\nBy night.\n"
    mine = mine.replace("tags:\n", "tags:\n- piano\n").replace("# Piano", "# Paino")
    second = card(facts, HEADING, mine)
    assert second.endswith(f"{MARKER}\n\n## How I made it\n\nBy night.\n") and "# Piano" in second
    assert front(second)["license"] == "cc-by-4.0" and front(second)["language"] == "en"
    assert front(second)["tags"][-1] == "piano"
    assert card(facts, HEADING, second) == second
    foreign = card(facts, HEADING, "# All mine\n")
    assert foreign.endswith(f"{MARKER}\n\n# All mine\n") and foreign.startswith(first.rstrip("\n"))
    with pytest.raises(ConfigError, match=r"front matter is not YAML.*mend it"):
        card(facts, HEADING, "---\na: [\n---\ntext")


def test_a_name_may_be_anything(model) -> None:
    name = "A|odd `name`\n<x>: y"
    text = card(facts_of(model), Heading(name, "mit"))
    assert "\n# A odd name \\n x : y\n" in text and front(text)["license"] == "mit"


def test_the_card_says_how_it_was_trained(data_folder: Path, tmp_path: Path) -> None:
    srnn.train(tiny(data_folder, tmp_path / "run", steps=2, weight_decay=0.125, ema=0.5), progress=False)
    text = card(facts_of(tmp_path / "run"), HEADING)
    assert "(AdamW, weight decay 0.125)" in text and "which keeps 0.5 of itself" in text and "(Adam)" not in text


def test_no_place_is_opened_that_a_file_of_somebody_else_names(tmp_path: Path, model, monkeypatch) -> None:
    """Nor is a key told that an address has in it."""
    address = "s3://bucket/model.safetensors?key=SECRET#SECRET"
    file = tmp_path / "model.safetensors"
    checkpoint.save_model(file, model, {"training": {"data": "http://127.0.0.1:9/x", "init_from": address}})
    opened: list[object] = []
    monkeypatch.setattr("samplernn_fast.data.folder.AudioData.open", opened.append)
    assert facts_of(file).splits == () and not opened
    assert public_info(file)["training"] == {"data": "x", "init_from": "model.safetensors"}


def test_a_license_is_asked_for_and_never_guessed() -> None:
    assert check_license("MIT") == "mit" and check_license("openrail++") == "openrail++"
    for wrong in ("", "a license of mine", "mit\n", "-"):
        with pytest.raises(ConfigError, match=r"license must say .* mit, apache-2.0, .*other"):
            check_license(wrong)


@pytest.mark.parametrize(
    ("word", "guess"),
    [("wtf", "wtfpl"), ("apache", "apache-2.0"), ("cc-by-4", "cc-by-4.0"), ("cc-by", "cc-by-4.0"), ("my-own", None)],
)
def test_a_word_that_the_hub_does_not_know_is_refused_with_a_guess(word: str, guess: str | None) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"got {word!r}")) as refused:
        check_license(word)
    assert (f"; did you mean {guess}? Common ones are" in str(refused.value)) == (guess is not None)


def test_a_model_without_a_sample_rate_has_no_card() -> None:
    config = srnn.SampleRNNConfig(sample_rate=0, dim=8, emb_size=4)
    with pytest.raises(ConfigError, match="no sample rate yet"):
        facts_of(srnn.SampleRNN(config))
    assert torch.is_tensor(next(srnn.SampleRNN(config).parameters()))


def test_an_address_that_a_file_names_is_not_asked(run: Path, tmp_path: Path, model, monkeypatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr("samplernn_fast.publishing.facts.AudioData.open", lambda data: opened.append(data))
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    for place in ("http://127.0.0.1:9/album", "s3:/bucket/album"):
        for folder in (tmp_path, moved):
            checkpoint.save_model(folder / "model.safetensors", model, {"training": {"data": place}})
            facts = facts_of(folder / "model.safetensors")
            assert facts.splits == () and facts.data == "album"
    assert opened == []


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("https://host/album/take?sig=SECRET", "take"),
        ("https://host/album/take#SECRET", "take"),
        ("https:/host/take?sig=SECRET/more", "take"),
        ("memory://me:SECRET@host", "host"),
        ("memory://SECRET@host/", "host"),
        ("ftp://me:SECRET@host/run2", "run2"),
        ("ftp://me:SEC/RET@host", "host"),
        ("ftp://me:SEC#RET@host", ""),
        ("hf://datasets/me/piano@v1", "piano@v1"),
        ("/music/take #2?", "take #2?"),
    ],
)
def test_nothing_secret_of_an_address_is_published(tmp_path: Path, model, place: str, name: str) -> None:
    names = ("data", "out", "init_from", "resume")
    file = tmp_path / "model.safetensors"
    begun = {"file": place, "model_sha256": "ab" * 32}
    checkpoint.save_model(file, model, {"training": dict.fromkeys(names, place), "initialized_from": begun})
    info = public_info(file)
    assert {info["training"][one] for one in names} | {info["initialized_from"]["file"]} == {name}
    text = card(facts_of(file), HEADING)
    assert "SEC" not in text and "RET" not in text
