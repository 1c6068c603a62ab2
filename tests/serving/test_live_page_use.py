"""The page of live sound in the hands of all kinds of listeners: keyboard, phone, damaged links, a server that goes."""

import threading
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("websockets", reason="needs websockets, of the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs prometheus-client, of the extra `serve`")

from contrast import colours, contrast
from live import LiveServer, served_here, served_live
from live_pages import RATE, expect_text, generated, last_played, opened, play, press_slider, shared_link, write_prompt

from samplernn_fast.engine.engine import Engine
from samplernn_fast.serving.live import player


def test_a_page_that_closes_makes_room(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    play(page, 1)
    watcher = opened(listener, live_server.address)
    for streams in (1, 0):
        for _ in range(600):
            if live_server.metric("slots") == streams:
                break
            watcher.wait_for_timeout(100)
        assert live_server.metric("slots") == streams
        page.close()


def test_a_full_server_is_told(listener: Any) -> None:
    with served_live(("demo",), "--max-listeners", "1") as server:
        first, second = opened(listener, server.address), opened(listener, server.address)
        play(first, 1)
        second.get_by_role("button", name="Play", exact=True).click()
        expect_text(second, "problem", "taken")
        expect_text(second, "state", "^Nothing plays")
        first.get_by_role("button", name="Stop").click()
        play(second, 2)
        assert second.locator("#problem").is_hidden()


def test_a_token_is_needed_and_handed_on(listener: Any) -> None:
    with served_live(("demo",), "--token", "secret") as server:
        page = listener.new_page()
        page.goto(server.address)
        expect_text(page, "problem", r"\?token=")
        expect_text(page, "state", "^The server refuses this page; trying again in ")
        page = opened(listener, f"{server.address}?token=secret")
        play(page, 1)
        last_played(page, RATE // 2)
        with page.expect_download():
            page.get_by_role("button", name="Save as FLAC").click()
        assert "?token=secret#m=" in shared_link(page)
        expect_text(page, "link-state", "holds the token")


def test_the_keyboard_is_enough(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    page.locator("body").press(" ")
    expect_text(page, "state", "^Playing demo, seed ")
    names = []
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate("() => document.activeElement.id")
        outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        if not focused:
            break
        assert outline == "solid"
        names.append(focused)
    assert {"play", "reset", "freeze", "temperature", "seed", "save-wav", "share", "delay"} <= set(names)
    press_slider(page, "Temperature", "ArrowLeft", "ArrowLeft")
    assert page.get_by_label("Temperature, as a number").input_value() == "0.98"
    page.get_by_role("button", name="Freeze").press(" ")
    assert page.get_by_role("button", name="Freeze").get_attribute("aria-pressed") == "true"
    page.get_by_label("Volume", exact=True).press(" ")
    expect_text(page, "state", "^Stopped")


def test_every_control_has_a_name(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('input, select, button, canvas')].filter((one) =>"
        " !one.ariaLabel && !one.labels?.length && !one.textContent.trim()).map((one) => one.id)"
    )
    assert unnamed == []


def test_a_chosen_delay_is_kept(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    page.get_by_label("Delay of changes").select_option("200 ms")
    page.reload()
    page.locator("#play:enabled").wait_for()
    assert page.get_by_label("Delay of changes").input_value() == "0.2"
    play(page, 1)
    expect_text(page, "lead", "now 20[0-9] ms")
    page.get_by_label("Delay of changes").select_option("auto")
    page.reload()
    assert page.get_by_label("Delay of changes").input_value() == ""
    page.evaluate("() => { for (const key of Object.keys(localStorage)) localStorage.setItem(key, 'rubbish'); }")
    assert page.evaluate("() => localStorage.length") == 1
    page.reload()
    assert page.get_by_label("Delay of changes").input_value() == ""


def test_a_browser_that_keeps_nothing_plays_too(listener: Any, live_server: Any) -> None:
    listener.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    page = opened(listener, live_server.address)
    page.get_by_label("Delay of changes").select_option("200 ms")
    play(page, 1)
    expect_text(page, "lead", "now 20[0-9] ms")


def test_what_begins_the_sound_anew_is_told_before_and_after(listener: Any, live_server: Any, tmp_path: Path) -> None:
    prompt = tmp_path / "tone.wav"
    write_prompt(prompt)
    page = opened(listener, live_server.address)
    hint = page.get_by_role("button", name="Choose a file").get_attribute("aria-describedby")
    expect_text(page, hint, "While sound plays, another recording begins it anew")
    play(page, 3)
    expect_text(page, "state", r"^Playing demo, seed 3\.$")
    page.set_input_files("#prompt-file", prompt)
    expect_text(page, "state", r"^Playing demo, seed 3\. It began anew, from the recording\.$")
    page.get_by_role("button", name="Remove").click()
    expect_text(page, "state", r"^Playing demo, seed 3\. It began anew, without the recording\.$")
    page.fill("#seed", "4")
    page.locator("#seed").press("Tab")
    expect_text(page, "state", r"^Playing demo, seed 4\. It began anew, with this seed\.$")
    page.get_by_role("button", name="Stop").click()
    play(page, 5)
    expect_text(page, "state", r"^Playing demo, seed 5\.$")


def test_settings_are_explained(browser: Any, live_server: Any) -> None:
    """By text that a press opens, and that screen readers tell with each control."""
    phone = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = opened(phone, live_server.address)
    summary = page.locator("summary")
    assert not page.locator("#about-temperature").is_visible() and summary.bounding_box()["height"] >= 44
    summary.tap()
    for name in ("temperature", "top-k", "top-p", "freeze", "reset"):
        control = page.locator(f"#{name}-on" if name.startswith("top") else f"#{name}")
        about = page.locator(f"#{control.get_attribute('aria-describedby')}")
        assert about.is_visible() and len(about.inner_text()) > 30
        assert about.bounding_box()["x"] + about.bounding_box()["width"] <= 390
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    phone.close()


def test_a_page_of_a_shared_link_has_one_main_button(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    assert page.locator("button.main:visible").all_inner_texts() == ["Play"]
    play(page, 2)
    assert page.locator("button.main:visible").all_inner_texts() == ["Stop"]
    link = shared_link(page)
    page.close()
    page = opened(listener, link)
    assert page.locator("button.main:visible").all_inner_texts() == ["Play what was shared"]
    page.get_by_role("button", name="Play the settings below").click()
    expect_text(page, "state", "^Playing demo")
    assert page.locator("button.main:visible").all_inner_texts() == ["Stop"]
    page.get_by_role("button", name="Stop").click()
    page.goto(link.replace("#m=", "#m=0000"))  # a model that is not served
    expect_text(page, "shared-about", "not served here")
    assert "main" in (page.get_by_role("button", name="Play", exact=True).get_attribute("class") or "")


def test_the_page_fits_a_phone(browser: Any, live_server: Any) -> None:
    phone = browser.new_context(
        viewport={"width": 320, "height": 568}, device_scale_factor=2, is_mobile=True, has_touch=True
    )
    page = opened(phone, live_server.address)
    page.get_by_role("button", name="Play", exact=True).tap()
    expect_text(page, "state", "^Playing demo, seed ")
    shared_link(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 320
    for control in page.locator("button:visible, input:visible, select:visible").all():
        box = control.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 320
    for button in page.locator("button:visible").all():
        assert button.bounding_box()["height"] >= 44
    phone.close()


@pytest.mark.parametrize(
    "fragment",
    [
        "#rubbish",
        "#m=0123456789abcdef",
        "#m=0123456789abcdef&s=1&t=9",
        "#m=0123456789abcdef&s=-1&t=1",
        "#m=0123456789abcdef&s=1&t=1&c=zz-x5",
        "#%00%ff",
        "#m=0123456789abcdef&s=1&t=1&k=0",
        "#m=<img src=x>&s=1&t=1",
    ],
)
def test_a_damaged_link_is_told(listener: Any, live_server: Any, fragment: str) -> None:
    page = opened(listener, live_server.address + fragment)
    expect_text(page, "problem", "no whole link to shared sound")
    assert page.locator("#shared").is_hidden()
    play(page, 1)
    assert page.locator("#problem").is_hidden()


def test_a_link_to_a_model_that_is_not_served_is_told(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address + "#m=0123456789abcdef&s=1&t=1")
    expect_text(page, "shared-about", "0123456789abcdef, is not served here")
    assert page.get_by_role("button", name="Play what was shared").is_disabled()


def test_a_server_that_was_away_is_found_again(listener: Any, tmp_path: Path) -> None:
    """It has no recording any more, so the page sends its own again."""
    prompt = tmp_path / "tone.wav"
    write_prompt(prompt)
    with served_live(("demo",)) as first:
        page = opened(listener, first.address)
        page.set_input_files("#prompt-file", prompt)
        expect_text(page, "prompt-state", r"^The model goes on from tone\.wav, 0\.5 s\.")
        play(page, 1)
        last_played(page, RATE // 4)
        first.kill()
        expect_text(page, "state", "^The connection is lost; trying again in [12] s")
        assert page.get_by_role("button", name="Play", exact=True).is_disabled()
        second = LiveServer(("demo",), port=first.port)
        expect_text(page, "state", "^Connected again. Press Play to begin again")
        expect_text(page, "prompt-state", r"^The model goes on from tone\.wav, 0\.5 s\.")
        play(page, 2)
        _, samples = last_played(page)
        second.kill()
    np.testing.assert_array_equal(samples, generated(len(samples), seed=2, prompt=prompt))


def test_what_is_no_seed_is_told(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    page.fill("#seed", "99999999999999999999")
    page.get_by_role("button", name="Play", exact=True).click()
    expect_text(page, "problem", "^The seed must be a whole number from 0 to")
    expect_text(page, "state", "^Ready")
    play(page, 4)
    assert page.locator("#problem").is_hidden()


@pytest.mark.parametrize("when", ["while it starts", "in a gap"])
def test_a_larger_lead_leaves_no_silence(listener: Any, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """The audio thread waits for a whole lead, so somebody must ask for the rest of it."""
    gate, own = threading.Event(), player.advance
    monkeypatch.setattr(player, "advance", lambda *all: (gate.wait(), own(*all))[1])
    with served_here(Engine("demo", num_threads=1)) as server:
        try:
            page = opened(listener, server.address)
            if when == "in a gap":
                page.get_by_label("Delay of changes").select_option("50 ms")
                gate.set()
                play(page, 1)
                last_played(page, RATE // 4)
                gate.clear()
                page.wait_for_timeout(800)  # which a lead of 50 ms and the reserve do not last
                expect_text(page, "underruns", "[1-9]")
            else:
                play(page, 1)
            page.get_by_label("Delay of changes").select_option("0.5")
            expect_text(page, "lead", "now 5[0-9][0-9] ms")
            gate.set()
            _, before = last_played(page, 0)
            _, samples = last_played(page, len(before) + RATE // 2)
            np.testing.assert_array_equal(samples, generated(len(samples), seed=1))
        finally:
            gate.set()
            page.close()


def test_what_fails_to_load_is_loaded_at_the_next_press(listener: Any, live_server: Any) -> None:
    listener.add_init_script(
        "const { addModule } = self.AudioWorklet?.prototype ?? {}; let tries = 0;"  # an empty page has none
        " if (addModule) AudioWorklet.prototype.addModule = function (...all) {"
        " return tries++ ? addModule.apply(this, all) : Promise.reject(new Error('The line was cut.')); };"
    )
    page = opened(listener, live_server.address)
    page.get_by_role("button", name="Play", exact=True).click()
    expect_text(page, "problem", "^The line was cut")
    expect_text(page, "state", "^Stopped")
    play(page, 1)
    assert page.locator("#problem").is_hidden()
    _, samples = last_played(page)
    np.testing.assert_array_equal(samples, generated(len(samples), seed=1))


def test_a_device_that_takes_no_sound_is_told(listener: Any, live_server: Any) -> None:
    """Its time stands then, whatever the browser says of it. Others began earlier and are told nothing."""
    listener.add_init_script(
        "const { get } = Object.getOwnPropertyDescriptor(BaseAudioContext.prototype, 'currentTime');"
        " let stopped = null; window.contexts = new Set();"
        " const read = function () { contexts.add(this); return stopped ?? get.call(this); };"
        " Object.defineProperty(BaseAudioContext.prototype, 'currentTime', { get: read });"
        " window.hold = (time) => { stopped = time; };"
        " window.hide = () => Object.defineProperty(document, 'hidden', { get: () => true });"
    )
    ordinary, hidden, stuck, page = pages = [opened(listener, live_server.address) for _ in range(4)]
    for one in (hidden, stuck, page):
        one.evaluate("() => hold(0)")
    hidden.evaluate("() => hide()")
    for seed, one in enumerate(pages):
        play(one, seed)
    tell = "(text) => Object.assign(document.getElementById('problem'), { textContent: text, hidden: false })"
    ordinary.evaluate(tell, "Something else.")
    for one in (page, stuck):
        expect_text(one, "problem", "^No device takes the sound")
        expect_text(one, "state", "^Playing")
    assert hidden.locator("#problem").is_hidden()
    hint = page.locator("#problem").inner_text()
    page.evaluate(tell, "Something else.")
    stuck.get_by_role("button", name="Stop").click()
    page.wait_for_timeout(1200)  # two looks
    assert stuck.locator("#problem").is_hidden()
    for one in (ordinary, page):
        assert one.locator("#problem").inner_text() == "Something else."
    page.evaluate(tell, hint)
    page.evaluate("() => hold(null)")
    page.locator("#problem").wait_for(state="hidden")
    _, samples = last_played(page)
    np.testing.assert_array_equal(samples, generated(len(samples), seed=3))
    play(stuck, 2)
    assert [one.evaluate("() => contexts.size") for one in (stuck, page)] == [2, 1]


def test_less_motion_means_fewer_pictures(browser: Any, live_server: Any) -> None:
    """Pictures a second: half of one, for who wants less motion."""
    rates = {}
    for motion in ("no-preference", "reduce"):
        context = browser.new_context(reduced_motion=motion)
        page = opened(context, live_server.address)
        page.evaluate(
            "() => { window.drawn = []; const own = CanvasRenderingContext2D.prototype.putImageData;"
            " const request = requestAnimationFrame; let began = 0;"  # the page counts from here, however long it draws
            " window.requestAnimationFrame = (draw) =>"
            " request((time) => { began = performance.now() / 1000; draw(time); });"
            " CanvasRenderingContext2D.prototype.putImageData = function (...all) {"
            " drawn.push(began); own.apply(this, all); } }"
        )
        play(page, 1)
        page.wait_for_function("() => drawn.length > 2")  # the first ones may be of an empty picture
        page.wait_for_function("() => performance.now() / 1000 > drawn[2] + 2.5 && drawn.at(-1) > drawn[2]")
        drawn = page.evaluate("() => drawn")[2:]
        rates[motion] = (len(drawn) - 1) / (drawn[-1] - drawn[0])
        context.close()
    assert rates["reduce"] <= 0.51 and rates["no-preference"] > 2, rates


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_edges_stand_out_from_what_is_behind_them(scheme: int) -> None:
    css = files("samplernn_fast.serving").joinpath("shared_page", "base.css").read_text()
    named = colours(css, scheme)
    for text, behind, least in (
        *(("ink", name, 4.5) for name in ("card", "tint")),
        *(("soft", name, 4.5) for name in ("card", "paper")),
        *(("accent", name, 4.5) for name in ("card", "tint")),
        ("on-accent", "accent", 4.5),
        ("warn", "warn-tint", 4.5),
        ("edge", "card", 3),
    ):
        assert contrast(named[text], named[behind]) >= least, (text, behind)
