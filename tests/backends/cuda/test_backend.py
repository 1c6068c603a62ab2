"""The `cuda` backend behind `Engine` without a GPU: libraries play the driver and NVRTC, and the text of the kernels,
compiled for the "cpu", walks the tiers."""

import threading

import numpy as np
import pytest
import torch
from cases import CASES, make_model, random_levels
from engines import MODELS
from fake_gpu import RUN_TIME_LIMIT, SHARED_BYTES
from played_gpu import STREAMS, Played, by_launches, engines
from small import assert_one_line

from samplernn_fast.backends.cuda import constants, launcher
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.together import run_together, warm_up
from samplernn_fast.errors import CheckpointError, DeviceError
from samplernn_fast.reference.randomness import Drawing, Randomness
from samplernn_fast.reference.weights import pack

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")


@pytest.mark.parametrize("name", MODELS)
def test_it_makes_the_levels_of_the_reference(gpu, name):
    engine, exact = engines(name)
    made, heat = [], STREAMS[name]
    for sampler in (engine, exact):
        state = sampler.init_state(
            len(heat), seed=5, temperature=heat, top_k=min(40, sampler.config.q_levels), top_p=0.95, first_stream=2
        )
        made.append(sampler.run(state, 70))
    assert made[0].dtype == np.int64 and np.array_equal(*made)
    assert "cuLaunchKernelEx" in gpu.calls


@pytest.mark.parametrize("name", MODELS)
def test_it_scores_as_the_reference(gpu, name):
    engine, exact = engines(name)
    levels = random_levels(MODELS[name], len(STREAMS[name]), MODELS[name].lookback * 4 + 1)
    wanted = exact.score(levels).astype(np.float32)
    torch.testing.assert_close(engine.score(levels), wanted, rtol=0, atol=1e-4)
    whole = levels.numpy()[:, : MODELS[name].lookback * 4]
    columns = np.asfortranarray(whole)  # the same levels, of which columns lie one behind the other
    scores = [engine.backend.score(engine.backend.init_hidden(len(given)), given) for given in (whole, columns)]
    assert np.array_equal(*scores)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_scores_every_case_as_the_reference(gpu, name):
    model, levels = make_model(CASES[name]), random_levels(CASES[name], 2, CASES[name].lookback * 3)
    exact = Engine(model, backend="reference", dtype="float64", device="cpu").score(levels).astype(np.float32)
    got = Engine(model, backend="cuda", device="cpu").score(levels)
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["two-levels", pytest.param("theano-lstm-skips", marks=pytest.mark.slow)])
def test_one_kernel_a_stage_has_the_levels_of_the_persistent_kernel(gpu, name, monkeypatch):
    """The same blocks, or other ones: a launch of a stage needs no room for all of them."""
    monkeypatch.setattr(launcher, "LAUNCH_STEPS", 13)
    gpu.set_device(SHARED_BYTES, 4 << 10)
    config, streams = MODELS[name], len(STREAMS[name])
    persistent, stages = Played(pack(make_model(config)), "cpu", "float32"), by_launches(name)
    gpu.set(held_by_others=3)
    group = stages.launcher.program(streams).group
    assert not group.cooperative and group.streams == streams
    forced = np.full((streams, 40), -1)
    forced[:, 9:25] = 1
    heat, history = np.full((streams, 40), 0.9, np.float32), np.full((streams, config.lookback), config.q_zero)
    made = []
    for backend in (stages, persistent):
        if backend is persistent:
            gpu.set(held_by_others=0)
        hidden = backend.init_hidden(streams)
        drawing = Drawing(Randomness(7, np.arange(streams, dtype=np.uint32)), heat)
        made.append([backend.generate(hidden, history, 1, drawing, forced), *hidden])
    assert all(np.array_equal(*pair) for pair in zip(*made, strict=True))


