"""Stores without a network: one in memory, which is empty before each test, and a cache of each test's own."""

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

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


class Tree(LocalFileSystem):
    """A store with folders, in one of this machine: it makes no parents, renames by itself, and is found by walking."""

    protocol = "tree"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("tree://"))


@pytest.fixture
def tree(tmp_path):
    """(the file system of tree://, a folder in it); the address of the folder is tree:// and its path."""
    fsspec.register_implementation("tree", Tree, clobber=True)
    (tmp_path / "tree").mkdir()
    Tree.clear_instance_cache()
    return fsspec.filesystem("tree"), tmp_path / "tree"
