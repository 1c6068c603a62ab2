"""One or two long recordings are cut by time, and no split hears another."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import RATE, noise, write, write_noise

from samplernn_fast.data.arranging import GAP_SECONDS, cut
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.manifest import Recording
from samplernn_fast.data.preparation import prepare

GAP = GAP_SECONDS * RATE


def parts_of(plans) -> list[tuple[str, int, int]]:
    """(split, first sample, end) of every piece, in the order of time."""
    return sorted((p.parts[0].start, p.parts[0].start + p.length, p.split) for p in plans)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(60 * RATE, 4000 * RATE),
    st.tuples(st.floats(0.3, 1), st.floats(0.01, 0.5), st.floats(0.01, 0.5)),
    st.integers(0, 99),
)
def test_pieces_do_not_touch_another_split_and_little_is_lost(length, shares, seed):
    shares = tuple(share / sum(shares) for share in shares)
    plans = cut([Recording("mix.wav", "train", 0, length, "x")], shares, seed, RATE)
    assert {plan.split for plan in plans} == {"train", "valid", "test"}
    assert len({plan.path for plan in plans}) == len(plans)
    parts = parts_of(plans)
    assert parts[0][0] == 0 and parts[-1][1] == length
    for (_, end, before), (start, _, after) in pairwise(parts):
        assert start - end == GAP and before != after
    assert all(end - start >= RATE for start, end, _ in parts)


def test_shares_are_of_the_time_and_held_out_pieces_come_from_several_places():
    plans = cut([Recording("mix.wav", "train", 0, 3600 * RATE, "x")], (0.88, 0.06, 0.06), 0, RATE)
    hours = {name: sum(p.length for p in plans if p.split == name) / RATE for name in ("train", "valid", "test")}
    assert hours["valid"] == pytest.approx(216, abs=10) and hours["test"] == pytest.approx(216, abs=10)
    assert hours["train"] > 0.86 * 3600
    assert sum(plan.split != "train" for plan in plans) > 2
    assert plans[0].path == "mix.wav/0h00m00s"


def test_one_long_recording_has_three_splits_of_its_own_samples(tmp_path):
    pcm = noise(90 * RATE)
    write(tmp_path / "in/mix.wav", pcm)
    report = prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE, gain=1)
    data = AudioData.open(tmp_path / "out")
    assert report.warnings == () and len(report.notes) == 1
    assert "cut by time" in report.notes[0] and "cut=False" in report.summary()
    assert (report.recordings, report.splits["train"].recordings) == (1, 1)
    for entry in data.manifest.recordings:
        (part,) = entry.parts
        assert part.path == "mix.wav" and entry.path.startswith("mix.wav/0h0")
        assert np.array_equal(data.samples(entry), pcm[part.start : part.start + part.length])
    assert all(data.recordings(split) for split in ("train", "valid", "test"))
    lost = 90 - sum(entry.length for entry in data.manifest.recordings) / RATE
    assert lost >= GAP_SECONDS and f"between two splits, {lost:.1f} s in all;" in report.notes[0]
    assert data.manifest.split_info["cut"] == {"seed": 0, "gap_seconds": GAP_SECONDS}


def test_copies_are_cut_alike_and_a_short_recording_stays_whole(tmp_path):
    pcm = noise(61 * RATE)
    write(tmp_path / "in/a.wav", pcm)
    write(tmp_path / "in/b.flac", pcm)
    write(tmp_path / "in/short.wav", noise(RATE, seed=9))
    prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE, gain=1)
    entries = AudioData.open(tmp_path / "out").manifest.recordings
    pieces = {
        name: [(e.parts[0].start, e.length, e.split) for e in entries if e.parts[0].path == name]
        for name in ("a.wav", "b.flac", "short.wav")
    }
    assert pieces["a.wav"] == pieces["b.flac"] and len(pieces["a.wav"]) > 2
    assert pieces["short.wav"] == [(0, RATE, "train")]


def test_it_is_turned_off_by_a_setting_by_lists_by_shares_and_by_three_recordings(tmp_path):
    source = write_noise(tmp_path / "in", [60 * RATE])
    for number, settings_ in enumerate(({"cut": False}, {"split": (1, 0, 0)}, {"valid_files": tmp_path / "none.txt"})):
        (tmp_path / "none.txt").write_text("")
        report = prepare(source, tmp_path / f"out{number}", sample_rate=RATE, **settings_)
        assert report.notes == () and report.splits["train"].entries == 1
    write_noise(source, [60 * RATE] * 3)
    assert prepare(source, tmp_path / "three", sample_rate=RATE).notes == ()
    write_noise(tmp_path / "short", [59 * RATE])
    report = prepare(tmp_path / "short", tmp_path / "out", sample_rate=RATE)
    assert report.notes == () and report.warnings[0].startswith("valid and test empty: fewer than 3")


def test_pieces_can_be_joined(tmp_path):
    source = write_noise(tmp_path / "in", [90 * RATE])
    prepare(source, tmp_path / "out", sample_rate=RATE, gain=1, join=True, join_seconds=1000)
    data = AudioData.open(tmp_path / "out")
    pcm = noise(90 * RATE)
    assert [entry.path for entry in data.manifest.recordings] == [f"joined/{s}-000" for s in ("train", "valid", "test")]
    for entry in data.manifest.recordings:
        for part in entry.parts:
            assert part.path == "0.wav"
            piece = data.samples(entry)[part.offset : part.offset + part.length]
            assert np.array_equal(piece, pcm[part.start : part.start + part.length])
