"""The `cuda` backend behind `Engine` without a GPU: libraries play the driver and NVRTC, and the text of the kernels,
compiled for the CPU, walks the tiers."""

import argparse
import json
import logging
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import CASES, make_model, random_levels
from engines import MODELS, Sized
from fake_gpu import (
    CAPABILITY_MAJOR,
    CLUSTER_LAUNCH,
    COOPERATIVE,
    FOLDER,
    MAX_THREADS,
    MULTIPROCESSORS,
    ROOT,
    RUN_TIME_LIMIT,
    SHARED_BYTES,
)
from small import assert_one_line

from samplernn_fast import backends, cuda_backend, cuda_device, cuda_plan
from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.cuda_backend import CudaBackend
from samplernn_fast.cuda_plan import Grouping
from samplernn_fast.engine import Engine
from samplernn_fast.errors import BackendUnavailable, CheckpointError, ConfigError, DeviceError
from samplernn_fast.sampling import Randomness
from samplernn_fast.weights import pack

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

CPU = torch.device("cpu")
# The temperature of every stream; each number of streams is a kernel, which takes the C++ compiler seconds.
STREAMS = {"paper-3tier": (0.7, 1.0, 0.0), "theano-lstm-skips": (0.9,), "two-levels": (1.3,)}


class Played(CudaBackend):
    """The backend where torch's tensors on the CPU are the memory of the GPU that is played."""

    @staticmethod
    def unavailable_reasons(config, device):
        return cuda_device.missing(0)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The folder of kernels that the tests of this file share, because the C++ compiler takes seconds for each."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def gpu(fake_gpu, fake_nvrtc, compiled, monkeypatch):
    """A machine with a GPU of 4 multiprocessors, without clusters."""
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(compiled))
    monkeypatch.setenv("FAKE_NVRTC_COMPILER", f"{sys.executable} {FOLDER / 'compile_for_cpu.py'}")
    monkeypatch.setattr(cuda_device, "THREADS", 64)  # each is a fibre here
    monkeypatch.setitem(backends.BACKENDS, "cuda", Played)
    fake_gpu.set_device(SHARED_BYTES, 20 << 10)  # so that even small models need all blocks
    fake_gpu.set_device(CLUSTER_LAUNCH, 0)
    return fake_gpu


def engines(name="paper-3tier", dtype="float32"):
    """A model of a case on the cuda backend, and on the reference."""
    model = make_model(MODELS[name])
    exact = Engine(model, backend="reference", dtype="float64", device="cpu")
    engine = Engine(model, backend="cuda", dtype=dtype, device="cpu")
    engine.pace = Sized(50)  # several launches of many samples, as on a GPU
    return engine, exact


@pytest.mark.parametrize("name", MODELS)
def test_it_makes_the_levels_of_the_reference(gpu, name):
    engine, exact = engines(name)
    made, heat = [], STREAMS[name]
    for sampler in (engine, exact):
        state = sampler.init_state(len(heat), seed=5, temperature=heat, top_k=40, top_p=0.95, first_stream=2)
        made.append(sampler.run(state, 70))
    assert made[0].dtype == torch.int64 and torch.equal(*made)
    assert "cuLaunchKernelEx" in gpu.calls


def test_a_profiled_backend_tells_where_the_time_went(gpu):
    weights = pack(make_model(MODELS["two-levels"]))
    backend = Played(weights, CPU, "float32", profile=True)
    backend.stage_times()  # of the first launch, which shows that the kernel runs
    assert backend.stage_times() == []
    history = torch.full((1, weights.config.lookback), weights.config.q_zero)
    backend.prime(backend.init_hidden(1), history, history)
    *stages, whole = backend.stage_times()
    assert [stage.name for stage in stages] == cuda_plan.stage_names(weights.config)
    assert whole.times == weights.config.lookback and whole.seconds > 0
    assert sum(stage.seconds for stage in stages) == pytest.approx(whole.seconds)
    assert Played(weights, CPU, "float32").stage_times() == []


