"""Audio that is written while it is made is kept up to where the disk becomes full."""

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from cases import make_model
from file_limit import file_limit
from small import CONFIG, RATE

import samplernn_fast as srnn
from samplernn_fast import api
from samplernn_fast.audio import takes, writing
from samplernn_fast.errors import DiskFull

SECONDS = 24  # which are several of the blocks that files are given
SUFFIXES = [".wav", ".flac", ".ogg", ".opus", ".mp3"]


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
    """A function that lets files keep so many bytes of a folder and no more."""

    def limit(capacity):
        def allocate(number, start, size):
            used = sum(path.stat().st_size for path in tmp_path.iterdir())
            if used + start + size - os.fstat(number).st_size > capacity:
                raise OSError(limit.error, os.strerror(limit.error))
            os.truncate(number, start + size)

        monkeypatch.setattr(writing.os, "posix_fallocate", allocate)

    limit.error = errno.ENOSPC
    return limit


@pytest.fixture
def real_disk(tmp_path):
    """A function that runs lines of a shell where the folder `disk` is a disk of that size."""
    (tmp_path / "disk").mkdir()

    def run(size, lines):
        command = ["unshare", "-m", "sh", "-c"]  # in a name space of its own, the disk ends with the shell
        mount = f"mount -t tmpfs -o size={size} none {tmp_path / 'disk'}"
        if not shutil.which("unshare") or subprocess.run([*command, mount], check=False).returncode:
            pytest.skip("needs unshare, and the right to mount a file system, which root has")
        script = f"cd {tmp_path} && {mount} && {{ {lines}; }}"
        return subprocess.run([*command, script], capture_output=True, text=True, timeout=120)

    return run


def save(engine, path, streams):
    return api.stream(engine, num_samples=streams, seed=3).save(path, SECONDS)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("slice_size", [256, RATE * SECONDS])
