"""The stepping backend's own: how many threads a call takes. `tests/models/test_systems.py` tests what it makes."""

import threading

import pytest
import torch
from systems import SYSTEM_CASES

from samplernn_fast.backends import stepping
from samplernn_fast.engine.engine import Engine
from samplernn_fast.models.registry import build_model


@pytest.fixture
def three_threads():
    """torch with three threads, and afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def seen(monkeypatch):
    """The numbers of threads that torch had at the steps of the calls that follow."""
    model, numbers = build_model(SYSTEM_CASES["rnn"]), []
    made = type(model).stepper

    def watched(self, hidden, t):
        numbers.append(torch.get_num_threads())
        return made(self, hidden, t)

    monkeypatch.setattr(type(model), "stepper", watched)
    return Engine(model, backend="stepping"), numbers


def test_a_small_model_takes_one_thread_and_gives_the_others_back(three_threads, seen):
    engine, numbers = seen
    engine.run(engine.init_state(2), 5)
    assert numbers == [1] and torch.get_num_threads() == 3


def test_a_large_model_takes_all_threads(three_threads, seen, monkeypatch):
    engine, numbers = seen
    monkeypatch.setattr(stepping, "_ALONE", 0)
    engine.run(engine.init_state(2), 5)
    assert numbers == [3] and torch.get_num_threads() == 3


def test_calls_at_once_and_calls_that_fail_give_the_threads_back(three_threads, seen, monkeypatch):
    engine, _ = seen
    callers = [threading.Thread(target=lambda: engine.run(engine.init_state(1), 200)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert torch.get_num_threads() == 3
    monkeypatch.setattr(stepping, "_drawer", None)
    with pytest.raises(TypeError):
        engine.run(engine.init_state(1), 5)
    assert torch.get_num_threads() == 3
