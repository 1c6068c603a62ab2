"""The door to fsspec where stores differ: what they list, how they rename, and what they do not say."""

import errno
import threading

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from samplernn_fast.errors import StoreError
from samplernn_fast.stores import store as stores
from samplernn_fast.stores.reading import local
from samplernn_fast.stores.sending import folder_at
from samplernn_fast.stores.store import Store


@pytest.fixture
def silent(memory, monkeypatch):
    """memory:// as a store that does not say when a file changed."""
    for name in ("ls", "info", "find"):
        monkeypatch.setattr(MemoryFileSystem, name, without_time(getattr(MemoryFileSystem, name)))
    monkeypatch.setattr(MemoryFileSystem, "modified", None)
    return memory


def without_time(method):
    def asked(self, *args, **kwargs):
        told = method(self, *args, **kwargs)
        infos = [told] if "type" in told else list(told.values()) if isinstance(told, dict) else told
        for info in infos:
            info.pop("created", None) if isinstance(info, dict) else None
        return told

    return asked


def write(files, folder):
    """Writes texts into files of a folder, and returns their paths by name."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return {name: folder / name for name in files}


@pytest.mark.parametrize("where", ["", "sub"])
def test_a_folder_that_cannot_be_listed_is_no_empty_folder(tree, monkeypatch, where):
    system, folder = tree
    (folder / "sub").mkdir()
    write({"one": "1"}, folder)
    write({"two": "2"}, folder / "sub")
    store, ls = Store(f"tree://{folder}"), system.ls
    assert list(store.files()) == ["one", "sub/two"]

    def breaks(path, **kwargs):
        if path.rstrip("/") == str(folder / where):
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        return ls(path, **kwargs)

    monkeypatch.setattr(store._system, "ls", breaks)
    with pytest.raises(StoreError, match="cannot be listed: Connection reset by peer"):
        store.files()


def test_files_below_a_folder_are_found_by_walking(tree):
    folder = tree[1]
    for name in ("b", ".hidden"):
        write({"one": "1", ".two": "2"}, folder / name)
    assert list(Store(f"tree://{folder}").files()) == ["b/one"]
    assert list(Store(f"tree://{folder}/b/one").files()) == [""]
    assert Store(f"tree://{folder}/none").files() == {}


def test_a_file_of_which_a_list_says_nothing_is_asked_for(memory, monkeypatch):
    memory.pipe_file("/b/x", b"123")
    stamp = Store("memory://b/x").files()[""].stamp
    monkeypatch.setattr(memory, "find", lambda path, detail: {path: {}})
    found = Store("memory://b/x").files()[""]
    assert found.size == 3 and found.stamp and stamp


def test_a_store_that_gives_no_stamps_is_read_anew_each_time(silent):
    silent.pipe_file("/b/x/one", b"1")
    assert Store("memory://b/x").files()["one"].stamp == ""
    first = local("memory://b/x")
    assert local("memory://b/x") == first  # equal content is kept once
    silent.pipe_file("/b/x/one", b"2")
    assert (local("memory://b/x") / "one").read_bytes() == b"2"
    assert (first / "one").read_bytes() == b"1"
    assert len(list(first.parents[1].iterdir())) == 2


@pytest.mark.parametrize("key", ["Last-Modified", "modificationTime", "modify"])
def test_what_stores_call_a_time_is_known(memory, monkeypatch, key):
    info = {"name": "/b/x", "type": "file", "size": 3, key: "then"}
    monkeypatch.setattr(memory, "find", lambda path, detail: {path: info})
    assert Store("memory://b/x").files()[""].stamp == "3 then"


@pytest.mark.parametrize("times", [1, 2, 99])
def test_a_renaming_that_fails_leaves_a_whole_version_or_all_that_was_sent(tree, monkeypatch, tmp_path, times):
    folder = tree[1]
    write({"audio": "old", "index": "old"}, folder)
    files, store, failed = write({"audio": "new", "index": "new"}, tmp_path / "new"), Store(f"tree://{folder}"), []
    mv = store._system.mv

    def breaks(one, two, **kwargs):
        if len(failed) < times and not two.endswith(".tmp"):
            failed.append(two)
            raise ConnectionError("the network is down")
        mv(one, two, **kwargs)

    monkeypatch.setattr(store._system, "mv", breaks)
    if times == 1:
        store.put_all(files, last=["index"])
        assert {path.name: path.read_text() for path in folder.iterdir()} == {"audio": "new", "index": "new"}
        return
    with pytest.raises(StoreError, match="the network is down"):
        store.put_all(files, last=["index"])
    left = sorted(path for path in folder.iterdir() if path.suffix == ".tmp")
    assert [path.read_text() for path in left] == ["new", "new"]
    monkeypatch.undo()
    store.put_all(files, last=["index"])
    assert [(folder / name).read_text() for name in files] == ["new", "new"]


def test_a_file_that_may_not_be_removed_leaves_the_earlier_version(tree, monkeypatch, tmp_path):
    folder = tree[1]
    write({"audio": "old", "index": "old"}, folder)
    files, store = write({"audio": "new", "index": "new"}, tmp_path / "new"), Store(f"tree://{folder}")
    remove = store._system.rm_file

    def forbidden(path):
        if not path.endswith(".tmp"):
            raise PermissionError("Access Denied")
        remove(path)

    monkeypatch.setattr(store._system, "rm_file", forbidden)
    with pytest.raises(StoreError, match="Access Denied"):
        store.put_all(files, last=["index"])
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"audio": "old", "index": "old"}


@pytest.mark.parametrize("name", ["take [1]", "what?", "a*"])
def test_a_name_that_looks_like_a_pattern_is_a_name(memory, name):
    memory.pipe({f"/b/{name}/one*": b"0", f"/b/{name}/two": b"0", "/b/take 1/one": b"9"})
    for content in (b"1", b"2"):
        with folder_at(f"memory://b/{name}") as folder:
            (folder / "one*").write_bytes(content)
            (folder / "two").write_bytes(content)
        copy = local(f"memory://b/{name}")
        assert [path.read_bytes() for path in sorted(copy.iterdir())] == [content, content]
    Store(f"memory://b/{name}").put("one*", copy / "two")
    assert memory.cat_file("/b/take 1/one") == b"9"


def test_a_store_whose_renaming_replaces_nothing_is_written_to(tree, monkeypatch, tmp_path):
    system, folder = tree
    write({"one": "old"}, folder)
    store, mv = Store(f"tree://{folder}"), system.mv

    def refuses(one, two, **kwargs):
        if system.exists(two):
            raise FileExistsError(two)
        mv(one, two, **kwargs)

    monkeypatch.setattr(store._system, "mv", refuses)
    monkeypatch.setattr(stores, "_KEEP_WHAT_IS_THERE", frozenset(["tree"]))
    store.put("one", write({"one": "new"}, tmp_path / "new")["one"])
    assert (folder / "one").read_text() == "new"


@pytest.mark.parametrize("call", ["write", "create"])
def test_folders_of_small_files_are_made(tree, call):
    store = Store(f"tree://{tree[1]}/runs/x")
    getattr(store, call)("small", b"1")
    assert store.read("small") == b"1"


def test_a_file_and_a_folder_of_one_name_are_both_named(memory):
    memory.pipe({"/b/x/c": b"1", "/b/x/a/b": b"2"})
    memory.store["/b/x/a"] = memory.store["/b/x/c"]  # as object stores allow it
    with pytest.raises(StoreError, match="memory://b/x/a and memory://b/x/a/b: a file and a folder of one name"):
        local("memory://b/x")


def test_a_name_with_a_zero_byte_is_refused_before_anything_is_written(memory):
    memory.pipe_file("/b/x/a\0b", b"1")
    with pytest.raises(StoreError, match="cannot be brought here"), folder_at("memory://b/x"):
        pass


def test_a_lease_is_renewed_by_a_connection_of_its_own_thread(memory, monkeypatch):
    from samplernn_fast.stores import lease

    monkeypatch.setattr(lease, "RENEWED_SECONDS", 0.01)
    made, written = [], threading.Event()

    class Noted(Store):
        def __init__(self, address):
            made.append(threading.current_thread())
            super().__init__(address)

        def write(self, *args):
            super().write(*args)
            written.set()

    monkeypatch.setattr(lease, "Store", Noted)
    mine = lease.Lease(Store("memory://b/x"), "mine")
    mine.take()
    assert written.wait(10)
    mine.release()
    assert made == [mine._thread]
