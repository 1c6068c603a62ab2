"""bench/gpu/stage_times.py and what it stands on, on a GPU that is played."""

import argparse
import functools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import make_model, random_levels
from engines import MODELS
from fake_gpu import SHARED_BYTES
from played_gpu import Played, by_launches

from bench.common import contestants
from bench.gpu import stage_times
from samplernn_fast.backends.cuda import constants, launcher
from samplernn_fast.commands.benchmark import checks
from samplernn_fast.commands.benchmark.contestants import Lineup, Options
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.models.sample_rnn import SampleRNN
from samplernn_fast.reference.weights import pack

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")


def test_a_profiled_backend_tells_where_the_time_went(gpu):
    weights = pack(make_model(MODELS["two-levels"]))
    backend = Played(weights, "cpu", "float32", profile=True)
    backend.launcher.phase_times()  # it forgets the first launch, which only shows that the kernel runs
    assert backend.launcher.phase_times() == []
    history = np.full((1, weights.config.lookback), weights.config.q_zero)
    backend.prime(backend.init_hidden(1), history, history)
    *stages, whole = backend.launcher.phase_times()
    assert [stage.name for stage in stages] == constants.phase_names(weights.config)
    assert whole.times == weights.config.lookback and whole.seconds > 0
    assert sum(stage.seconds for stage in stages) == pytest.approx(whole.seconds)
    assert Played(weights, "cpu", "float32").launcher.phase_times() == []


def test_every_stage_is_timed_and_samples_are_still_made(gpu, monkeypatch):
    config = MODELS["two-levels"]
    timed = by_launches("two-levels")
    gpu.reset_calls()
    rows = stage_times.rows_of(timed, 1, samples=4, repeats=2)
    names = {f"cell {tier} 0" for tier in (0, 1)} | {"upsample 0 0", "upsample 1 0", "draw 0 0", "walk"}
    names |= {f"sample_mlp_{part} 0 0" for part in ("input", "hidden", "logits")}
    assert {row["stage"] for row in rows} == names and all(row["us"] > 0 for row in rows)
    often = {row["stage"]: row["per_sample"] for row in rows}
    assert (often["cell 1 0"], often["upsample 1 0"], often["cell 0 0"]) == (1 / 3, 1.0, 1.0)
    # Four samples of 7 launches, two of the top tier, its load; the next sample's first; and each stage 8 times.
    assert gpu.calls.count("cuLaunchKernelEx") == 1 + 4 * 7 + 2 + 1 + 8 * 8
    levels = random_levels(config, 1, config.lookback * 3).numpy()
    exact = Engine(make_model(config), backend="reference", dtype="float64", device="cpu").score(levels)
    torch.testing.assert_close(timed.score(timed.init_hidden(1), levels), exact.astype(np.float32), rtol=0, atol=1e-4)


def test_stages_are_timed_where_a_launch_has_fewer_samples(gpu, monkeypatch):
    """With 128 streams and more a launch makes fewer samples, and the call must still be one launch."""
    monkeypatch.setattr(launcher, "LAUNCH_STEPS", 3)
    timed = by_launches("two-levels")
    gpu.reset_calls()
    assert all(row["us"] > 0 for row in stage_times.rows_of(timed, 1, samples=3, repeats=1))
    # Two samples of 7 launches, one of the top tier, its load; the next sample's first; and each stage 4 times.
    assert gpu.calls.count("cuLaunchKernelEx") == 1 + 2 * 7 + 1 + 1 + 8 * 4


@pytest.mark.parametrize("alone", [False, True])
def test_the_phases_of_a_persistent_kernel_are_timed(gpu, monkeypatch, capsys, alone):
    config = MODELS["two-levels"]
    if not alone:
        gpu.set_device(SHARED_BYTES, 4 << 10)
    backend = Played(pack(make_model(config)), "cpu", "float32", profile=True)
    monkeypatch.setattr(launcher, "LAUNCH_STEPS", config.lookback)
    *rows, total = stage_times.profiled_rows(backend, 1)
    assert [row["stage"] for row in rows] == constants.phase_names(config) and total["stage"] == "a sample"
    assert all(row["us"] >= row["exchange_us"] >= 0 for row in rows)
    assert total["us"] == pytest.approx(sum(row["us"] for row in rows)) and total["exchange_us"] > 0
    exchange = "alone" if alone else "tagged"
    assert {row["exchange"] for row in rows} == {exchange}
    stage_times.print_rows(json.loads(json.dumps([*rows, total])))
    last = capsys.readouterr().out.splitlines()[-1]
    assert "a sample" in last and last.endswith(f"us of it exchanges ({exchange})")
    with pytest.raises(BackendUnavailable, match="refused the persistent kernel"):
        stage_times.exchange_of(SimpleNamespace(stages=[]))


def test_each_way_of_exchange_is_a_contestant_after_its_draws_were_checked(gpu, monkeypatch):
    monkeypatch.setattr(contestants, "CudaBackend", Played)
    monkeypatch.setattr(checks, "DRAWN_LEVELS", 32)
    args = argparse.Namespace(exchanges=["launches", "cluster"], styles=[], isa=[], threads=[])
    options = Options(backends=("reference",), dtypes=("float32",), threads=(1,), batch_sizes=(1,), plain=False)
    extra = functools.partial(contestants.with_choices, args)
    lineup = Lineup(SampleRNN(MODELS["paper-3tier"]), options, "cpu", print, extra)
    (_, found), absent = lineup.contestants(1)
    assert found.name == "cuda float32 launches" and found.make(16).shape == (1, 16)
    (one,) = absent.found
    assert one.name == "cuda float32 cluster" and one.reason.startswith("1 streams of this model") and one.failed
    args.exchanges = ["all"]  # what was not asked for by name may not fit
    absent = lineup.contestants(1)[1]
    assert ("cuda float32 cluster", False) in [(one.name, one.failed) for one in absent.found]
    assert not any(one.failed for one in absent.found)
