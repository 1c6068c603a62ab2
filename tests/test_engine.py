"""samplernn_fast.engine: a stream's audio depends on (model, seed, stream number) alone, whatever happens around it."""

import dataclasses
import functools
import io
import threading

import numpy as np
import pytest
import torch
from cases import CASES, make_model, random_levels

from samplernn_fast import backends, sampling
from samplernn_fast.engine import Engine, schedule
from samplernn_fast.errors import BackendUnavailable, CheckpointError, ConfigError

# At 100 Hz an engine works in blocks of 50 samples, so that short runs cross their borders.
NAMES = ("paper-3tier", "theano-lstm-skips", "two-levels")
MODELS = {name: dataclasses.replace(CASES[name], sample_rate=100) for name in NAMES}
every_model = pytest.mark.parametrize("name", NAMES)
# Where sums have one order for every batch, or more digits than any draw can tell apart. Float32 on the reference is
# left out: a matrix product of torch rounds a row differently beside other rows.
every_mode = pytest.mark.parametrize(("backend", "dtype"), [("reference", "float64"), ("cpu", "float32")])


@functools.cache
def engine(name="paper-3tier", backend="reference", dtype="float64"):
    reasons = backends.BACKENDS[backend].unavailable_reasons(MODELS[name], torch.device("cpu"))
    if reasons:
        pytest.skip("; ".join(reasons))
    return Engine(make_model(MODELS[name]), backend=backend, dtype=dtype)