def test_what_is_made_until_the_disk_is_full_is_kept(engine, tmp_path, disk, suffix, streams, slice_size, monkeypatch):
    monkeypatch.setattr(engine.pace, "samples", lambda streams: slice_size)
    whole = [soundfile.read(path)[0] for path in save(engine, tmp_path / f"whole{suffix}", streams).paths]
    there = sum(path.stat().st_size for path in tmp_path.iterdir())
    disk(there + there // 2 + streams * writing._TO_END_LOSSY)
    with pytest.raises(srnn.DiskFull) as raised:
        save(engine, tmp_path / f"cut{suffix}", streams)
    kept, saved = sorted(tmp_path.glob("cut*")), raised.value.saved
    several = f" to cut-{streams - 1:02d}{suffix}" if streams > 1 else ""
    assert str(raised.value) == f"{kept[0]}{several}: the disk is full; kept the first {saved.seconds:.2f} seconds"
    assert saved.paths == kept and len(kept) == streams and 0.2 * SECONDS < saved.seconds < 0.9 * SECONDS
    assert sorted(tmp_path.glob(".*")) == []
    for path, samples in zip(kept, whole, strict=True):
        heard, rate = soundfile.read(path)
        assert len(heard) == round(saved.seconds * rate)
        near = len(heard) - 4000  # an encoder that hears what follows makes other sound of the very end
        assert np.array_equal(heard[:near], samples[:near])
        if suffix in (".wav", ".flac"):
            assert np.array_equal(heard, samples[: len(heard)])


def test_a_quota_counts_as_a_full_disk_and_another_failure_does_not(engine, tmp_path, disk):
    disk.error = errno.EDQUOT
    disk(100_000)
    with pytest.raises(DiskFull):
        save(engine, tmp_path / "quota.wav", 1)
    disk.error = errno.EOPNOTSUPP
    assert save(engine, tmp_path / "whole.wav", 1).seconds == SECONDS


def test_what_fits_into_the_longest_file_of_a_disk_is_kept(engine, tmp_path):
    """A memory card in FAT32 takes no file of more than 4 GB; a limit of the process stands for it."""
    told = r"the disk takes no larger file; kept the first [0-9.]+ seconds$"
    with file_limit(200_000), pytest.raises(DiskFull, match=told) as raised:
        save(engine, tmp_path / "cut.wav", 2)
    lengths = [len(soundfile.read(path)[0]) for path in raised.value.saved.paths]
    assert lengths == [round(raised.value.saved.seconds * RATE)] * 2 and 150_000 < 2 * lengths[0] < 200_000


def test_a_wav_that_fits_is_whole(engine, tmp_path, disk):
    disk(2 * RATE * SECONDS + writing._HEADER)
    assert save(engine, tmp_path / "whole.wav", 1).seconds == SECONDS


def test_a_disk_without_any_room_leaves_nothing(engine, tmp_path, disk):
    disk(5000)
    with pytest.raises(DiskFull, match=r"x\.wav: cannot be written: the disk is full$") as raised:
        save(engine, tmp_path / "x.wav", 2)
    assert raised.value.saved.paths == [] and list(tmp_path.iterdir()) == []
    with pytest.raises(DiskFull, match=r"x\.wav: cannot be written: the disk is full$"):
        api.stream(engine).save(tmp_path / "x.wav", 0.9)  # less than a block, which is written last
    assert list(tmp_path.iterdir()) == []


def test_room_is_asked_for_behind_what_is_there(engine, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(writing.os, "posix_fallocate", lambda number, start, size: asked.append((start, size)))
    save(engine, tmp_path / "x.wav", 1)
    assert all(start + size == then for (start, size), (then, _) in itertools.pairwise(asked)) and len(asked) > 20
    assert sum(size for _, size in asked) <= 2 * RATE * SECONDS + writing._HEADER


def test_audio_that_is_there_already_is_saved_whole_or_not_at_all(tmp_path, disk):
    disk(0)
    made = api.Audio(np.zeros((1, 9000), np.float32), np.zeros((1, 9000), int), RATE)
    assert soundfile.info(made.save(tmp_path / "x.wav")[0]).frames == 9000  # it asks for no room


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_has_no_more_bytes_than_were_written(engine, tmp_path, monkeypatch, suffix):
    kept = save(engine, tmp_path / f"kept{suffix}", 1).paths[0].stat().st_size
    monkeypatch.delattr(writing.os, "posix_fallocate")
    assert save(engine, tmp_path / f"plain{suffix}", 1).paths[0].stat().st_size == kept
    assert takes._BLOCK == 8192  # for which `keep_room` keeps room


def test_a_real_disk_that_becomes_full(real_disk, tmp_path):
    make = f"{sys.executable} -m samplernn_fast generate --duration 60 --json -o disk/a.flac"
    ended = real_disk("200k", f"{make}; echo $?; ls -A disk; cp disk/a.flac .")
    told, status, name = ended.stdout.splitlines()
    seconds = soundfile.info(tmp_path / "a.flac").duration
    assert (status, name, json.loads(told)["files"]) == ("1", "a.flac", ["disk/a.flac"])
    assert json.loads(told)["audio_seconds"] == seconds
    assert ended.stderr.endswith(f"disk/a.flac: the disk is full; kept the first {seconds:.2f} seconds\n")
    assert 2 < seconds < 60


def test_a_real_disk_that_others_fill(real_disk, tmp_path):
    begun = "until [ $(du -k disk | cut -f1) -ge 100 ]; do sleep 0.05; done"
    fill = "dd if=/dev/zero of=disk/theirs bs=4k count=999 oflag=append conv=notrunc 2>/dev/null; sleep 0.005"
    make = f"{sys.executable} -m samplernn_fast generate --duration 3600 -o disk/a.ogg"
    ended = real_disk("300k", f"( {begun}; while :; do {fill}; done ) & {make}; echo $?; kill $!; cp disk/a.ogg .")
    assert ended.stdout.splitlines()[-1] == "1"
    seconds = soundfile.info(tmp_path / "a.ogg").duration
    assert ended.stderr.endswith(f"disk/a.ogg: the disk is full; kept the first {seconds:.2f} seconds\n")


def test_what_is_kept_is_sent_to_an_address(tmp_path, monkeypatch):
    pytest.importorskip("fsspec", reason="needs fsspec, of the extra `store`")
    from command_line import run

    from samplernn_fast.stores.store import Store

    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr(writing.Writer, "keep_room", lambda self: "full" * (self._sink._length > 100_000))
    assert run("generate", "--duration", 20, "-o", "memory://full/a.wav") == 1
    assert list(Store("memory://full/").in_folder()) == ["a.wav"]
