"""How the page of live sound keeps sound ready in a real browser: the lead, what comes again, and gaps."""

import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("websockets", reason="needs websockets, of the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs prometheus-client, of the extra `serve`")

from live_pages import RATE, expect_text, last_played, opened, play, press_slider


def test_sound_is_ready_and_still_changes_soon(listener: Any, live_server: Any) -> None:
    page = listener.new_page()
    said: list[dict[str, Any]] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda sent: said.append(json.loads(sent))))
    page.goto(live_server.address)
    page.locator("#play:enabled").wait_for()
    play(page, 3)
    last_played(page, RATE)
    press_slider(page, "Temperature", "Home")
    expect_text(page, "latency", "^Slider to sound")
    _, before = last_played(page, 0)
    last_played(page, len(before) + RATE // 2)
    (change,) = [number for number, message in enumerate(said) if message["do"] == "set"]
    place, behind = said[change], said[change + 1 :]
    last = [message for message in said[:change] if message["do"] == "want"][-1]  # others may tell of a gap
    assert last["until"] - last["keep"] >= RATE // 4
    assert last["keep"] < place["from"] < place["until"] <= place["from"] + RATE // 20 + 64
    assert max(one["until"] - one["keep"] for one in behind if one["do"] == "want") >= RATE // 4


def test_the_lead_is_learnt_before_anything_changes(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    slow = page.evaluate(
        """async () => {
          const { Playback } = await import("./playback.js");
          const asked = [], output = new Float32Array(64);
          const playback = new Playback(8000, () => {}, (told) => asked.push(told));
          const samples = new Float32Array(640);
          const fill = (position, since) => playback.receive({ position, id: 0, samples, since });
          playback.begin({ block: 64, lead: 128, play: 1 });
          fill(0, -1000);  // nothing is played yet, so nothing can come late
          const slow = [];
          for (const since of [192 - 129, 448 - 128, 704 - 129, undefined]) {
            for (let count = 0; count < 3; count++) playback.render(output);
            fill(640 * (slow.length + 1), since);
            playback.render(output);
            slow.push(asked.at(-1).slow);
          }
          return slow;
        }"""
    )
    assert slow == [1, 1, 2, 2]


def test_the_lead_comes_down_soon_after_a_disturbance(listener: Any, live_server: Any) -> None:
    """It stays up only where disturbances come again after it came down, and as long as they do."""
    page = opened(listener, live_server.address)
    leads = page.evaluate(
        """async () => {
          const { Lead } = await import("./lead.js");
          const follow = (late, seconds, rewinds = true) => {
            const lead = new Lead({ rate: 8000, block: 64, burst: 0.016, chosen: null, rewinds, changed: () => {} });
            const leads = [], ahead = [];
            for (let played = 0; played < seconds * 8000; played += 64) {
              lead.heard(played, !late(played / 8000));
              if (played % 8000 !== 0) continue;
              leads.push(Math.round(1000 * lead.seconds));
              ahead.push(Math.round((1000 * (lead.samples + lead.descent)) / 8000));
            }
            return [leads, ahead];
          };
          return {
            one: follow((time) => time > 10 && time < 11, 100),
            alone: follow((time) => time > 10 && time < 11, 300, false),
            often: follow((time) => time > 10 && time < 250 && time % 15 < 1, 400),
            always: follow((time) => time < 5, 100),
          };
        }"""
    )
    (one, ahead), (often, _), (always, _), (alone, _) = (leads[name] for name in ("one", "often", "always", "alone"))
    assert one[5] == 24 and 80 < max(one) < 160
    assert one[11] == max(one) and one[22:] == [24] * 78  # ten seconds later
    assert ahead[11:60] == [max(one)] * 49 and ahead[-1] == 24  # what is ready outlasts the next one as before
    assert alone[50] == max(alone) and alone[-1] == 24  # there is nothing else that could outlast it
    assert min(often[80:250]) > 80 and often[340:] == [24] * 60  # it stays where it had come down too early
    assert max(always) == 600 and always[-1] == 24
    assert all(1.7 * always[k + 1] >= always[k] for k in range(1, 99))  # it comes down step by step


def test_sound_that_comes_again_takes_its_place(listener: Any, live_server: Any) -> None:
    """The sound that was heard stays; where the new one comes late, the old one goes on until a soft jump."""
    page = opened(listener, live_server.address)
    told = page.evaluate(
        """async () => {
          const { Playback } = await import("./playback.js");
          const kept = [], heard = [], asked = [], output = new Float32Array(64);
          const hear = (told) => (told.samples ? kept.push(...told.samples) : heard.push(told.id));
          const playback = new Playback(8000, hear, (told) => asked.push(told));
          const fill = (position, count, id, value) =>
            playback.receive({ position, id, samples: new Float32Array(count).fill(value) });
          const render = (count) => {
            for (; count; count--) {
              playback.render(output);
              rendered.push(...output);
            }
          };
          const rendered = [];
          playback.begin({ block: 64, lead: 64, play: 1 });
          fill(0, 31000, 0, 0.1);
          render(2);
          fill(192, 64, 1, 0.2);  // in time
          fill(256, 512, 1, 0.2);
          render(4);
          fill(256, 64, 2, 0.8);  // as late as can be
          fill(320, 64, 2, 0.8);  // late up to its end
          render(1);
          fill(384, 128, 2, 0.8);  // half of it late
          fill(512, 64, 2, 0.8);
          render(2);
          const late = asked.at(-1).late;
          fill(576, 64, 3, 0);
          render(2);  // the second from old sound
          fill(640, 128, 3, 0);  // half of it late
          render(1);
          playback.halt();
          return { kept, heard, rendered, late, last: asked.at(-1) };
        }"""
    )
    parts = [(192, 0.1), (256, 0.2), (128, 0.8), (64, 0.0), (64, 0.2), (64, 0.0)]
    wanted = np.concatenate([np.full(count, value, np.float32) for count, value in parts])
    np.testing.assert_array_equal(np.float32(told["kept"]), wanted)
    assert told["heard"] == [1, 2, 3] and told["late"] == 1
    assert (told["last"]["late"], told["last"]["underruns"]) == (2, 0)
    jump = np.abs(np.diff(told["rendered"]))[[*range(300, 570), *range(580, 760)]]
    assert jump.max() < 0.1  # of 0.6
    np.testing.assert_allclose(told["rendered"][260:448], 0.2, atol=1e-3)  # old sound that goes on
    assert np.diff(told["rendered"][150:300]).max() == pytest.approx(0.1, abs=1e-3)  # no jump, so no joint


def test_a_gap_is_soft_and_loses_no_sample(listener: Any, live_server: Any) -> None:
    page = opened(listener, live_server.address)
    rendered, kept, underruns = page.evaluate(
        """async () => {
          const { Playback } = await import("./playback.js");
          let kept = [], rendered = [], underruns = 0;
          const hear = (told) => { kept.push(...told.samples ?? []); underruns = told.underruns ?? underruns; };
          const playback = new Playback(8000, hear, () => {});
          playback.begin({ block: 64, lead: 128, play: 1 });
          const loud = (position) => ({ position, id: 0, samples: new Float32Array(200).fill(0.5) });
          playback.receive(loud(0));
          const output = new Float32Array(128);
          for (let round = 0; round < 12; round++) {
            if (round === 5) playback.receive(loud(200));
            playback.render(output);
            rendered.push(...output);
          }
          return [rendered, kept, underruns];
        }"""
    )
    assert underruns == 2 and kept == [0.5] * 400
    assert np.abs(np.diff([0, *rendered])).max() < 0.1  # of 0.5, so it takes some samples
    assert max(rendered) <= 0.5 + 1e-6 and abs(rendered[-1]) < 1e-3
