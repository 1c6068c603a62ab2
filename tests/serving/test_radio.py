"""The sound of a radio: faults are left, joins have no step, the loudness stays, and all of it can be made again."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from radio import FAULTS, PLANTED, RATE, SETTINGS, engine, hum, played, station, tune

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.evaluation.clips.detectors import OFFSET
from samplernn_fast.evaluation.clips.measures import measure_clip
from samplernn_fast.serving.radio import levelling
from samplernn_fast.serving.radio.guarding import Guard
from samplernn_fast.serving.radio.part import FAULT_FADE
from samplernn_fast.serving.radio.program import Program, RadioSettings, Walk

MOST_SECONDS = 2.0


@pytest.mark.parametrize("planted", [PLANTED, PLANTED + 0.13, PLANTED + 0.38])
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_left_within_two_seconds(kind, planted):
    made = station(engine(kind, planted))
    _, events = played(made, 40)
    assert len(events) > 5 and [event["because"] for event in events[1:]] == [kind] * (len(events) - 1)
    for before, after in itertools.pairwise(events):
        over = after["at"] + FAULT_FADE * made.block
        assert planted < (over - before["at"]) / RATE <= planted + MOST_SECONDS


@pytest.mark.parametrize(
    ("kind", "worst"),
    [
        ("silence", lambda found: found.silence <= MOST_SECONDS),
        ("noise", lambda found: found.noise < 0.2 * found.seconds),
        ("clipping", lambda found: found.clipped == 0),
    ],
)
def test_little_of_a_fault_is_heard(kind, worst):
    heard, _ = played(station(engine(kind)), 40)
    assert worst(measure_clip(heard, RATE))
    raw = np.concatenate([FAULTS[kind](1, np.arange(at, at + RATE), 0, RATE) for at in range(0, 40 * RATE, RATE)])
    assert not worst(measure_clip(raw, RATE))


@pytest.mark.parametrize("rest", [2.7, 3.6])
def test_a_rest_of_music_is_no_fault_and_a_longer_one_is(rest):
    guard, sound = Guard(RATE), tune(3, np.arange(12 * RATE), RATE)
    sound[4 * RATE : round((4 + rest) * RATE)] = 0
    found = [fault for fault in map(guard.add, sound.reshape(-1, RATE // 4)) if fault is not None]
    assert [fault.kind for fault in found[:1]] == ["silence"] * (rest > 3)


def test_sound_without_a_fault_goes_on_until_its_time_is_over():
    heard, events = played(station(engine()), 120)
    assert [event["because"] for event in events[1:]] == ["change"] * (len(events) - 1)
    lengths = np.diff([event["at"] for event in events]) / RATE
    assert len(lengths) >= 3 and all(0.5 * SETTINGS.change - 1 <= length <= 1.5 * SETTINGS.change for length in lengths)
    assert len(set(lengths)) > 1 and len({event["seed"] for event in events}) == len(events)
    assert abs(np.mean(heard)) < OFFSET


@pytest.mark.parametrize("fault", [None, "silence"])
def test_no_join_has_a_step(fault):
    """A hum moves by little from one sample to the next, so a step would be seen."""
    made = station(engine(fault, sound=hum), settings=dataclasses.replace(SETTINGS, change=10.0))
    heard, events = played(made, 60)
    joins = [event["at"] for event in events[1:] if event["at"] < len(heard) - RATE]
    assert len(joins) > 3
    steps = np.abs(np.diff(heard))
    near = np.zeros(len(steps), bool)
    for at in joins:
        near[at - RATE // 10 : at + RATE + RATE // 10] = True
    usual = float(np.quantile(steps[~near], 0.99))  # a planted silence has steps of its own
    assert steps[near].max() < 1.5 * usual < 0.1


def lufs(sound, rate=RATE):
    pyloudnorm = pytest.importorskip("pyloudnorm", reason="needs pyloudnorm, of the extra `listening`")
    return pyloudnorm.Meter(rate).integrated_loudness(sound.astype(np.float64))


@pytest.mark.parametrize("loudness", [0.1, 1.0, 2.0])
@pytest.mark.parametrize("wanted", [-23.0, -18.0])
def test_the_loudness_is_the_one_that_is_wanted(loudness, wanted):
    settings = dataclasses.replace(SETTINGS, loudness=wanted)
    heard, _ = played(station(engine(loudness=loudness, levels=65536), settings=settings), 60)
    assert abs(lufs(heard) - wanted) < 1
    assert abs(lufs(heard[10 * RATE : 20 * RATE]) - wanted) < 2


def test_two_models_of_different_loudness_and_rate_take_turns():
    pytest.importorskip("soxr", reason="needs soxr, of the extra `audio`")
    made = station(
        engine(loudness=0.2, levels=65536), engine(rate=2 * RATE), settings=dataclasses.replace(SETTINGS, change=12.0)
    )
    assert made.rate == 2 * RATE
    heard, events = played(made, 90)
    assert len(events) > 4
    for before, after in itertools.pairwise(events):
        assert {before["model"], after["model"]} == {"model0", "model1"}
        alone = heard[before["at"] + made.rate : after["at"]]
        if len(alone):
            assert abs(lufs(alone, made.rate) + 23) < 1, before


def test_a_resampled_block_is_a_part_of_the_whole():
    """Blocks are resampled one by one; together they are what the whole gives."""
    soxr = pytest.importorskip("soxr", reason="needs soxr, of the extra `audio`")
    made = station(engine(sound=hum), engine(rate=2 * RATE, sound=hum))
    part = next(one for one in (made._part_of(number, 0) for number in range(9)) if one.plan.model == 0)
    part.make(40, made.program)
    raw = np.concatenate([block for _, block in part._blocks])
    first = part._blocks[0][0]
    whole = soxr.resample(raw, RATE, 2 * RATE, quality="HQ")
    for number in range(first + 2, first + 6):
        at = (number - first) * made.block
        assert np.abs(part._at_rate(number) - whole[at : at + made.block]).max() < 1e-4


@pytest.mark.parametrize("kind", [None, "noise", "clicks"])
def test_no_sample_passes_one_decibel_below_full_scale(kind):
    settings = dataclasses.replace(SETTINGS, loudness=-10.0)  # which needs much more than there is room for
    heard, _ = played(station(engine(kind), settings=settings), 40)
    assert 0.8 < np.abs(heard).max() <= 10 ** (-1 / 20)
    assert np.abs(np.floor(heard * 32768 + 0.5)).max() <= 32768 * 10 ** (-1 / 20)


def test_the_limiter_leaves_quiet_sound_alone_and_holds_any_peak():
    limiter, blocks = levelling.Limiter(RATE), np.random.default_rng(0).uniform(-0.8, 0.8, (5, 2000)).astype(np.float32)
    given = [limiter.add(block) for block in blocks]
    assert given[0] is None and all(np.array_equal(*pair) for pair in zip(given[1:], blocks, strict=False))
    loud = 5 * blocks
    loud[2, 0] = 90  # at the very border of a block
    limited = np.concatenate([one for one in map(limiter.add, loud) if one is not None])
    assert np.abs(limited).max() <= levelling.CEILING
    assert np.abs(limited).max() > 0.7


def test_the_limiter_turns_down_and_does_not_clip():
    """A tone that is too loud stays a tone."""
    limiter, tone = levelling.Limiter(RATE), 3 * np.sin(2 * np.pi * 100 / RATE * np.arange(5 * 2000))
    given = [limiter.add(block) for block in tone.reshape(5, 2000).astype(np.float32)]
    limited, wanted = np.concatenate(given[2:]), tone[2000:8000]
    assert np.corrcoef(limited, wanted)[0, 1] > 0.999
    assert np.corrcoef(np.clip(wanted, -levelling.CEILING, levelling.CEILING), wanted)[0, 1] < 0.98


def test_the_k_weighting_is_that_of_the_standard():
    """BS.1770: a sine of 997 Hz at full scale has -3.01 LUFS; the shelf adds 4 dB above, the high-pass takes bass."""
    rate, t = 48_000, np.arange(48_000) / 48_000
    weights = levelling.k_weights(rate, rate)

    def level(hertz):
        return levelling.loudness([levelling.power(np.sin(2 * np.pi * hertz * t), weights)])

    assert level(997) == pytest.approx(-3.01, abs=0.02)
    assert level(10_000) - level(997) == pytest.approx(3.3, abs=0.2)
    assert level(20) < level(997) - 10
    assert levelling.loudness([1e-9, 1e-9]) is None
    loud = levelling.loudness([0.1] * 9)
    assert levelling.loudness([0.1] * 9 + [0.0001] * 30) == pytest.approx(loud)  # 30 LU below: a rest
    assert levelling.loudness([0.1] * 9 + [0.025] * 9) == pytest.approx(loud - 2.04, abs=0.01)  # 6 LU below: music


def test_the_walks_stay_between_their_bounds_and_move_slowly():
    walk = Walk(5, 1, (0.8, 1.1))
    values = [walk.at(second) for second in range(20_000)]
    assert min(values) >= 0.8 and max(values) <= 1.1
    assert min(values) < 0.83 and max(values) > 1.07
    assert np.abs(np.diff(values)).max() <= 0.3 / 30 + 1e-9
    assert [Walk(5, 1, (0.8, 1.1)).at(second) for second in (12_345, 3)] == [values[12_345], values[3]]
    assert len({Walk(seed, stream, (0.8, 1.1)).at(100) for seed in (5, 6) for stream in (0, 1, 2)}) == 6


def test_each_model_is_followed_by_another_one():
    program = Program(SETTINGS, 3)
    models = [program.plan(number).model for number in range(300)]
    assert all(one != other for one, other in itertools.pairwise(models))
    assert all(models.count(one) > 60 for one in range(3))
    assert {Program(SETTINGS, 1).plan(number).model for number in range(5)} == {0}


def test_the_temperature_that_an_engine_gets_is_the_walks():
    made, wanted = station(engine(), settings=dataclasses.replace(SETTINGS, top_p=(0.8, 0.9))), []
    own = made.engines[0].backend
    generate = own.generate
    own.generate = lambda *args: wanted.append((float(args[3].temperature[0, 0]), args[3].top_p)) or generate(*args)
    played(made, 10)
    heats, nuclei = (np.array(column) for column in zip(*wanted, strict=True))
    assert len(set(heats)) > 20 and heats.min() >= 0.9 - 1e-6 and heats.max() <= 1.05 + 1e-6
    assert len(set(nuclei)) > 20 and nuclei.min() >= 0.8 and nuclei.max() <= 0.9


@pytest.mark.parametrize("kind", [None, "silence", "loop"])
def test_a_saved_station_goes_on_with_the_same_samples(tmp_path, kind):
    settings = dataclasses.replace(SETTINGS, change=10.0)
    whole, events = played(station(engine(kind), settings=settings), 25)
    assert len(events) > 1
    made, saved = station(engine(kind), settings=settings), 0
    while made.position < 14 * RATE:  # at every place of a part
        made.step()
        if not made.can_save or made.position < 6 * RATE:
            continue
        saved += 1
        made.save(tmp_path / "state")
        assert (tmp_path / "state").stat().st_size < 100_000
        other = station(engine(kind), settings=settings)
        other.load(tmp_path / "state")
        assert other.position == made.position
        rest = np.concatenate([other.step() for _ in range(28)])
        assert np.array_equal(rest, whole[made.position : made.position + len(rest)])
        later = [event for event in events if made.position + made.block < event["at"] < other.position - made.block]
        got = other.take_events()
        assert [event for event in got if event in later] == later
    assert saved > 20


def test_a_damaged_state_is_refused(tmp_path):
    made = station(engine())
    played(made, 5)
    path = tmp_path / "state"
    made.save(path)
    content = path.read_bytes()
    for cut in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(CheckpointError):
            station(engine()).load(path)
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        station(engine(rate=2 * RATE)).load(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": (1.1, 0.9)},
        {"temperature": (0.0, 0.9)},
        {"temperature": (0.5, math.nan)},
        {"top_p": (0.5, 1.5)},
        {"top_p": (0.9, 0.5)},
        {"change": 1.0},
        {"loudness": 3.0},
        {"seed": -1},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError):
        RadioSettings(**wrong)


def test_models_whose_rates_have_no_common_block_are_refused():
    with pytest.raises(ConfigError, match="cannot take turns"):
        station(engine(rate=8000), engine(rate=8001))
    assert station(engine(rate=22050)).block == 5512


def test_a_cross_fade_keeps_the_power():
    rising, falling = (
        np.concatenate(halves)
        for halves in zip(*(levelling.fades(at, 50, 200) for at in range(0, 200, 50)), strict=True)
    )
    assert np.allclose(rising**2 + falling**2, 1) and np.all(np.diff(rising) > 0)
    assert rising[0] < 0.01 and falling[-1] < 0.01