def test_stages_that_fail_are_an_error_and_change_no_state(gpu):
    stages, config = by_launches("two-levels"), MODELS["two-levels"]
    levels, hidden = random_levels(config, 1, config.lookback * 3).numpy(), stages.init_hidden(1)
    before = [h.copy() for h in hidden]
    gpu.fail("cuLaunchKernelEx", 719, after=20)
    with pytest.raises(DeviceError, match=r"cuLaunchKernelEx failed: CUDA_ERROR_LAUNCH_FAILED \(719\)") as raised:
        stages.score(hidden, levels)
    assert_one_line(raised)
    assert all(np.array_equal(*pair) for pair in zip(hidden, before, strict=True))
    gpu.succeed()
    exact = Engine(make_model(config), backend="reference", dtype="float64", device="cpu").score(levels)
    torch.testing.assert_close(stages.score(hidden, levels), exact.astype(np.float32), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_other_modes_are_close(gpu, dtype):
    config = MODELS["paper-3tier"]
    model, levels = make_model(config), random_levels(config, 1, config.lookback * 8).numpy()
    exact = Engine(model, backend="reference", dtype="float64", device="cpu").score(levels).astype(np.float32)
    backend = Played(pack(model), "cpu", dtype)
    got = backend.score(backend.init_hidden(1), levels)
    difference = np.abs(got - exact).max()
    assert 1e-5 < difference < 0.3  # it is another mode, and it is the same model


def test_one_run_of_many_launches(gpu, monkeypatch):
    engine, exact = engines()
    expected = exact.run(exact.init_state(3, seed=1), 45)
    monkeypatch.setattr(launcher, "LAUNCH_STEPS", 7)
    engine.run(engine.init_state(3), 14)  # has made the memory for results
    gpu.reset_calls()
    assert np.array_equal(engine.run(engine.init_state(3, seed=1), 45), expected)
    launches = [call for call in gpu.calls if call in ("cuLaunchKernelEx", "cuEventSynchronize")]
    # The next launch is under way before the results of the last one are waited for.
    assert launches == ["cuLaunchKernelEx", *["cuLaunchKernelEx", "cuEventSynchronize"] * 6, "cuEventSynchronize"]


def test_no_array_of_the_host_goes_to_the_gpu_between_two_launches(gpu, monkeypatch):
    """A copy from the host would wait until the launches before it have ended."""
    engine, exact = engines()
    expected, before = exact.run(exact.init_state(3, seed=1), 45), []
    monkeypatch.setattr(launcher, "LAUNCH_STEPS", 7)
    engine.run(engine.init_state(3), 14)
    gpu.reset_calls()
    from_numpy = torch.from_numpy
    monkeypatch.setattr(
        torch, "from_numpy", lambda array: (before.append(gpu.calls.count("cuLaunchKernelEx")), from_numpy(array))[1]
    )
    assert np.array_equal(engine.run(engine.init_state(3, seed=1), 45), expected)
    assert gpu.calls.count("cuLaunchKernelEx") == 7
    assert before and not any(before)


def test_a_gpu_that_ends_long_kernels_gets_short_ones(gpu, monkeypatch):
    monkeypatch.setattr(launcher, "WATCHED_STEPS", 5)
    engine, exact = engines("two-levels")
    assert engine.backend.launcher.steps(1) == launcher.LAUNCH_STEPS
    for watched, launches in ((0, 1), (1, 4)):
        gpu.set_device(RUN_TIME_LIMIT, watched)
        gpu.reset_calls()
        made = [one.run(one.init_state(1, seed=8), 20) for one in (engine, exact)]
        assert np.array_equal(*made) and gpu.calls.count("cuLaunchKernelEx") == launches
    assert engine.backend.launcher.steps(64) == 1


def test_scores_of_many_launches(gpu, monkeypatch):
    engine, _ = engines()
    levels = random_levels(engine.config, 3, engine.config.lookback + 40)
    whole = engine.score(levels)
    monkeypatch.setattr(launcher, "LAUNCH_STEPS", 9)
    assert np.array_equal(engine.score(levels), whole)


def test_prompts_and_injected_levels(gpu):
    engine, exact = engines()
    prompt = random_levels(engine.config, 3, 29)
    forced = np.full((3, 40), -1)
    forced[:, 10:22], forced[1, 30:] = 7, 9
    made = []
    for sampler in (engine, exact):
        state = sampler.init_state(3, seed=2, prompt=prompt)
        made.append(sampler.run(state, 40, forced=forced))
        made[-1] = np.concatenate((made[-1], sampler.run(state, 5)), axis=1)
    assert np.array_equal(*made)


def test_a_kernel_gets_levels_only_where_some_are_given(gpu, monkeypatch):
    """Without them it need not look for one in every sample. The levels that it draws are the same."""
    monkeypatch.setattr(launcher, "LAUNCH_STEPS", 7)
    config, launch, passed = MODELS["two-levels"], launcher.Launcher.launch, []
    backend = Played(pack(make_model(config)), "cpu", "float32")

    def launched(self, streams, out, start, params):
        passed.append(params.forced != 0)
        return launch(self, streams, out, start, params)

    def make(forced):
        passed.clear()
        history, heat = np.full((1, config.lookback), config.q_zero), np.full((1, 12), 0.9, np.float32)
        drawing = Drawing(Randomness(7, np.arange(1, dtype=np.uint32)), heat)
        return backend.generate(backend.init_hidden(1), history, 0, drawing, forced)

    monkeypatch.setattr(launcher.Launcher, "launch", launched)
    forced = np.full((1, 12), -1)
    drawn = make(forced)
    assert passed == [False, False]
    forced[0, 11] = 1 - drawn[0, 11]  # in the second launch
    mixed = make(forced)
    assert passed == [True, True]
    assert np.array_equal(mixed[:, :11], drawn[:, :11]) and mixed[0, 11] == forced[0, 11]


def test_a_stream_does_not_depend_on_those_beside_it(gpu):
    engine, _ = engines()
    together = engine.run(engine.init_state(3, seed=3), 60)
    alone = engine.run(engine.init_state(1, seed=3, first_stream=1), 60)
    assert np.array_equal(alone[0], together[1])


def test_states_of_several_listeners_share_a_call(gpu, fake_nvrtc, monkeypatch):
    """Once the first levels are checked; then no number of listeners below that of the warm-up is compiled for."""
    engine, exact = engines()
    assert not engine.mixes
    warm_up(engine, 3)
    assert engine.mixes
    before, frame = fake_nvrtc.compilations, engine.config.top_frame
    monkeypatch.setattr(launcher, "LAUNCH_STEPS", frame)
    for count in (1, 2, 3):
        made = []
        for sampler in (engine, exact):
            states = [
                sampler.init_state(seed=1, temperature=0.5),
                sampler.init_state(seed=2**64 - 1, temperature=1.2, top_k=3, first_stream=7),
                sampler.init_state(seed=3, prompt=np.arange(2 * frame) % 256, top_p=0.8),
            ][:count]
            sampler.run(states[-1], 3 * frame)
            gpu.reset_calls()
            made.append([run_together(sampler, states, n) for n in (frame, frame + 7)])
            if sampler is engine:
                assert gpu.calls.count("cuLaunchKernelEx") == 3
        assert all(np.array_equal(*pair) for calls in zip(*made, strict=True) for pair in zip(*calls, strict=True))
    assert fake_nvrtc.compilations == before


def when_asked(engine, happens):
    """Calls `happens` with the number of streams whenever a program is asked for."""
    program = engine.backend.launcher.program
    engine.backend.launcher.program = lambda streams: (happens(streams), program(streams))[1]


def test_a_gpu_that_has_less_room_during_the_warm_up(gpu, fake_nvrtc):
    """All kernels of the other kind are compiled before anybody listens, also those for fewer listeners."""
    engine, exact = engines()
    when_asked(engine, lambda streams: streams == 4 and gpu.set(held_by_others=1 << 20))
    assert warm_up(engine, 4) is None
    assert (engine.most_mixed, engine.backend.launcher.exchange) == (4, "launches")
    before = fake_nvrtc.compilations
    for count in (1, 2, 3, 4):
        made = [
            run_together(sampler, [sampler.init_state(seed=seed) for seed in range(count)], 20)
            for sampler in (engine, exact)
        ]
        assert all(np.array_equal(*pair) for pair in zip(*made, strict=True))
    assert fake_nvrtc.compilations == before


def test_a_number_of_listeners_whose_kernels_fail(gpu):
    engine, _ = engines()
    when_asked(engine, lambda streams: gpu.fail("cuLaunchKernelEx", 701) if streams == 4 else gpu.succeed())
    assert "cuLaunchKernelEx failed" in (warm_up(engine, 8) or "")
    assert engine.most_mixed == 2


def test_a_saved_state_goes_on(gpu):
    engine, _ = engines()
    state = engine.init_state(3, seed=4)
    engine.run(state, 21)
    saved = state.state_dict()
    expected = engine.run(state, 30)
    other = engine.init_state(3)
    other.load_state_dict(saved)
    assert np.array_equal(engine.run(other, 30), expected)


def test_threads_share_an_engine(gpu):
    engine, _ = engines()
    expected = [engine.run(engine.init_state(3, seed=seed), 20) for seed in range(3)]
    results = {}

    def work(seed):
        results[seed] = engine.run(engine.init_state(3, seed=seed), 20)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(results[seed], expected[seed]) for seed in range(3))


