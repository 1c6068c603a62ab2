"""What is kept of audio that is written while it is made, where the disk becomes full before the end."""

import errno
import io
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from cases import make_model
from small import CONFIG, RATE

import samplernn_fast as srnn
from samplernn_fast import api
from samplernn_fast.audio import takes, writing
from samplernn_fast.errors import AudioError

SECONDS = 24  # which are several of the blocks that files are given


@pytest.fixture
def engine(monkeypatch):
    """An engine that makes the same noise for every state, as fast as memory."""
    engine = srnn.Engine(make_model(CONFIG), "cpu")
    noise = np.random.default_rng(0).integers(0, CONFIG.q_levels, (3, RATE * SECONDS))

    def run(state, n):
        state.t += n
        return noise[: state.num_streams, state.t - n : state.t]

    monkeypatch.setattr(engine, "run", run)
    return engine


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A function that makes a folder hold so many bytes and no more, whichever way they are written."""

    def used():
        return sum(path.stat().st_size for path in tmp_path.iterdir())

    def limit(capacity):
        class Limited(io.FileIO):
            def write(self, data):
                grown = max(0, self.tell() + len(data) - os.fstat(self.fileno()).st_size)
                some = len(data) - max(0, grown - max(0, capacity - used()))
                if data and some <= 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return super().write(bytes(data)[:some])

        monkeypatch.setattr(
            writing, "open", lambda path, mode, **_: Limited(path, mode.replace("b", "")), raising=False
        )

    return limit


def save(engine, path, streams):
    return api.stream(engine, num_samples=streams, seed=3).save(path, SECONDS)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
@pytest.mark.parametrize("streams", [1, 3])
def test_what_is_made_until_the_disk_is_full_is_kept(engine, tmp_path, disk, suffix, streams):
    whole = [soundfile.read(path)[0] for path in save(engine, tmp_path / f"whole{suffix}", streams).paths]
    there = sum(path.stat().st_size for path in tmp_path.iterdir())
    disk(there + streams * takes._RESERVE + there // 2)
    with pytest.raises(AudioError) as raised:
        save(engine, tmp_path / f"cut{suffix}", streams)
    kept = sorted(tmp_path.glob("cut*"))
    several = f" to cut-{streams - 1:02d}{suffix}" if streams > 1 else ""
    seconds = soundfile.info(kept[0]).duration
    assert str(raised.value) == f"{kept[0]}{several}: the disk is full, kept the first {seconds:.2f} seconds"
    assert len(kept) == streams and 0.2 * SECONDS < seconds < 0.8 * SECONDS
    assert sorted(tmp_path.glob(".*")) == []
    for path, samples in zip(kept, whole, strict=True):
        heard = soundfile.read(path)[0]
        assert len(heard) == round(seconds * soundfile.info(path).samplerate)
        near = len(heard) - 4000  # an encoder that hears what follows makes other sound of the very end
        assert np.array_equal(heard[:near], samples[:near])
        if suffix in (".wav", ".flac"):
            assert np.array_equal(heard, samples[: len(heard)])


def test_a_disk_that_stays_full_loses_the_files_and_says_so(engine, tmp_path, disk, monkeypatch):
    monkeypatch.setattr(takes, "_RESERVE", 64)
    disk(100_000)
    with pytest.raises(AudioError, match=r"cut-0[01]\.wav: cannot be written: No space left on device$"):
        save(engine, tmp_path / "cut.wav", 2)
    assert list(tmp_path.iterdir()) == []


def test_a_wav_that_does_not_fit_is_refused_before_anything_is_made(engine, tmp_path, monkeypatch):
    needed = 2 * RATE * SECONDS * 2
    for free, fits in ((needed - 1, False), (needed, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: shutil._ntuple_diskusage(10**9, 0, free))
        if fits:
            assert len(save(engine, tmp_path / "cut.wav", 2).paths) == 2
            continue
        with pytest.raises(AudioError, match=r": the disk has 1 MB left, and 1 MB are needed$"):
            save(engine, tmp_path / "cut.wav", 2)
        assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_yesterday_are_removed(engine, tmp_path):
    old, new, other = (tmp_path / name for name in (f".{'a' * 16}.tmp", f".{'b' * 16}.tmp", ".mine.tmp"))
    for path in (old, new, other):
        path.touch()
    for path, age in ((old, 86_500), (new, 86_300), (other, 86_500)):
        os.utime(path, (time.time() - age,) * 2)
    save(engine, tmp_path / "cut.wav", 1)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [new.name, other.name]


def test_a_real_disk_that_becomes_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=200k none {disk}"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "sh", "-c", mount], check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    make = f"{sys.executable} -m samplernn_fast generate -o {disk}/a.flac --duration 60"
    script = f"{mount} && {{ {make}; echo $?; ls -A {disk}; cp {disk}/a.flac {tmp_path}; }}"
    ended = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=120)
    assert ended.stdout == "1\na.flac\n"
    seconds = soundfile.info(tmp_path / "a.flac").duration
    assert ended.stderr.endswith(f"a.flac: the disk is full, kept the first {seconds:.2f} seconds\n")
    assert 2 < seconds < 60