@pytest.mark.parametrize("name", MODELS)
def test_it_scores_as_the_reference(gpu, name):
    engine, exact = engines(name)
    levels = random_levels(MODELS[name], len(STREAMS[name]), MODELS[name].lookback * 4 + 1)
    torch.testing.assert_close(engine.score(levels), exact.score(levels).float(), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_scores_every_case_as_the_reference(gpu, name):
    model, levels = make_model(CASES[name]), random_levels(CASES[name], 2, CASES[name].lookback * 3)
    exact = Engine(model, backend="reference", dtype="float64", device="cpu").score(levels).float()
    got = Engine(model, backend="cuda", device="cpu").score(levels)
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-4)


def by_launches(name, dtype="float32"):
    return Played(pack(make_model(MODELS[name])), CPU, dtype, exchange="launches")


@pytest.mark.parametrize("name", ["two-levels", pytest.param("theano-lstm-skips", marks=pytest.mark.slow)])
def test_one_kernel_a_stage_has_the_levels_of_the_persistent_kernel(gpu, name, monkeypatch):
    """The same blocks, or other ones: a launch of a stage needs no room for all of them."""
    monkeypatch.setattr(cuda_backend, "LAUNCH_STEPS", 13)
    gpu.set_device(SHARED_BYTES, 4 << 10)
    config, streams = MODELS[name], len(STREAMS[name])
    persistent, stages = Played(pack(make_model(config)), CPU, "float32"), by_launches(name)
    gpu.set(held_by_others=3)
    program = stages.program(streams)
    assert not program.cooperative and program.streams == streams
    forced = torch.full((streams, 40), -1)
    forced[:, 9:25] = 1
    heat, history = torch.full((streams, 40), 0.9), torch.full((streams, config.lookback), config.q_zero)
    made = []
    for backend in (stages, persistent):
        if backend is persistent:
            gpu.set(held_by_others=0)
        hidden = backend.init_hidden(streams)
        draws = Randomness(7, np.arange(streams, dtype=np.uint32))
        made.append([backend.generate(hidden, history, 1, draws, heat, 0, 1.0, forced), *hidden])
    assert all(torch.equal(*pair) for pair in zip(*made, strict=True))