def test_a_kernel_is_compiled_once_for_a_number_of_streams(gpu, fake_nvrtc):
    engine, _ = engines()
    for _ in range(2):
        engine.run(engine.init_state(3), 5)
    before = fake_nvrtc.compilations
    another, _ = engines()
    another.run(another.init_state(3), 5)
    assert fake_nvrtc.compilations == before


@pytest.mark.parametrize("exchange", ["tagged", "cluster"])
def test_a_wait_in_vain_is_an_error_that_names_the_place(cluster_gpu, exchange, monkeypatch):
    config = MODELS["paper-3tier"]
    backend = Played(pack(make_model(config)), "cpu", "float32", exchange=exchange)
    levels, hidden = random_levels(config, 1, config.lookback * 3).numpy(), backend.init_hidden(1)
    before = [h.copy() for h in hidden]
    monkeypatch.setenv("FAKE_LOSE_STORE", "40")
    monkeypatch.setattr(launcher, "TIME_LIMIT_NS", 400_000)
    with pytest.raises(DeviceError, match=r"gave up: block \d+ waited more than .* sample \d+ of the call") as raised:
        backend.score(hidden, levels)
    assert_one_line(raised)
    names = constants.exchange_names(config)
    assert any(f"s for {name} (exchange number" in str(raised.value) for name in names)
    assert all(np.array_equal(*pair) for pair in zip(hidden, before, strict=True))
    monkeypatch.delenv("FAKE_LOSE_STORE")
    backend.score(hidden, levels)
    assert not np.array_equal(hidden[0], before[0])


