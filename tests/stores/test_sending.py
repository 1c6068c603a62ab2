"""What is written to an address: whole, refused where something is in the way, kept here where it cannot be sent."""

from pathlib import Path

import pytest
from command_line import assert_one_line_error, run

import samplernn_fast as srnn
from samplernn_fast.audio import writing
from samplernn_fast.audio.synthetic import plucked_music
from samplernn_fast.data.preparation import prepare
from samplernn_fast.errors import AudioError, ConfigError, DataError, Interrupted, StoreError
from samplernn_fast.stores.sending import file_at, folder_at
from samplernn_fast.stores.store import Store

RATE = 8000


@pytest.fixture
def wavs(memory, tmp_path):
    """A folder of recordings, which are at memory://b/wavs too."""
    folder = tmp_path / "wavs"
    folder.mkdir()
    for number in range(4):
        writing.write(folder / f"{number}.wav", plucked_music(1.0, seed=number), RATE)
        memory.pipe_file(f"/b/wavs/{number}.wav", (folder / f"{number}.wav").read_bytes())
    return folder


def files_at(memory, folder: str) -> dict[str, bytes]:
    return {name[len(folder) + 1 :]: memory.cat_file(name) for name in memory.find(folder)}


def fails(*args, **kwargs):
    raise StoreError("memory://b/x: cannot be written: the network is down")


def test_a_folder_that_is_filled_appears_at_the_address(memory):
    with folder_at("memory://b/x") as folder:
        folder.mkdir()
        (folder / "one").write_bytes(b"1")
        assert files_at(memory, "/b/x") == {}
    assert files_at(memory, "/b/x") == {"one": b"1"}
    assert not folder.parent.exists()


def test_what_is_there_is_seen_and_only_what_changed_is_sent(memory, monkeypatch):
    memory.pipe({"/b/x/one": b"1", "/b/x/sub/two": b"2", "/b/x/three": b"3"})
    put = []
    monkeypatch.setattr(Store, "put_all", lambda self, files, last: put.extend(files))
    with folder_at("memory://b/x") as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["one", "sub", "three"]
        assert (folder / "sub").is_dir() and (folder / "three").is_file()
        (folder / "one").write_bytes(b"new")
    assert put == ["one"]


@pytest.mark.parametrize(("error", "sent"), [(Interrupted, True), (ValueError, False), (KeyboardInterrupt, False)])
def test_only_an_interruption_that_keeps_something_sends_it(memory, error, sent):
    with pytest.raises(error), folder_at("memory://b/x") as folder:
        folder.mkdir()
        (folder / "one").write_bytes(b"1")
        raise error
    assert bool(files_at(memory, "/b/x")) == sent
    assert not folder.parent.exists()


def test_what_cannot_be_sent_is_kept_and_named(memory, monkeypatch):
    monkeypatch.setattr(Store, "put_all", fails)
    with pytest.raises(StoreError, match="the network is down; what was made is kept in ") as raised:
        with folder_at("memory://b/x") as folder:
            folder.mkdir()
            (folder / "one").write_bytes(b"1")
    assert str(raised.value).endswith(str(folder))
    assert (folder / "one").read_bytes() == b"1"


def test_a_put_that_breaks_off_leaves_the_earlier_file(memory, monkeypatch):
    memory.pipe_file("/b/x/one", b"earlier")

    def half(lpath, rpath, **kwargs):
        memory.pipe_file(rpath, Path(lpath).read_bytes()[:2])
        raise ConnectionError("the network is down")

    monkeypatch.setattr(memory, "put_file", half)
    with pytest.raises(StoreError, match="the network is down"):
        with folder_at("memory://b/x") as folder:
            (folder / "one").write_bytes(b"later")
    assert files_at(memory, "/b/x") == {"one": b"earlier"}


def test_several_that_replace_others_do_so_when_all_have_arrived(memory, monkeypatch, tmp_path):
    memory.pipe({"/b/x/audio": b"old", "/b/x/index": b"old"})
    files, before = {}, memory.put_file
    for name in ("audio", "index"):
        files[name] = tmp_path / name
        files[name].write_bytes(b"new")

    def second_fails(lpath, rpath, **kwargs):
        if lpath.endswith("index"):
            raise ConnectionError("the network is down")
        before(lpath, rpath, **kwargs)

    monkeypatch.setattr(memory, "put_file", second_fails)
    with pytest.raises(StoreError):
        Store("memory://b/x").put_all(files, last=["index"])
    assert files_at(memory, "/b/x") == {"audio": b"old", "index": b"old"}
    monkeypatch.undo()
    order, copy = [], memory.cp_file
    monkeypatch.setattr(memory, "cp_file", lambda one, two, **kwargs: (order.append(two), copy(one, two, **kwargs)))
    Store("memory://b/x").put_all(files, last=["index"])
    assert files_at(memory, "/b/x") == {"audio": b"new", "index": b"new"}
    assert [name for name in order if not name.endswith(".tmp")] == ["/b/x/audio", "/b/x/index"]

    def fails(one, two, **kwargs):
        raise ConnectionError("the network is down")

    for name in files:
        files[name].write_bytes(b"newer")
    monkeypatch.setattr(memory, "cp_file", fails)  # the first renaming, when the old index is away already
    monkeypatch.setattr(Store, "put", _without_renames)
    Store("memory://b/x").put_all(files, last=["index"])
    assert files_at(memory, "/b/x") == {"audio": b"newer", "index": b"newer"}


def _without_renames(store, name, file):
    store._system.put_file(str(file), store._path(name))


