"""Data folders as they are opened, and those that are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from counting import RATE, counting_data

from samplernn_fast.data.folder import AUDIO_FILE, MANIFEST_FILE, AudioData
from samplernn_fast.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    data = counting_data([30, 7], 16)
    data.manifest.write(folder)
    data.audio.astype("<i2").tofile(folder / AUDIO_FILE)
    return folder


def test_open_maps_the_folder_that_was_written(folder):
    data = AudioData.open(folder)
    assert (data.sample_rate, data.gain, data.chunk_seconds) == (RATE, 1.0, 0.016)
    assert data.manifest == counting_data([30, 7], 16).manifest
    first, second = data.recordings("train")
    assert data.recordings("test") == []
    assert data.samples(second).tolist() == list(range(31, 38))
    assert isinstance(data.audio.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data.samples(first)[0] = 0
    assert not list(folder.glob("*.tmp"))


def edit_manifest(folder: Path, **values: object) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_open_refuses_what_is_no_data_folder(folder, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        AudioData.open(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no data folder"):
        AudioData.open(tmp_path)
    edit_manifest(folder, format="something else")
    with pytest.raises(DataError, match="not a manifest"):
        AudioData.open(folder)


def test_open_refuses_another_version(folder):
    edit_manifest(folder, format_version=2)
    with pytest.raises(DataError, match="format version 2, this program reads 1"):
        AudioData.open(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"recordings": []},
        {"recordings": [{"path": "a", "split": "train"}]},
        {"recordings": [{"path": "a", "split": "dev", "offset": 0, "length": 37, "sha256": ""}]},
        {"recordings": [{"path": "a", "split": "train", "offset": 1, "length": 37, "sha256": ""}]},
        {"recordings": [{"path": "a", "split": "train", "offset": 0, "length": "37", "sha256": ""}]},
        {"sample_rate": 0},
        {"gain": float("nan")},
        {"chunk_seconds": None},
        {"dropped": 3},
    ],
)
def test_open_refuses_a_damaged_manifest(folder, values):
    edit_manifest(folder, **values)
    with pytest.raises(DataError, match="damaged"):
        AudioData.open(folder)


def test_open_refuses_half_a_manifest(folder):
    path = folder / MANIFEST_FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged"):
        AudioData.open(folder)


def test_open_refuses_audio_of_another_size(folder):
    with open(folder / AUDIO_FILE, "ab") as file:
        file.write(b"\0\0")
    with pytest.raises(DataError, match="76 bytes, the manifest says 74"):
        AudioData.open(folder)
    (folder / AUDIO_FILE).unlink()
    with pytest.raises(DataError, match=AUDIO_FILE):
        AudioData.open(folder)
