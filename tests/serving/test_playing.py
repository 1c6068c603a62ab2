"""The instrument: its samples, its changes, its scores."""

import json

import numpy as np
import pytest

import samplernn_fast as srnn
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import ConfigError
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.other_configs import CONFIGS
from samplernn_fast.reference import limits
from samplernn_fast.serving.playing.instrument import Fader, Instrument, check_block
from samplernn_fast.serving.playing.parameters import check_changes, parameter, table
from samplernn_fast.serving.playing.score import Score, Start, read_score
from samplernn_fast.serving.playing.session import Session

FADE = 40  # samples: 5 ms at 8 kHz
GRAIN = 64


@pytest.fixture(scope="module")
def played():
    """The bundled model on the CPU."""
    return Engine("demo", backend="cpu", device="cpu")


def instrument(engine, score=(), **start):
    return Instrument(engine, Start(**{"seed": 5} | start), score=score)


def generated(engine, samples, **settings):
    made = srnn.generate(engine, duration=samples / 8000, **{"seed": 5} | settings)
    assert made.samples.shape == (1, samples)
    return made.samples[0]


def test_untouched_it_plays_what_generate_makes(played):
    settings = {"temperature": 0.9, "top_k": 40, "top_p": 0.95}
    one = instrument(played, **settings)
    made = np.concatenate([one.make(n) for n in (64, 256, 1280, 448)])
    assert made.dtype == np.float32
    assert np.array_equal(made, generated(played, 2048, **settings))
    assert one.position == 2048 and one.changes == []


def test_another_seed_begins_again_as_generate_with_it(played):
    one = instrument(played)
    one.make(512)
    one.set("seed", 9)
    made = one.make(1024)
    assert np.array_equal(made[FADE:], generated(played, 1024, seed=9)[FADE:])  # before it the step is taken out
    assert one.changes == [(512, {"seed": 9})] and one.settings["seed"] == 9


def test_a_random_seed_is_told(played, monkeypatch):
    monkeypatch.setattr(limits, "random_seed", lambda: 77)
    one = instrument(played)
    one.set("seed")
    one.make(64)
    assert one.changes == [(0, {"seed": 77})]


def test_the_volume_moves_along_a_line_and_changes_nothing_else(played):
    one, plain = instrument(played), generated(played, 768)
    parts = [one.make(256)]
    one.set("volume", 0.25)
    parts.append(one.make(512))
    made = np.concatenate(parts)
    assert np.array_equal(made[:256], plain[:256])
    line = 1 - 0.75 * np.arange(1, FADE + 1) / FADE
    assert np.allclose(made[256 : 256 + FADE], plain[256 : 256 + FADE] * line, atol=1e-6)
    assert np.array_equal(made[256 + FADE :], plain[256 + FADE :] * np.float32(0.25))


def test_a_pause_fades_out_and_the_model_goes_on_where_it_rested(played):
    one, plain = instrument(played), generated(played, 1024)
    parts = [one.make(256)]
    one.set("pause", True)
    parts.append(one.make(512))
    one.move("pause", 0)
    parts.append(one.make(512))
    made = np.concatenate(parts)
    assert not made[256 + FADE : 768].any() and made[256:260].any()
    # The model made the fade, which is shorter than a grain, and waited behind that grain.
    behind = 256 + GRAIN
    assert np.array_equal(made[768 + FADE :], plain[behind + FADE : behind + 512])
    assert one.position == 1280


def test_a_note_shorter_than_a_block_is_heard(played):
    one = instrument(played, gate=0.0)
    assert not one.make(256).any()
    one.change({"gate": 0.5})
    one.change({"gate": 0.0})
    made = one.make(512)
    assert one.changes == [(256, {"gate": 0.5}), (256 + GRAIN, {"gate": 0.0})]
    assert made[:GRAIN].any() and not made[GRAIN + FADE :].any()


