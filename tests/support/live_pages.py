"""The page of live sound as a listener uses it, and the sound that it should make."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from sounds import tone

import samplernn_fast

RATE = 8000  # of the model `demo`
PATIENCE = 60_000  # milliseconds that a busy machine may take
SHORT = RATE  # samples that are played before they are compared


def opened(context: Any, address: str) -> Any:
    """A page that is ready to play."""
    page = context.new_page()
    page.goto(address)
    page.locator("#play:enabled").wait_for()
    return page


def play(page: Any, seed: int) -> None:
    page.fill("#seed", str(seed))
    page.get_by_role("button", name="Play", exact=True).click()
    expect_text(page, "state", f"^Playing demo, seed {seed}")


def write_prompt(file: Path) -> None:
    """Writes half a second of a recording that the model may go on from."""
    soundfile.write(file, tone(0.5, RATE, 300, 0.3), RATE, subtype="FLOAT")


def expect_text(page: Any, name: str, pattern: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(f"#{name}:visible")).to_have_text(re.compile(pattern), timeout=PATIENCE)


def last_played(page: Any, least: int = SHORT) -> tuple[int, np.ndarray]:
    """The position and the samples that `window.live.lastPlayed()` gives, once there are so many."""
    page.wait_for_function(f"() => live.lastPlayed().samples.length >= {least}", timeout=PATIENCE)
    told = page.evaluate("() => { const t = live.lastPlayed(); return [t.position, [...t.samples]]; }")
    return told[0], np.asarray(told[1], np.float32)


def generated(count: int, **settings: Any) -> np.ndarray:
    return samplernn_fast.generate("demo", duration=count / RATE, **settings).samples.reshape(-1)


def follow(count: int, score: list[tuple[int, str, str]], **settings: Any) -> np.ndarray:
    """What a stream makes whose temperature, top-k or top-p changes at those positions."""
    stream = samplernn_fast.stream("demo", **settings)
    made = []
    for at, letter, value in [*score, (count, "", "")]:
        if min(at, count) > stream.state.t:
            made.append(stream.quantizer.decode(stream.next_levels(min(at, count) - stream.state.t))[0])
        if letter == "t":
            stream.state.temperature = float(value)
        elif letter == "k":
            stream.state.set_truncation(int(value) or None, None)
    return np.concatenate(made)


def shared_score(link: str) -> list[tuple[int, str, str]]:
    """(position, letter, value) of every change in a shared link."""
    found, at = [], 0
    for entry in re.findall(r"[&#]c=([^&]*)", link)[0].split("~"):
        step, *parts = entry.split("-")
        at += int(step, 36)
        found += [(at, part[0], part[1:]) for part in parts]
    return found


def shared_link(page: Any) -> str:
    page.get_by_role("button", name="Copy link").click()
    return page.get_by_label("Link to this sound").input_value()


def check_heard(page: Any, samples: np.ndarray, wanted: np.ndarray, score: list[tuple[int, str, str]]) -> None:
    """Fails where what was heard is not what was wanted.

    Where the page tells that new sound came late, old sound may have been heard for a moment behind a change.
    """
    others = np.flatnonzero(samples != wanted)
    if "came late" in page.locator("#underruns").inner_text():
        others = np.array([at for at in others if not any(0 <= at - change < RATE // 2 for change, _, _ in score)])
    assert not len(others)


def press_slider(page: Any, label: str, *keys: str) -> None:
    page.get_by_label(label, exact=True).focus()
    for key in keys:
        page.keyboard.press(key)
