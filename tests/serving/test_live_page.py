"""The page of live sound in a real browser: what is heard is what the model makes, whatever is pressed meanwhile."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("websockets", reason="needs websockets, of the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs prometheus-client, of the extra `serve`")

from live import served_live, until
from live_pages import (
    RATE,
    SHORT,
    check_heard,
    expect_text,
    follow,
    generated,
    last_played,
    opened,
    play,
    press_slider,
    shared_link,
    shared_score,
    write_prompt,
)
from sounds import tone

import samplernn_fast

SLOWEST = 1500  # milliseconds from a slider to its sound on a busy machine; alone it takes some 30


def test_what_is_heard_is_what_generate_makes(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    play(page, 7)
    position, samples = last_played(page)
    assert position == 0
    np.testing.assert_array_equal(samples, generated(len(samples), seed=7))


def test_a_moved_slider_changes_the_sound_soon(listener: Any, live_server: Any, capsys: Any) -> None:
    page = opened(listener, live_server.address)
    play(page, 3)
    last_played(page, RATE)
    press_slider(page, "Temperature", "Home", "ArrowRight")
    expect_text(page, "latency", r"^Slider to sound: \d+ ms, then \d+ ms in the device")
    press_slider(page, "Temperature", "End")
    page.get_by_label("Top-k", exact=True).check()
    page.get_by_label("Top-k, as a number").fill("2")
    _, before = last_played(page, 0)
    _, samples = last_played(page, len(before) + SHORT)
    score = shared_score(shared_link(page))
    assert {letter for _, letter, _ in score} == {"t", "k"}
    check_heard(page, samples, follow(len(samples), score, seed=3), score)
    first = score[0][0]
    assert not np.array_equal(samples[first:], generated(len(samples), seed=3)[first:])
    latency = page.locator("#latency").inner_text()
    with capsys.disabled():
        print(f" {latency} Delay of changes {page.locator('#lead').inner_text()}.", end="")
    for _ in range(2):  # a moment in which the machine is busy with other things does not count
        if int(re.findall(r"\d+", latency)[0]) < SLOWEST:
            break
        press_slider(page, "Temperature", "ArrowLeft")
        _, before = last_played(page, 0)
        last_played(page, len(before) + RATE)
        latency = page.locator("#latency").inner_text()
    assert int(re.findall(r"\d+", latency)[0]) < SLOWEST


def test_a_slider_that_moves_before_the_sound_begins_counts(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    page.get_by_label("Delay of changes").select_option("0.5")  # so that no change comes late on a busy machine
    page.fill("#seed", "4")
    page.evaluate(
        """() => {
          document.getElementById("play").click();
          const slider = document.getElementById("temperature");
          slider.value = 0.5;
          slider.dispatchEvent(new Event("input"));
        }"""
    )
    _, samples = last_played(page)
    score = shared_score(shared_link(page))
    assert [entry[1:] for entry in score] == [("t", "0.5")]
    check_heard(page, samples, follow(len(samples), score, seed=4), score)


def test_a_shared_link_plays_the_same_again(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    page.get_by_label("Delay of changes").select_option("0.5")
    page.get_by_label("Temperature, as a number").fill("0.9")
    play(page, 11)
    last_played(page, RATE // 2)
    press_slider(page, "Temperature", "PageDown", "PageDown")
    last_played(page, RATE)
    for button in ("Reset", "Freeze"):
        page.get_by_role("button", name=button).click()
        _, before = last_played(page, 0)
        _, samples = last_played(page, len(before) + RATE)
    link = shared_link(page)
    assert re.search(r"#m=[0-9a-f]{16}&s=11&t=0\.9&c=", link) and "-r1" in link and "-f1" in link
    page.get_by_role("button", name="Stop").click()
    other = opened(listener, link)
    other.get_by_role("button", name="Play what was shared").click()
    _, again = last_played(other, len(samples))
    check_heard(page, samples, again[: len(samples)], shared_score(link))
    assert other.get_by_label("Temperature, as a number").input_value() != "0.9"  # the sliders moved as they did then
    assert other.get_by_role("button", name="Freeze").get_attribute("aria-pressed") == "true"
    assert shared_link(other) == link


def test_a_shared_link_is_played_and_shared_exactly(listener: Any, live_server: Any) -> None:
    """Also where its values lie between the steps of the sliders."""
    page = opened(listener, live_server.address)
    play(page, 2)
    model = shared_link(page).partition("#")[2].partition("&")[0]
    link = f"{live_server.address}#{model}&s=2&t=0.755&k=77&p=0.9871&c=1s-t0.8125"
    page.goto("about:blank")
    page.goto(link)
    page.get_by_role("button", name="Play what was shared").click()
    _, samples = last_played(page)
    assert shared_link(page) == link
    wanted = follow(len(samples), [(64, "t", "0.8125")], seed=2, temperature=0.755, top_k=77, top_p=0.9871)
    np.testing.assert_array_equal(samples, wanted)
    assert page.get_by_label("Temperature, as a number").input_value() == "0.8125"
    press_slider(page, "Temperature", "ArrowRight")
    assert page.get_by_label("Temperature, as a number").input_value() == "0.82"
    page.get_by_role("button", name="Stop").click()


def test_a_link_holds_thousands_of_changes(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    play(page, 1)
    model = shared_link(page).partition("#")[2].partition("&")[0]
    temperatures = [0.5 + number % 100 / 100 for number in range(3000)]
    changes = "~".join(f"1s-t{temperature:g}" for temperature in temperatures)  # 1s is 64
    page.goto("about:blank")
    page.goto(f"{live_server.address}#{model}&s=1&t=1&c={changes}")
    page.get_by_role("button", name="Play what was shared").click()
    _, samples = last_played(page)
    score = [(64 * number, "t", f"{value}") for number, value in enumerate(temperatures, 1)]
    np.testing.assert_array_equal(samples, follow(len(samples), score, seed=1))


def test_a_prompt_is_gone_on_from(listener: Any, live_server: Any, tmp_path: Path) -> None:
    prompt = tmp_path / "tone.wav"
    write_prompt(prompt)
    page = opened(listener, live_server.address)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files(prompt)
    expect_text(page, "prompt-state", r"^The model goes on from tone\.wav, 0\.5 s\.")
    play(page, 5)
    _, samples = last_played(page)
    np.testing.assert_array_equal(samples, generated(len(samples), seed=5, prompt=prompt))
    link = shared_link(page)
    page.get_by_role("button", name="Remove").click()  # which begins anew, without one
    expect_text(page, "state", "^Playing demo, seed 5. It began anew, without the recording")
    _, samples = last_played(page)
    np.testing.assert_array_equal(samples, generated(len(samples), seed=5))
    other = opened(listener, link)
    expect_text(other, "shared-about", "began with a prompt, which a link does not hold")
    assert other.get_by_role("button", name="Play what was shared").is_disabled()


def test_a_prompt_is_dropped_or_no_sound_at_all(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    file = io.BytesIO()
    soundfile.write(file, tone(0.5, RATE, 300, 0.3), RATE, format="WAV")
    drop = """([bytes, name]) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([new Uint8Array(bytes)], name));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, [list(file.getvalue()), "dropped.wav"])
    expect_text(page, "prompt-state", r"goes on from dropped\.wav, 0\.5 s")
    page.evaluate(drop, [list(b"no sound"), "text.txt"])
    expect_text(page, "problem", ".")
    expect_text(page, "prompt-state", "dropped")  # what was there stays


