"""Which of a GPU's backends "auto" tries first, by the number of streams."""

import pytest
from cases import CASES, make_model

from samplernn_fast.backends import registry
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import ConfigError

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
