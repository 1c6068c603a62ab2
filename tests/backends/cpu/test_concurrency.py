"""The cpu backend beside others: in several Python threads, and in a forked child."""

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import CASES, make_model

from samplernn_fast.engine.engine import Engine
from samplernn_fast.reference.randomness import Drawing, Randomness

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

STEPS = 400


def take(engine: Engine, seed: int, streams: int = 1) -> np.ndarray:
    return engine.run(engine.init_state(streams, seed=seed), STEPS)


def test_calls_from_several_python_threads_give_the_levels_they_give_alone():
    """One engine shared by all threads, and one in another mode beside it, with teams of two threads each."""
    models = [make_model(CASES[name]) for name in ("paper-3tier", "theano-lstm-skips")]
    shared = Engine(models[0], backend="cpu", dtype="int8", num_threads=2)
    other = Engine(models[1], backend="cpu", dtype="float32", num_threads=2)
    jobs = [(engine, seed, streams) for seed in range(4) for engine in (shared, other) for streams in (1, 3)]
    alone = [take(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: take(*job), jobs))
    assert all(np.array_equal(one, two) for one, two in zip(alone, together, strict=True))
    assert len({tuple(levels[0].tolist()) for levels in alone}) == 8  # 4 seeds, 2 models


def test_other_python_threads_run_while_samples_are_made():
    """A held interpreter lock would let this thread look at the clock once or twice while the other one generates,
    however long that takes; on a busy machine half a second may be too short for ten looks."""
    engine = Engine(make_model(CASES["reset-before-256"]), backend="cpu", num_threads=1)
    began = time.process_time()
    take(engine, 0)
    steps = int(0.5 / (time.process_time() - began) * STEPS)
    looks = 0
    for times in (1, 4, 16):
        looks = looks if looks >= 10 else looks_beside(engine, times * steps)
    assert looks >= 10


def looks_beside(engine: Engine, steps: int) -> int:
    """How often this thread runs while another one makes so many samples."""
    looks = 0
    drawing = Drawing(Randomness(0, np.zeros(1, np.uint32)), np.ones((1, steps), np.float32))
    levels = np.full((1, engine.config.lookback + steps), -1)
    levels[:, : engine.config.lookback] = engine.config.q_zero
    hidden = engine.backend.init_hidden(1)
    forced = levels[:, engine.config.lookback :]
    given = hidden, levels[:, : engine.config.lookback], 0, drawing, forced
    made: list[np.ndarray] = []
    maker = threading.Thread(target=lambda: made.append(engine.backend.generate(*given)))
    maker.start()
    while maker.is_alive():
        time.sleep(0.005)
        looks += 1
    assert made[0].min() >= 0
    return looks


def _take_in_child(engine: Engine, to_parent) -> None:
    to_parent.send([take(engine, seed=2).tolist(), take(engine, seed=2, streams=3).tolist()])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_makes_the_same_levels():
    """The parent's pool of threads does not exist in the child, which must start its own."""
    engine = Engine(make_model(CASES["paper-3tier"]), backend="cpu", dtype="int8", num_threads=3)
    expected = [take(engine, seed=2).tolist(), take(engine, seed=2, streams=3).tolist()]
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    child = fork.Process(target=_take_in_child, args=(engine, there))
    child.start()
    try:
        assert here.poll(60), "the child does not answer"
        assert here.recv() == expected
        child.join(10)
        assert child.exitcode == 0
    finally:
        child.kill()
    assert take(engine, seed=2).tolist() == expected[0]
