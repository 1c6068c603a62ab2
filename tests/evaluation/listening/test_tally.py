"""What listeners prefer is found again, and the tally says it in Markdown, in JSON and as bar charts."""

import json
import math
import random
from pathlib import Path

import pytest
from listening import SYSTEMS, make_test

from samplernn_fast.evaluation.listening import chart
from samplernn_fast.evaluation.listening.answers import Answer, AnswerBook, Listener
from samplernn_fast.evaluation.listening.folder import ListeningTest
from samplernn_fast.evaluation.listening.plan import pairs_of
from samplernn_fast.evaluation.listening.tally import count, write

STRENGTHS = {"low": -0.9, "middle": 0.1, "high": 0.8}
TIES = 0.5  # of Davidson's model: 1 in 5 answers of equals is no preference


@pytest.fixture(scope="module")
def test(tmp_path_factory: pytest.TempPathFactory) -> ListeningTest:
    return make_test(tmp_path_factory.mktemp("listening"))


def chances(one: str, other: str) -> tuple[float, float, float]:
    """Davidson's model: how likely `one`, `other` and no preference are."""
    a, b = math.exp(STRENGTHS[one]), math.exp(STRENGTHS[other])
    neither = TIES * math.sqrt(a * b)
    return a / (a + b + neither), b / (a + b + neither), neither / (a + b + neither)


def simulated(test: ListeningTest, listeners: int, seed: int = 0) -> AnswerBook:
    """Listeners whose preferences are those of `chances`; nothing is written."""
    draw, book = random.Random(seed), AnswerBook(test)
    for number in range(1, listeners + 1):
        pairs = pairs_of(test, number)
        book._add_listener(Listener(number, str(number), tuple(pairs)))
        for trial, (a, b) in enumerate(pairs, 1):
            weights = chances(test.clips[a].system, test.clips[b].system)
            (choice,) = draw.choices(("a", "b", "none"), weights)
            book._add_answer(Answer(number, trial, a, b, choice, None, ""))
    return book


def test_a_thousand_listeners_with_known_preferences_are_recovered(test: ListeningTest) -> None:
    found = count(simulated(test, 1000))
    assert (found.answers, found.listeners, found.finished) == (20_000, 1000, 1000)
    assert max(pair.total for pair in found.pairs) - min(pair.total for pair in found.pairs) <= 1
    for pair in found.pairs:
        first, second, neither = chances(pair.one, pair.other)
        for share, true in zip(pair.shares(), (first, neither, second), strict=True):
            assert share.low <= true <= share.high and share.high - share.low < 0.03
        assert pair.p_holm < 1e-6
    assert [one.system for one in found.ranking] == ["high", "middle", "low"]
    for one in found.ranking:
        assert one.strength.low <= STRENGTHS[one.system] <= one.strength.high
        assert one.strength.high - one.strength.low < 0.1
    assert found.first.low <= 0.5 <= found.first.high


def test_listeners_without_preferences_show_none(test: ListeningTest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in STRENGTHS:
        monkeypatch.setitem(STRENGTHS, name, 0.0)
    found = count(simulated(test, 100))
    assert all(pair.p_holm > 0.05 for pair in found.pairs)
    assert all(one.strength.low < 0 < one.strength.high for one in found.ranking)


def test_without_answers_there_is_no_ranking(test: ListeningTest) -> None:
    page = count(AnswerBook(test)).markdown()
    assert "No ranking: no chain of preferences" in page and "inf" not in page


def test_every_answer_is_counted_for_its_systems(test: ListeningTest) -> None:
    book = AnswerBook(test)
    clips = {name: test.clips_of(name) for name in SYSTEMS}
    told = [("low", "high", "b"), ("high", "low", "a"), ("low", "high", "a"), ("high", "low", "none")]
    pairs = [(clips[a][0], clips[b][1]) for a, b, _ in told]
    book._add_listener(Listener(1, "x", tuple(pairs)))  # type: ignore[arg-type]
    for trial, ((a, b), (_, _, choice)) in enumerate(zip(pairs, told, strict=True), 1):
        book._add_answer(Answer(1, trial, a, b, choice, None, ""))
    found = count(book)
    (pair,) = [pair for pair in found.pairs if (pair.one, pair.other) == ("low", "high")]
    assert (pair.wins, pair.none, pair.losses, pair.p) == (1, 1, 2, 1.0)
    assert sum(pair.total for pair in found.pairs) == 4
    assert found.first.value == pytest.approx(2 / 3)
    left = count(book, noise={pairs[0][0]})
    kept = [one for one in book.answers if pairs[0][0] not in (one.a, one.b)]
    assert (left.noise_clips, left.noise_answers, left.answers) == (1, 4 - len(kept), len(kept))
    book._add_listener(Listener(2, "y", tuple(pairs[:1])))  # type: ignore[arg-type]
    book._add_answer(Answer(2, 1, *pairs[0], "a", None, ""))
    assert (count(book).listeners, count(book).finished) == (2, 2)
    left = count(book, noise={pairs[0][0]})
    assert (left.listeners, left.finished) == (1, 1)  # nothing of the second is counted
    none = count(book, noise=set(test.clips))
    assert (none.answers, none.listeners, none.finished) == (0, 0, 0)
    assert "Noise clips: 1; answers with them, not counted: " in left.markdown()


def test_a_test_without_answers_can_be_counted(test: ListeningTest, tmp_path: Path) -> None:
    found = count(AnswerBook(test))
    assert found.answers == 0 and all(pair.p == 1 for pair in found.pairs)
    json.dumps(found.to_dict(), allow_nan=False)
    assert "nan" not in found.markdown()
    chart.draw(found, tmp_path / "empty.png")


def test_the_tally_is_written(test: ListeningTest, tmp_path: Path) -> None:
    found = count(simulated(test, 30))
    write(found, tmp_path / "deep" / "out")
    told = json.loads((tmp_path / "deep" / "out" / "tally.json").read_text())
    assert told["answers"] == 600 and [one["system"] for one in told["ranking"]] == ["high", "middle", "low"]
    assert sum(told["pairs"][0][name] for name in ("wins", "none", "losses")) == 200
    page = (tmp_path / "deep" / "out" / "tally.md").read_text()
    assert page.startswith("# Listening test\n") and "| 1 | high | +" in page and "-23.0 LUFS" in page
    chart.draw(found, tmp_path / "tally.png")
    assert (tmp_path / "tally.png").read_bytes().startswith(b"\x89PNG")
    figure = chart.figure_of(found)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == pytest.approx([100 * share.value for share in found.pairs[0].shares()])
    assert sum(heights) == pytest.approx(100)