@pytest.mark.parametrize("folder", ["take [1]", "what*", "a?b"])
def test_names_are_no_patterns(memory, folder, tmp_path):
    files = {}
    for name in ("audio", "index"):
        files[name] = tmp_path / name
        files[name].write_bytes(b"old")
    store = Store(f"memory://b/{folder}")
    for content in (b"old", b"new"):
        for file in files.values():
            file.write_bytes(content)
        store.put_all(files, last=["index"])
        assert files_at(memory, f"/b/{folder}") == {"audio": content, "index": content}


def test_prepare_reads_and_writes_at_addresses(memory, wavs, tmp_path):
    here = prepare(wavs, tmp_path / "data", sample_rate=RATE)
    there = prepare("memory://b/wavs", "memory://b/data", sample_rate=RATE)
    assert files_at(memory, "/b/data") == {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    assert str(there.folder) == "memory://b/data"
    assert there.summary().splitlines()[2:] == here.summary().splitlines()[2:]


def test_names_of_several_inputs_do_not_depend_on_the_cache(memory, wavs, another_machine):
    memory.pipe_file("/b/more/9.wav", memory.cat_file("/b/wavs/0.wav"))
    inputs = ["memory://b/wavs", "memory://b/more/9.wav", wavs]
    prepare(inputs[:2], "memory://b/one", sample_rate=RATE)
    another_machine()
    prepare(inputs[:2], "memory://b/two", sample_rate=RATE)
    assert files_at(memory, "/b/one") == files_at(memory, "/b/two")
    assert b'"more/9.wav"' in memory.cat_file("/b/one/manifest.json")
    assert b'"wavs/0.wav"' in memory.cat_file("/b/one/manifest.json")
    prepare(inputs, "memory://b/three", sample_rate=RATE)
    assert b'"memory:/b/wavs/0.wav"' in memory.cat_file("/b/three/manifest.json")


def test_prepare_refuses_what_it_refuses_in_a_folder(memory, wavs):
    prepare(wavs, "memory://b/data", sample_rate=RATE)
    before = files_at(memory, "/b/data")
    with pytest.raises(DataError, match="exists"):
        prepare(wavs, "memory://b/data", sample_rate=RATE)
    memory.pipe_file("/b/data/notes.txt", b"mine")
    with pytest.raises(ConfigError, match=r"holds more than a data set \(notes.txt\)"):
        prepare(wavs, "memory://b/data", sample_rate=RATE, overwrite=True)
    memory.rm_file("/b/data/notes.txt")
    prepare(wavs / "0.wav", "memory://b/data", sample_rate=RATE, overwrite=True)
    assert files_at(memory, "/b/data").keys() == before.keys()
    assert files_at(memory, "/b/data")["audio.i16"] != before["audio.i16"]


def test_audio_is_saved_at_an_address(memory, run_folder, tmp_path):
    made = srnn.generate(run_folder, duration=0.02, num_samples=2, device="cpu")
    paths = made.save("memory://b/out/x.wav")
    assert [str(path) for path in paths] == ["memory://b/out/x-00.wav", "memory://b/out/x-01.wav"]
    assert files_at(memory, "/b/out") == {path.name: path.read_bytes() for path in made.save(tmp_path / "x.wav")}
    with pytest.raises(AudioError, match="exists"):
        made.save(paths[0].with_name("x.wav"))
    streamed = srnn.stream(run_folder, device="cpu").save("memory://b/out/y.wav", 0.02)
    assert [str(path) for path in streamed.paths] == ["memory://b/out/y.wav"]
    assert memory.isfile("/b/out/y.wav")


def test_generate_names_its_files_at_an_address_as_in_a_folder(memory, run_folder, capsys, elsewhere):
    memory.pipe_file("/b/run/model.safetensors", (run_folder / "model.safetensors").read_bytes())
    flags = ["--duration", "0.02", "--device", "cpu"]
    for out in ("memory://b/out/", "memory://b/out", "out/", "out", "memory://b/one.wav"):
        assert run("generate", "memory://b/run", "-o", out, *flags) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.endswith(".wav")]
    assert shown == [
        "memory://b/out/run-seed0.wav",
        "memory://b/out/run-seed0-2.wav",
        "out/run-seed0.wav",
        "out/run-seed0-2.wav",
        "memory://b/one.wav",
    ]
    assert files_at(memory, "/b/out") == {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert run("generate", "memory://b/run", "-o", "memory://b/one.wav", *flags) == 1
    assert "memory://b/one.wav exists" in assert_one_line_error(capsys)
    assert sorted(path.name for path in Path().iterdir()) == ["cache", "out"]


def test_a_failed_upload_has_the_exit_status_of_a_failure(memory, run_folder, capsys, monkeypatch):
    monkeypatch.setattr(Store, "put_all", fails)
    assert run("generate", run_folder, "-o", "memory://b/x.wav", "--duration", "0.02", "--device", "cpu") == 1
    complaint = capsys.readouterr().err.splitlines()[-1]
    kept = Path(complaint.rpartition(" ")[2])
    assert complaint.startswith("samplernn-fast: memory://b/x: cannot be written") and (kept / "x.wav").is_file()


def test_other_commands_refuse_an_address_to_write_to(capsys, elsewhere):
    for words in (["import", "x.pt", "-o", "s3://b/run"], ["demo", "--output=s3://b/demo.wav"]):
        assert run(*words) == 2
        assert "must be a folder or file of this machine" in assert_one_line_error(capsys)
    assert [path.name for path in Path().iterdir()] in ([], ["cache"])


def test_the_name_of_a_file_or_folder_of_this_machine_stays_as_it_is(tmp_path):
    for name in ("out", "out/", "a/b.wav"):
        with file_at(name) as place:
            assert place == name
    with file_at(f"file://{tmp_path}/out/") as place:
        assert place == f"{tmp_path}/out/"
