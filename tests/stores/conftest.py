"""Stores without a network: one in memory, which is empty before each test, and a cache of each test's own."""

import fsspec
import pytest

from samplernn_fast.stores import running


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of all copies."""
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "stores"


@pytest.fixture
def memory():
    """The store behind memory://, a file system of fsspec."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def another_machine(monkeypatch, tmp_path):
    """another_machine(): from here on this process has an empty cache, as one on another machine would."""
    count = 0

    def move(name=None):
        nonlocal count
        count += 1
        monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / (name or f"machine-{count}")))
        running._mirrors.clear()

    return move