def test_every_stage_is_timed_and_samples_are_still_made(gpu, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import stage_times

    config = MODELS["two-levels"]
    timed = stage_times.TimedStages(pack(make_model(config)), CPU, "float32")
    gpu.reset_calls()
    rows = stage_times.rows_of(timed, 1, samples=4, repeats=2)
    names = {f"gru_cell {tier} 0" for tier in (0, 1)} | {"upsample 0 0", "upsample 1 0", "walk"}
    names |= {f"sample_step_{part} 0 0" for part in ("input", "hidden", "logits", "draw")}
    assert {row["stage"] for row in rows} == names and all(row["us"] > 0 for row in rows)
    often = {row["stage"]: row["per_sample"] for row in rows}
    assert (often["gru_cell 1 0"], often["upsample 1 0"], often["gru_cell 0 0"]) == (1 / 3, 1.0, 1.0)
    # Four samples of 7 launches, two of the top tier, its load; the next sample's first; and each stage 8 times.
    assert gpu.calls.count("cuLaunchKernelEx") == 1 + 4 * 7 + 2 + 1 + 8 * 8
    levels = random_levels(config, 1, config.lookback * 3)
    exact = Engine(make_model(config), backend="reference", dtype="float64", device="cpu").score(levels)
    torch.testing.assert_close(timed.score(timed.init_hidden(1), levels), exact.float(), rtol=0, atol=1e-4)


def test_stages_are_timed_where_a_launch_has_fewer_samples(gpu, monkeypatch):
    """As of 128 streams and more: the call must stay one launch."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import stage_times

    monkeypatch.setattr(cuda_backend, "LAUNCH_STEPS", 3)
    timed = stage_times.TimedStages(pack(make_model(MODELS["two-levels"])), CPU, "float32")
    gpu.reset_calls()
    assert all(row["us"] > 0 for row in stage_times.rows_of(timed, 1, samples=3, repeats=1))
    # Two samples of 7 launches, one of the top tier, its load; the next sample's first; and each stage 4 times.
    assert gpu.calls.count("cuLaunchKernelEx") == 1 + 2 * 7 + 1 + 1 + 8 * 4


@pytest.mark.parametrize("alone", [False, True])
def test_predicted_and_measured_times_stand_side_by_side(gpu, monkeypatch, alone):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import gpu_machine
    import stage_times

    config = MODELS["two-levels"]
    if not alone:
        gpu.set_device(SHARED_BYTES, 4 << 10)
    machine = gpu_machine.machine_of(cuda_device.Gpu.open(0).device)
    assert (machine.multiprocessors, machine.shared_bytes, machine.clusters) == (4, (20 if alone else 4) << 10, False)
    backend = Played(pack(make_model(config)), CPU, "float32", profile=True)
    monkeypatch.setattr(cuda_backend, "LAUNCH_STEPS", config.lookback)
    *rows, total = stage_times.profiled_rows(backend, machine, 1)
    assert [row["stage"] for row in rows] == cuda_plan.stage_names(config) and total["stage"] == "a sample"
    assert all(row["predicted_us"] > 0 for row in rows[:-1])  # where nothing stays nothing is loaded
    assert all(row["us"] >= row["exchange_us"] >= 0 for row in rows)
    assert total["us"] == pytest.approx(sum(row["us"] for row in rows)) and total["exchange_us"] > 0
    assert {row["exchange"] for row in rows} == {"alone" if alone else "tagged"}
    text = json.loads(json.dumps([*rows, total]))
    stage_times.print_rows(text)
    group = stage_times.grouping_of(backend.program(1), "auto")
    assert (group.blocks, group.batch) == ((1, 1) if alone else (4, 1))
    with pytest.raises(BackendUnavailable, match="refused the persistent kernel"):
        stage_times.grouping_of(SimpleNamespace(stages=[]), "launches")


def test_each_way_of_exchange_is_a_contestant_after_its_draws_were_checked(gpu, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import contestants

    monkeypatch.setattr(contestants, "CudaBackend", Played)
    options = {"exchanges": ["counters", "cluster"], "dtype": ["float32"], "backend": ["reference"], "styles": []}
    args = argparse.Namespace(**options, threads=[1], batch_size=[1], no_plain=True)
    lineup = contestants.Lineup(MODELS["paper-3tier"], args, CPU)
    (_, found), absent = lineup.contestants(1)
    assert found.name == "cuda float32 counters" and found.make(16).shape == (1, 16)
    (one,) = absent.found
    assert one.name == "cuda float32 cluster" and one.reason.startswith("1 streams of this model") and one.failed
    args.exchanges = ["all"]  # what was not asked for by name may not fit
    absent = lineup.contestants(1)[1]
    assert [(one.name, one.failed) for one in absent.found] == [
        ("cuda float32 cluster", False),
        ("cuda float32 roles", False),
    ]


def test_stages_that_fail_are_an_error_and_change_no_state(gpu):
    stages, config = by_launches("two-levels"), MODELS["two-levels"]
    levels, hidden = random_levels(config, 1, config.lookback * 3), stages.init_hidden(1)
    before = [h.clone() for h in hidden]
    gpu.fail("cuLaunchKernelEx", 719, after=20)
    with pytest.raises(DeviceError, match=r"cuLaunchKernelEx failed: CUDA_ERROR_LAUNCH_FAILED \(719\)") as raised:
        stages.score(hidden, levels)
    assert_one_line(raised)
    assert all(torch.equal(*pair) for pair in zip(hidden, before, strict=True))
    gpu.succeed()
    exact = Engine(make_model(config), backend="reference", dtype="float64", device="cpu").score(levels)
    torch.testing.assert_close(stages.score(hidden, levels), exact.float(), rtol=0, atol=1e-4)


def test_where_others_hold_multiprocessors_it_goes_on_by_launches(gpu, caplog):
    """When an engine is built, and in the middle of a run."""
    gpu.set_device(SHARED_BYTES, 4 << 10)
    engine, exact = engines("two-levels")
    made = [sampler.run(sampler.init_state(1, seed=8), 20) for sampler in (engine, exact)]
    assert torch.equal(*made) and engine.backend.program(1).cooperative
    state = engine.init_state(1, seed=8)
    first = engine.run(state, 7)
    gpu.set(held_by_others=1)
    with caplog.at_level(logging.WARNING):
        rest = engine.run(state, 13)
        engine.run(engine.init_state(1), 3)
    assert torch.equal(torch.cat((first, rest), dim=1), made[1])
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("the cuda backend goes on with one kernel for each stage: cuLaunchKernelEx failed: ")
    assert "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE (720)" in line and "\n" not in line
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        other = Engine(make_model(MODELS["two-levels"]), device="cpu")
    assert (other.backend.name, other.backend.exchange, len(caplog.records)) == ("cuda", "launches", 1)
    assert torch.equal(other.run(other.init_state(1, seed=8), 20), made[1])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_other_modes_are_close(gpu, dtype):
    config = MODELS["paper-3tier"]
    model, levels = make_model(config), random_levels(config, 1, config.lookback * 8)
    exact = Engine(model, backend="reference", dtype="float64", device="cpu").score(levels).float()
    backend = Played(pack(model), CPU, dtype)
    got = backend.score(backend.init_hidden(1), levels)
    difference = (got - exact).abs().max().item()
    assert 1e-5 < difference < 0.3  # it is another mode, and it is the same model


def test_one_run_of_many_launches(gpu, monkeypatch):
    engine, exact = engines()
    expected = exact.run(exact.init_state(3, seed=1), 45)
    monkeypatch.setattr(cuda_backend, "LAUNCH_STEPS", 7)
    engine.run(engine.init_state(3), 14)  # has made the memory for results
    gpu.reset_calls()
    assert torch.equal(engine.run(engine.init_state(3, seed=1), 45), expected)
    launches = [call for call in gpu.calls if call in ("cuLaunchKernelEx", "cuEventSynchronize")]
    # The next launch is under way before the results of the last one are waited for.
    assert launches == ["cuLaunchKernelEx", *["cuLaunchKernelEx", "cuEventSynchronize"] * 6, "cuEventSynchronize"]


def test_a_gpu_that_ends_long_kernels_gets_short_ones(gpu, monkeypatch):
    monkeypatch.setattr(cuda_backend, "WATCHED_STEPS", 5)
    engine, exact = engines("two-levels")
    assert engine.backend.launch_steps(1) == cuda_backend.LAUNCH_STEPS
    for watched, launches in ((0, 1), (1, 4)):
        gpu.set_device(RUN_TIME_LIMIT, watched)
        gpu.reset_calls()
        made = [one.run(one.init_state(1, seed=8), 20) for one in (engine, exact)]
        assert torch.equal(*made) and gpu.calls.count("cuLaunchKernelEx") == launches
    assert engine.backend.launch_steps(64) == 1


def test_scores_of_many_launches(gpu, monkeypatch):
    engine, _ = engines()
    levels = random_levels(engine.config, 3, engine.config.lookback + 40)
    whole = engine.score(levels)
    monkeypatch.setattr(cuda_backend, "LAUNCH_STEPS", 9)
    assert torch.equal(engine.score(levels), whole)


def test_small_models_take_one_block_for_some_streams(gpu):
    gpu.set_device(SHARED_BYTES, 227 << 10)
    engine, exact = engines()
    made = [sampler.run(sampler.init_state(5, seed=7, top_k=30), 40) for sampler in (engine, exact)]
    assert torch.equal(*made)
    program = engine.backend.program(5)  # on 4 multiprocessors
    assert (program.streams, program.blocks, program.cooperative) == (6, 3, False)
    levels = random_levels(engine.config, 5, engine.config.lookback * 3)
    torch.testing.assert_close(engine.score(levels), exact.score(levels).float(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("dim", "dtype", "streams", "expected"),
    [
        (1024, "int8", 1, Grouping(1, 1, 128, "tagged")),
        (1024, "float32", 64, Grouping(64, 1, 128, "tagged")),
        (64, "float32", 1, Grouping(1, 1, 64, "tagged")),
        (64, "int8", 1, Grouping(1, 1, 1, "alone")),
        (64, "int8", 132, Grouping(1, 132, 1, "alone")),
        (64, "int8", 133, Grouping(2, 67, 1, "alone")),
        (64, "int8", 264, Grouping(2, 132, 1, "alone")),
    ],
)
def test_how_streams_are_shared_out(dim, dtype, streams, expected):
    config = SampleRNNConfig(dim=dim)
    assert cuda_plan.grouping(config, dtype, streams, 132, 227 << 10, "auto") == expected


@pytest.mark.parametrize("exchange", ["counters", "tagged", "launches"])
def test_an_exchange_by_name_is_that_exchange(exchange):
    """Also of a model that fits into one block: else tests on small models would exchange nothing."""
    found = cuda_plan.grouping(SampleRNNConfig(dim=64), "int8", 3, 132, 227 << 10, exchange)
    assert found == Grouping(3, 1, 64, exchange)


@pytest.mark.parametrize(
    ("dim", "dtype", "streams", "expected"),
    [
        (256, "int8", 1, [(1, 1, 16), (1, 1, 8), (1, 1, 4)]),
        (256, "bfloat16", 12, [(1, 12, 8), (2, 6, 16)]),
        (256, "bfloat16", 100, [(7, 15, 8)]),
        (256, "int8", 300, []),  # too many streams for one cluster
        (512, "int8", 1, [(1, 1, 16)]),
        (1024, "int8", 1, []),
        (130, "int8", 1, [(1, 1, 8), (1, 1, 4)]),  # 16 would leave one idle
    ],
)
def test_how_streams_are_shared_out_to_clusters(dim, dtype, streams, expected):
    found = cuda_plan.cluster_groupings(SampleRNNConfig(dim=dim), dtype, streams, 132, 227 << 10)
    assert [(group.batch, group.groups, group.blocks) for group in found] == expected
    assert all(group.exchange == "cluster" for group in found)


@pytest.fixture
def cluster_gpu(gpu):
    """A GPU with room for two clusters of 4 blocks."""
    gpu.set_device(CLUSTER_LAUNCH, 1)
    gpu.set_device(MULTIPROCESSORS, 8)
    gpu.set_device(SHARED_BYTES, 36 << 10)
    return gpu


@pytest.mark.parametrize(("most", "groups"), [(1000, 2), (1, 1)])
def test_models_that_fit_into_a_cluster_take_one_for_some_streams(cluster_gpu, most, groups):
    """As many clusters as the GPU holds: one where its multiprocessors do not lie side by side."""
    cluster_gpu.set_clusters(4, most)
    engine, exact = engines()
    cluster_gpu.reset_calls()
    made = [sampler.run(sampler.init_state(2, seed=7, top_k=30), 40) for sampler in (engine, exact)]
    assert torch.equal(*made) and "clusters:4" in cluster_gpu.calls
    program = engine.backend.program(2)
    assert (program.streams, program.blocks, program.cluster, program.cooperative) == (2, groups * 4, 4, False)


def test_the_fewest_streams_of_a_cluster_come_before_its_size(cluster_gpu):
    """Where clusters of 8 blocks do not lie side by side as often as there are multiprocessors for them."""
    cluster_gpu.set_device(MULTIPROCESSORS, 24)
    cluster_gpu.set_clusters(8, side_by_side=12)
    backend = Played(pack(make_model(MODELS["paper-3tier"])), CPU, "float32", exchange="cluster")
    assert backend.program(2).cluster == 8
    program = backend.program(3)
    assert (program.streams, program.blocks, program.cluster) == (3, 12, 4)


def test_no_cluster_has_more_streams_than_it_has_room_for():
    groups = [cuda_plan.cluster_grouping(64, 16, clusters) for clusters in (7, 8)]
    assert [group.batch for group in groups] == [10, 8]
    assert cuda_plan.in_order_of_clusters(groups) == groups[1:]


def test_clusters_are_forbidden_by_name(cluster_gpu):
    backend = Played(pack(make_model(MODELS["paper-3tier"])), CPU, "float32", exchange="tagged")
    assert backend.program(1).cluster == 1 and backend.program(1).cooperative
    assert not any(call.startswith("clusters") for call in cluster_gpu.calls)


def test_where_no_cluster_fits_it_goes_on_without_unless_one_is_asked_for(cluster_gpu):
    cluster_gpu.set_clusters(2)
    engine, _ = engines()
    assert engine.backend.program(1).cluster == 1
    with pytest.raises(BackendUnavailable, match="1 streams of this model in float32 do not fit into") as raised:
        Played(pack(make_model(MODELS["paper-3tier"])), CPU, "float32", exchange="cluster")
    assert_one_line(raised)


@pytest.mark.parametrize(
    ("dim", "dtype", "streams", "expected"),
    [
        (1024, "int8", 1, [(16, 103, 128), (8, 114, 128)]),
        (1024, "bfloat16", 8, [(16, 103, 128)]),  # 4.5 MB of the MLP
        (1024, "float32", 1, []),
        (512, "float32", 1, [(16, 103, 128), (8, 103, 112)]),
        (1024, "int8", 9, []),
        (130, "int8", 1, [(8, 65, 80), (4, 65, 72)]),  # 16 would leave one idle
    ],
)
def test_how_blocks_share_out_roles(dim, dtype, streams, expected):
    found = cuda_plan.role_groupings(SampleRNNConfig(dim=dim), dtype, streams, 132, 227 << 10)
    assert [(group.blocks, group.helpers, group.launched) for group in found] == expected
    assert all((group.batch, group.groups, group.exchange) == (streams, 1, "roles") for group in found)


@pytest.mark.parametrize(("most", "blocks"), [pytest.param(1000, 12, marks=pytest.mark.slow), (2, 8)])
def test_a_cluster_of_heads_has_the_other_clusters_as_helpers(cluster_gpu, most, blocks):
    """All start at once; no more helpers than the GPU holds clusters of them."""
    cluster_gpu.set_device(MULTIPROCESSORS, 12)
    cluster_gpu.set_clusters(4, most)
    engine, exact = engines()
    engine.backend = Played(pack(make_model(MODELS["paper-3tier"])), CPU, "float32", exchange="roles")
    cluster_gpu.reset_calls()
    forced = torch.full((2, 40), -1)
    forced[:, 9:21] = 5
    made = [sampler.run(sampler.init_state(2, seed=7, top_k=30), 40, forced=forced) for sampler in (engine, exact)]
    assert torch.equal(*made) and {"clusters:4", "cooperative"} <= set(cluster_gpu.calls)
    program = engine.backend.program(2)
    assert (program.streams, program.blocks, program.cluster, program.cooperative) == (2, blocks, 4, True)


@pytest.mark.parametrize(("largest", "most"), [(2, 1000), (4, 1)])
def test_roles_need_two_clusters(cluster_gpu, largest, most):
    cluster_gpu.set_clusters(largest, most)
    with pytest.raises(BackendUnavailable, match="1 streams of the MLP of this model in float32 do not") as raised:
        Played(pack(make_model(MODELS["paper-3tier"])), CPU, "float32", exchange="roles")
    assert_one_line(raised)


def test_prompts_and_injected_levels(gpu):
    engine, exact = engines()
    prompt = random_levels(engine.config, 3, 29)
    forced = torch.full((3, 40), -1)
    forced[:, 10:22], forced[1, 30:] = 7, 9
    made = []
    for sampler in (engine, exact):
        state = sampler.init_state(3, seed=2, prompt=prompt)
        made.append(sampler.run(state, 40, forced=forced))
        made[-1] = torch.cat((made[-1], sampler.run(state, 5)), dim=1)
    assert torch.equal(*made)


def test_a_stream_does_not_depend_on_those_beside_it(gpu):
    engine, _ = engines()
    together = engine.run(engine.init_state(3, seed=3), 60)
    alone = engine.run(engine.init_state(1, seed=3, first_stream=1), 60)
    assert torch.equal(alone[0], together[1])


def test_a_saved_state_goes_on(gpu):
    engine, _ = engines()
    state = engine.init_state(3, seed=4)
    engine.run(state, 21)
    saved = state.state_dict()
    expected = engine.run(state, 30)
    other = engine.init_state(3)
    other.load_state_dict(saved)
    assert torch.equal(engine.run(other, 30), expected)


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
    assert all(torch.equal(results[seed], expected[seed]) for seed in range(3))


def test_a_kernel_is_compiled_once_for_a_number_of_streams(gpu, fake_nvrtc):
    engine, _ = engines()
    for _ in range(2):
        engine.run(engine.init_state(3), 5)
    before = fake_nvrtc.compilations
    another, _ = engines()
    another.run(another.init_state(3), 5)
    assert fake_nvrtc.compilations == before


@pytest.mark.parametrize("exchange", ["counters", "tagged", "cluster", pytest.param("roles", marks=pytest.mark.slow)])
def test_a_wait_in_vain_is_an_error_that_names_the_place(cluster_gpu, exchange, monkeypatch):
    config = MODELS["paper-3tier"]
    backend = Played(pack(make_model(config)), CPU, "float32", exchange=exchange)
    levels, hidden = random_levels(config, 1, config.lookback * 3), backend.init_hidden(1)
    before = [h.clone() for h in hidden]
    lost = "FAKE_LOSE_COUNT" if exchange == "counters" else "FAKE_LOSE_STORE"
    monkeypatch.setenv(lost, "40")
    monkeypatch.setattr(cuda_backend, "TIME_LIMIT_NS", 100_000)
    with pytest.raises(DeviceError, match=r"gave up: block \d+ waited more than .* sample \d+ of the call") as raised:
        backend.score(hidden, levels)
    assert_one_line(raised)
    names = cuda_plan.exchange_names(config)
    assert any(f"s for {name} (number" in str(raised.value) for name in names)
    assert all(torch.equal(*pair) for pair in zip(hidden, before, strict=True))
    monkeypatch.delenv(lost)
    backend.score(hidden, levels)
    assert not torch.equal(hidden[0], before[0])


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
    assert state.t == 0 and torch.equal(engine.run(state, 20), expected)


STARTING = (
    "cuDevicePrimaryCtxRetain",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuLaunchKernelEx",
)


@pytest.mark.parametrize("call", STARTING)
def test_what_cannot_be_started_is_unavailable_and_auto_moves_on(gpu, call, caplog):
    gpu.fail(call, 2)
    model = make_model(MODELS["paper-3tier"])
    with pytest.raises(BackendUnavailable, match=f"{call} failed: CUDA_ERROR_OUT_OF_MEMORY") as raised:
        Engine(model, backend="cuda", device="cpu")
    assert_one_line(raised)
    del raised
    with caplog.at_level(logging.WARNING):
        assert Engine(model, device="cpu").backend.name == "cpu"
    assert f"the cuda backend cannot be used: {call} failed" in caplog.text


def test_a_kernel_that_does_not_compile_is_unavailable_and_auto_moves_on(gpu, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path))
    monkeypatch.setenv("FAKE_NVRTC_COMPILER", "sh -c 'echo \"shape.cuh(3): error: too small\" >&2; exit 1'")
    model = make_model(MODELS["paper-3tier"])
    with pytest.raises(
        BackendUnavailable, match=r"does not compile persistent.cuh: .* shape.cuh\(3\): error: too small"
    ):
        Engine(model, backend="cuda", device="cpu")
    with caplog.at_level(logging.WARNING):
        assert Engine(model, device="cpu").backend.name == "cpu"
    assert "too small" in caplog.text


def test_where_nothing_is_left_every_reason_is_told(gpu, monkeypatch):
    monkeypatch.setattr(backends, "BACKENDS", {"cuda": Played})
    gpu.fail("cuLaunchKernelEx", 720)
    with pytest.raises(
        BackendUnavailable, match=r"no backend can run this model on cpu: cuda: cuLaunchKernelEx failed"
    ):
        Engine(make_model(MODELS["paper-3tier"]), device="cpu")


def test_a_block_that_does_not_fit_is_unavailable(gpu):
    gpu.set_function(MAX_THREADS, 32)
    with pytest.raises(
        BackendUnavailable, match="srnn_load needs 1 blocks at once, but Fake GPU holds 0 of 64 threads with 64"
    ):
        engines()


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        (MULTIPROCESSORS, 1, "srnn_generate needs 4 blocks at once, but Fake GPU holds 1 of 64 threads with 64"),
        (COOPERATIVE, 0, "Fake GPU has no cooperative launch"),
    ],
)
def test_where_not_all_blocks_run_at_once_it_goes_on_by_launches(gpu, attribute, value, reason, caplog, monkeypatch):
    """Known before anything is launched: too little room for the kernel's blocks, or no cooperative launch at all."""
    gpu.set_device(SHARED_BYTES, 4 << 10)
    if attribute == MULTIPROCESSORS:  # as where registers leave room for fewer blocks than multiprocessors
        monkeypatch.setattr(cuda_plan, "grid_blocks", lambda dim, most: 4)
    gpu.set_device(attribute, value)
    assert cuda_device.missing(0) == []
    model = make_model(MODELS["two-levels"])
    with caplog.at_level(logging.WARNING):
        engine = Engine(model, backend="cuda", device="cpu")
        made = engine.run(engine.init_state(1, seed=8), 20)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"the cuda backend goes on with one kernel for each stage: {reason}") and "\n" not in line
    assert engine.backend.exchange == "launches" and engine.backend.program(1).stages is not None
    exact = Engine(model, backend="reference", dtype="float64", device="cpu")
    assert torch.equal(made, exact.run(exact.init_state(1, seed=8), 20))