def test_what_holds_already_is_no_change(played):
    one = instrument(played)
    one.set("temperature", 1.0)
    one.set("top_k", 256)
    one.set("top_p", 1)
    one.set("reset", False)
    one.make(64)
    assert one.changes == []


def moves(one, blocks):
    """Plays with every kind of change, in blocks of the given sizes."""
    script = {
        1: ("temperature", 0.6), 2: ("top_k", 12), 4: ("freeze", True), 5: ("volume", 0.3), 12: ("freeze", False),
        13: ("pause", True), 14: ("volume", 0.9), 15: ("pause", False), 16: ("seed", 3), 18: ("reset", None),
        19: ("top_p", 0.8), 20: ("temperature", 1.2),
    }  # fmt: skip
    parts = []
    for number, size in enumerate(blocks):
        if number in script:
            one.set(*script[number])
        if number == 8:
            one.change({"gate": 0.5})
            one.change({"gate": 1.0})
        parts.append(one.make(size))
    return np.concatenate(parts)


def test_a_score_makes_the_same_samples_in_other_blocks(played, tmp_path):
    one = instrument(played)
    first = moves(one, [256, 512, 64, 1024, 640] * 5)
    session = Session("demo", played, one, None, None)
    session.score().write(tmp_path / "score.json", {"play": "again"})
    read = read_score(tmp_path / "score.json")
    assert read == session.score() and read.samples == len(first) and len(read.changes) == 14
    again = Instrument(played, read.start, score=read.changes)
    made = np.concatenate([again.make(64 * (1 + number % 3)) for number in range(200)])
    assert np.array_equal(made[: len(first)], first)
    assert again.changes == one.changes and again.settings == one.settings


def test_changes_of_a_player_join_those_of_a_score(played):
    score = [(256, {"temperature": 0.5}), (512, {"volume": 0.5})]
    one = instrument(played, score)
    one.make(256)
    one.set("top_k", 3)
    one.make(512)
    assert one.changes == [(256, {"temperature": 0.5}), (256, {"top_k": 3}), (512, {"volume": 0.5})]
    again = instrument(played, one.changes)
    again.make(768)
    assert again.changes == one.changes


def test_a_score_that_is_full_says_where_it_ends(played, monkeypatch):
    monkeypatch.setattr("samplernn_fast.serving.playing.instrument.MOST_CHANGES", 2)
    one = instrument(played)
    for temperature in (0.5, 0.6, 0.7, 0.8):
        one.set("temperature", temperature)
        one.make(64)
    assert len(one.changes) == 2 and one.recorded_until == 128
    assert Session("demo", played, one, None, None).score().samples == 128


