"""The wait before warps look for packets, measured by the backend. A GPU is played, so times are made up."""

import shutil
import threading

import numpy as np
import pytest
import torch
from cases import make_model
from engines import MODELS
from fake_gpu import MULTIPROCESSORS, RUN_TIME_LIMIT, SHARED_BYTES
from played_gpu import Played

from samplernn_fast.backends import cache
from samplernn_fast.backends.cuda import backend as module
from samplernn_fast.backends.cuda import first_look, launcher
from samplernn_fast.errors import DeviceError, NotFinite
from samplernn_fast.reference.randomness import Drawing, MixedDrawing, Randomness
from samplernn_fast.reference.weights import pack

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

USUAL = 500  # ticks of one stream in float32; see csrc/cuda/device/packets.cuh


@pytest.fixture
def backend(gpu, compiled, monkeypatch):
    """Returns how to make a backend on a GPU whose launches count as those of a real one. Its blocks have two teams,
    which wait."""
    shutil.rmtree(compiled / "first-looks", ignore_errors=True)  # what another test has kept beside the kernels
    gpu.set_device(SHARED_BYTES, 220 << 10)
    monkeypatch.setattr(launcher, "LAUNCH_STEPS", 8)
    monkeypatch.setattr(first_look, "measurable", lambda device: True)

    def make(exchange="tagged", profile=False, dtype="float32", name="paper-3tier"):
        return Played(pack(make_model(MODELS[name])), "cpu", dtype, exchange=exchange, profile=profile)

    return make


def silent(backend, streams, steps):
    """The arguments of a call that draws all levels from silence, but for hidden states and the drawing."""
    return np.full((streams, backend.config.lookback), backend.config.q_zero), np.full((streams, steps), -1)


def drawn(backend, streams=1, mixed=False):
    """(B, 20) levels that are drawn from silence."""
    drawing = Drawing(Randomness(3, np.arange(streams, dtype=np.uint32)), np.ones((streams, 20), np.float32))
    silence, undrawn = silent(backend, streams, 20)
    how = MixedDrawing.of(drawing, 0) if mixed else drawing
    return backend.generate(backend.init_hidden(streams), silence, 0, how, undrawn)


@pytest.fixture
def launches(monkeypatch):
    """(wait, samples, whether all are drawn) of all launches, one after another."""
    found, native = [], launcher.native

    class Noting:
        def __getattr__(self, name):
            return getattr(native(), name)

        def cuda_params(self, **fields):
            found.append((fields["first_look"], fields["steps"], fields["forced"] == 0))
            return native().cuda_params(**fields)

    monkeypatch.setattr(launcher, "native", Noting)
    return found


def test_the_wait_is_measured_before_streams_are_first_drawn_and_then_used(backend, launches, monkeypatch):
    monkeypatch.setattr(first_look, "best", lambda usual, seconds: [usual, seconds(7), seconds(1200)] and 340)
    first = backend()
    first.prime(first.init_hidden(1), *[np.full((1, first.config.lookback), first.config.q_zero)] * 2)
    assert {wait for wait, *_ in launches} == {USUAL}
    launches.clear()
    levels = drawn(first)
    run = [(340, 8, True), (340, 8, True), (340, 4, True)]
    assert launches == [(7, 2, True), (1200, 2, True), *run]  # a quarter of a launch for each wait that is tried
    assert np.array_equal(drawn(first), levels) and launches[5:] == run
    launches.clear()
    second = backend()
    assert np.array_equal(drawn(second), levels)
    assert launches == [(USUAL, 1, False), *run]  # It was kept. The sample before is the one of every new backend.


@pytest.mark.parametrize(("watched", "samples"), [(0, 15), (1, 12)])
def test_launches_are_long_enough_to_be_timed(backend, gpu, launches, monkeypatch, watched, samples):
    """They are not cut where a system allows only short ones, of which a quarter is too short."""
    made = backend()
    gpu.set_device(RUN_TIME_LIMIT, watched)
    monkeypatch.setattr(launcher, "LAUNCH_STEPS", 60)
    monkeypatch.setattr(launcher, "WATCHED_STEPS", 12)
    launches.clear()
    made._seconds(1, made.launcher.program(1), 40)
    assert launches == [(40, samples, True)]


def test_the_wait_with_the_least_time_is_taken(backend, monkeypatch):
    """The clock is played: a launch takes what its wait tells."""
    made, now = backend(), [0.0]
    run = module.Call.run

    def timed(call, hidden):
        now[0] += 5.0 + abs(call.launcher.program(1).first_look - 900) / 400
        return run(call, hidden)

    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module.Call, "run", timed)
    drawn(made)
    assert made.launcher.program(1).first_look == 900


