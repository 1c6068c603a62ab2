"""Work that is done beside its caller: one thing at a time, in order, and what it raises is told."""

import threading
import time

import numpy as np
import pytest
import soundfile

from samplernn_fast import api, files
from samplernn_fast.audio import takes, writing
from samplernn_fast.audio.takes import Names, Takes
from samplernn_fast.engine.beside import Beside
from samplernn_fast.engine.engine import Engine
from samplernn_fast.errors import AudioError


def test_the_caller_goes_on_meanwhile():
    ends, done = threading.Event(), []
    with Beside(True) as beside:
        beside.do(lambda: (ends.wait(60), done.append(1)))
        assert done == []
        ends.set()
        beside.do(lambda: done.append(2))
        beside.wait()
        assert done == [1, 2]
        beside.do(lambda: done.append(3))
    assert done == [1, 2, 3]


def test_where_it_may_not_the_work_is_done_at_once():
    done = []
    with Beside(False) as beside:
        beside.do(lambda: done.append(threading.current_thread()))
        assert done == [threading.current_thread()]
        with pytest.raises(ZeroDivisionError):
            beside.do(lambda: 1 / 0)


@pytest.mark.parametrize("then", [Beside.wait, lambda beside: beside.do(lambda: None)])
def test_what_the_work_raised_is_raised_next(then):
    with Beside(True) as beside:
        beside.do(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            then(beside)
        beside.wait()


def test_a_stream_on_a_gpu_writes_the_same_files(tmp_path, monkeypatch):
    """In another thread than the one that makes the next slice."""
    engine = Engine("demo", backend="cpu")
    threads, write = set(), Takes.write
    monkeypatch.setattr(Takes, "write", lambda *given: (threads.add(threading.current_thread()), write(*given))[1])
    for name in ("cpu", "cuda:0"):
        engine.device = name
        stream = api.stream(engine, num_samples=2)
        saved = stream.save(tmp_path / f"{name[:3]}.wav", 0.2)
        assert len(saved.paths) == 2
    for number in ("00", "01"):
        one, other = (soundfile.read(tmp_path / f"{name}-{number}.wav")[0] for name in ("cpu", "cud"))
        assert np.array_equal(one, other)
    assert len(threads) == 2 and threading.current_thread() in threads


def test_a_disk_that_is_full_ends_a_stream_on_a_gpu(tmp_path, monkeypatch):
    engine = Engine("demo", backend="cpu")
    engine.device = "cuda:0"

    def full(*_):
        raise AudioError("the disk is full")

    monkeypatch.setattr(Takes, "write", full)
    with pytest.raises(AudioError, match="the disk is full"):
        api.stream(engine, num_samples=2).save(tmp_path / "take.wav", 0.2)
    assert list(tmp_path.iterdir()) == []


def test_the_last_block_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    engine = Engine("demo", backend="cpu")
    engine.device = "cuda:0"
    write, sizes = Takes.write, []

    def late(self, samples):
        time.sleep(0.2)
        sizes.append(samples.shape[1])
        if sum(sizes) == 1600:
            raise AudioError("the disk is full")
        write(self, samples)

    monkeypatch.setattr(Takes, "write", late)
    with pytest.raises(AudioError, match="the disk is full"):
        api.stream(engine, num_samples=2).save(tmp_path / "take.wav", 0.2)
    assert len(sizes) > 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".wav", ".ogg"])
@pytest.mark.parametrize("size", [7, 100, 250, 999])
def test_files_do_not_depend_on_how_the_samples_come(tmp_path, monkeypatch, suffix, size):
    monkeypatch.setattr(takes, "_BLOCK", 100)
    samples = np.random.default_rng(0).uniform(-1, 1, (3, 999)).astype(np.float32)
    sizes, sounds, write = [], [], writing.Writer.write
    monkeypatch.setattr(writing.Writer, "write", lambda self, row: (sizes.append(len(row)), write(self, row))[1])
    for name, step in (("one", 999), ("other", size)):
        with Takes(Names(tmp_path / f"{name}{suffix}", range(3)), {"streams": [0, 1, 2]}, 8000, 999) as written:
            for start in range(0, 999, step):
                written.write(samples[:, start : start + step])
            paths = written.finish()
        sounds.append([soundfile.read(path)[0] for path in paths])
    assert set(sizes) == {100, 99}
    assert all(np.array_equal(one, other) for one, other in zip(*sounds, strict=True))


def test_work_for_each_of_many_is_done_by_several_threads():
    together, done = threading.Barrier(files._AT_ONCE), []

    def work(item):
        together.wait(60)
        done.append(item)

    files.for_each(work, range(files._AT_ONCE))
    assert sorted(done) == list(range(files._AT_ONCE))
    files.for_each(work, [])


def test_the_first_failure_of_many_is_raised():
    def work(item):
        if item >= 3:
            raise ValueError(item)

    with pytest.raises(ValueError, match=r"^3$"):
        files.for_each(work, range(1000))
