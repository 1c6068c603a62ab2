"""The words of a backend, a numeric mode and a device, which are known without torch."""

import pytest

from samplernn_fast.backends import names, registry
from samplernn_fast.backends.devices import resolve_device
from samplernn_fast.errors import BackendUnavailable, ConfigError


def test_the_modes_known_without_torch_are_those_of_the_backends():
    assert list(names.MODES.items()) == [(name, backend.dtypes) for name, backend in registry.BACKENDS.items()]


@pytest.mark.parametrize("word", ["auto", "cpu", "cuda", "cuda:0", "cuda:7"])
def test_a_device_that_there_may_be(word):
    names.check_device(word)
    try:
        resolve_device(word)
    except BackendUnavailable:
        pass


@pytest.mark.parametrize("word", ["", "CPU", "cuda:", "cuda:-1", "cuda:\u0663", "cpu\n", "meta", "mps"])
def test_a_device_that_there_cannot_be(word):
    for refuse in (names.check_device, resolve_device):
        with pytest.raises(ConfigError, match="device must be auto, cpu, cuda or cuda:N, got "):
            refuse(word)