def test_streams_of_listeners_are_measured_by_their_program(backend, monkeypatch):
    asked = []
    monkeypatch.setattr(first_look, "best", lambda usual, seconds: asked.append(usual) or 90)
    several = backend()
    drawn(several, streams=3, mixed=True)
    drawn(several, streams=4, mixed=True)  # the same program
    assert asked == [500] and several.launcher.program(4).first_look == 90
    assert several.launcher.program(1).first_look == USUAL


def test_every_program_is_measured_by_itself(backend, gpu, monkeypatch):
    asked = []
    monkeypatch.setattr(first_look, "kept_or_best", lambda program, usual, seconds: asked.append(program) or usual)
    drawn(backend())
    drawn(backend(dtype="int8"))
    drawn(backend(), streams=2)
    gpu.set_device(MULTIPROCESSORS, 5)
    drawn(backend())
    assert len(set(asked)) == len(asked) == 4
    drawn(backend())
    assert asked[3:] == [asked[3]] * 2


def out_of_memory(words):
    class OutOfMemoryError(RuntimeError):
        pass

    return OutOfMemoryError(words)


@pytest.mark.parametrize("error", [DeviceError, NotFinite, out_of_memory])
def test_a_launch_that_fails_while_it_is_measured_leaves_the_usual_wait(backend, compiled, monkeypatch, error):
    def failing(usual, seconds):
        seconds(100)
        raise error("stream 0")

    monkeypatch.setattr(first_look, "best", lambda usual, seconds: usual)
    levels = drawn(backend())
    shutil.rmtree(compiled / "first-looks")
    monkeypatch.setattr(first_look, "best", failing)
    made = backend()
    assert np.array_equal(drawn(made), levels)
    assert made.launcher.program(1).first_look == USUAL and not (compiled / "first-looks").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_stops_a_search_leaves_the_usual_wait_and_the_next_call_searches(backend, monkeypatch, error):
    def stopped(usual, seconds):
        seconds(100)
        raise error

    monkeypatch.setattr(first_look, "best", stopped)
    made = backend()
    with pytest.raises(error):
        drawn(made)
    assert made.launcher.program(1).first_look == USUAL
    monkeypatch.setattr(first_look, "best", lambda usual, seconds: 60)
    drawn(made)
    assert made.launcher.program(1).first_look == 60


def test_a_driver_that_refuses_the_kernel_during_the_search_ends_it(backend, gpu, compiled, monkeypatch):
    """The stages that are launched from then on do not wait, and say nothing of the kernel."""
    tried = []

    def refused(usual, seconds):
        gpu.set(held_by_others=4)
        for ticks in (100, 200):
            tried.append(ticks)
            seconds(ticks)

    monkeypatch.setattr(first_look, "best", lambda usual, seconds: usual)
    levels = drawn(backend())
    shutil.rmtree(compiled / "first-looks")
    monkeypatch.setattr(first_look, "best", refused)
    made = backend()
    assert np.array_equal(drawn(made), levels) and tried == [100]
    program = made.launcher.program(1)
    assert (program.group.exchange, program.waits, program.first_look) == ("launches", False, 0)
    assert not (compiled / "first-looks").exists()


def test_what_does_not_wait_or_is_profiled_or_has_many_streams_is_not_measured(backend, monkeypatch):
    monkeypatch.setattr(first_look, "best", lambda usual, seconds: pytest.fail("it was measured"))
    stages = backend("launches")
    drawn(stages)
    stages.launcher.wait_before_looks(1, stages.launcher.program(1).key, 300)
    assert (stages.launcher.program(1).waits, stages.launcher.program(1).first_look) == (False, 0)
    drawn(backend(profile=True))
    monkeypatch.setattr(first_look, "MOST_STREAMS", 1)
    several = backend()
    drawn(several, streams=2)
    assert several.launcher.program(2).waits


def test_a_gpu_that_is_played_is_not_measured(gpu):
    assert not Played(pack(make_model(MODELS["paper-3tier"])), "cpu", "float32")._measures
    assert first_look.measurable(torch.device("cuda:1"))


def test_threads_measure_once_and_do_not_stop_those_that_need_not_measure(backend, monkeypatch):
    asked, began, go_on = [], threading.Event(), threading.Event()

    def search(usual, seconds):
        asked.append(seconds(200))
        began.set()
        assert go_on.wait(60)
        return 200

    made, levels = backend(), []
    monkeypatch.setattr(cache.Store, "write", lambda *about: None)  # Else what one thread has kept would do for others.
    monkeypatch.setattr(first_look, "best", lambda usual, seconds: usual)
    drawn(made, streams=2)
    monkeypatch.setattr(first_look, "best", search)
    threads = [threading.Thread(target=lambda: levels.append(drawn(made))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert began.wait(60)
    drawn(made, streams=2)
    assert not levels
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(asked) == 1 and len(levels) == 3
    assert np.array_equal(levels[0], levels[1]) and np.array_equal(levels[0], levels[2])