def test_saving_never_takes_a_name_that_is_there(played, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = instrument(played, temperature=0.9, top_k=7)
    one.make(8064)
    session = Session("demo", played, one, None, None)
    kept = [session.save(), session.save()]
    assert [str(one.path) for one in kept] == ["demo-seed5.json", "demo-seed5-2.json"]
    assert kept[0].whole
    told = json.loads(kept[1].path.read_text())["commands"]
    assert told["play"] == "samplernn-fast play demo --score demo-seed5-2.json"
    wanted = "samplernn-fast generate demo --seed 5 --temperature 0.9 --top-k 7 --duration 1"
    assert told["generate"] == wanted == kept[0].settings


GOOD = {
    "is": "score", "version": 1, "model": "demo", "sha256": "0" * 64, "rate": 8000, "backend": "cpu",
    "dtype": "float32", "prompt_sha256": None, "samples": 640, "changes": [{"at": 64, "volume": 0.5}],
    "start": {"seed": 1, "temperature": 1.0, "top_k": None, "top_p": None, "volume": 1.0, "gate": 1.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is": "song"}, "is no score"),
        ({"version": 2}, "version of the score must be a whole number from 1 to 1, got 2"),
        ({"changes": 3}, "changes of the score must be a list"),
        ({"changes": [[64]]}, "a change of the score must be names with values"),
        ({"changes": [{}]}, "a change of the score has no at"),
        ({"changes": [{"at": -64}]}, "at of a change of the score must be a whole number"),
        ({"changes": [{"at": True}]}, "at of a change of the score must be a whole number"),
        ({"start": {"seed": 1}}, "start of the score must have"),
        ({"samples": 1.5}, "samples of the score must be a whole number"),
        ({"model": None}, "model of the score must be text"),
    ],
)
def test_a_file_that_is_no_score_is_refused(change, message, tmp_path):
    path = tmp_path / "score.json"
    path.write_text(json.dumps(GOOD))
    assert read_score(path).samples == 640
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(ConfigError, match=message) as refused:
        read_score(path)
    assert str(refused.value).startswith(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "1" * 64}, "the score was played on another model"),
        ({"prompt_sha256": "2" * 64}, "the score needs the same prompt as then"),
        ({"changes": [{"at": 65, "volume": 0.5}]}, "at multiples of 64 samples, got 65"),
        ({"changes": [{"at": 64, "loudness": 0.5}]}, "there is no setting 'loudness'"),
        ({"changes": [{"at": 64, "volume": 1.5}]}, "volume must be 0 to 1"),
        ({"changes": [{"at": 64, "paused": 1}]}, "paused must be true or false"),
        ({"changes": [{"at": 64, "seed": -1}]}, "seed must be a whole number"),
        ({"changes": [{"at": 64, "temperature": "hot"}]}, "temperature must be"),
        ({"changes": [{"at": 64, "padding of": "a row"}] * 50_001}, "a score may have 50000 changes"),
        ({"start": GOOD["start"] | {"gate": float("nan")}}, "gate must be 0 to 1"),
    ],
)
def test_a_score_that_cannot_be_played_is_refused(change, message, tmp_path):
    path = tmp_path / "score.json"
    path.write_text(json.dumps(GOOD | change))
    config = SampleRNNConfig(sample_rate=8000)
    with pytest.raises(ConfigError, match=message):
        read_score(path).check(config, "0" * 64, None)


def test_a_full_score_can_be_read(tmp_path):
    changes = [(64 * number, {"gate": 0.0}) for number in range(50_000)]
    score = Score("demo", "0" * 64, 8000, "cpu", "float32", None, Start(1), 3_200_000, changes)
    score.write(tmp_path / "score.json", {})
    assert read_score(tmp_path / "score.json") == score


@pytest.mark.parametrize("cuts", [[1] * 100, [7, 93], [50, 50], [100]])
def test_a_fade_is_the_same_however_it_is_cut(cuts):
    fader, sound = Fader(1.0, 40), np.ones(100, np.float32)
    fader.move_to(0.1)
    whole = Fader(1.0, 40)
    whole.move_to(0.1)
    made = np.concatenate([fader.shape(sound[:n]) for n in cuts])
    assert np.array_equal(made, whole.shape(sound))
    assert made[-1] == np.float32(0.1) and made[0] < 1


