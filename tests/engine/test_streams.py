"""The engine: a stream's audio depends on (model, seed, stream number) alone, whatever happens around it."""

import io
import json
import threading

import numpy as np
import pytest
import torch
from cases import make_model, random_levels
from engines import MODELS, engine, every_mode, every_model
from small import assert_one_line

from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import CheckpointError


@every_mode
@every_model
def test_a_stream_does_not_depend_on_those_beside_it(name, backend, dtype):
    sampler = engine(name, backend, dtype)
    together = sampler.run(sampler.init_state(5, seed=3), 70)
    assert together.dtype == np.int64 and together.shape == (5, 70)
    for stream in range(5):
        alone = sampler.run(sampler.init_state(1, seed=3, first_stream=stream), 70)
        assert np.array_equal(alone[0], together[stream])
    shard = sampler.run(sampler.init_state(2, seed=3, first_stream=3), 70)
    assert np.array_equal(shard, together[3:])


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
    whole = sampler.run(
        sampler.init_state(2, seed=1, temperature=0.8, top_k=min(20, sampler.config.q_levels), top_p=0.95), 120
    )
    state = sampler.init_state(2, seed=1, temperature=0.8, top_k=min(20, sampler.config.q_levels), top_p=0.95)
    parts = np.concatenate([sampler.run(state, n) for n in cuts], axis=1)
    assert np.array_equal(parts, whole)
    assert state.t == 120


def test_seeds_and_streams_differ():
    sampler = engine()
    rows = [sampler.run(sampler.init_state(3, seed=seed), 60) for seed in (0, 1, 2**63)]
    assert len({tuple(row.tolist()) for row in np.concatenate(rows)}) == 9


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
        results[seed] = np.concatenate([samplers[seed].run(state, 40) for _ in range(5)], axis=1)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(results[seed], expected[seed]) for seed in range(4))


def through_file(saved):
    """As files of arrays and of JSON give it back, whose loaders run no code."""
    file, arrays = io.BytesIO(), {f"hidden{tier}": h for tier, h in enumerate(saved["hidden"])}
    np.savez(file, history=saved["history"], **arrays)
    text = json.dumps({name: value for name, value in saved.items() if name not in ("hidden", "history")})
    file.seek(0)
    found = np.load(file, allow_pickle=False)
    return json.loads(text) | {"hidden": [found[name] for name in arrays], "history": found["history"]}


