"""Copies of what lies at an address: whole, the newest, and fetched once."""

import errno
import shutil
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import samplernn_fast as srnn
from samplernn_fast.audio import reading as audio
from samplernn_fast.audio import writing
from samplernn_fast.audio.finding import find_audio
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import ConfigError, MissingPackage, StoreError
from samplernn_fast.models.places import kept_models, model_file, model_path, short_name
from samplernn_fast.stores import reading
from samplernn_fast.stores.reading import local
from samplernn_fast.stores.store import Store


@pytest.fixture
def fetched(monkeypatch):
    """The names of all files that were fetched so far."""
    names, before = [], Store.fetch

    def fetch(self, files, places):
        names.extend(files)
        return before(self, files, places)

    monkeypatch.setattr(Store, "fetch", fetch)
    return names


def put(memory, folder: Path, at: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            memory.pipe_file(f"{at}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_a_path_is_itself():
    assert local("some/where") == Path("some/where")
    assert local("file:///some/where") == Path("/some/where")


def test_a_folder_is_fetched_once_and_again_when_it_changed(memory, fetched):
    memory.pipe({"/b/x/one": b"1", "/b/x/sub/two": b"22", "/b/xy": b"another"})
    first = local("memory://b/x")
    assert first.name == "x"
    assert {path.name: path.read_bytes() for path in first.rglob("*") if path.is_file()} == {"one": b"1", "two": b"22"}
    assert local("memory://b/x/") == first and fetched == ["one", "sub/two"]
    memory.pipe_file("/b/x/one", b"3")
    second = local("memory://b/x")
    assert second != first and (second / "one").read_bytes() == b"3"
    assert (first / "one").read_bytes() == b"1"  # whoever has the old one open keeps it


def test_a_file_keeps_its_name(memory):
    memory.pipe_file("/b/model.safetensors", b"m")
    assert local("memory://b/model.safetensors").name == "model.safetensors"


def test_old_versions_go_when_nobody_asked_for_them_in_a_day(memory, monkeypatch):
    memory.pipe_file("/b/x", b"1")
    first = local("memory://b/x")
    memory.pipe_file("/b/x", b"2")
    local("memory://b/x")
    assert first.exists()
    monkeypatch.setattr(reading, "_UNUSED_SECONDS", -1.0)
    assert local("memory://b/x").read_bytes() == b"2"
    assert not first.exists()


def test_threads_that_ask_at_once_fetch_once(memory, fetched, monkeypatch):
    memory.pipe_file("/b/x/one", b"1")
    system = type(memory)  # each thread has a file system of its own
    get = system.get
    monkeypatch.setattr(system, "get", lambda *args, **kwargs: (time.sleep(0.1), get(*args, **kwargs)))
    threads = [threading.Thread(target=local, args=("memory://b/x",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == ["one"]


def test_a_fetch_that_breaks_off_leaves_nothing(memory, monkeypatch, cache):
    memory.pipe({"/b/x/one": b"1", "/b/x/two": b"2"})
    before = memory.get_file

    def breaks(rpath, lpath, **kwargs):
        if rpath.endswith("two"):
            raise ConnectionError("the network is down")
        return before(rpath, lpath, **kwargs)

    monkeypatch.setattr(memory, "get_file", breaks)
    with pytest.raises(StoreError, match=r"^memory://b/x: cannot be fetched: the network is down$"):
        local("memory://b/x")
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    monkeypatch.undo()


def test_a_folder_that_changes_while_it_is_fetched_is_fetched_again(memory, monkeypatch):
    memory.pipe_file("/b/x/one", b"1")
    before, times = Store.fetch, []

    def fetch(self, files, places):
        before(self, files, places)
        times.append(1)
        if len(times) == 1:
            memory.pipe_file("/b/x/one", b"2")

    monkeypatch.setattr(Store, "fetch", fetch)
    assert (local("memory://b/x") / "one").read_bytes() == b"2"
    assert len(times) == 2


def test_names_that_lead_out_of_the_folder_are_refused(memory, tmp_path):
    memory.store["/b/x/../../evil"] = memory.store.setdefault("/b/x/one", None)
    memory.pipe_file("/b/x/one", b"1")
    memory.store["/b/x/../../evil"] = memory.store["/b/x/one"]
    with pytest.raises(StoreError, match="cannot be brought here"):
        local("memory://b/x")
    assert not list(tmp_path.rglob("evil"))


def test_a_full_disk_is_said_before_anything_is_fetched(memory, monkeypatch, fetched):
    memory.pipe_file("/b/x/one", b"1" * 1000)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 999))
    with pytest.raises(StoreError, match=r"do not fit into .*SAMPLERNN_FAST_CACHE"):
        local("memory://b/x")
    assert fetched == []


def test_a_disk_that_fills_up_meanwhile_is_said_too(memory, monkeypatch):
    memory.pipe_file("/b/x/one", b"1")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(memory, "get_file", full)
    with pytest.raises(StoreError, match="the disk is full; make room, or set SAMPLERNN_FAST_CACHE"):
        local("memory://b/x")


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("memory://b/none", StoreError, "memory://b/none: nothing is there"),
        ("nope://b/x", ConfigError, "no kind of store is called nope"),
    ],
)
def test_refusals_are_one_line(memory, address, error, words):
    with pytest.raises(error, match=words) as raised:
        local(address)
    assert "\n" not in str(raised.value)


def test_a_missing_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(MissingPackage, match=r"az://b/x needs a package that is not installed: .*adlfs"):
        local("az://b/x")


def test_rights_that_are_missing_are_said(memory, monkeypatch):
    def forbidden(*args, **kwargs):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(memory, "find", forbidden)
    with pytest.raises(StoreError, match=r"memory://b/x: cannot be listed: no right to do that \(Access Denied\)"):
        local("memory://b/x")


def test_of_a_run_only_what_tells_of_its_model_is_fetched(memory, run_folder, fetched):
    memory.pipe({f"/b/run/{name}": b"0" for name in ("last.safetensors", "log.csv", "tensorboard/events")})
    memory.pipe_file("/b/run/models/step-000003-4.123.safetensors", b"0")
    memory.pipe_file("/b/run/model.safetensors", (run_folder / "model.safetensors").read_bytes())
    assert model_file("memory://b/run").read_bytes() == (run_folder / "model.safetensors").read_bytes()
    assert sorted(fetched) == ["log.csv", "model.safetensors"]
    kept = kept_models(model_path("memory://b/run"))
    assert [(str(one.path), one.step, one.bits) for one in kept] == [
        ("memory://b/run/models/step-000003-4.123.safetensors", 3, 4.123)
    ]
    assert short_name("memory://b/run") == "run"


def test_a_model_at_an_address_makes_what_the_same_model_here_does(memory, run_folder, model):
    put(memory, run_folder, "/b/run")
    for name in ("memory://b/run", Path("memory://b/run"), "memory://b/run/model.safetensors"):
        made = srnn.generate(name, duration=0.02, seed=3, device="cpu")
        assert np.array_equal(made.tokens, srnn.generate(run_folder, duration=0.02, seed=3, device="cpu").tokens)
    loaded = srnn.load("memory://b/run").state_dict()
    assert all(value.equal(model.state_dict()[name]) for name, value in loaded.items())


def test_data_at_an_address_is_the_same_data(memory, data_folder):
    put(memory, data_folder, "/b/data")
    opened, here = AudioData.open("memory://b/data"), AudioData.open(data_folder)
    assert np.array_equal(opened.audio, here.audio)
    assert opened.manifest == here.manifest


def test_a_folder_that_is_no_data_is_not_fetched(memory, fetched):
    memory.pipe_file("/b/audio/a.wav", b"0")
    with pytest.raises(StoreError, match=r"memory://b: holds nothing of what is looked for there, but audio/a.wav"):
        AudioData.open("memory://b")
    assert fetched == []


def test_audio_at_an_address_is_found_and_read(memory, tmp_path):
    samples = np.linspace(-0.5, 0.5, 100, dtype=np.float32)
    writing.write(tmp_path / "a.wav", samples, 8000)
    memory.pipe({"/b/in/a.wav": (tmp_path / "a.wav").read_bytes(), "/b/in/cover.jpg": b"x", "/b/in/.hid/b.wav": b"x"})
    assert [path.name for path in find_audio("memory://b/in")] == ["a.wav"]
    for name in ("memory://b/in/a.wav", Path("memory://b/in/a.wav")):
        assert np.array_equal(audio.read(name)[0], audio.read(tmp_path / "a.wav")[0])
        assert audio.probe(name).frames == 100


def test_a_store_that_tells_nothing_of_changes_is_read_anew(memory, monkeypatch):
    """As the list of a web server's folder, which has neither times nor sizes."""
    from samplernn_fast.stores.store import Store

    bare = {"type": "file", "size": None}
    memory.pipe({"/b/x/a": b"AAAA"})
    monkeypatch.setattr(memory, "find", lambda root, **kwargs: {"/b/x/a": {**bare, "name": "/b/x/a"}})
    monkeypatch.setattr(memory, "info", lambda path, **kwargs: {**bare, "name": path})
    assert local("memory://b/x").joinpath("a").read_bytes() == b"AAAA"
    memory.pipe({"/b/x/a": b"BBBB"})
    assert local("memory://b/x").joinpath("a").read_bytes() == b"BBBB"
    monkeypatch.setattr(memory, "info", lambda path, **kwargs: {**bare, "name": path, "ETag": "1"})
    assert Store("memory://b/x").files()["a"].stamp == Store("memory://b/x").files()["a"].stamp
