"""The cache of compiled kernels: kernels that several processes keep for each other, and that may be damaged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from samplernn_fast.backends.cuda import cubin_cache

CUBIN = bytes(range(256)) * 200


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cubins"


def test_what_was_written_is_read(cache):
    assert cubin_cache.read("a") is None
    cubin_cache.write("a", CUBIN)
    assert cubin_cache.read("a") == CUBIN
    assert cubin_cache.read("b") is None
    cubin_cache.write("a", CUBIN[1:])
    assert cubin_cache.read("a") == CUBIN[1:]
    assert [path.name for path in cache.iterdir()] == ["a.cubin"]


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
    ids=["empty", "no head", "cut", "longer", "one bit", "another format", "no code"],
)
def test_a_damaged_file_is_none_and_is_replaced(cache, damage):
    cubin_cache.write("a", CUBIN)
    path = cache / "a.cubin"
    path.write_bytes(damage(path.read_bytes()))
    assert cubin_cache.read("a") is None
    cubin_cache.write("a", CUBIN)
    assert cubin_cache.read("a") == CUBIN


def test_a_key_is_of_the_whole_list():
    keys = [["a", "b"], ["ab"], ["a", "b", ""], ["b", "a"], [], ["", "a", "b"]]
    assert len({cubin_cache.key(parts) for parts in keys}) == len(keys)
    assert cubin_cache.key(["é", "b"]) == cubin_cache.key(iter(["é", "b"]))


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
    assert cubin_cache.folder() == Path(expected)


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "file"))
    cubin_cache.write("a", CUBIN)
    assert cubin_cache.read("a") is None


def test_no_home_is_no_error(monkeypatch):
    for name in ("SAMPLERNN_FAST_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where there is no home
    cubin_cache.write("a", CUBIN)
    assert cubin_cache.read("a") is None


def test_without_platformdirs_nothing_is_kept(monkeypatch):
    monkeypatch.delenv("SAMPLERNN_FAST_CACHE", raising=False)
    monkeypatch.setitem(sys.modules, "platformdirs", None)  # importing it now fails
    cubin_cache.write("a", CUBIN)
    assert cubin_cache.read("a") is None
    with pytest.raises(RuntimeError, match="platformdirs"):
        cubin_cache.folder()


def test_a_full_disk_leaves_nothing_behind(cache, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    cubin_cache.write("a", CUBIN)
    assert cubin_cache.read("a") is None and list(cache.iterdir()) == []


def test_those_used_last_stay(cache, monkeypatch):
    monkeypatch.setattr(cubin_cache, "MOST_BYTES", 3 * (len(CUBIN) + 100))
    for age, name in enumerate("abcd"):
        cubin_cache.write(name, CUBIN)
        os.utime(cache / f"{name}.cubin", (1000 + age, 1000 + age))
    assert sorted(path.stem for path in cache.iterdir()) == ["b", "c", "d"]
    assert cubin_cache.read("b") == CUBIN  # now it is the one used last
    cubin_cache.write("e", CUBIN)
    assert sorted(path.stem for path in cache.iterdir()) == ["b", "d", "e"]


def test_what_a_killed_process_left_is_swept(cache):
    cubin_cache.write("a", CUBIN)
    for name, age in ((".old.tmp", 1000), (".new.tmp", None)):
        (cache / name).write_bytes(CUBIN)
        if age is not None:
            os.utime(cache / name, (age, age))
    cubin_cache.write("b", CUBIN)
    assert sorted(path.name for path in cache.iterdir()) == [".new.tmp", "a.cubin", "b.cubin"]


WORKER = """
import sys
from samplernn_fast.backends.cuda import cubin_cache
for round in range(150):
    cubin = bytes([round]) * 30000
    cubin_cache.write("shared", cubin)
    found = cubin_cache.read("shared")
    assert found is not None and found == found[:1] * 30000, round
print("whole")
"""


def test_processes_that_write_at_once_read_whole_files(cache):
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [worker.communicate() for worker in workers]
    assert [out for out, _ in outputs] == ["whole\n"] * 3, outputs
    assert [path.name for path in cache.iterdir()] == ["shared.cubin"]
