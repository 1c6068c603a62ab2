"""Engine settings: forced levels, prompts, temperatures that differ between streams or follow the time."""

import numpy as np
import pytest
import torch
from cases import CASES, make_model, random_levels
from engines import MODELS, engine, every_mode, every_model
from small import assert_one_line

from samplernn_fast.engine import engine as engine_module
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.temperature import TemperatureCurve, schedule
from samplernn_fast.errors import ConfigError
from samplernn_fast.reference import draw, randomness


def mixed_forced(config, streams, n, seed=0):
    """(streams, n): free stretches, forced ones, columns where only some rows are forced."""
    levels = random_levels(config, streams, n, seed).numpy()
    free = (torch.rand(streams, n, generator=torch.Generator().manual_seed(seed)) < 0.5).numpy()
    free[:, n // 4 : n // 2] = True
    free[:, n // 2 : n // 2 + 3 * config.lookback] = False
    return np.where(free, -1, levels)


@every_mode
@every_model
def test_forced_levels_are_taken_and_the_rest_is_drawn(name, backend, dtype):
    config, sampler = MODELS[name], engine(name, backend, dtype)
    forced = mixed_forced(config, 3, 160)
    levels = sampler.run(sampler.init_state(3, seed=2), 160, forced=forced)
    given = forced >= 0
    assert 100 < int(given.sum()) < 380
    assert np.array_equal(levels[given], forced[given])
    assert 0 <= int(levels.min()) and int(levels.max()) < config.q_levels
    tensor = torch.from_numpy(forced)
    assert np.array_equal(sampler.run(sampler.init_state(3, seed=2), 160, forced=tensor), levels)
    # Forcing what was drawn anyway, in other places, changes nothing.
    again = sampler.run(sampler.init_state(3, seed=2), 160, forced=np.where(given | (levels % 2 == 0), levels, -1))
    assert np.array_equal(again, levels)


@every_model
def test_free_levels_between_forced_ones_are_the_draws_of_their_own_time(name):
    """The draw at time t is the same whether the samples before it were drawn or forced."""
    config, sampler = MODELS[name], engine(name)
    forced = mixed_forced(config, 3, 120, seed=4)
    levels = sampler.run(sampler.init_state(3, seed=6), 120, forced=forced)
    silence = np.full((3, config.lookback), config.q_zero)
    logits = torch.from_numpy(sampler.score(np.concatenate((silence, levels), axis=1)))
    draws = torch.from_numpy(randomness.draws(6, np.arange(3), 0, 120).astype(np.int64))
    for t in range(120):
        drawn = draw.sample_ref(logits[:, t], draws[:, t], torch.ones(3)).numpy()
        free = forced[:, t] < 0
        assert np.array_equal(drawn[free], levels[free, t])


def test_silence_between_two_stretches_of_audio():
    """Section 3.3 of the paper in small: two seconds of audio, one of silence, two of audio."""
    sampler, config = engine(), MODELS["paper-3tier"]
    second = config.sample_rate
    silence = np.full((2, second), config.q_zero)
    state = sampler.init_state(2, seed=4)
    parts = [sampler.run(state, 2 * second), sampler.run(state, second, forced=silence), sampler.run(state, 2 * second)]
    assert np.array_equal(parts[1], silence)
    free = np.full((2, 2 * second), -1)
    whole = sampler.run(sampler.init_state(2, seed=4), 5 * second, forced=np.concatenate((free, silence, free), axis=1))
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    undisturbed = sampler.run(sampler.init_state(2, seed=4), 5 * second)
    assert np.array_equal(undisturbed[:, : 2 * second], parts[0])
    assert not np.array_equal(undisturbed[:, 3 * second :], parts[2])


@every_mode
@every_model
def test_a_prompt_of_any_length_is_what_was_heard_before(name, backend, dtype):
    config, sampler = MODELS[name], engine(name, backend, dtype)
    lookback = config.lookback
    for length in (0, 1, lookback - 1, lookback, 10 * lookback + 3):
        prompt = random_levels(config, 2, length + lookback, seed=length)[:, lookback:].numpy()
        primed = sampler.init_state(2, seed=5, prompt=prompt)
        assert primed.t == length
        by_hand = sampler.init_state(2, seed=5)
        for t in range(length):
            sampler.run(by_hand, 1, forced=prompt[:, t : t + 1])
        continued = sampler.run(primed, 40)
        assert np.array_equal(continued, sampler.run(by_hand, 40))
        # One prompt for every stream, given once.
        shared = sampler.init_state(2, seed=5, prompt=prompt[0])
        assert np.array_equal(sampler.run(shared, 40)[0], continued[0])


def test_a_long_prompt_is_heard_in_pieces(monkeypatch):
    """So that a signal is heard within it; the cut changes no bit."""
    sampler = engine("paper-3tier", "cpu", "float32")
    prompt = random_levels(MODELS["paper-3tier"], 1, 500, seed=1)
    whole = sampler.run(sampler.init_state(1, prompt=prompt), 40)
    monkeypatch.setattr(engine_module, "_KNOWN_AT_ONCE", 64)
    lengths, prime = [], sampler.backend.prime

    def counted(hidden, history, levels):
        lengths.append(levels.shape[1])
        prime(hidden, history, levels)

    monkeypatch.setattr(sampler.backend, "prime", counted)
    assert np.array_equal(sampler.run(sampler.init_state(1, prompt=prompt), 40), whole)
    assert len(lengths) > 5 and max(lengths) < 64 + MODELS["paper-3tier"].lookback


def test_a_prompt_changes_what_follows():
    sampler = engine()
    prompt = random_levels(MODELS["paper-3tier"], 2, 40, seed=1)
    rows = sampler.run(sampler.init_state(2, seed=5, prompt=prompt), 40)
    alone = sampler.run(sampler.init_state(1, seed=5, prompt=prompt[1], first_stream=1), 40)
    assert np.array_equal(alone[0], rows[1])
    other = sampler.run(sampler.init_state(2, seed=5, prompt=prompt.flip(0)), 40)
    assert not np.array_equal(other, rows)


@every_mode
def test_each_stream_may_have_its_temperature(backend, dtype):
    sampler = engine("paper-3tier", backend, dtype)
    heats = [0.0, 0.5, 1.0, 2.0]
    for given in (heats, tuple(heats), np.array(heats), torch.tensor(heats)):
        together = sampler.run(sampler.init_state(4, seed=1, temperature=given), 60)
        for stream, heat in enumerate(heats):
            alone = sampler.init_state(1, seed=1, temperature=heat, first_stream=stream)
            assert np.array_equal(sampler.run(alone, 60)[0], together[stream])


def test_temperature_zero_hears_no_seed():
    sampler = engine()
    greedy = [sampler.run(sampler.init_state(2, seed=seed, temperature=0), 60) for seed in (0, 1)]
    assert np.array_equal(greedy[0], greedy[1]) and np.array_equal(greedy[0][0], greedy[0][1])
    assert np.array_equal(greedy[0], sampler.run(sampler.init_state(2, seed=5, top_k=1), 60))


@every_mode
def test_a_schedule_follows_the_time_not_the_blocks(backend, dtype):
    sampler = engine("paper-3tier", backend, dtype)
    curve = schedule([(0.3, 0.2), (1.0, 2.0)])
    whole = sampler.run(sampler.init_state(2, temperature=curve), 130)
    state = sampler.init_state(2, temperature=curve)
    assert np.array_equal(np.concatenate([sampler.run(state, n) for n in (13, 50, 1, 66)], axis=1), whole)
    # Before the first point and after the last one, the curve is constant.
    assert np.array_equal(whole[:, :30], sampler.run(sampler.init_state(2, temperature=0.2), 30))
    held = np.where(np.arange(130) < 101, whole, -1)
    assert np.array_equal(sampler.run(sampler.init_state(2, temperature=2.0), 130, forced=held), whole)


def test_a_schedule_is_straight_lines_between_its_points():
    curve = schedule([(10, 1.1), (0, 0.7)])
    assert [curve(seconds) for seconds in (-5, 0, 5, 10, 99)] == pytest.approx([0.7, 0.7, 0.9, 1.1, 1.1])
    state = engine().init_state(2, temperature=schedule([(0, 1), (1, 2)]))
    state.t = 20
    assert state.temperatures(3).tolist() == pytest.approx(np.array([[1.2, 1.21, 1.22]] * 2))
    assert str(curve) == "0.0:0.7,10.0:1.1"


@pytest.mark.parametrize("points", [[], [(0, -1)], [(0, float("nan"))], [(float("nan"), 1)], [(float("inf"), 1)]])
def test_bad_schedules_are_refused(points):
    with pytest.raises(ConfigError) as raised:
        schedule(points)
    assert_one_line(raised)


def test_settings_may_change_between_two_runs():
    sampler = engine()
    state = sampler.init_state(2, seed=1, temperature=0.5)
    first = sampler.run(state, 30)
    state.temperature = [1.5, 0.0]
    state.set_truncation(5, None)
    second = sampler.run(state, 30)
    other = sampler.init_state(2, seed=1, temperature=[1.5, 0.0], top_k=5)
    held = np.concatenate((first, np.full((2, 30), -1)), axis=1)
    assert np.array_equal(sampler.run(other, 60, forced=held)[:, 30:], second)
    unchanged = sampler.run(sampler.init_state(2, seed=1, temperature=0.5), 60)
    assert np.array_equal(unchanged[:, :30], first) and not np.array_equal(unchanged[:, 30:], second)


def test_a_schedule_starts_behind_the_prompt():
    engine = Engine(make_model(CASES["paper-3tier"]), backend="reference")
    seen: list[float] = []

    def temperature(seconds: float) -> float:
        seen.append(seconds)
        return 1.0

    state = engine.init_state(temperature=temperature, prompt=random_levels(engine.config, 1, 37)[0])
    seen.clear()
    engine.run(state, 3)
    assert seen == [0.0, 1 / engine.config.sample_rate, 2 / engine.config.sample_rate]
    again = engine.init_state(temperature=temperature)
    again.load_state_dict(state.state_dict())
    seen.clear()
    engine.run(again, 1)
    assert seen == [3 / engine.config.sample_rate]


def test_a_schedule_is_worked_out_for_a_whole_slice(monkeypatch):
    """A call for each sample would cost as much as the sample does on a fast backend."""
    curve = schedule([(0, 0.7), (1.5, 1.1), (2, 0.001), (40, 3)])
    state = engine().init_state(2, temperature=curve)
    state.t = 17
    wanted = np.array([curve(time / 100) for time in range(17, 5017)], np.float32)
    monkeypatch.setattr(TemperatureCurve, "__call__", lambda *_: pytest.fail("called for a sample"))
    assert np.array_equal(state.temperatures(5000), np.broadcast_to(wanted, (2, 5000)))


def test_a_schedule_that_falls_to_zero_has_a_temperature_all_the_way():
    state = engine().init_state(1, temperature=schedule([(0, 1), (1, 0)]))
    assert 0 < state.temperatures(100).min() <= 0.02
    state.temperature = schedule([(0, 0.002), (1, 0)])
    row = state.temperatures(102)[0]
    assert row[:100].min() == row[60] == np.float32(0.001) and row[100] == row[101] == 0
