"""What a live server counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0, 4.0)
"""Upper bounds of the classes of load: the time that a block took, in the time that it sounds."""


class Metrics:
    """The counters of one server; any thread may add to them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.listeners = self._gauge("listeners", "Listeners that are connected.")
        self.slots = self._gauge("slots", "Streams that are played.", "model")
        self.underruns = self._counter("underruns", "How often players of listeners ran out of sound, as they tell.")
        self.refused = self._counter("refused", "Connections, requests and messages that were refused.")
        self.closed = self._counter("closed", "Connections that the server ended.")
        self._samples = self._counter("samples", "Samples of all streams that were made.", "model")
        self._blocks = self._counter("blocks", "Blocks that were made, each of one stream or more.", "model")
        self._busy = self._counter("busy_seconds", "Seconds in which blocks were made.", "model")
        self._load = Histogram(
            "samplernn_load",
            "The time that a block took, in the time that it sounds.",
            ["model"],
            buckets=LOADS,
            registry=self._registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"samplernn_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"samplernn_{name}", text, labels, registry=self._registry)

    def count_slots(self, model: str, count: Callable[[], int]) -> None:
        """Shows how many streams of a model are played, as `count` says when it is asked, and its other series at 0."""
        self.slots.labels(model).set_function(count)
        for series in (self._samples, self._blocks, self._busy, self._load):
            series.labels(model)

    def made(self, model: str, streams: int, samples: int, seconds: float, rate: int) -> None:
        """Counts a block of `samples` of each of so many streams, which took so long."""
        self._samples.labels(model).inc(streams * samples)
        self._blocks.labels(model).inc()
        self._busy.labels(model).inc(seconds)
        self._load.labels(model).observe(seconds * rate / samples)

    def text(self) -> bytes:
        """All of it, in the text format of Prometheus."""
        return generate_latest(self._registry)
