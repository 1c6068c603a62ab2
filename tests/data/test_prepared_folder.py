"""Where prepare writes: existing folders are kept or replaced whole, interruptions leave nothing behind."""

import errno
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recordings import RATE, write_noise

from samplernn_fast.audio import reading
from samplernn_fast.data import preparation
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import MANIFEST_FILE, Manifest
from samplernn_fast.data.preparation import prepare
from samplernn_fast.errors import ConfigError, DataError


def test_an_existing_folder_is_refused_and_replaced_only_on_demand(tmp_path):
    source = write_noise(tmp_path / "in", [300, 310, 320])
    out = tmp_path / "out"
    prepare(source, out, sample_rate=RATE)
    before = (out / MANIFEST_FILE).read_bytes()
    with pytest.raises(DataError, match=r"out exists; .* overwrite=True"):
        prepare(source, out, sample_rate=4000)
    assert (out / MANIFEST_FILE).read_bytes() == before
    prepare(source, out, sample_rate=4000, overwrite=True)
    assert AudioData.open(out).sample_rate == 4000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_overwrite_never_deletes_other_things(tmp_path):
    source = write_noise(tmp_path / "in", [300, 310, 320])
    with pytest.raises(ConfigError, match="holds more than a data set"):
        prepare(source, source, sample_rate=RATE, overwrite=True)
    with pytest.raises(ConfigError, match="is not a folder"):
        prepare(source, source / "0.wav", sample_rate=RATE, overwrite=True)
    assert len(list(source.iterdir())) == 3


def test_a_data_set_behind_a_link_is_replaced_in_place(tmp_path):
    source = write_noise(tmp_path / "in", [300, 310, 320])
    prepare(source, tmp_path / "disk/data", sample_rate=RATE)
    (tmp_path / "link").symlink_to(tmp_path / "disk/data")
    prepare(source, tmp_path / "link", sample_rate=4000, overwrite=True)
    assert (tmp_path / "link").is_symlink() and AudioData.open(tmp_path / "disk/data").sample_rate == 4000


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("owner", "name", "failure", "expected"),
    [
        (reading, "read_blocks", interrupt, KeyboardInterrupt),
        (reading, "read_blocks", no_space, DataError),
        (preparation, "_write_audio", interrupt, KeyboardInterrupt),
        (preparation, "_write_audio", no_space, DataError),
        (Manifest, "write", interrupt, KeyboardInterrupt),
        (preparation.os, "rename", no_space, DataError),
    ],
)
def test_an_interrupted_prepare_leaves_nothing_and_loses_nothing(tmp_path, monkeypatch, owner, name, failure, expected):
    source = write_noise(tmp_path / "in", [300, 310, 320])
    prepare(source, tmp_path / "old", sample_rate=RATE)
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    monkeypatch.setattr(owner, name, failure)
    with pytest.raises(expected):
        prepare(source, tmp_path / "new", sample_rate=RATE)
    with pytest.raises(expected):
        prepare(source, tmp_path / "old", sample_rate=RATE, gain=0.5, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "old"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before


def test_the_old_folder_comes_back_when_the_new_one_cannot_be_renamed(tmp_path, monkeypatch):
    source = write_noise(tmp_path / "in", [300, 310, 320])
    prepare(source, tmp_path / "out", sample_rate=RATE)
    rename = preparation.os.rename

    def refuse_the_new_one(old: Path, new: Path) -> None:
        if ".partial-" in old.name:
            no_space()
        rename(old, new)

    monkeypatch.setattr(preparation.os, "rename", refuse_the_new_one)
    with pytest.raises(DataError, match="No space left on device"):
        prepare(source, tmp_path / "out", sample_rate=4000, overwrite=True)
    assert AudioData.open(tmp_path / "out").sample_rate == RATE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


SLOW_SCRIPT = """
import signal, sys, time
import numpy as np
from samplernn_fast.audio import reading
from samplernn_fast.data.preparation import prepare

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to ctrl-C

def endless(*_, **__):
    while True:
        time.sleep(0.01)
        yield np.zeros(100, np.float32)

reading.read_blocks = endless
prepare(sys.argv[1], sys.argv[2], workers=3)
"""


def test_ctrl_c_stops_the_workers_and_cleans_up(tmp_path):
    source = write_noise(tmp_path / "in", [300] * 5)
    command = [sys.executable, "-c", SLOW_SCRIPT, str(source), str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out.partial-*/scratch/*.f32")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