def through_torch(saved):
    """As version 0.1.0 saved a state: with tensors, by torch.save, whose loader that runs no code gives it back."""
    file = io.BytesIO()
    tensors = {"hidden": [torch.from_numpy(h) for h in saved["hidden"]], "history": torch.from_numpy(saved["history"])}
    torch.save(saved | tensors, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_mode
@every_model
def test_a_saved_state_goes_on_in_a_fresh_engine(name, backend, dtype):
    before, after = 37, 60  # 37 is no multiple of a frame
    sampler = engine(name, backend, dtype)
    state = sampler.init_state(
        3, seed=8, temperature=[0.5, 1.0, 2.0], top_k=min(40, sampler.config.q_levels), top_p=0.9, first_stream=4
    )
    sampler.run(state, before)
    saved = state.state_dict()
    expected = sampler.run(state, after)

    fresh = Engine(make_model(MODELS[name]), backend=backend, dtype=dtype)
    for kept in (through_file, through_torch):
        other = fresh.init_state(3, seed=99)
        fresh.run(other, 5)
        other.load_state_dict(kept(saved))
        assert (other.t, other.seed, other.streams.tolist()) == (before, 8, [4, 5, 6])
        assert (other.temperature, other.top_k, other.top_p) == ((0.5, 1.0, 2.0), min(40, sampler.config.q_levels), 0.9)
        assert np.array_equal(fresh.run(other, after), expected)
    other.load_state_dict(saved)  # running on has not changed what was saved
    assert np.array_equal(fresh.run(other, after), expected)


@pytest.mark.parametrize(
    "modes", [("reference", "float64", "cpu", "float32"), ("cpu", "float32", "reference", "float64")]
)
def test_a_state_goes_on_in_another_numeric_mode_as_a_saved_one_does(modes):
    first, second = engine("paper-3tier", *modes[:2]), engine("paper-3tier", *modes[2:])
    state, loaded = first.init_state(2, seed=3), second.init_state(2)
    first.run(state, 30)
    loaded.load_state_dict(state.state_dict())
    assert np.array_equal(second.run(state, 60), second.run(loaded, 60))


def test_a_temperature_function_is_the_loaders_own():
    sampler = engine()
    saved = sampler.init_state(1, temperature=lambda seconds: 0.5).state_dict()
    for kept in (through_file, through_torch):
        state = sampler.init_state(1, temperature=0.7)
        state.load_state_dict(kept(saved))
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
    assert np.array_equal(sampler.run(mine, 20), sampler.run(untouched, 20))


def test_a_dictionary_that_is_no_state_is_refused():
    with pytest.raises(CheckpointError, match="engine state does not fit"):
        engine().init_state(2).load_state_dict({})


GOOD, OLD = np.zeros((1, 2, 16), np.float32), torch.zeros(1, 2, 16)  # as it is, and as version 0.1.0 had it
DAMAGED = {
    "model_sha256": ["0" * 64, None, 7, ["a"]],
    "hidden": [None, [], [GOOD], "ab", {"a": 1}, [GOOD, None], [GOOD] * 3, [OLD], [OLD, None], [OLD] * 3, 3],
    "history": [
        None,
        [[1, 2]],
        np.zeros((2, 8)),
        np.full((2, 8), 64),
        np.full((2, 8), -1),
        np.zeros(8, int),
        torch.zeros(2, 8),
        torch.full((2, 8), 64),
        torch.full((2, 8), -1),
        torch.zeros(8).long(),
    ],
    "t": [None, -1, 1.5, "3", True, 2**63, [1], float("nan")],
    "prompt_length": [None, -1, 10**9, 0.5, "0"],
    "seed": [None, -1, 2**64, 1.0, "1", [2]],
    "streams": [None, 4, "ab", [], [0], [0, 1, 2], [0, -1], [0, 2**32], [0, 1.5], [0, "1"], [0, True], [[0], [1]], {}],
    "temperature": ["1", -1.0, float("nan"), float("inf"), 10**400, [1.0], [1.0, None], [[1.0], [1.0]], {}, abs, True],
    "top_k": [None, -1, 1.5, "40", 2**40, True],
    "top_p": [None, 0.0, -0.5, 1.5, float("nan"), "0.5", [0.5]],
}


def changed_hidden(change):
    """The hidden states of another run, the last of them changed. change: of an array."""
    hidden = engine("paper-3tier", "reference", "float32").init_state(2).state_dict()["hidden"]
    return [*hidden[:-1], change(hidden[-1])]


def snapshot(state):
    """Everything that `state_dict` tells of a state, comparable."""
    saved = state.state_dict()
    return {name: [t.tolist() for t in v] if name == "hidden" else v for name, v in saved.items() if name != "history"}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # torch warns of kinds of tensors that are refused here
@pytest.mark.parametrize("name", DAMAGED)
def test_a_state_with_one_bad_entry_is_refused_and_changes_nothing(name):
    sampler = engine("paper-3tier", "reference", "float32")
    mine, untouched = (sampler.init_state(2, seed=1, temperature=0.7, top_k=9) for _ in range(2))
    other = sampler.init_state(2, seed=5, temperature=[0.5, 1.5], top_p=0.5, prompt=torch.zeros(3).long())
    sampler.run(other, 20)
    good = other.state_dict()
    values = [*DAMAGED[name], np.zeros(3)]
    if name == "hidden":
        changes = [
            lambda h: h.fill_(torch.nan),
            lambda h: h.double() * 1e300 + 1e300,  # infinite in float32
            lambda h: h[:, :1],
            lambda h: h.long(),
            lambda h: h.to_sparse(),
            lambda h: h.to("meta"),
            lambda h: h.to(torch.float8_e5m2),
            lambda h: torch.quantize_per_tensor(h, 0.1, 0, torch.qint8),
            lambda h: torch.nested.nested_tensor([h[0], h[0, :1]]),
            lambda h: h.to(torch.complex64),
        ]
        values += [changed_hidden(lambda h, change=change: change(torch.from_numpy(h))) for change in changes]
        arrays = [
            lambda h: np.full_like(h, np.nan),
            lambda h: h.astype(np.float64) * 1e300 + 1e300,
            lambda h: h[:, :1],
            lambda h: h.astype(np.int64),
            lambda h: h.astype(np.complex64),
            lambda h: h.astype(object),
            lambda h: h.astype(str),
        ]
        values += [changed_hidden(change) for change in arrays]
    before = snapshot(mine)
    for value in values:
        with pytest.raises(CheckpointError, match="engine state does not fit") as raised:
            mine.load_state_dict(good | {name: value})
        assert_one_line(raised)
        assert snapshot(mine) == before, value
    with pytest.raises(CheckpointError, match=name):
        mine.load_state_dict({key: value for key, value in good.items() if key != name})
    assert np.array_equal(sampler.run(mine, 20), sampler.run(untouched, 20))
    mine.load_state_dict(good)
    assert np.array_equal(sampler.run(mine, 20), sampler.run(other, 20))


@pytest.mark.parametrize("state", [None, [], "state", 3, [("t", 1)]])
def test_what_is_no_dictionary_is_no_state(state):
    with pytest.raises(CheckpointError, match="engine state does not fit"):
        engine().init_state(2).load_state_dict(state)


@every_mode
def test_no_samples_change_nothing(backend, dtype):
    sampler = engine("paper-3tier", backend, dtype)
    state = sampler.init_state(3)
    assert sampler.run(state, 0).shape == (3, 0) and state.t == 0
    assert sampler.run(state, 0, forced=np.zeros((3, 0), np.int64)).shape == (3, 0)
    assert np.array_equal(sampler.run(state, 20), sampler.run(sampler.init_state(3), 20))


@every_mode
@every_model
def test_score_takes_any_length(name, backend, dtype):
    config, sampler = MODELS[name], engine(name, backend, dtype)
    levels = random_levels(config, 2, 3 * config.lookback + 1)
    whole = sampler.score(levels)
    assert whole.shape == (2, 2 * config.lookback + 1, config.q_levels)
    assert whole.dtype == np.dtype(dtype) and np.array_equal(sampler.score(levels.numpy()), whole)
    torch.testing.assert_close(np.exp(whole).sum(axis=2), np.ones_like(whole[..., 0]))
    for steps in (0, 1, config.lookback):
        part = sampler.score(levels[:, : config.lookback + steps])
        assert part.shape == (2, steps, config.q_levels)
        torch.testing.assert_close(part, whole[:, :steps], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("backend", "dtype"), [("cpu", "float32"), ("cpu", "int8"), ("reference", "float64")])
def test_arrays_of_any_order_are_taken(backend, dtype):
    """Columns that lie one behind the other, as soundfile gives channels, are the same levels."""
    made = engine("paper-3tier", backend, dtype)
    rows = np.random.default_rng(0).integers(0, 64, (3, 48))
    columns = np.asfortranarray(rows)
    assert np.array_equal(made.score(columns), made.score(rows))
    states = [made.init_state(3, prompt=levels) for levels in (rows, columns)]
    forced = np.where(rows % 3, -1, rows)
    levels = [
        made.run(state, 48, forced=given) for state, given in zip(states, (forced, forced.T.copy().T), strict=True)
    ]
    assert np.array_equal(*levels)
    saved = states[0].state_dict()
    states[1].load_state_dict(saved | {"hidden": [np.asfortranarray(h) for h in saved["hidden"]]})
    assert np.array_equal(made.run(states[1], 20), made.run(states[0], 20))