def test_blocks_that_wait_for_nobody_need_no_cooperative_launch(gpu, caplog):
    gpu.set_device(COOPERATIVE, 0)
    gpu.set_device(SHARED_BYTES, 227 << 10)
    with caplog.at_level(logging.WARNING):
        engine, exact = engines("two-levels")
    assert not caplog.records and engine.backend.program(1).stages is None
    assert torch.equal(*(one.run(one.init_state(1, seed=7), 20) for one in (engine, exact)))


def test_auto_takes_it_first(gpu):
    assert Engine(make_model(MODELS["paper-3tier"]), device="cpu").backend.name == "cuda"


def test_it_runs_on_gpus_only():
    reasons = CudaBackend.unavailable_reasons(MODELS["paper-3tier"], CPU)
    assert reasons == ["runs on a CUDA GPU, not on cpu"]


def test_threads_of_the_cpu_are_refused(gpu):
    with pytest.raises(ConfigError, match="num_threads is for the cpu backend"):
        Engine(make_model(MODELS["paper-3tier"]), backend="cuda", device="cpu", num_threads=2)


@pytest.mark.parametrize("exchange", ["bogus", "alone", ""])
def test_an_exchange_that_is_none_is_refused(gpu, exchange):
    with pytest.raises(ConfigError, match=f"exchange must be one of auto, .*cluster.*, got '{exchange}'") as raised:
        Played(pack(make_model(MODELS["paper-3tier"])), CPU, "float32", exchange=exchange)
    assert_one_line(raised)


