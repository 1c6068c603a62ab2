"""Which of a GPU's backends "auto" tries first, by the number of streams."""

from types import SimpleNamespace

import pytest
from cases import CASES, make_model

from samplernn_fast import api
from samplernn_fast.backends import registry
from samplernn_fast.backends.promise import Promise
from samplernn_fast.backends.triton import TritonBackend
from samplernn_fast.commands.generation import faster
from samplernn_fast.commands.generation.sharing import Sharing
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import BackendUnavailable, ConfigError
from samplernn_fast.jobs.shards import Shard
from samplernn_fast.models.checkpoint import arrays_of

CONFIG = CASES["paper-3tier"]


@pytest.fixture
def every_backend(monkeypatch):
    """All backends say that they could run."""
    monkeypatch.setattr(registry, "unavailable_reasons", lambda name, config, device: [])


@pytest.mark.parametrize(
    ("streams", "dtype", "expected"),
    [
        (1, "auto", "cuda"),
        (63, "fastest", "cuda"),
        (64, "auto", "triton"),
        (64, "fastest", "triton"),
        (4096, "int8", "cuda"),  # triton has no int8
    ],
)
@pytest.mark.usefixtures("every_backend")
def test_many_streams_take_large_products(streams, dtype, expected):
    class_name = {"cuda": "CudaBackend", "triton": "TritonBackend"}[expected]
    assert registry.resolve("auto", CONFIG, "cuda:0", dtype, num_streams=streams).__name__ == class_name


@pytest.mark.usefixtures("every_backend")
def test_the_order_of_a_processor_is_one_for_any_number():
    """Triton's interpreter can run there too, and must not come first."""
    few, many = (registry.resolve("auto", CONFIG, "cpu", num_streams=streams) for streams in (1, 64))
    assert few is many


@pytest.mark.usefixtures("every_backend")
def test_a_name_is_that_backend_for_any_number():
    assert registry.resolve("cuda", CONFIG, "cuda:0", num_streams=4096).__name__ == "CudaBackend"


def test_a_number_that_cannot_be_meant_is_refused():
    with pytest.raises(ConfigError, match=r"^num_streams must be "):
        Engine(make_model(CONFIG), num_streams=0)


def test_any_number_of_streams_may_run():
    engine = Engine(make_model(CONFIG), backend="cpu", num_streams=64)
    assert engine.run(engine.init_state(2), 8).shape == (2, 8)


@pytest.mark.parametrize("pieces", [1, 100, 1000])
def test_a_piece_does_not_depend_on_how_many_are_made(pieces, monkeypatch):
    """So "auto" is asked for one stream, however many there will be."""
    asked, in_order = [], registry._in_order
    monkeypatch.setattr(
        registry, "_in_order", lambda device, streams: (asked.append(streams), in_order(device, streams))[1]
    )
    api.stream("demo", num_samples=pieces)
    assert set(asked) == {1}


@pytest.mark.parametrize(
    ("chosen", "made", "pieces", "told"),
    [("auto", "cuda", 64, True), ("auto", "cuda", 63, False), ("cuda", "cuda", 64, False), ("auto", "cpu", 64, False)],
)
def test_who_makes_many_pieces_on_cuda_is_told_what_is_faster(chosen, made, pieces, told, capsys, monkeypatch):
    monkeypatch.setattr(faster.importlib.util, "find_spec", lambda name: name)
    faster.tell_of_faster(SimpleNamespace(backend=SimpleNamespace(name=made)), chosen, pieces)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == told and all("--backend triton makes 64 pieces several times as fast" in line for line in said)


@pytest.mark.usefixtures("every_backend")
@pytest.mark.parametrize(("dtype", "kept"), [("bfloat16", True), ("fastest", True), ("bfloat16", False)])
def test_bfloat16_on_triton_keeps_its_promise(dtype, kept, monkeypatch):
    """Also where the streams are many, so that "auto" begins with it."""
    asked = []

    def broken(self, mode):
        asked.append(mode)
        return [] if kept else ["it would cost too much"]

    class Started(TritonBackend):
        def __init__(self, weights, device, dtype, num_threads=None):
            self.dtype = dtype

    monkeypatch.setattr(Promise, "broken", broken)
    monkeypatch.setattr(registry, "BACKENDS", {**registry.BACKENDS, "triton": Started})
    weights = registry.Weights(arrays_of(make_model(CONFIG)))
    if kept:
        assert registry.start("auto", weights, "cuda:0", dtype, num_streams=64).dtype == "bfloat16"
    else:
        with pytest.raises(BackendUnavailable, match="triton does not offer bfloat16 for this model: it would cost"):
            registry.start("triton", weights, "cuda:0", dtype, num_streams=64)
    assert asked == ["bfloat16"]


@pytest.mark.parametrize(
    ("device", "batch", "pieces", "expected"),
    [
        ("cpu", "auto", 100_000, 16),
        ("cuda:0", "auto", 3, 64),
        ("cuda:0", "auto", 8191, 64),
        ("cuda:0", "auto", 8192, 128),
        ("cuda:0", "auto", 100_000, 512),
        ("cuda:0", 7, 100_000, 7),
    ],
)
def test_the_batch_of_shards_on_a_gpu_grows_with_the_pieces(device, batch, pieces, expected):
    sharing = Sharing("demo", dict, ("1",), 1.0, False, Shard(0, 1), batch)
    assert sharing._fixed_batch(SimpleNamespace(device=device), pieces) == expected
