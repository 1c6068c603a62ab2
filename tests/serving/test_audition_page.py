"""The page of an audition in a real browser: by keys alone, on a phone, and over a server that is killed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the extra `serve`")

from auditions import AuditionServer, make_checkpoint, make_run, served_audition
from contrast import colours, contrast

import samplernn_fast

PATIENCE = 60_000  # milliseconds that a busy machine may take
FLAGS = ("--temperatures", 0.5, 1, "--seeds", 2, "--seconds", 1)
PAGE = Path(samplernn_fast.__file__).parent / "serving" / "audition_page"


@pytest.fixture(scope="module")
def album(tmp_path_factory: Any) -> Path:
    """A run with two models, and one between them that is broken."""
    run = make_run(tmp_path_factory.mktemp("auditioned") / "album", "000100", "000200-4.123")
    (run / "models" / "step-000150.safetensors").write_bytes(b"broken" * 100)
    return run


@pytest.fixture(scope="module")
def server(album: Path) -> Iterator[AuditionServer]:
    with served_audition(album, *FLAGS) as opened:
        opened.ready(0, 1, 2, 3, 8, 9, 10, 11)
        yield opened


def opened(context: Any, address: str) -> Any:
    """A page all of whose clips are ready."""
    page = context.new_page()
    page.goto(address)
    page.wait_for_function("() => document.querySelectorAll('.cell.ready').length === 8", timeout=PATIENCE)
    return page


def until(page: Any, condition: str) -> None:
    page.wait_for_function(f"() => {condition}", timeout=PATIENCE)


def focused(page: Any) -> str:
    """What a screen reader says of the place of the keys."""
    return str(page.evaluate("document.activeElement.getAttribute('aria-label')"))


def pressed(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_a_session_by_keys_alone(listener: Any, server: AuditionServer) -> None:
    page = opened(listener, server.address)
    for _ in range(20):
        if "Step 100, temperature 0.5, seed 0" in focused(page):
            break
        page.keyboard.press("Tab")
    assert re.match("Step 100, temperature 0.5, seed 0; .*; unheard", focused(page))
    pressed(page, "ArrowRight", "ArrowRight", "ArrowDown")  # past the checkpoint that is broken
    assert focused(page).startswith("Step 200, temperature 1, seed 0")
    pressed(page, "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight")  # there is nothing further
    assert focused(page).startswith("Step 200, temperature 1, seed 1")
    pressed(page, "ArrowUp")
    assert focused(page).startswith("Step 100, temperature 1, seed 1")
    page.keyboard.press(" ")
    until(page, "audition.playing() === 3")
    page.keyboard.press(" ")
    until(page, "audition.playing() === null")
    assert "; heard" in focused(page)
    page.keyboard.press("n")
    until(page, "audition.playing() === 8")
    assert focused(page).startswith("Step 200, temperature 0.5, seed 0")
    page.keyboard.press("f")
    until(page, "document.querySelectorAll('.heart[aria-pressed=true]').length === 1")
    assert "favourite" in focused(page) and server.want()[8]["favourite"]
    page.keyboard.press("F")
    until(page, "document.querySelectorAll('.heart[aria-pressed=true]').length === 0")
    assert not server.want()[8]["favourite"]
    for _ in range(6):
        page.keyboard.press("n")
        until(page, "audition.playing() !== null")
    until(page, "document.querySelector('#progress').textContent.endsWith(' 0 unheard')")
    page.keyboard.press("n")
    assert page.locator("#state").inner_text() == "All clips were heard."
    page.reload()
    until(page, "document.querySelector('#progress').textContent.endsWith(' 8 clips ready, 0 unheard')")


def test_clips_are_played_as_loud_as_each_other(listener: Any, server: AuditionServer) -> None:
    page, known = opened(listener, server.address), server.want()
    for number in (1, 10):
        page.locator(f".cell[data-number='{number}'] .clip").click()
        until(page, f"audition.playing() === {number}")
        assert page.evaluate("audition.gain()") == pytest.approx(known[number]["gain"])
    page.get_by_label("Same loudness").uncheck()
    assert page.evaluate("audition.gain()") in (1, None)
    until(page, "audition.playing() === null")  # it has come to its end
    assert page.locator("#state").inner_text() == "Played to its end."


def test_each_clip_has_its_picture_and_its_faults_in_a_word(listener: Any, server: AuditionServer) -> None:
    page, known = opened(listener, server.address), server.want()
    assert any(row["faults"] for row in known.values())
    for number in (0, 11):
        names = ", ".join(name for name, _ in known[number]["faults"])
        assert page.locator(f".cell[data-number='{number}'] .word").inner_text() == (names or "no fault")
    drawn = "[...document.querySelectorAll('.cell canvas')].map((one) => one.toDataURL())"
    until(page, f"new Set({drawn}).size === 8")
    broken = page.get_by_role("gridcell").filter(has_text="not a readable checkpoint")
    assert broken.count() == 1


def test_favourites_are_saved_as_files(listener: Any, server: AuditionServer, album: Path, tmp_path: Path) -> None:
    page = opened(listener, server.address)
    page.get_by_role("button", name="Favourite: Step 200, temperature 1, seed 1").click()
    until(page, "document.querySelector('#favourites-state').textContent.startsWith('1 clip')")
    texts = []
    for name, file in (("Save as playlist", "favourites.m3u8"), ("Save as commands", "favourites.sh")):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        assert download.value.suggested_filename == file
        texts.append(Path(download.value.path()).read_text())
    assert texts[0].startswith("#EXTM3U\n") and server.grid()["clips"][11] in texts[0]
    model = album / "models" / "step-000200-4.123.safetensors"
    assert texts[1].startswith(f"samplernn-fast generate {model} --seed 1 --temperature 1 --duration 60 -o ")
    server.favour(11, False)


def test_a_phone_shows_all_without_scrolling_sideways(browser: Any, server: AuditionServer) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = opened(context, server.address)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    small = page.evaluate(
        "[...document.querySelectorAll('button:not([hidden])')].map((one) => one.getBoundingClientRect())"
        ".filter((box) => box.width < 36 || box.height < 44).length"
    )
    assert small == 0
    cell = page.locator(".cell[data-number='9']")
    assert cell.locator(".caption").inner_text() == "0.5 · seed 1"
    cell.locator(".clip").tap()
    until(page, "audition.playing() === 9")
    cell.locator(".heart").tap()
    until(page, "document.querySelectorAll('.heart[aria-pressed=true]').length === 1")
    server.favour(9, False)
    context.close()


def test_a_clip_that_waits_plays_when_it_is_ready(listener: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "new", "000100", "000200")
    with served_audition(run, *FLAGS, "--seeds", 8) as fresh:
        page = listener.new_page()
        page.goto(fresh.address)
        last = page.locator(".cell[data-number='31'] .clip")
        last.click()
        assert last.get_attribute("aria-pressed") == "true"
        until(page, "audition.playing() === 31")


def test_new_checkpoints_are_offered_and_come_without_disturbing(listener: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "new", "000100", "000200")
    (run / "model.safetensors").unlink()
    with served_audition(run, *FLAGS, "--seconds", 3) as server:
        page = opened(listener, server.address)
        page.set_viewport_size({"width": 1000, "height": 420})
        page.locator(".cell[data-number='2'] .clip").focus()
        place = page.locator(".cell.current").bounding_box()
        for step in (50, 300):
            make_checkpoint(run / "models" / f"step-{step:06d}.safetensors", step)
        (run / "models" / "step-000200.safetensors").unlink()
        page.get_by_text("2 new checkpoints, 1 gone.").wait_for(timeout=PATIENCE)
        assert page.locator("#news [role=status]").inner_text() == "2 new checkpoints, 1 gone."
        page.keyboard.press(" ")
        until(page, "audition.playing() === 2")  # the grid is the old one until somebody asks
        assert page.locator(".cell.current").bounding_box() == place
        pressed(page, "Shift+Tab")
        assert page.evaluate("document.activeElement.textContent") == "Show them"
        page.keyboard.press("Enter")
        until(page, "document.querySelectorAll('.cell').length === 16")
        assert page.evaluate("audition.playing()") == 6 and page.evaluate("audition.gain()") is not None
        assert focused(page).startswith("Step 100, temperature 1, seed 0") and "; heard" in focused(page)
        assert page.locator(".cell.current").bounding_box() == pytest.approx(place, abs=1)
        assert page.locator("#news-show").is_hidden() and page.locator("#news-text").inner_text() == ""
        pressed(page, "ArrowUp", "f")
        until(page, "document.querySelectorAll('.heart[aria-pressed=true]').length === 1")
        assert server.want()[2]["favourite"]
        assert page.get_by_role("rowheader").filter(has_text="gone from its run").inner_text().startswith("Step 200")
        pressed(page, "ArrowDown", "ArrowDown", " ")
        until(page, "audition.playing() === 10")  # a clip needs no model


@pytest.mark.slow
def test_new_checkpoints_for_which_there_is_no_room_are_said_once(listener: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "new", "000100")
    with served_audition(run, "--temperatures", *range(1, 13), "--seeds", 100, "--seconds", 0.1) as server:
        page = listener.new_page()
        page.goto(server.address)
        make_checkpoint(run / "models" / "step-000200.safetensors", 200)
        page.get_by_text("2 checkpoints, 12 temperatures and 100 seeds are 2400 clips").wait_for(timeout=PATIENCE)
        page.get_by_role("button", name="Close").click()
        assert focused(page).startswith("Step 100, temperature 1, seed 0")
        page.wait_for_timeout(1000)  # it is told again, and not shown
        assert page.locator("#news").inner_text() == "" and page.locator(".cell").count() == 1200


@pytest.mark.slow
def test_a_grid_that_the_server_does_not_know_is_shown_anew(listener: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine", "000100", "000200")
    first = AuditionServer(run, *FLAGS)
    page = opened(listener, first.address)
    first.kill()
    make_checkpoint(run / "models" / "step-000050.safetensors", 50)
    with served_audition(run, *FLAGS, port=first.port):
        page.get_by_text("The checkpoints have changed.").wait_for(timeout=PATIENCE)
        page.get_by_role("button", name="Show them").click()
        until(page, "document.querySelectorAll('.cell.ready').length === 12")
        assert page.locator("#problem").is_hidden()


def test_the_page_says_that_a_server_is_gone_and_goes_on_with_the_next(listener: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine", "000100", "000200")
    first = AuditionServer(run, *FLAGS)
    page = opened(listener, first.address)
    page.locator(".cell[data-number='2'] .heart").click()
    until(page, "document.querySelectorAll('.heart[aria-pressed=true]').length === 1")
    first.kill()
    page.get_by_text("The server does not answer; trying again.").wait_for(timeout=PATIENCE)
    again = AuditionServer(run, *FLAGS, port=first.port)
    page.locator("#problem").wait_for(state="hidden", timeout=PATIENCE)
    page.reload()
    until(page, "document.querySelectorAll('.heart[aria-pressed=true]').length === 1")
    again.kill()


def test_the_token_of_the_address_is_enough(listener: Any, album: Path) -> None:
    with served_audition(album, *FLAGS, "--out", album.parent / "other", "--token", "let me in") as closed:
        page = listener.new_page()
        page.goto(closed.address)
        page.get_by_text("the address needs ?token=").wait_for(timeout=PATIENCE)
        page = opened(listener, closed.address + closed.query)
        page.locator(".cell[data-number='0'] .clip").click()
        until(page, "audition.playing() === 0")


@pytest.mark.parametrize("scheme", [0, 1])
def test_texts_can_be_read(scheme: int) -> None:
    named = colours((PAGE.parent / "shared_page" / "base.css").read_text(), scheme)
    for text, behind in (("ink", "card"), ("soft", "card"), ("soft", "tint"), ("warn", "card"), ("warn", "tint")):
        assert contrast(named[text], named[behind]) >= 4.5, (text, behind)
    assert contrast(named["on-accent"], named["accent"]) >= 4.5 and contrast(named["warn"], named["warn-tint"]) >= 4.5
    for sign in ("edge", "accent", "love"):
        assert contrast(named[sign], named["card"]) >= 3, sign
