"""Which clips are the best, and where the files of the others go."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.evaluation.clips.album import check_album, sort_out
from samplernn_fast.evaluation.clips.judging import JudgedClip
from samplernn_fast.evaluation.clips.measures import measure_clip
from samplernn_fast.evaluation.clips.ranking import Usual, rank_clips

SOUND = measure_clip(0.1 * np.sin(np.arange(800)), 8000)
SILENT = replace(SOUND, silence=4.0, seconds=4.0)
BROKEN = replace(SILENT, clipped=0.5, loop=3.0)


def clips(*bits: float) -> list[JudgedClip]:
    return [JudgedClip(SOUND, one) for one in bits]


def order(places) -> list[int]:
    return [place.index for place in places]


def test_faults_come_last_then_the_distance_from_the_median() -> None:
    batch = [JudgedClip(BROKEN, 4.0), *clips(3.0, 4.1, 4.0, 5.2), JudgedClip(SILENT, 4.0)]
    places = rank_clips(batch)
    assert order(places) == [2, 3, 1, 4, 5, 0]  # the median of the faultless ones is 4.05
    assert [sorted(place.faults) for place in places[4:]] == [["silence"], ["clipping", "loop", "silence"]]
    assert places[4].reason == "silence: silent for 4.0 s on end" and places[0].reason == ""


def test_real_recordings_say_what_is_usual() -> None:
    assert order(rank_clips(clips(3.0, 4.0, 5.0, 6.0), like=[5.9, 6.0, 6.1])) == [3, 2, 1, 0]


def test_a_clip_unlike_the_others_has_a_fault_and_few_clips_say_nothing() -> None:
    many = clips(4.0, 4.1, 3.9, 4.05, 3.95, 4.0, 4.1, 3.9, 6.0, 1.0)
    places = {place.index: place.faults for place in rank_clips(many)}
    assert places[8] == {"unlikely": "6.00 bits, 4.00 are usual"} and list(places[9]) == ["too likely"]
    assert not any(places[index] for index in range(8))
    assert not any(place.faults for place in rank_clips(many[4:]))
    assert Usual.of([4.0] * 8).fault(4.01) == {} and Usual.of([4.0]).fault(99.0) == {}


def test_the_band_drops_forty_percent_and_five_percent() -> None:
    """Of twenty clips the eight least likely, which have the most bits, and the likeliest."""
    rng = np.random.default_rng(0)
    bits = rng.permutation(np.linspace(3, 5, 20))
    places = rank_clips(clips(*bits), rule="band")
    kept = [float(bits[place.index]) for place in places if not place.faults]
    assert sorted(kept) == pytest.approx(np.linspace(3, 5, 20)[1:12])
    reasons = [place.reason for place in places if place.faults]
    assert sum("40% least likely" in reason for reason in reasons) == 8
    assert sum("5% most likely" in reason for reason in reasons) == 1


def test_clips_without_bits_are_ranked_by_their_faults() -> None:
    assert order(rank_clips([JudgedClip(BROKEN), JudgedClip(SOUND), JudgedClip(SILENT)])) == [1, 2, 0]
    assert order(rank_clips([JudgedClip(SOUND, math.nan), JudgedClip(SOUND, 4.0)])) == [1, 0]
    assert rank_clips([]) == []
    with pytest.raises(ConfigError, match="rule must be one of usual, band, got 'best'"):
        rank_clips(clips(1.0), rule="best")


def table(folder) -> list[list[str]]:
    with open(folder / "reasons.csv", newline="") as file:
        return list(csv.reader(file))


def test_rejected_files_are_moved_with_their_reasons(tmp_path) -> None:
    for name in ("a.wav", "b.wav", "kept.wav"):
        (tmp_path / name).write_text(name)
    reasons = {tmp_path / "a.wav": 'loop: "it" repeats, for 3 s', tmp_path / "b.wav": "noise: hiss\nand more"}
    assert sort_out(reasons) == [tmp_path / "rejected" / "a.wav", tmp_path / "rejected" / "b.wav"]
    (tmp_path / "a.wav").write_text("another")
    assert sort_out({tmp_path / "a.wav": "silence"}) == [tmp_path / "rejected" / "a-2.wav"]
    rows = [["a.wav", 'loop: "it" repeats, for 3 s'], ["b.wav", "noise: hiss\\nand more"], ["a-2.wav", "silence"]]
    assert table(tmp_path / "rejected") == [["file", "reason"], *rows]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.wav", "rejected"]
    assert (tmp_path / "rejected" / "a-2.wav").read_text() == "another"


def test_what_is_in_the_way_is_left_alone(tmp_path) -> None:
    clip, folder = tmp_path / "a.wav", tmp_path / "rejected"
    clip.write_text("a")
    folder.write_text("a file of this name")
    with pytest.raises(AudioError, match="something else has its name"):
        check_album(tmp_path)
    with pytest.raises(AudioError, match="cannot be written"):
        sort_out({clip: "noise"})
    folder.unlink()
    folder.mkdir()
    (folder / "reasons.csv").write_text("mine,and yours\n")
    for act in (lambda: check_album(tmp_path), lambda: sort_out({clip: "noise"})):
        with pytest.raises(AudioError, match=r"reasons.csv: is no table of rejected clips; move it away"):
            act()
    assert clip.read_text() == "a" and (folder / "reasons.csv").read_text() == "mine,and yours\n"