def test_a_machine_that_has_all(gpu):
    assert cuda_device.missing(0) == []


def test_a_gpu_that_is_too_old(gpu):
    gpu.set_device(CAPABILITY_MAJOR, 7)
    assert cuda_device.missing(0) == ["needs a GPU of compute capability 8.0 or newer, Fake GPU has 7.0"]


def test_no_driver(gpu, monkeypatch):
    monkeypatch.setenv("SAMPLERNN_FAST_LIBCUDA", "/no/such/libcuda.so.1")
    [reason] = cuda_device.missing(0)
    assert reason.startswith("cannot open /no/such/libcuda.so.1") and reason.endswith("install the NVIDIA driver")


def test_no_gpu(gpu):
    gpu.fail("cuInit", 100)
    [reason] = cuda_device.missing(0)
    assert reason.startswith("cuInit failed: CUDA_ERROR_NO_DEVICE (100)") and "see nvidia-smi" in reason


def test_an_nvrtc_that_is_too_new(gpu):
    gpu.set(version=12040)
    [reason] = cuda_device.missing(0)
    assert reason.startswith("needs an NVRTC for CUDA 12 or older and sm_90")


def test_no_native_part(gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "samplernn_fast._C", None)
    [reason] = cuda_device.missing(0)
    assert "the native part is not built" in reason and "install a C++ compiler" in reason


def test_doctor_tells_what_is_there_and_what_is_not(gpu, fake_nvrtc, monkeypatch, compiled):
    found = cuda_device.describe()
    assert found["driver"] == f"CUDA 13.0, {gpu.path}" and found["NVRTC"] == f"13.0, {fake_nvrtc.path}"
    assert found["compiled kernels"] == str(compiled / "cubins")
    monkeypatch.setenv("SAMPLERNN_FAST_LIBCUDA", "/no/such/libcuda.so.1")
    monkeypatch.setenv("SAMPLERNN_FAST_NVRTC", "/no/such/libnvrtc.so")
    found = cuda_device.describe()
    assert "install the NVIDIA driver" in found["driver"] and "cannot open /no/such/libnvrtc.so" in found["NVRTC"]
