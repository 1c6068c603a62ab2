"""What every system has to do: one set of tests for all of them. `tests/support/systems.py` lists them."""

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import random_levels
from command_line import run
from runs import assert_equal, assert_same_run, everything, tiny
from systems import SYSTEM_CASES, trained
from warm_python import warm_python

from samplernn_fast.backends.stepping import SteppingBackend
from samplernn_fast.data.folder import AudioData
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import ConfigError, SampleRNNError
from samplernn_fast.evaluation import scoring
from samplernn_fast.evaluation.likelihood import evaluate
from samplernn_fast.models import checkpoint
from samplernn_fast.models.other_configs import CONFIGS, config_from_dict
from samplernn_fast.models.registry import SYSTEMS, build_model
from samplernn_fast.training.presets import PRESETS, SPARSIFYING
from samplernn_fast.training.trainer import train

every_system = pytest.mark.parametrize("name", SYSTEM_CASES)
SUPPORT = Path(__file__).parents[1] / "support"


def made(name, seed=3):
    """A model whose biases are not zero, so that one which is left out shows."""
    model = build_model(SYSTEM_CASES[name], seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1, generator=generator)
    return model


def heard(config, rows, samples, seed=1):
    """Levels (rows, L + samples): silence, then any."""
    levels = random_levels(config, rows, config.lookback + samples, seed=seed)
    levels[:, : config.lookback] = config.q_zero
    return levels


def stepped(model, hidden, levels, t=0, stop=None):
    """Outputs (B, n, O) of a stepper from time t on over levels (B, L + n), and the hidden state behind them."""
    stepper, outputs, lookback = model.stepper(hidden, t), [], model.config.lookback
    steps = levels.shape[1] - lookback if stop is None else stop - t
    done = 0
    while done < steps:
        outputs.append(stepper.step(levels[:, done : done + lookback]))
        done += outputs[-1].shape[1]
    return torch.cat(outputs, dim=1)[:, :steps], stepper.hidden()


def test_every_system_is_among_the_cases():
    assert {config.system for config in SYSTEM_CASES.values()} == set(SYSTEMS) == {one.system for one in CONFIGS}
    presets = [preset for _, preset in PRESETS.values()]
    assert {preset.model.system for preset in [*presets, SPARSIFYING]} == set(SYSTEMS)
    assert all(SYSTEMS[name].config.system == name for name in SYSTEMS)


@every_system
@torch.no_grad()
def test_stepping_equals_the_training_forward(name):
    model = made(name).double()
    frame = model.config.top_frame
    levels = heard(model.config, 3, 3 * frame + (17 if frame == 1 else 0))
    expected, _ = model(levels)
    outputs, _ = stepped(model, model.init_hidden(3), levels)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-9)


