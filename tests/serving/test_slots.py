"""Streams of listeners: the sound of `generate`, settings that change at known positions, scores, frozen moments."""

from typing import Any

import numpy as np
import pytest

import samplernn_fast
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import ConfigError
from samplernn_fast.serving.live.settings import Settings
from samplernn_fast.serving.live.slot import Slot, advance, grain_of

pytest.importorskip("samplernn_fast._C", reason="the C++ engine is not built")
GRAIN = 64
LOOP = 4032  # samples of half a second at 8 kHz, in whole grains


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("demo", num_threads=1)


def play(slot: Slot, samples: int, block: int = GRAIN) -> np.ndarray:
    """The next samples of a slot alone."""
    made = [advance(slot.engine, [slot], min(block, samples - at))[0] for at in range(0, samples, block)]
    return np.concatenate(made)


def generated(engine: Engine, samples: int, **settings: Any) -> np.ndarray:
    rate = engine.config.sample_rate
    return samplernn_fast.generate(engine, duration=samples / rate, **settings).samples[0]


@pytest.mark.parametrize("block", [GRAIN, 5 * GRAIN, 2048])
def test_a_slot_sounds_as_generate_in_any_blocks(engine: Engine, block: int) -> None:
    settings = Settings(0.8, top_k=40, top_p=0.95)
    slot = Slot(engine, 2**64 - 1, settings)
    wanted = generated(engine, 2048, seed=2**64 - 1, temperature=0.8, top_k=40, top_p=0.95)
    assert np.array_equal(play(slot, 2048, block), wanted)


@pytest.mark.parametrize("length", [1, 160, 1001])
def test_a_prompt_of_any_length_is_heard(engine: Engine, length: int) -> None:
    heard = generated(engine, length, seed=5)
    slot = Slot(engine, 7, Settings(), engine_levels(engine, heard))
    wanted = generated(engine, 512, seed=7, prompt=heard)
    assert np.array_equal(play(slot, 512), wanted)


def engine_levels(engine: Engine, samples: np.ndarray) -> np.ndarray:
    from samplernn_fast.engine.prompt import prompt_levels

    return prompt_levels(engine.config, samples)