def test_a_wait_in_vain_before_the_first_sample_of_a_call_is_told_as_one_for_it(gpu, monkeypatch):
    engine, _ = engines()
    state = engine.init_state(1)
    engine.run(state, 1)  # so the next call begins inside a frame
    monkeypatch.setenv("FAKE_LOSE_STORE", "0")
    monkeypatch.setattr(launcher, "TIME_LIMIT_NS", 400_000)
    with pytest.raises(DeviceError, match=r"upsampling of tier 0 ahead \(exchange number 1 .*, sample 0 of the call\)"):
        engine.run(state, 4)


def test_logits_that_overflow_are_an_error(gpu):
    model = make_model(MODELS["paper-3tier"], dtype=torch.float32)
    with torch.no_grad():
        model.mlp.output.parametrizations.weight.original0.fill_(3e38)
    engine = Engine(model, backend="cuda", device="cpu")
    with pytest.raises(CheckpointError, match="not finite"):
        engine.run(engine.init_state(3), 30)


@pytest.mark.parametrize(
    "call", ["cuMemsetD8Async", "cuLaunchKernelEx", "cuMemcpyDtoHAsync", "cuEventRecord", "cuEventSynchronize"]
)
def test_a_failure_while_it_runs_is_an_error_and_changes_no_state(gpu, call):
    engine, _ = engines()
    state = engine.init_state(3, seed=6)
    expected = engine.run(engine.init_state(3, seed=6), 20)
    gpu.fail(call, 719)
    with pytest.raises(DeviceError, match=rf"{call} failed: CUDA_ERROR_LAUNCH_FAILED \(719\)") as raised:
        engine.run(state, 20)
    assert_one_line(raised)
    gpu.succeed()
    assert state.t == 0 and np.array_equal(engine.run(state, 20), expected)
