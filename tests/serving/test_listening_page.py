"""The page of a listening test in a real browser: a whole session, crashes, a second tab, a phone."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from contrast import colours, contrast
from listening import Server, make_test, served

from samplernn_fast.evaluation.listening.answers import read_book
from samplernn_fast.evaluation.listening.folder import ListeningTest

RANK = {"low": 0, "middle": 1, "high": 2}
PATIENCE = 60_000  # milliseconds that a busy machine may take


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """What two tabs of one listener share."""
    opened = browser.new_context(viewport={"width": 1000, "height": 760})
    opened.set_default_timeout(PATIENCE)
    yield opened
    opened.close()


def expect_text(page: Any, name: str, pattern: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(f"#{name}:visible")).to_have_text(re.compile(pattern), timeout=PATIENCE)


def start(page: Any, server: Server) -> None:
    page.goto(server.address)
    page.get_by_role("button", name="Start").click()


def hear_both(page: Any, trial: int) -> None:
    """Plays both clips of a trial by the keys; then answers are taken."""
    expect_text(page, "hint", f"^Pair {trial} of ")
    page.keyboard.press("ArrowLeft")
    page.locator("#play-a.heard").wait_for()
    page.keyboard.press("ArrowRight")
    page.locator("#choose-a:enabled").wait_for()


def preferred(test: ListeningTest, trial: int) -> str:
    """What a listener answers who likes high tones, and hears no difference between low and middle ones."""
    a, b = (RANK[test.clips[clip].system] for clip in read_book(test).listeners[0].pairs[trial - 1])
    return "none" if {a, b} == {0, 1} else "a" if a > b else "b"


def test_a_whole_session_with_a_crash_of_either_side(context: Any, tmp_path: Path, capsys: Any) -> None:
    test = make_test(tmp_path)
    keys, answered = {"a": "1", "b": "2", "none": "0"}, []
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    with served(test.folder) as server:
        start(page, server)
        for trial in range(1, 21):
            if trial == 6:
                page.reload()
            if trial == 11:  # the browser's tab is gone, and opened again
                page.close()
                page = context.new_page()
                page.goto(server.address)
            hear_both(page, trial)
            answered.append(preferred(test, trial))
            if trial != 8:
                page.keyboard.press(keys[answered[-1]])
                continue
            server.kill()  # before the answer arrives
            page.keyboard.press(keys[answered[-1]])
            expect_text(page, "problem", "cannot be reached")
            page.goto("about:blank")
            server = Server(test.folder, server.port)
            page.goto(server.address)
        expect_text(page, "thanks", "Thank you")
        assert page.locator("#place").inner_text() == "20 of 20"
        server.kill()
    book = read_book(test)
    assert [(one.listener, one.trial, one.choice) for one in book.answers] == [
        (1, trial, choice) for trial, choice in enumerate(answered, 1)
    ]
    assert not errors
    assert run("abtest", "tally", test.folder, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ranking"][0]["system"] == "high"
    counts = {(pair["one"], pair["other"]): (pair["wins"], pair["none"], pair["losses"]) for pair in told["pairs"]}
    assert sum(map(sum, counts.values())) == 20
    assert counts["low", "middle"][::2] == counts["low", "high"][:2] == counts["middle", "high"][:2] == (0, 0)
    assert max(map(sum, counts.values())) - min(map(sum, counts.values())) == 1


def test_a_second_tab_doubles_nothing(context: Any, tmp_path: Path) -> None:
    test = make_test(tmp_path, trials=3)
    with served(test.folder) as server:
        one, other = context.new_page(), context.new_page()
        start(one, server)
        hear_both(one, 1)
        other.goto(server.address)
        hear_both(other, 1)
        other.get_by_role("button", name="Prefer B").click()
        expect_text(other, "hint", "^Pair 2 of 3")
        expect_text(one, "hint", "^Pair 2 of 3")  # the first tab has noticed
        hear_both(one, 2)
        hear_both(other, 2)
        one.evaluate("() => document.getElementById('choose-a').click()")
        other.evaluate("() => document.getElementById('choose-b').click()")
        for page in (one, other):
            expect_text(page, "hint", "^Pair 3 of 3")
    answers = read_book(test).answers
    assert [one.trial for one in answers] == [1, 2] and answers[0].choice == "b"


def test_two_listeners_at_once(browser: Any, tmp_path: Path) -> None:
    test = make_test(tmp_path, trials=3)
    with served(test.folder) as server:
        contexts = [browser.new_context() for _ in range(2)]
        pages = [context.new_page() for context in contexts]
        for page in pages:
            start(page, server)
        for trial in range(1, 4):
            for page in pages:
                hear_both(page, trial)
            for page, name in zip(pages, ("Prefer A", "No preference"), strict=True):
                page.get_by_role("button", name=name).click()
        for page in pages:
            expect_text(page, "thanks", "Thank you")
        for context in contexts:
            context.close()
    counts = Counter((one.listener, one.choice) for one in read_book(test).answers)
    assert counts == {(1, "a"): 3, (2, "none"): 3}


def test_nothing_is_answered_before_both_clips_are_heard(context: Any, tmp_path: Path) -> None:
    test = make_test(tmp_path, trials=2)
    with served(test.folder) as server:
        page = context.new_page()
        start(page, server)
        expect_text(page, "hint", "^Pair 1 of 2")
        page.keyboard.press("1")
        page.get_by_role("button", name="Play A").click()
        page.locator("#play-a.heard").wait_for()
        page.keyboard.press("0")
        page.keyboard.press("Escape")
        assert all(page.locator(f"#choose-{name}").is_disabled() for name in ("a", "none", "b"))
        for key in ("ArrowLeft", "ArrowRight", "ArrowLeft", "Escape"):  # faster than clips begin
            page.keyboard.press(key)
        page.locator("#question").focus()
        page.keyboard.press(" ")  # A, then B
        page.locator("#play-b.playing").wait_for()
        assert not read_book(test).answers and page.locator("#problem").is_hidden()
        page.keyboard.press("n")
        expect_text(page, "hint", "^Pair 2 of 2")
    assert [one.choice for one in read_book(test).answers] == ["none"]


def test_a_listener_is_known_again_by_the_address_alone(browser: Any, tmp_path: Path) -> None:
    test = make_test(tmp_path, trials=2)
    with served(test.folder) as server:
        first = browser.new_context()
        page = first.new_page()
        start(page, server)
        hear_both(page, 1)
        page.keyboard.press("a")
        expect_text(page, "hint", "^Pair 2 of 2")
        address = page.url
        first.close()
        second = browser.new_context()
        page = second.new_page()
        page.goto(address)
        expect_text(page, "hint", "^Pair 2 of 2")
        page.goto("about:blank")
        page.goto(server.address + "#nobody")
        page.get_by_role("button", name="Start").wait_for()
        second.close()
    assert len(read_book(test).listeners) == 1


def test_a_missing_clip_is_told_and_not_asked_for_again(context: Any, tmp_path: Path) -> None:
    test = make_test(tmp_path, trials=2)
    with served(test.folder) as server:
        page, asked = context.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        for name in test.clips:
            test.clip_path(name).unlink()
        start(page, server)
        expect_text(page, "problem", "A clip of this test is missing")
        before = len(asked)
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("1")
        page.wait_for_timeout(1500)
        assert len(asked) == before and page.locator("#play-a").is_disabled()
        expect_text(page, "problem", "A clip of this test is missing")


def test_the_page_fits_a_phone(browser: Any, tmp_path: Path) -> None:
    test = make_test(tmp_path, trials=1)
    with served(test.folder) as server:
        phone = browser.new_context(
            viewport={"width": 360, "height": 640}, device_scale_factor=2, is_mobile=True, has_touch=True
        )
        page = phone.new_page()
        page.goto(server.address)
        page.get_by_role("button", name="Start").tap()
        expect_text(page, "hint", "^Pair 1 of 1")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
        for button in page.locator("#trial button").all():
            box = button.bounding_box()
            assert box["height"] >= 44 and box["width"] >= 100 and box["y"] + box["height"] <= 640
        for side in ("A", "B"):
            page.get_by_role("button", name=f"Play {side}").tap()
            page.locator(f"#play-{side.lower()}.heard").wait_for()
        page.get_by_role("button", name="Prefer B").tap()
        expect_text(page, "thanks", "Thank you")
        phone.close()
    assert [one.choice for one in read_book(test).answers] == ["b"]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme: int) -> None:
    css = files("samplernn_fast.serving").joinpath("shared_page", "base.css").read_text()
    named = colours(css, scheme)
    for text, behind in (
        *(("ink", name) for name in ("card", "tint")),
        *(("soft", name) for name in ("card", "paper")),
        *(("accent", name) for name in ("card", "tint")),
        ("on-accent", "accent"),
        ("warn", "warn-tint"),
    ):
        assert contrast(named[text], named[behind]) >= 4.5, (text, behind)