@every_system
@torch.no_grad()
def test_a_stepper_goes_on_from_known_levels_and_from_the_middle_of_a_frame(name):
    model = made(name).double()
    lookback, frame = model.config.lookback, model.config.top_frame
    known = frame * -(-9 // frame)
    levels = heard(model.config, 2, known + 3 * frame + (7 if frame == 1 else 0))
    expected, _ = model(levels)
    outputs, hidden = model.follow(model.init_hidden(2), levels[:, : lookback + known])
    torch.testing.assert_close(outputs, expected[:, :known], rtol=0, atol=1e-9)
    middle = known + max(1, frame // 2)
    if name == "multi-softmax":  # a stepper gives whole frames, so one cannot stop within one
        middle = known + frame
    outputs, hidden = stepped(model, hidden, levels[:, known:], known, middle)
    torch.testing.assert_close(outputs, expected[:, known:middle], rtol=0, atol=1e-9)
    before = [part.clone() for part in hidden]
    for _ in range(2):  # the hidden state that a stepper begins with is left as it is
        outputs, _ = stepped(model, hidden, levels[:, middle:], middle)
        torch.testing.assert_close(outputs, expected[:, middle:], rtol=0, atol=1e-9)
    assert all(torch.equal(left, right) for left, right in zip(before, hidden, strict=True))


@every_system
@torch.no_grad()
def test_outputs_depend_on_earlier_samples_only(name):
    model = made(name).double()
    lookback, frame = model.config.lookback, model.config.top_frame
    levels = heard(model.config, 1, frame * -(-24 // frame))
    place = 3 * frame // 2 if frame > 1 else 11
    changed = levels.clone()
    changed[:, lookback + place] = (changed[:, lookback + place] + model.config.q_levels // 3) % model.config.q_levels
    before, after = model(levels)[0], model(changed)[0]
    assert torch.equal(before[:, : place + 1], after[:, : place + 1])
    assert not torch.equal(before[:, place + 1 :], after[:, place + 1 :])


@every_system
@torch.no_grad()
def test_a_state_that_is_carried_on_equals_one_long_sequence(name):
    model = made(name).double()
    frame = model.config.top_frame
    cut, end = frame * -(-8 // frame), frame * -(-20 // frame)
    levels = heard(model.config, 3, end)
    whole, last = model(levels)
    first, state = model(levels[:, : model.config.lookback + cut])
    second, after = model(levels[:, cut:], state, torch.tensor([False, True, False]))
    fresh, _ = model(levels[:, cut:])
    torch.testing.assert_close(first, whole[:, :cut], rtol=0, atol=1e-12)
    torch.testing.assert_close(second[[0, 2]], whole[[0, 2], cut:], rtol=0, atol=1e-12)
    torch.testing.assert_close(second[1], fresh[1], rtol=0, atol=1e-12)
    for left, right in zip(last, after, strict=True):
        torch.testing.assert_close(left[:, [0, 2]], right[:, [0, 2]], rtol=0, atol=1e-12)


@every_system
def test_levels_and_resets_that_are_none_are_refused(name):
    model = made(name)
    config = model.config
    levels, last = heard(config, 2, config.top_frame), config.q_levels - 1
    for bad in (last + 1, -1):
        wrong = levels.clone()
        wrong[1, -1] = bad
        got = f"got {int(wrong.min())} to {int(wrong.max())}"
        with pytest.raises(ConfigError, match=f"^forward: levels must be 0 to {last}, {got}$"):
            model(wrong)
    with pytest.raises(ConfigError, match=r"^forward: levels must be a tensor \(B, L \+ T\) of integers, got ndarray$"):
        model(levels.numpy())
    for reset in (True, [True, False], torch.tensor([1, 0]), torch.tensor([True]), np.array([True, False])):
        with pytest.raises(ConfigError, match=r"^forward: reset must be a tensor \(2,\) of bool, got "):
            model(levels, None, reset)


@every_system
def test_every_parameter_learns(name):
    model = made(name)
    levels = heard(model.config, 2, model.config.top_frame * -(-24 // model.config.top_frame))
    outputs, _ = model(levels)
    model.losses(outputs, levels[:, model.config.lookback :]).mean().backward()
    for parameter_name, parameter in model.named_parameters():
        kept = parameter_name.endswith("original1") and parameter.shape[1] == 1  # signs: `models.base` says why
        assert parameter.grad is not None and (parameter.grad.abs().sum() > 0) != kept, parameter_name


@every_system
def test_weights_come_from_the_seed_alone(name):
    before = torch.random.get_rng_state()
    torch.manual_seed(5)
    models = [build_model(SYSTEM_CASES[name], seed=seed) for seed in (1, 1, 2)]
    after = torch.random.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(after, torch.random.get_rng_state())
    torch.random.set_rng_state(before)
    first, again, other = (model.state_dict() for model in models)
    assert_equal(first, again)
    for key, tensor in first.items():
        # Biases begin at 0, and those of forget gates at 3.
        drawn = tensor.dim() > 1 and min(tensor.shape) > 1 and len(tensor.unique()) > 2
        assert not drawn or not torch.equal(tensor, other[key]), key


@every_system
def test_a_config_and_a_model_are_read_back(name, tmp_path):
    config = SYSTEM_CASES[name]
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config
    model = made(name)
    checkpoint.save_model(tmp_path / "model.safetensors", model)
    again = checkpoint.load_model(tmp_path / "model.safetensors")
    assert checkpoint.model_sha256(again) == checkpoint.model_sha256(model)
    assert sum(parameter.numel() for parameter in model.parameters()) >= config.least_values > 0


@every_system
def test_streams_do_not_depend_on_each_other_nor_on_blocks(name):
    engine = Engine(made(name), backend="stepping", dtype="float64")
    together = engine.run(engine.init_state(4, seed=3, temperature=0.9), 40)
    assert len({tuple(row) for row in together.tolist()}) == 4
    for stream in range(4):
        alone = engine.run(engine.init_state(1, seed=3, temperature=0.9, first_stream=stream), 40)
        assert np.array_equal(alone[0], together[stream])
    state = engine.init_state(4, seed=3, temperature=0.9)
    assert np.array_equal(np.concatenate([engine.run(state, n) for n in (1, 12, 0, 5, 22)], axis=1), together)


@every_system
@torch.no_grad()
def test_scores_are_those_of_the_training_forward_behind_any_context(name):
    model = made(name).double()
    engine = Engine(model, backend="stepping", dtype="float64")
    levels = random_levels(model.config, 2, model.config.lookback + 21, seed=4)
    if model.config.mixture:
        with pytest.raises(ConfigError, match=r"^score: .* predicts densities"):
            engine.score(levels)
        return
    expected = torch.log_softmax(model(levels[:, : model.config.lookback + 16])[0], dim=-1)
    torch.testing.assert_close(torch.from_numpy(engine.score(levels)[:, :16]), expected, rtol=0, atol=1e-9)


@every_system
def test_a_saved_state_and_forced_samples(name):
    engine = Engine(made(name), backend="stepping", dtype="float64")
    state = engine.init_state(2, seed=8)
    first = engine.run(state, 11)
    saved = state.state_dict()
    expected = engine.run(state, 20)
    other = Engine(made(name), backend="stepping", dtype="float64")
    fresh = other.init_state(2, seed=99)
    fresh.load_state_dict(saved)
    assert np.array_equal(other.run(fresh, 20), expected)
    # What was drawn and is then given goes on as it did.
    again = engine.init_state(2, seed=8)
    assert np.array_equal(engine.run(again, 11, forced=first), first)
    assert np.array_equal(engine.run(again, 20), expected)
    prompted = engine.init_state(2, seed=8, prompt=np.concatenate((first, expected), axis=1))
    assert prompted.t == 31


@every_system
def test_a_prompt_is_heard_as_if_it_had_been_made(name):
    engine = Engine(made(name), backend="stepping", dtype="float64")
    whole = engine.run(engine.init_state(2, seed=4), 60)
    state = engine.init_state(2, seed=4, prompt=whole[:, :41])
    assert np.array_equal(engine.run(state, 19), whole[:, 41:])


@every_system
def test_logits_that_are_no_numbers_are_refused(name):
    model = made(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1e30)
    with pytest.raises(SampleRNNError, match="not finite"):
        engine = Engine(model, backend="stepping")
        engine.run(engine.init_state(1), 40)


def test_a_prompt_that_would_not_be_heard_is_refused():
    engine = Engine(made("multi-softmax"), backend="stepping")
    with pytest.raises(ConfigError, match=r"^prompt must have at least 4 samples, .*; got 3$"):
        engine.init_state(1, prompt=torch.zeros(3, dtype=torch.int64))
    assert engine.init_state(1, prompt=torch.zeros(4, dtype=torch.int64)).t == 4


def settings(name, data, out, steps):
    return tiny(data, out, steps=steps, model=trained(SYSTEM_CASES[name]), sample_every=0, keep=0)


def train_elsewhere(data, out, steps, kill_at, *launcher):
    """Trains every system in another process, by `train_systems.py`."""
    command = [*launcher, SUPPORT / "train_systems.py", data, out, steps, kill_at, *SYSTEM_CASES]
    environment = os.environ | {"PYTHONPATH": str(SUPPORT), "OMP_NUM_THREADS": "1"}
    command = [warm_python(), *map(str, command)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


@pytest.fixture(scope="module")
def killed(data_folder, tmp_path_factory):
    """A folder of runs whose processes were killed at step 8 of 17, one for each system, how each process ended, and
    what they said."""
    folder = tmp_path_factory.mktemp("killed")
    done = train_elsewhere(data_folder, folder, 17, 8)
    return folder, dict(line.split() for line in done.stdout.splitlines()), done.stderr


@every_system
def test_a_killed_run_ends_as_one_that_was_not(name, killed, data_folder, tmp_path):
    folder, statuses, said = killed
    assert statuses.get(name) == str(-signal.SIGKILL), said
    assert checkpoint.read(folder / name / checkpoint.LAST_FILE)[1]["progress"]["step"] == 5  # from where it goes on
    broken_off, whole = (settings(name, data_folder, runs / name, 17) for runs in (folder, tmp_path))
    train(broken_off)
    train(whole)
    assert_same_run(broken_off.out, whole.out)


def test_two_ranks_equal_one(data_folder, tmp_path):
    """Gradients (Adam's first moments), states and losses are those of one process, but for the order of sums.

    Adam divides a gradient by its size, so rounding can turn the step of a weight whose gradient is nearly 0. So not
    weights are compared, but what the models give.
    """
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    ended = train_elsewhere(data_folder, tmp_path / "two", 2, 0, *launcher)
    assert ended.returncode == 0, ended.stderr
    for name in SYSTEM_CASES:
        one = settings(name, data_folder, tmp_path / "one" / name, 2)
        train(one, progress=False)
        left, right = everything(one.out), everything(tmp_path / "two" / name)
        assert left.keys() == right.keys()
        for key in left:
            if key.startswith(("adam.exp_avg.", "state.", "sums")):
                # Sums of large terms that nearly cancel are rounded as the terms are.
                apart, largest = (right[key] - left[key]).abs().max(), left[key].abs().max()
                assert apart <= 1e-4 * largest + 1e-6, f"{name} {key}: {apart} apart, the largest is {largest}"
        both = [checkpoint.load_model(tmp_path / ranks / name) for ranks in ("one", "two")]
        levels = heard(both[0].config, 2, both[0].config.top_frame * -(-24 // both[0].config.top_frame))
        with torch.no_grad():
            bits = [model.nll_bits(levels).item() for model in both]
        assert bits[0] == pytest.approx(bits[1], abs=1e-4), name


@pytest.mark.parametrize("name", [name for name, config in SYSTEM_CASES.items() if config.top_frame > 1])
def test_a_subsequence_that_is_shorter_than_a_frame_is_refused(name, data_folder, tmp_path):
    frame = SYSTEM_CASES[name].top_frame
    config = replace(settings(name, data_folder, tmp_path / "run", 1), seq_len=frame // 2)
    with pytest.raises(ConfigError, match=f"^seq_len must be a multiple of the top frame of {frame} samples"):
        train(config)


@every_system
def test_it_is_trained_scored_and_heard_by_its_run_folder(name, data_folder, tmp_path, capsys):
    config = settings(name, data_folder, tmp_path / "run", 3)
    result = train(replace(config, sample_every=2, sample_seconds=0.01))
    assert result.steps == 3 and (config.out / "samples" / "step_0000002.wav").is_file()
    capsys.readouterr()
    assert run("evaluate", config.out, "--data", data_folder, "--json") == 0
    assert 0 < json.loads(capsys.readouterr().out)["nll_bits"] < 20
    assert run("info", config.out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["config"]["system"] == SYSTEM_CASES[name].system
    for number, backend in enumerate(("auto", "stepping")):
        file = tmp_path / f"{number}.wav"
        assert run("generate", config.out, "--duration", "0.02", "--backend", backend, "-o", file) == 0
        assert file.stat().st_size > 44


@pytest.mark.parametrize("name", PRESETS)
def test_dim_makes_every_preset_small(name):
    model = PRESETS[name][1].model
    small = build_model(replace(model, dim=8), seed=None)
    assert sum(parameter.numel() for parameter in small.parameters()) < 400_000


@every_system
def test_a_model_in_bfloat16_has_a_hash_and_keeps_its_values(name):
    model = made(name).to(torch.bfloat16)
    assert checkpoint.model_sha256(model) != checkpoint.model_sha256(made(name))
    assert getattr(model, "values", torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("name", ["wavenet", "hybrid-wavenet", "hybrid-rnn-wavenet"])
def test_scoring_does_not_compute_a_context_again(name, data_folder, monkeypatch):
    config = replace(trained(SYSTEM_CASES[name]), sample_rate=8000, gain=AudioData.open(data_folder).gain)
    model = build_model(config).double()
    expected = evaluate(model, data_folder, "test", batch_size=1).nll_bits
    monkeypatch.setattr(scoring, "_MAX_PRODUCTS", 1)  # pieces of one top frame
    monkeypatch.setattr(type(model), "forward", None)
    assert evaluate(model, data_folder, "test").nll_bits == pytest.approx(expected, abs=1e-12)


@every_system
def test_the_stepping_backend_leaves_the_model_as_it_is(name):
    model = made(name)
    before = checkpoint.model_sha256(model)
    backend = SteppingBackend(model, "cpu", "float64")
    levels = heard(model.config, 1, model.config.top_frame)
    known = levels.numpy()
    backend.prime(backend.init_hidden(1), known[:, : model.config.lookback], known[:, model.config.lookback :])
    assert checkpoint.model_sha256(model) == before and all(one.requires_grad for one in model.parameters())
    model(levels)
