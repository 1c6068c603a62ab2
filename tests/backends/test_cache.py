"""Backends keep files between processes, which several of them write at once, and which may be damaged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from samplernn_fast.backends import cache

CONTENT = bytes(range(256)) * 200
STORE = cache.Store("cubins", ".cubin", 1 << 20)


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cubins"


def test_what_was_written_is_read(kept):
    assert STORE.read("a") is None
    STORE.write("a", CONTENT)
    assert STORE.read("a") == CONTENT
    assert STORE.read("b") is None
    STORE.write("a", CONTENT[1:])
    assert STORE.read("a") == CONTENT[1:]
    assert [path.name for path in kept.iterdir()] == ["a.cubin"]
    assert kept.stat().st_mode & 0o077 == 0  # nobody else may read or change it


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
        lambda content: b"S" + content[1:],
        lambda content: content[:48],
    ],
    ids=["empty", "no head", "cut", "longer", "one bit", "another format", "no content"],
)
def test_a_damaged_file_is_none_and_is_replaced(kept, damage):
    STORE.write("a", CONTENT)
    path = kept / "a.cubin"
    path.write_bytes(damage(path.read_bytes()))
    assert STORE.read("a") is None
    STORE.write("a", CONTENT)
    assert STORE.read("a") == CONTENT


def test_a_key_is_of_the_whole_list():
    keys = [["a", "b"], ["ab"], ["a", "b", ""], ["b", "a"], [], ["", "a", "b"]]
    assert len({cache.key(parts) for parts in keys}) == len(keys)
    assert cache.key(["é", "b"]) == cache.key(iter(["é", "b"]))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SAMPLERNN_FAST_CACHE": "/a/b"}, "/a/b/cubins"),
        ({"SAMPLERNN_FAST_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b/cubins"),
        ({"SAMPLERNN_FAST_CACHE": "~/b"}, "/users/someone/b/cubins"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/samplernn_fast/cubins"),
        ({"XDG_CACHE_HOME": "relative"}, "/users/someone/.cache/samplernn_fast/cubins"),
        ({"XDG_CACHE_HOME": ""}, "/users/someone/.cache/samplernn_fast/cubins"),
        ({}, "/users/someone/.cache/samplernn_fast/cubins"),
    ],
    ids=str,
)
def test_the_folder_is_the_users(monkeypatch, variables, expected):
    for name in ("SAMPLERNN_FAST_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/users/someone")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert STORE.folder() == Path(expected)


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "file"))
    STORE.write("a", CONTENT)
    assert STORE.read("a") is None


def test_no_home_is_no_error(monkeypatch):
    for name in ("SAMPLERNN_FAST_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where there is no home
    STORE.write("a", CONTENT)
    assert STORE.read("a") is None


def test_without_platformdirs_nothing_is_kept(monkeypatch):
    monkeypatch.delenv("SAMPLERNN_FAST_CACHE", raising=False)
    monkeypatch.setitem(sys.modules, "platformdirs", None)  # importing it now fails
    STORE.write("a", CONTENT)
    assert STORE.read("a") is None
    with pytest.raises(RuntimeError, match="platformdirs"):
        STORE.folder()


def test_a_full_disk_leaves_nothing_behind(kept, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    STORE.write("a", CONTENT)
    assert STORE.read("a") is None and list(kept.iterdir()) == []


def test_those_used_last_stay(kept):
    store = cache.Store("cubins", ".cubin", 3 * (len(CONTENT) + 100))
    for age, name in enumerate("abcd"):
        store.write(name, CONTENT)
        os.utime(kept / f"{name}.cubin", (1000 + age, 1000 + age))
    assert sorted(path.stem for path in kept.iterdir()) == ["b", "c", "d"]
    assert store.read("b") == CONTENT  # now it is the one used last
    store.write("e", CONTENT)
    assert sorted(path.stem for path in kept.iterdir()) == ["b", "d", "e"]


def test_what_a_killed_process_left_is_swept(kept):
    STORE.write("a", CONTENT)
    for name, age in ((".old.tmp", 1000), (".new.tmp", None)):
        (kept / name).write_bytes(CONTENT)
        if age is not None:
            os.utime(kept / name, (age, age))
    STORE.write("b", CONTENT)
    assert sorted(path.name for path in kept.iterdir()) == [".new.tmp", "a.cubin", "b.cubin"]


WORKER = """
import sys
from samplernn_fast.backends import cache
store = cache.Store("cubins", ".cubin", 1 << 20)
for round in range(150):
    content = bytes([round]) * 30000
    store.write("shared", content)
    found = store.read("shared")
    assert found is not None and found == found[:1] * 30000, round
print("whole")
"""


def test_processes_that_write_at_once_read_whole_files(kept):
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [worker.communicate() for worker in workers]
    assert [out for out, _ in outputs] == ["whole\n"] * 3, outputs
    assert [path.name for path in kept.iterdir()] == ["shared.cubin"]