def mixed_forced(config, streams, n, seed=0):
    """(streams, n): free stretches, forced ones, columns where only some rows are forced."""
    levels = random_levels(config, streams, n, seed)
    free = torch.rand(streams, n, generator=torch.Generator().manual_seed(seed)) < 0.5
    free[:, n // 4 : n // 2] = True
    free[:, n // 2 : n // 2 + 3 * config.lookback] = False
    return levels.masked_fill(free, -1)


def assert_one_line(raised):
    assert "\n" not in str(raised.value)


@every_mode
@every_model
def test_a_stream_does_not_depend_on_those_beside_it(name, backend, dtype):
    sampler = engine(name, backend, dtype)
    together = sampler.run(sampler.init_state(5, seed=3), 70)
    assert together.dtype == torch.int64 and together.shape == (5, 70)
    for stream in range(5):
        alone = sampler.run(sampler.init_state(1, seed=3, first_stream=stream), 70)
        assert torch.equal(alone[0], together[stream])
    shard = sampler.run(sampler.init_state(2, seed=3, first_stream=3), 70)
    assert torch.equal(shard, together[3:])


@every_model
def test_reference_in_float32_differs_between_batches_by_rounding_only(name):
    sampler = engine(name, "reference", "float32")
    levels = random_levels(MODELS[name], 5, 60)
    together, alone = sampler.init_state(5), sampler.init_state(1)
    sampler.run(together, 60, forced=levels)
    sampler.run(alone, 60, forced=levels[2:3])
    for many, one in zip(together.hidden, alone.hidden, strict=True):
        torch.testing.assert_close(many[:, 2:3], one, rtol=0, atol=1e-5)


@every_mode
@every_model
@pytest.mark.parametrize("cuts", [(1,) * 30 + (90,), (49, 2, 69), (50, 50, 20), (0, 7, 0, 112, 1)], ids=str)
def test_blocks_of_any_size_are_one_run(name, backend, dtype, cuts):
    sampler = engine(name, backend, dtype)
    whole = sampler.run(sampler.init_state(2, seed=1, temperature=0.8, top_k=20, top_p=0.95), 120)
    state = sampler.init_state(2, seed=1, temperature=0.8, top_k=20, top_p=0.95)
    parts = torch.cat([sampler.run(state, n) for n in cuts], dim=1)
    assert torch.equal(parts, whole)
    assert state.t == 120


def test_seeds_and_streams_differ():
    sampler = engine()
    rows = [sampler.run(sampler.init_state(3, seed=seed), 60) for seed in (0, 1, 2**63)]
    assert len({tuple(row.tolist()) for row in torch.cat(rows)}) == 9


@every_mode
def test_two_engines_in_two_threads(backend, dtype):
    model = make_model(MODELS["paper-3tier"])
    shared = engine("paper-3tier", backend, dtype)
    expected = [shared.run(shared.init_state(2, seed=seed), 200) for seed in range(4)]
    samplers = [
        shared,
        shared,
        Engine(model, backend=backend, dtype=dtype),
        Engine(model, backend=backend, dtype=dtype),
    ]
    results = {}

    def work(seed):
        state = samplers[seed].init_state(2, seed=seed)
        results[seed] = torch.cat([samplers[seed].run(state, 40) for _ in range(5)], dim=1)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(results[seed], expected[seed]) for seed in range(4))


def through_file(saved):
    """As torch.save and the loader that runs no code give it back."""
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_mode
@every_model
def test_a_saved_state_goes_on_in_a_fresh_engine(name, backend, dtype):
    before, after = 37, 60  # 37 is no multiple of a frame
    sampler = engine(name, backend, dtype)
    state = sampler.init_state(3, seed=8, temperature=[0.5, 1.0, 2.0], top_k=40, top_p=0.9, first_stream=4)
    sampler.run(state, before)
    saved = state.state_dict()
    expected = sampler.run(state, after)

    fresh = Engine(make_model(MODELS[name]), backend=backend, dtype=dtype)
    other = fresh.init_state(3, seed=99)
    fresh.run(other, 5)
    other.load_state_dict(through_file(saved))
    assert (other.t, other.seed, other.streams.tolist()) == (before, 8, [4, 5, 6])
    assert (other.temperature, other.top_k, other.top_p) == ((0.5, 1.0, 2.0), 40, 0.9)
    assert torch.equal(fresh.run(other, after), expected)
    other.load_state_dict(saved)  # running on has not changed what was saved
    assert torch.equal(fresh.run(other, after), expected)


def test_a_temperature_function_is_the_loaders_own():
    sampler = engine()
    saved = sampler.init_state(1, temperature=lambda seconds: 0.5).state_dict()
    state = sampler.init_state(1, temperature=0.7)
    state.load_state_dict(through_file(saved))
    assert state.temperature == 0.7


@pytest.mark.parametrize(
    "state",
    [
        lambda: Engine(make_model(MODELS["paper-3tier"], seed=1), backend="reference").init_state(2),
        lambda: engine("two-levels").init_state(2),
        lambda: engine("paper-3tier").init_state(3),
    ],
    ids=["other weights", "other sizes", "other streams"],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(state):
    sampler = engine()
    mine, untouched = sampler.init_state(2, seed=1), sampler.init_state(2, seed=1)
    with pytest.raises(CheckpointError, match="engine state does not fit") as raised:
        mine.load_state_dict(state().state_dict())
    assert_one_line(raised)
    assert torch.equal(sampler.run(mine, 20), sampler.run(untouched, 20))


def test_a_dictionary_that_is_no_state_is_refused():
    with pytest.raises(CheckpointError, match="engine state does not fit"):
        engine().init_state(2).load_state_dict({})


@every_mode
@every_model
def test_forced_levels_are_taken_and_the_rest_is_drawn(name, backend, dtype):
    config, sampler = MODELS[name], engine(name, backend, dtype)
    forced = mixed_forced(config, 3, 160)
    levels = sampler.run(sampler.init_state(3, seed=2), 160, forced=forced)
    given = forced >= 0
    assert 100 < int(given.sum()) < 380
    assert torch.equal(levels[given], forced[given])
    assert 0 <= int(levels.min()) and int(levels.max()) < config.q_levels
    # Forcing what was drawn anyway, in other places, changes nothing.
    again = sampler.run(sampler.init_state(3, seed=2), 160, forced=torch.where(given | (levels % 2 == 0), levels, -1))
    assert torch.equal(again, levels)


@every_model
def test_free_levels_between_forced_ones_are_the_draws_of_their_own_time(name):
    """The draw at time t is the same whether the samples before it were drawn or forced."""
    config, sampler = MODELS[name], engine(name)
    forced = mixed_forced(config, 3, 120, seed=4)
    levels = sampler.run(sampler.init_state(3, seed=6), 120, forced=forced)
    silence = torch.full((3, config.lookback), config.q_zero)
    logits = sampler.score(torch.cat((silence, levels), dim=1))
    draws = sampling.draws(6, np.arange(3), 0, 120)
    for t in range(120):
        drawn = sampling.sample_ref(logits[:, t], draws[:, t], torch.ones(3))
        free = forced[:, t] < 0
        assert torch.equal(drawn[free], levels[free, t])


def test_silence_between_two_stretches_of_audio():
    """Section 3.3 of the paper in small: two seconds of audio, one of silence, two of audio."""
    sampler, config = engine(), MODELS["paper-3tier"]
    second = config.sample_rate
    silence = torch.full((2, second), config.q_zero)
    state = sampler.init_state(2, seed=4)
    parts = [sampler.run(state, 2 * second), sampler.run(state, second, forced=silence), sampler.run(state, 2 * second)]
    assert torch.equal(parts[1], silence)
    free = torch.full((2, 2 * second), -1)
    whole = sampler.run(sampler.init_state(2, seed=4), 5 * second, forced=torch.cat((free, silence, free), dim=1))
    assert torch.equal(torch.cat(parts, dim=1), whole)
    undisturbed = sampler.run(sampler.init_state(2, seed=4), 5 * second)
    assert torch.equal(undisturbed[:, : 2 * second], parts[0])
    assert not torch.equal(undisturbed[:, 3 * second :], parts[2])


@every_mode
@every_model
def test_a_prompt_of_any_length_is_what_was_heard_before(name, backend, dtype):
    config, sampler = MODELS[name], engine(name, backend, dtype)
    lookback = config.lookback
    for length in (0, 1, lookback - 1, lookback, 10 * lookback + 3):
        prompt = random_levels(config, 2, length + lookback, seed=length)[:, lookback:]
        primed = sampler.init_state(2, seed=5, prompt=prompt)
        assert primed.t == length
        by_hand = sampler.init_state(2, seed=5)
        for t in range(length):
            sampler.run(by_hand, 1, forced=prompt[:, t : t + 1])
        continued = sampler.run(primed, 40)
        assert torch.equal(continued, sampler.run(by_hand, 40))
        # One prompt for every stream, given once.
        shared = sampler.init_state(2, seed=5, prompt=prompt[0].numpy())
        assert torch.equal(sampler.run(shared, 40)[0], continued[0])


def test_a_prompt_changes_what_follows():
    sampler = engine()
    prompt = random_levels(MODELS["paper-3tier"], 2, 40, seed=1)
    rows = sampler.run(sampler.init_state(2, seed=5, prompt=prompt), 40)
    alone = sampler.run(sampler.init_state(1, seed=5, prompt=prompt[1], first_stream=1), 40)
    assert torch.equal(alone[0], rows[1])
    other = sampler.run(sampler.init_state(2, seed=5, prompt=prompt.flip(0)), 40)
    assert not torch.equal(other, rows)


@every_mode
def test_each_stream_may_have_its_temperature(backend, dtype):
    sampler = engine("paper-3tier", backend, dtype)
    heats = [0.0, 0.5, 1.0, 2.0]
    for given in (heats, tuple(heats), np.array(heats), torch.tensor(heats)):
        together = sampler.run(sampler.init_state(4, seed=1, temperature=given), 60)
        for stream, heat in enumerate(heats):
            alone = sampler.init_state(1, seed=1, temperature=heat, first_stream=stream)
            assert torch.equal(sampler.run(alone, 60)[0], together[stream])


def test_temperature_zero_hears_no_seed():
    sampler = engine()
    greedy = [sampler.run(sampler.init_state(2, seed=seed, temperature=0), 60) for seed in (0, 1)]
    assert torch.equal(greedy[0], greedy[1]) and torch.equal(greedy[0][0], greedy[0][1])
    assert torch.equal(greedy[0], sampler.run(sampler.init_state(2, seed=5, top_k=1), 60))


@every_mode
def test_a_schedule_follows_the_time_not_the_blocks(backend, dtype):
    sampler = engine("paper-3tier", backend, dtype)
    curve = schedule([(0.3, 0.2), (1.0, 2.0)])
    whole = sampler.run(sampler.init_state(2, temperature=curve), 130)
    state = sampler.init_state(2, temperature=curve)
    assert torch.equal(torch.cat([sampler.run(state, n) for n in (13, 50, 1, 66)], dim=1), whole)
    # Before the first point and after the last one, the curve is constant.
    assert torch.equal(whole[:, :30], sampler.run(sampler.init_state(2, temperature=0.2), 30))
    held = torch.where(torch.arange(130) < 101, whole, -1)
    assert torch.equal(sampler.run(sampler.init_state(2, temperature=2.0), 130, forced=held), whole)


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
    assert torch.equal(sampler.run(other, 60, forced=torch.cat((first, torch.full((2, 30), -1)), 1))[:, 30:], second)
    unchanged = sampler.run(sampler.init_state(2, seed=1, temperature=0.5), 60)
    assert torch.equal(unchanged[:, :30], first) and not torch.equal(unchanged[:, 30:], second)


@every_mode
def test_no_samples_change_nothing(backend, dtype):
    sampler = engine("paper-3tier", backend, dtype)
    state = sampler.init_state(3)
    assert sampler.run(state, 0).shape == (3, 0) and state.t == 0
    assert sampler.run(state, 0, forced=np.zeros((3, 0), np.int64)).shape == (3, 0)
    assert torch.equal(sampler.run(state, 20), sampler.run(sampler.init_state(3), 20))


@every_mode
@every_model
def test_score_takes_any_length(name, backend, dtype):
    config, sampler = MODELS[name], engine(name, backend, dtype)
    levels = random_levels(config, 2, 3 * config.lookback + 1)
    whole = sampler.score(levels)
    assert whole.shape == (2, 2 * config.lookback + 1, config.q_levels)
    torch.testing.assert_close(whole.exp().sum(dim=2), torch.ones_like(whole[..., 0]))
    for steps in (0, 1, config.lookback):
        part = sampler.score(levels[:, : config.lookback + steps])
        assert part.shape == (2, steps, config.q_levels)
        torch.testing.assert_close(part, whole[:, :steps], rtol=0, atol=1e-5)


BAD_CALLS = {
    "no streams": (lambda e: e.init_state(0), "streams must be numbered"),
    "negative stream": (lambda e: e.init_state(1, first_stream=-1), "streams must be numbered"),
    "stream beyond 32 bits": (lambda e: e.init_state(2, first_stream=2**32 - 1), "streams must be numbered"),
    "seed": (lambda e: e.init_state(1, seed=-1), "seed must be"),
    "temperature": (lambda e: e.init_state(1, temperature=-0.5), "temperature must be 0 or between"),
    "temperature text": (lambda e: e.init_state(1, temperature="hot"), "temperature must be 0 or between"),
    "temperature None": (lambda e: e.init_state(1, temperature=None), "temperature must be 0 or between"),
    "temperatures": (lambda e: e.init_state(3, temperature=[1.0, 1.0]), r"one per stream \(3\)"),
    "one bad temperature": (lambda e: e.init_state(2, temperature=[1.0, float("nan")]), "got nan"),
    "temperature function": (
        lambda e: e.run(e.init_state(1, temperature=lambda seconds: -seconds), 3),
        "temperature must be 0 or between",
    ),
    "top_k": (lambda e: e.init_state(1, top_k=0), "top_k must be"),
    "top_p": (lambda e: e.init_state(1, top_p=1.5), "top_p must be"),
    "negative n": (lambda e: e.run(e.init_state(1), -1), "n must be at least 0, got -1"),
    "forced shape": (lambda e: e.run(e.init_state(2), 5, forced=torch.zeros(2, 4).long()), r"\(2, 5\), got \(2, 4\)"),
    "forced row": (lambda e: e.run(e.init_state(2), 5, forced=torch.zeros(5).long()), r"\(2, 5\), got \(5,\)"),
    "forced level": (lambda e: e.run(e.init_state(1), 1, forced=[[64]]), "levels must be -1 to 63, got 64"),
    "forced below": (lambda e: e.run(e.init_state(1), 1, forced=[[-2]]), "levels must be -1 to 63, got -2"),
    "forced floats": (lambda e: e.run(e.init_state(1), 1, forced=np.zeros((1, 1))), "levels must be integers"),
    "prompt level": (lambda e: e.init_state(1, prompt=[3, -1]), "levels must be 0 to 63, got -1"),
    "prompt rows": (lambda e: e.init_state(3, prompt=np.zeros((2, 4), int)), r"B = 3, got \(2, 4\)"),
    "prompt scalar": (lambda e: e.init_state(1, prompt=np.int64(3)), r"prompt must be .* got \(\)"),
    "prompt 3-d": (lambda e: e.init_state(1, prompt=np.zeros((1, 1, 1), int)), r"prompt must be .* got \(1, 1, 1\)"),
    "prompt floats": (lambda e: e.init_state(1, prompt=np.zeros(4, np.float32)), "levels must be integers"),
    "score shape": (lambda e: e.score(np.zeros(9, int)), r"\(B, L \+ T\) with L = 8, got \(9,\)"),
    "score too short": (lambda e: e.score(np.zeros((1, 7), int)), r"with L = 8, got \(1, 7\)"),
    "score level": (lambda e: e.score(np.full((1, 9), 64)), "levels must be 0 to 63, got 64"),
    "score free": (lambda e: e.score(np.full((1, 9), -1)), "levels must be 0 to 63, got -1"),
}


@pytest.mark.parametrize("call", BAD_CALLS)
def test_impossible_requests_are_one_line(call):
    request, message = BAD_CALLS[call]
    with pytest.raises(ConfigError, match=message) as raised:
        request(engine())
    assert_one_line(raised)


@functools.cache
def small_model():
    return make_model(MODELS["paper-3tier"])


def test_an_unknown_backend_names_those_that_exist():
    with pytest.raises(BackendUnavailable, match="no backend 'tpu'") as raised:
        Engine(small_model(), backend="tpu")
    assert_one_line(raised)
    for name in ("auto", *backends.BACKENDS):
        assert name in str(raised.value)


def test_a_named_backend_never_turns_into_another(monkeypatch):
    class Broken(backends.BACKENDS["reference"]):
        name = "broken"

        @staticmethod
        def unavailable_reasons(config, device):
            return ["no wind", "no sails"]

    monkeypatch.setattr(backends, "BACKENDS", {"broken": Broken, "reference": backends.BACKENDS["reference"]})
    with pytest.raises(BackendUnavailable, match="broken: no wind; no sails"):
        Engine(small_model(), backend="broken")
    assert Engine(small_model()).backend.name == "reference"
    monkeypatch.setattr(backends, "BACKENDS", {"broken": Broken})
    with pytest.raises(BackendUnavailable, match="no backend can run this model on cpu: broken: no wind; no sails"):
        Engine(small_model(), device="cpu")


def test_dtypes():
    assert Engine(small_model(), dtype="float64", device="cpu").backend.name == "reference"
    assert Engine(small_model(), backend="reference").dtype == "float32"
    with pytest.raises(ConfigError, match="dtype must be auto or one of float32, float64 on reference, got 'int3'"):
        Engine(small_model(), backend="reference", dtype="int3")
    with pytest.raises(BackendUnavailable, match="reference: has no dtype int3"):
        Engine(small_model(), dtype="int3", device="cpu")


@pytest.mark.parametrize("device", ["tpu", "meta", "cpu:x", ""])
def test_unknown_devices_are_refused(device):
    with pytest.raises(ConfigError, match="device must be auto, cpu, cuda or cuda:N") as raised:
        Engine(small_model(), device=device)
    assert_one_line(raised)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(BackendUnavailable, match="torch sees no CUDA GPU; use --device cpu"):
        Engine(small_model(), device="cuda")
    assert Engine(small_model()).device.type == "cpu"


def test_a_model_with_a_value_that_is_not_finite_is_refused():
    model = make_model(MODELS["paper-3tier"])
    with torch.no_grad():
        model.mlp.output.bias[3] = float("nan")
    with pytest.raises(CheckpointError, match=r"mlp\.output\.bias holds a value that is not finite"):
        Engine(model)


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


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_logits_that_overflow_are_an_error(backend):
    model = make_model(CASES["paper-3tier"], dtype=torch.float32)
    with torch.no_grad():
        model.mlp.output.parametrizations.weight.original0.fill_(3e38)
    if backends.BACKENDS[backend].unavailable_reasons(model.config, torch.device("cpu")):
        pytest.skip("the native part is not built")
    overflowing = Engine(model, backend=backend)
    with pytest.raises(CheckpointError, match="not finite"):
        overflowing.run(overflowing.init_state(), 50)
