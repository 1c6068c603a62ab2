"""Data folders as they are opened, and those that are refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from counting import RATE, counting_data

from samplernn_fast.data.folder import AUDIO_FILE, AudioData
from samplernn_fast.data.manifest import MANIFEST_FILE
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


PART = {"path": "a.wav", "offset": 0, "start": 0, "length": 37}
ENTRY = {"path": "a", "split": "train", "offset": 0, "length": 37, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sample_rate": True}, "sample_rate must be of the type int, got True"),
        ({"sample_rate": 8000.0}, "sample_rate must be of the type int"),
        ({"sample_rate": 10**9}, "sample_rate must be 1 to 768000 Hz"),
        ({"gain": "1"}, "gain must be of the type int or float, got '1'"),
        ({"gain": float("inf")}, "gain must be"),
        ({"chunk_seconds": 1e300}, "chunk_seconds must be above 0"),
        ({"versions": []}, "versions must be of the type dict"),
        ({"dropped": [["a", 1]]}, "dropped must be pairs"),
        ({"recordings": [ENTRY | {"length": True}]}, "length must be of the type int, got True"),
        ({"recordings": [ENTRY | {"length": 10**40}]}, "impossible split, offset or length"),
        ({"recordings": [ENTRY | {"sha256": "x"}]}, "the hash of 'a' is none"),
        ({"recordings": [ENTRY | {"more": 1}]}, "a recording must have the keys path, split"),
        ({"recordings": [ENTRY], "parts": 3}, "parts must be lists"),
        ({"recordings": [ENTRY], "parts": {"a": [PART | {"length": 36}]}}, "not as long as itself"),
        ({"recordings": [ENTRY], "parts": {"a": [PART, PART]}}, "do not follow each other"),
        ({"recordings": [ENTRY], "parts": {"a": [PART | {"start": None}]}}, "start must be of the type int"),
    ],
)
def test_every_value_of_a_manifest_is_checked(folder, values, words):
    edit_manifest(folder, **values)
    with pytest.raises(DataError, match="damaged") as caught:
        AudioData.open(folder)
    assert words in str(caught.value) and len(str(caught.value)) < 500


def test_a_name_of_two_lines_is_read_as_escapes(folder):
    edit_manifest(folder, recordings=[ENTRY | {"path": "two\nlines.wav"}])
    assert AudioData.open(folder).manifest.recordings[0].path == r"two\nlines.wav"


@pytest.mark.parametrize("name", [MANIFEST_FILE, AUDIO_FILE])
def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(DataError, match=f"{name}: .*pipe or a device"):
        AudioData.open(folder)


def test_a_manifest_that_is_deep_is_refused_at_once(folder):
    (folder / MANIFEST_FILE).write_text('{"a":' + "[" * 100_000)
    with pytest.raises(DataError, match="too deep"):
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
