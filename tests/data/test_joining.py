"""prepare --join: short recordings in medleys."""

import json
import re
import shutil

import numpy as np
import pytest
from recordings import RATE, noise, write, write_noise

from samplernn_fast.data.arranging import join, whole
from samplernn_fast.data.folder import AUDIO_FILE, AudioData
from samplernn_fast.data.manifest import MANIFEST_FILE, Recording
from samplernn_fast.data.preparation import prepare
from samplernn_fast.errors import ConfigError

LENGTHS = [300 + 40 * number for number in range(30)]
SETTINGS = {"sample_rate": RATE, "gain": 1, "split": (60, 20, 20)}


def test_medleys_hold_every_recording_once_in_its_own_split_with_pauses(tmp_path):
    source = write_noise(tmp_path / "in", LENGTHS)
    prepare(source, tmp_path / "apart", **SETTINGS)
    report = prepare(source, tmp_path / "joined", join=True, join_seconds=0.5, join_pause=0.01, **SETTINGS)
    split_of = {entry.path: entry.split for entry in AudioData.open(tmp_path / "apart").manifest.recordings}
    data = AudioData.open(tmp_path / "joined")
    seen = []
    for medley in data.manifest.recordings:
        assert re.fullmatch(rf"joined/{medley.split}-\d{{3}}", medley.path)
        assert medley.length <= RATE // 2
        expected = np.zeros(medley.length, np.int16)
        for part in medley.parts:
            assert split_of[part.path] == medley.split
            number = int(part.path.removesuffix(".wav"))
            assert (part.start, part.length) == (0, LENGTHS[number])
            expected[part.offset : part.offset + part.length] = noise(part.length, seed=number)
        ends = [part.offset + part.length for part in medley.parts]
        assert [part.offset for part in medley.parts] == [0, *(end + 80 for end in ends[:-1])]
        assert np.array_equal(data.samples(medley), expected)
        seen += [part.path for part in medley.parts]
    assert sorted(seen) == sorted(split_of)
    assert seen != sorted(seen, key=lambda name: (split_of[name], int(name[:-4])))
    assert report.recordings == 30
    medleys = len(data.manifest.recordings)
    assert sum(size.entries for size in report.splits.values()) == medleys < 30
    assert f"recordings in {report.splits['train'].entries} medleys" in report.summary()
    assert sorted(path.name for path in (tmp_path / "joined").iterdir()) == [AUDIO_FILE, MANIFEST_FILE]


def test_the_order_depends_on_the_names_and_the_seed_alone(tmp_path):
    source = write_noise(tmp_path / "in", LENGTHS)
    moved = shutil.copytree(source, tmp_path / "elsewhere/in")
    for out, inputs, workers, seed in (("one", source, 1, 0), ("two", moved, 3, 0), ("other", source, 1, 1)):
        prepare(inputs, tmp_path / out, join=True, workers=workers, split_seed=seed, **SETTINGS)
    for name in (AUDIO_FILE, MANIFEST_FILE):
        one, two, other = ((tmp_path / out / name).read_bytes() for out in ("one", "two", "other"))
        assert one == two != other


def test_the_order_stays_as_it_is():
    recordings = [Recording(f"{n}.wav", "train", 0, 10, "") for n in range(10)]
    plans = join(whole(recordings), seed=0, most=1000, pause=0)
    # A change here changes everybody's medleys.
    assert "".join(part.path[0] for part in plans[0].parts) == "6307845912"


def test_a_recording_longer_than_a_medley_is_one_of_its_own():
    lengths = {"a": 10, "b": 500, "c": 10, "d": 10}
    recordings = [Recording(name, "train", 0, length, "") for name, length in lengths.items()]
    plans = join(whole(recordings), seed=0, most=100, pause=5)
    assert [part.path for plan in plans for part in plan.parts if plan.length == 500] == ["b"]
    assert all(len(plan.parts) == 1 for plan in plans if plan.length == 500)
    assert sorted(plan.length for plan in plans if plan.length != 500) in ([40], [10, 25])


def test_copies_stay_in_one_split(tmp_path):
    source = write_noise(tmp_path / "in", [400] * 8)
    for number in range(8):
        write(source / f"copies/{number}.flac", noise(400, seed=number))
    prepare(source, tmp_path / "out", join=True, sample_rate=RATE, gain=1, split=(50, 25, 25))
    split_of = {
        part.path: medley.split
        for medley in AudioData.open(tmp_path / "out").manifest.recordings
        for part in medley.parts
    }
    assert len(split_of) == 16 and set(split_of.values()) == {"train", "valid", "test"}
    assert all(split_of[f"{number}.wav"] == split_of[f"copies/{number}.flac"] for number in range(8))


def test_the_manifest_is_one_that_earlier_versions_read(tmp_path):
    source = write_noise(tmp_path / "in", LENGTHS[:3])
    prepare(source, tmp_path / "out", join=True, join_pause=0.5, split_seed=7, sample_rate=RATE)
    values = json.loads((tmp_path / "out" / MANIFEST_FILE).read_text())
    assert values["format_version"] == 1
    keys = {"path", "split", "offset", "length", "sha256"}  # an entry with another key would be refused
    assert all(entry.keys() == keys for entry in values["recordings"])
    assert values["split_info"]["join"] == {"seed": 7, "seconds": 60.0, "pause": 0.5}
    prepare(source, tmp_path / "apart", sample_rate=RATE)
    assert "parts" not in json.loads((tmp_path / "apart" / MANIFEST_FILE).read_text())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"join": True, "join_seconds": 0.0}, "join_seconds must be above 0 and at most 10000000 seconds, got 0.0"),
        ({"join": True, "join_pause": -1.0}, "join_pause must be 0 to 3600 seconds"),
        ({"join": True, "join_pause": 61.0}, "join_pause must be at most join_seconds, 60"),
        ({"join_pause": 1.0}, "use join=True too"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        prepare(write_noise(tmp_path / "in", [300]), tmp_path / "out", **settings)