def test_a_fade_that_turns_back_has_no_step():
    fader = Fader(0.0, 40)
    fader.move_to(1.0)
    parts = [fader.shape(np.ones(20, np.float32))]
    fader.move_to(0.0)
    parts.append(fader.shape(np.ones(60, np.float32)))
    assert np.abs(np.diff(np.concatenate(parts))).max() <= 1 / 40 + 1e-6 and parts[1][-1] == 0


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("temperature", 1, {"temperature": 1.0}),
        ("top_k", 20.0, {"top_k": 20}),
        ("top_k", 256, {"top_k": None}),
        ("top_k", None, {"top_k": None}),
        ("top_p", 1.0, {"top_p": None}),
        ("top_p", 0.5, {"top_p": 0.5}),
        ("freeze", 1.0, {"frozen": True}),
        ("pause", False, {"paused": False}),
        ("reset", None, {"reset": True}),
        ("reset", 0, {}),
        ("seed", 7.0, {"seed": 7}),
    ],
)
def test_values_of_parameters(name, value, wanted):
    known = table(SampleRNNConfig(sample_rate=8000))
    found = known[name].change(value)
    assert found == wanted and [type(one) for one in found.values()] == [type(one) for one in wanted.values()]
    check_changes(found, SampleRNNConfig(sample_rate=8000))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", 0.01, "temperature must be 0.05 to 5, got 0.01"),
        ("temperature", True, "temperature must be 0.05 to 5, got True"),
        ("temperature", "hot", "temperature must be 0.05 to 5, got 'hot'"),
        ("temperature", None, "temperature must be 0.05 to 5, got None"),
        ("temperature", float("nan"), "temperature must be"),
        ("top_k", 2.5, "top_k must be a whole number"),
        ("top_k", 257, "top_k must be 1 to 256 levels"),
        ("top_p", 0, "top_p must be 0.05 to 1"),
        ("freeze", 2, "freeze must be 0 or 1, got 2"),
        ("freeze", None, "freeze must be 0 or 1, got None"),
        ("reset", "now", "reset must be 0 or 1, got 'now'"),
        ("seed", -1, "seed must be a whole number"),
        ("seed", 1.5, "seed must be a whole number"),
    ],
)
def test_values_that_parameters_refuse(name, value, message):
    with pytest.raises(ConfigError, match=message):
        table(SampleRNNConfig(sample_rate=8000))[name].change(value)


def test_every_step_of_a_key_stays_in_the_range_and_comes_back():
    known = table(SampleRNNConfig(sample_rate=8000))
    for name in ("temperature", "top_k", "top_p", "volume"):
        one = known[name]
        for direction, end in ((1, one.high), (-1, one.low)):
            value, seen = (one.high + one.low) / 2 if name != "top_k" else 16, []
            while value != end:
                value = one.moved(value, direction)
                seen.append(value)
                assert one.low <= value <= one.high and len(seen) < 200
                one.change(value)
            assert one.moved(end, direction) == end and seen == sorted(seen, reverse=direction < 0)
    assert known["top_k"].moved(None, -1) == 205 and known["temperature"].moved(0.97, 1) == 1.0
    assert known["top_k"].moved(1, 1) == 2  # a ratio of one level would stay there for ever


def test_a_controller_reaches_both_ends_of_its_range():
    known = table(SampleRNNConfig(sample_rate=8000))
    assert [known["temperature"].at(share, 0.3, 1.5) for share in (0, 1)] == [0.3, 1.5]
    assert [known["top_k"].at(share, curve="exponential") for share in (0, 0.5, 1)] == [1, 16, 256]
    assert [known["volume"].at(share, 1, 0) for share in (0, 0.25, 1)] == [1, 0.75, 0]  # upside down
    assert [known["freeze"].at(value / 127) for value in (0, 63, 64, 127)] == [False, False, True, True]
    for low, high in ((0.05, 5), (0.3, 1.5), (3, 0.1)):
        for place in range(128):
            known["temperature"].change(known["temperature"].at(place / 127, low, high, "exponential"))


def test_a_mixture_has_no_levels_to_choose_from():
    mixture = next(kind for kind in CONFIGS if kind(sample_rate=8000).mixture)(sample_rate=8000)
    assert "temperature" in table(mixture) and not {"top_k", "top_p"} & set(table(mixture))
    with pytest.raises(ConfigError, match="there is no parameter 'top_k' here"):
        parameter(table(mixture), "top_k")


def test_a_block_is_a_multiple_of_the_grain(played):
    assert check_block(None, played.config, 0.016) == 128
    assert check_block(192, played.config, 0.016) == 192
    with pytest.raises(ConfigError, match="block must be a multiple of 64 samples for this model, got 100"):
        check_block(100, played.config, 0.016)
