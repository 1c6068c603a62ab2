"""How many streams fill a machine."""

from types import SimpleNamespace

import pytest

from samplernn_fast.engine import filling


class Clock:
    """An engine whose speed for a number of streams is given, and the clock that it moves."""

    def __init__(self, monkeypatch, speed):
        self.now, self._speed, self.tried = 0.0, speed, []
        self.config, self.device = SimpleNamespace(top_frame=16, sample_rate=1000), "cpu"
        monkeypatch.setattr(filling.time, "perf_counter", lambda: self.now)

    def init_state(self, streams):
        self.tried.append(streams)
        return streams

    def run(self, streams, samples):
        self.now += streams * samples / self._speed(streams)


@pytest.mark.parametrize(
    ("speed", "most", "taken"),
    [
        (lambda n: 1000.0 * min(n, 8), 1024, 8),
        (lambda n: 1000.0, 1024, 1),
        (lambda n: 1000.0 * n, 100, 100),
        (lambda n: 1000.0 * n, 1, 1),
        (lambda n: 1000.0 * (1.02 if n > 4 else n / 4), 1024, 4),
        (lambda n: 1000.0 * n if n < 16 else 4000.0, 1024, 8),
    ],
)
def test_the_smallest_number_that_is_about_the_fastest(monkeypatch, speed, most, taken):
    clock = Clock(monkeypatch, speed)
    found = filling.fill(clock, most)
    assert found.streams == taken and max(clock.tried) <= most
    assert found.samples_per_second == pytest.approx(speed(taken))
    assert found.hours_an_hour == pytest.approx(speed(taken) / 1000)
    assert f"batch {taken}: {speed(taken) / 1000:.3g} hours of audio an hour" in found.text()


def test_a_slow_machine_is_not_measured_for_long(monkeypatch):
    clock = Clock(monkeypatch, lambda n: 10.0 * n)
    filling.fill(clock, 4096)
    assert clock.now < 30
