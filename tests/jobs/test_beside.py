"""Pieces that are shared on a GPU: the files of one batch are ended while the next one is made."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from command_line import run

from samplernn_fast.audio import reading
from samplernn_fast.commands.generation import sharing
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.pace import Pace
from samplernn_fast.errors import DataError
from samplernn_fast.jobs.ledger import Ledger

PIECES, BATCH = 11, 3


@pytest.fixture
def on_gpu(monkeypatch):
    """Engines of the cpu backend say that a GPU makes their audio. Returns the streams of each call."""
    init, generated, calls = Engine.__init__, Engine.generated, []

    def start(self, *given, **settings):
        init(self, *given, **settings)
        self.device = "cuda:0"

    def count(self, hidden, history, t, drawing, forced):
        calls.append(drawing.randomness.streams.tolist())
        return generated(self, hidden, history, t, drawing, forced)

    monkeypatch.setattr(Engine, "__init__", start)
    monkeypatch.setattr(Engine, "generated", count)
    return calls


def make(folder, duration=0.1):
    words = f"--num-shards 1 --duration {duration} --backend cpu --num-threads 1 --seed 5".split()
    return run("generate", "demo", *words, "--num-samples", PIECES, "--batch", BATCH, "-o", folder / "out.wav")


def made(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.wav")}


def test_the_audio_is_that_of_a_processor(tmp_path, request):
    assert make(tmp_path / "cpu") == 0
    request.getfixturevalue("on_gpu")
    assert make(tmp_path / "gpu") == 0
    sounds = [{path.name: reading.read(path)[0] for path in (tmp_path / name).glob("*.wav")} for name in ("cpu", "gpu")]
    assert len(sounds[0]) == PIECES and sounds[0].keys() == sounds[1].keys()
    assert all(np.array_equal(sounds[0][name], sounds[1][name]) for name in sounds[0])


def test_the_next_audio_is_made_while_files_are_ended(tmp_path, on_gpu, monkeypatch):
    adopt, begun = Ledger.adopt, threading.Event()

    def wait(self, name, path):
        while [3, 4, 5] not in on_gpu and not begun.wait(0.01):
            pass
        begun.set()
        adopt(self, name, path)

    monkeypatch.setattr(Ledger, "adopt", wait)
    assert make(tmp_path) == 0 and len(made(tmp_path)) == PIECES


def test_one_batch_is_made_at_a_time(tmp_path, on_gpu):
    assert make(tmp_path) == 0
    groups = [call for at, call in enumerate(on_gpu) if at == 0 or on_gpu[at - 1] != call]
    assert sorted(groups) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]


def test_a_failure_ends_the_job_and_keeps_what_is_whole(tmp_path, on_gpu, monkeypatch, capsys):
    adopt = Ledger.adopt

    def fail(self, name, path):
        if name == "out-04.wav":
            raise DataError("the disk is full")
        adopt(self, name, path)

    monkeypatch.setattr(Ledger, "adopt", fail)
    assert make(tmp_path) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1] == "samplernn-fast: the disk is full"
    kept = made(tmp_path)
    assert {"out-00.wav", "out-01.wav", "out-02.wav"} <= kept.keys() and "out-04.wav" not in kept
    assert list((tmp_path / "out.job" / "making").iterdir()) == []
    monkeypatch.setattr(Ledger, "adopt", adopt)
    assert make(tmp_path) == 0
    assert len(made(tmp_path)) == PIECES and kept.items() <= made(tmp_path).items()


def test_a_signal_keeps_what_is_whole(tmp_path, on_gpu, monkeypatch, capsys):
    adopt, stopped = Ledger.adopt, threading.Event()

    def stop(self, name, path):
        adopt(self, name, path)
        if name == "out-02.wav" and not stopped.is_set():
            stopped.set()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Ledger, "adopt", stop)
    assert make(tmp_path) == 143
    kept = made(tmp_path)
    assert 3 <= len(kept) < PIECES
    assert f"interrupted: {len(kept)} pieces of this shard are whole" in capsys.readouterr().err
    assert make(tmp_path) == 0
    assert len(made(tmp_path)) == PIECES and kept.items() <= made(tmp_path).items()


def test_a_signal_within_a_piece_leaves_no_half_piece(tmp_path, on_gpu, monkeypatch):
    generated = Engine.generated

    def stop(self, *given):
        levels = generated(self, *given)
        if on_gpu.count(on_gpu[-1]) == 2 and on_gpu[-1] != on_gpu[0]:  # the second slice of the second batch
            os.kill(os.getpid(), signal.SIGTERM)
        return levels

    monkeypatch.setattr(Engine, "generated", stop)
    # On a quick machine the second slice was the last one, behind which the batch is whole.
    monkeypatch.setattr(Pace, "samples", lambda self, streams: 4000)
    assert make(tmp_path, 2.0) == 143
    lengths = {reading.probe(path).frames for path in tmp_path.glob("*.wav")}
    assert lengths == {16000} and len(made(tmp_path)) == BATCH
    assert list((tmp_path / "out.job" / "making").iterdir()) == []


def test_a_failure_stops_the_batch_beside_it(tmp_path, on_gpu, monkeypatch):
    """The third batch is made when the second fails, whose error comes when the first has ended."""
    adopt, failed = Ledger.adopt, threading.Event()

    def fail(self, name, path):
        if name in ("out-03.wav", "out-04.wav", "out-05.wav"):
            failed.set()
            raise DataError("the disk is full")
        if name == "out-00.wav":
            failed.wait(60)
            time.sleep(0.5)
        adopt(self, name, path)

    monkeypatch.setattr(Ledger, "adopt", fail)
    assert make(tmp_path) == 1
    assert sorted(made(tmp_path)) == ["out-00.wav", "out-01.wav", "out-02.wav"]


def test_a_batch_that_waits_shows_that_it_is_there(tmp_path, on_gpu, monkeypatch):
    monkeypatch.setattr(sharing, "_WAITING", 0.01)
    touched, utime, generated = threading.Event(), os.utime, Engine.generated

    def touch(path, *times):
        utime(path, *times)
        if path.parent.name == "making":
            touched.set()

    monkeypatch.setattr(os, "utime", touch)
    monkeypatch.setattr(Engine, "generated", lambda *given: (touched.wait(60), generated(*given))[1])
    assert make(tmp_path) == 0 and touched.is_set()