def test_a_prompt_is_recorded(listener: Any, live_server: Any) -> None:
    listener.grant_permissions(["microphone"])
    page = opened(listener, live_server.address)
    page.get_by_role("button", name="Record").click()
    expect_text(page, "prompt-seconds", "^1 of 30 s")
    page.get_by_role("button", name="Stop recording").click()
    expect_text(page, "prompt-state", r"^The model goes on from your recording, \d\.\d s\.")
    play(page, 5)
    last_played(page)


def test_files_hold_what_was_played(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    play(page, 9)
    last_played(page)
    page.get_by_role("button", name="Stop").click()
    _, played = last_played(page)
    for kind, furthest in (("WAV", 0.0), ("FLAC", 2.0**-15)):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Save as {kind}").click()
        assert download.value.suggested_filename == f"demo-9.{kind.lower()}"
        saved, rate = soundfile.read(download.value.path(), dtype="float32")
        assert rate == RATE and saved.shape == played.shape
        assert np.abs(saved - played).max() <= furthest
    np.testing.assert_array_equal(played, generated(len(played), seed=9))


def test_another_model_is_chosen_while_one_plays(listener: Any) -> None:
    with served_live(("demo", "demo-piano")) as server:
        page = opened(listener, server.address)
        play(page, 2)
        last_played(page, RATE // 2)
        page.get_by_label("Model").select_option("demo-piano")
        expect_text(page, "state", "^Playing demo-piano, seed 2")
        _, samples = last_played(page)
    made = samplernn_fast.generate("demo-piano", duration=len(samples) / 16000, seed=2).samples[0]
    np.testing.assert_array_equal(samples, made)


def test_two_pages_play_at_once(listener: Any, live_server: Any) -> None:
    pages = {seed: opened(listener, live_server.address) for seed in (1, 2)}
    for seed, page in pages.items():
        play(page, seed)
    for seed, page in pages.items():
        _, samples = last_played(page)
        np.testing.assert_array_equal(samples, generated(len(samples), seed=seed))


BUSY = """(wanted) => {
  const made = () => {
    const asked = new XMLHttpRequest();
    asked.open("GET", "metrics", false);  // which keeps the page busy too
    asked.send();
    const rows = asked.responseText.matchAll(/^samplernn_samples_total\\S* (\\S+)$/gm);
    return [...rows].reduce((sum, [, count]) => sum + Number(count), 0);
  };
  const [before, end] = [made(), performance.now() + 60000];
  while (performance.now() < end) {
    const pause = performance.now() + 100;
    while (performance.now() < pause);
    if (made() - before >= wanted) return true;
  }
  return false;
}"""
"""Keeps a page busy until the server has made so many more samples. Nothing is made long before it is heard."""


def test_a_busy_page_starves_no_sound(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    page.get_by_label("Delay of changes").select_option("0.5")
    play(page, 4)
    until(lambda: live_server.metric("slots") == 1)  # the server has noticed that earlier pages are gone
    _, before = last_played(page, RATE)
    assert page.evaluate(BUSY, 3 * RATE)  # less than a second of it was asked for before, with the lead
    _, samples = last_played(page, len(before) + 2 * RATE)
    np.testing.assert_array_equal(samples, generated(len(samples), seed=4))


def test_sound_without_a_worklet(listener: Any, live_server: Any) -> None:
    """Browsers give plain HTTP from another machine none."""
    listener.add_init_script("delete BaseAudioContext.prototype.audioWorklet")
    page = opened(listener, live_server.address)
    play(page, 6)
    _, samples = last_played(page)
    np.testing.assert_array_equal(samples, generated(len(samples), seed=6))