def test_slots_together_sound_as_each_alone(engine: Engine) -> None:
    def slots() -> list[Slot]:
        return [
            Slot(engine, 1, Settings(0.7)),
            Slot(engine, 2, Settings(1.0, top_k=9), score=[(GRAIN, {"temperature": 0.4}), (640, {"reset": True})]),
            Slot(engine, 3, Settings(), prompt=np.arange(37)),
            Slot(engine, 4, Settings(top_p=0.7), score=[(3 * GRAIN, {"frozen": True})]),
        ]

    alone = [play(slot, 2 * LOOP, 2 * GRAIN) for slot in slots()]
    joined = slots()
    made = [advance(engine, joined, 4 * GRAIN) for _ in range(2 * LOOP // (4 * GRAIN))]
    rest = advance(engine, joined, 2 * LOOP - len(made) * 4 * GRAIN)
    together = [np.concatenate(parts) for parts in zip(*made, rest, strict=True)]
    assert all(np.array_equal(one, two) for one, two in zip(together, alone, strict=True))
    assert len({sound.tobytes() for sound in alone}) == 4


def test_changes_that_were_asked_for_make_a_score_that_sounds_the_same(engine: Engine) -> None:
    slot, made, score = Slot(engine, 11, Settings()), [], []
    asked = {2: {"temperature": 0.5}, 5: {"top_k": 3, "top_p": 0.9}, 9: {"reset": True}, 20: {"frozen": True}}
    asked |= {100: {"temperature": 1.1}, 150: {"frozen": False}}
    for block in range(200):
        if block in asked:
            slot.ask(block, asked[block])
        made.append(advance(engine, [slot], GRAIN)[0])
        score += [(report.at, report.changes) for report in slot.take_reports()]
    assert [at for at, _ in score] == [number * GRAIN for number in asked]
    assert slot.obeys == 150
    again = Slot(engine, 11, Settings(), score=score)
    assert np.array_equal(play(again, 200 * GRAIN, 7 * GRAIN), np.concatenate(made))


def test_a_reset_begins_again(engine: Engine) -> None:
    slot = Slot(engine, 3, Settings(), score=[(4096, {"reset": True})])
    made = play(slot, 8192, 512)
    joint = 40  # samples of 5 ms, in which the step is taken out
    assert np.array_equal(made[4096 + joint :], made[joint:4096])
    assert slot.state.t == 4096


def test_a_frozen_model_returns_to_its_moment_and_draws_anew(engine: Engine) -> None:
    slot = Slot(engine, 3, Settings(temperature=0.8))
    play(slot, 4096)
    moment = [h.copy() for h in slot.state.hidden]
    slot.ask(1, {"frozen": True})
    first = play(slot, LOOP)
    assert slot.settle() == LOOP
    assert all(np.array_equal(h, g) for h, g in zip(slot.state.hidden, moment, strict=True))
    second = play(slot, LOOP)
    assert not np.array_equal(first, second)
    assert slot.state.t == 4096 + 2 * LOOP
    slot.ask(2, {"frozen": False})
    assert slot.settle() > 1 << 60


def test_a_jump_is_no_step(engine: Engine) -> None:
    """The sound behind a jump begins where it was before, to a twentieth of full scale, and stays in range."""
    for seed in range(6):
        slot = Slot(engine, seed, Settings(1.2), score=[(at, {"reset": True}) for at in range(1024, 8192, 1024)])
        made = play(slot, 8192, 256)
        assert np.abs(made).max() <= 1
        for at in range(1024, 8192, 1024):
            assert made[at] == pytest.approx(made[at - 1], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temprature": 1.0}, "no setting 'temprature'; did you mean temperature"),
        ({"temperature": -1}, "temperature must be 0 or between"),
        ({"temperature": True}, "temperature must be a number"),
        ({"temperature": "hot"}, "temperature must be"),
        ({"temperature": None}, "temperature must be"),
        ({"top_k": 0}, "top_k must be 1 to 256"),
        ({"top_k": 2.5}, "top_k must be a whole number"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"frozen": 1}, "frozen must be true or false"),
        ({"reset": "yes"}, "reset must be true or false"),
    ],
)
def test_changes_that_cannot_be_are_refused(engine: Engine, changes: dict[str, Any], message: str) -> None:
    slot = Slot(engine, 0, Settings())
    with pytest.raises(ConfigError, match=message):
        slot.ask(1, changes)
    with pytest.raises(ConfigError, match=message):
        Slot(engine, 0, Settings(), score=[(0, changes)])
    assert np.array_equal(play(slot, 256), generated(engine, 256))


@pytest.mark.parametrize("at", [-GRAIN, 1, 63, True, 64.0, "64"])
def test_positions_of_a_score_are_grains(engine: Engine, at: Any) -> None:
    with pytest.raises(ConfigError, match="at multiples of 64 samples"):
        Slot(engine, 0, Settings(), score=[(at, {})])


def test_a_slot_that_fails_does_not_disturb_others(engine: Engine) -> None:
    slots = [Slot(engine, seed, Settings()) for seed in range(3)]
    advance(engine, slots, GRAIN)
    slots[1].state.hidden[0][:] = np.nan
    made = [advance(engine, slots, 2 * GRAIN) for _ in range(2)]
    assert [len(part) for part in made[0]] == [2 * GRAIN, 0, 2 * GRAIN]
    assert slots[1].error is not None
    for seed in (0, 2):
        whole = np.concatenate([block[seed] for block in made])
        assert np.array_equal(whole, generated(engine, 5 * GRAIN, seed=seed)[GRAIN:])


def test_a_grain_holds_whole_frames() -> None:
    from samplernn_fast.models.config import SampleRNNConfig

    assert grain_of(SampleRNNConfig(frame_sizes=(2, 2, 8))) == 64
    assert grain_of(SampleRNNConfig(frame_sizes=(5, 5, 25))) == 75
    assert grain_of(SampleRNNConfig(frame_sizes=(8, 8, 512))) == 512
