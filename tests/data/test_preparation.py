"""prepare: audio files of any kind -> a data folder."""

import shutil
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from recordings import RATE, noise, write, write_noise

from samplernn_fast.data.folder import AUDIO_FILE, AudioData
from samplernn_fast.data.manifest import MANIFEST_FILE
from samplernn_fast.data.preparation import prepare
from samplernn_fast.data.report import PrepareReport
from samplernn_fast.errors import ConfigError, DataError

FSDD = Path(__file__).parents[3] / "shared/data/fsdd"


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0, peak: float = 0.5) -> np.ndarray:
    return peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def samples_of(folder: Path) -> dict[str, np.ndarray]:
    data = AudioData.open(folder)
    return {r.path: np.array(data.samples(r)) for split in ("train", "valid", "test") for r in data.recordings(split)}


def splits_of(folder: Path) -> dict[str, str]:
    return {recording.path: recording.split for recording in AudioData.open(folder).manifest.recordings}


def test_16_bit_audio_at_the_same_rate_is_kept_bit_for_bit(tmp_path):
    pcm = noise(1000)
    pcm[:2] = -32768, 32767
    report = prepare(write(tmp_path / "a.wav", pcm).parent, tmp_path / "out", sample_rate=RATE, gain=1)
    data = AudioData.open(tmp_path / "out")
    assert samples_of(tmp_path / "out")["a.wav"].tolist() == pcm.tolist()
    assert (data.sample_rate, data.gain, data.chunk_seconds) == (RATE, 1.0, 8.0)
    assert (report.recordings, report.chunks, report.clipped) == (1, 1, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [AUDIO_FILE, MANIFEST_FILE]


def test_formats_rates_channels_and_nested_folders(tmp_path):
    source = tmp_path / "in"
    stereo = np.stack([tone(1.0, 44100), tone(1.0, 44100)], axis=1)
    write(source / "a.wav", tone(1.0))
    write(source / "b/b.flac", stereo, 44100)
    write(source / "b/c/c.ogg", stereo, 44100)
    write(source / "b/c/d.mp3", stereo, 44100)
    write(source / "e.wav", tone(1.0, 22050), 22050, "FLOAT")
    write(source / "f.aiff", tone(1.0, 96000), 96000, "PCM_24")
    (source / "notes.txt").write_text("not audio")
    report = prepare(source, tmp_path / "out", sample_rate=RATE, gain=1, chunk_seconds=0.3)
    assert report.dropped == ()
    prepared = samples_of(tmp_path / "out")
    assert sorted(prepared) == ["a.wav", "b/b.flac", "b/c/c.ogg", "b/c/d.mp3", "e.wav", "f.aiff"]
    for name, pcm in prepared.items():
        # The decoder of mp3 may keep the encoder's padding.
        assert RATE <= len(pcm) <= RATE * (1.2 if name.endswith("mp3") else 1), name
        middle = pcm[2000:6000] / 32768
        spectrum = np.abs(np.fft.rfft(middle))
        assert np.argmax(spectrum) == 440 * 4000 // RATE, name
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03), name
    assert report.hours == pytest.approx(sum(map(len, prepared.values())) / RATE / 3600)
    assert report.chunks == sum(-(-len(pcm) // 2400) for pcm in prepared.values())


def test_channels_are_mixed_or_chosen(tmp_path):
    left, right = np.array([16000, 8000] * 250), np.array([-4000, 0] * 250)
    write(tmp_path / "in/a.wav", np.stack([left, right], 1).astype(np.int16))
    for channels, expected in (("mix", [6000, 4000]), (0, [16000, 8000]), (1, [-4000, 0])):
        out = tmp_path / f"out-{channels}"
        prepare(tmp_path / "in", out, sample_rate=RATE, gain=1, channels=channels)
        assert samples_of(out)["a.wav"].tolist() == expected * 250


def test_one_gain_brings_the_largest_peak_to_98_percent_and_keeps_loudness_and_dc(tmp_path):
    write(tmp_path / "in/shout.wav", np.array([0, 8192, -16384] * 50, np.int16))
    write(tmp_path / "in/quiet.wav", np.array([1000, 3000] * 50, np.int16))
    report = prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE)
    prepared = samples_of(tmp_path / "out")
    assert (report.gain, report.peak) == (pytest.approx(1.96), 0.5)
    assert set(prepared["shout.wav"].tolist()) == {0, 16056, -32113}
    assert set(prepared["quiet.wav"].tolist()) == {1960, 5880}
    assert AudioData.open(tmp_path / "out").gain == report.gain


def test_a_gain_that_clips_is_counted_and_warned_about(tmp_path):
    write(tmp_path / "in/a.wav", np.array([100, 20000, -20000, -16384], np.int16))
    report = prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE, gain=2.0, split=(1, 0, 0))
    assert samples_of(tmp_path / "out")["a.wav"].tolist() == [200, 32767, -32768, -32768]
    assert report.clipped == 2
    assert report.warnings == ("clipped 2 samples (50%) at gain 2; use gain auto",)


def bad_files(folder: Path) -> Path:
    write(folder / "good.wav", noise(400))
    (folder / "empty.wav").write_bytes(b"")
    write(folder / "no-samples.wav", np.zeros(0, np.int16))
    (folder / "text.wav").write_text("this is not audio")
    whole = write(folder / "whole.flac", noise(50_000)).read_bytes()
    (folder / "truncated.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "whole.flac").unlink()
    whole = write(folder / "whole.wav", noise(50_000)).read_bytes()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "whole.wav").unlink()
    nan = tone(0.1)
    nan[5] = np.nan
    write(folder / "nan.wav", nan, subtype="FLOAT")
    write(folder / "short.wav", np.ones(1, np.int16), 192_000)
    return folder


def test_bad_files_are_named_and_skipped_and_the_rest_goes_on(tmp_path):
    source = bad_files(tmp_path / "in")
    report = prepare(source, tmp_path / "out", sample_rate=RATE, gain=1)
    bad = ["empty.wav", "nan.wav", "no-samples.wav", "short.wav", "text.wav", "truncated.flac", "truncated.wav"]
    assert [name for name, _ in report.dropped] == bad
    assert all(reason and "\n" not in reason and str(source) not in reason for _, reason in report.dropped)
    assert "NaN" in dict(report.dropped)["nan.wav"]
    assert samples_of(tmp_path / "out")["good.wav"].tolist() == noise(400).tolist()
    assert AudioData.open(tmp_path / "out").manifest.dropped == report.dropped
    assert report.recordings == 1
    for name, reason in report.dropped:
        assert f"  {name}: {reason}" in report.summary()


def test_nothing_usable_and_nothing_at_all_are_errors_that_leave_nothing(tmp_path):
    source = bad_files(tmp_path / "in")
    (source / "good.wav").unlink()
    with pytest.raises(DataError, match=r"none of 7 audio files can be used; the first: empty.wav: "):
        prepare(source, tmp_path / "out", sample_rate=RATE)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no audio files"):
        prepare(tmp_path / "none", tmp_path / "out")
    with pytest.raises(DataError, match="no audio files"):
        prepare([], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "none"]


def test_shares_do_not_depend_on_place_workers_or_order(tmp_path):
    source = write_noise(tmp_path / "in", [300 + 40 * n for n in range(30)])
    moved = shutil.copytree(source, tmp_path / "elsewhere/deep/in")
    for out, inputs, workers in (("one", source, 1), ("two", moved, 3), ("three", sorted(source.iterdir())[::-1], 2)):
        prepare(inputs, tmp_path / out, sample_rate=RATE, workers=workers, split=(60, 20, 20), split_seed=3)
    for name in (AUDIO_FILE, MANIFEST_FILE):
        first = (tmp_path / "one" / name).read_bytes()
        assert first == (tmp_path / "two" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()
    report = prepare(source, tmp_path / "other", sample_rate=RATE, split=(60, 20, 20), split_seed=4)
    assert splits_of(tmp_path / "other") != splits_of(tmp_path / "one")
    total = report.hours
    assert report.splits["valid"].hours == pytest.approx(0.2 * total, abs=0.05 * total)
    assert sum(size.recordings for size in report.splits.values()) == 30


def test_several_inputs_are_named_from_their_common_folder(tmp_path):
    write_noise(tmp_path / "in/a", [300, 310])
    write_noise(tmp_path / "in/b", [320])
    write(tmp_path / "in/c.wav", noise(330))
    inputs = [tmp_path / "in/a", tmp_path / "in/b", tmp_path / "in/c.wav", tmp_path / "in/a/0.wav"]
    prepare(inputs, tmp_path / "out", sample_rate=RATE)
    assert list(splits_of(tmp_path / "out")) == ["a/0.wav", "a/1.wav", "b/0.wav", "c.wav"]


def test_lists_decide_the_splits(tmp_path):
    source = write_noise(tmp_path / "in", [300, 310, 320, 330])
    (tmp_path / "valid.txt").write_text("1.wav\n")
    (tmp_path / "test.txt").write_text("[23].wav\n")
    lists = {"valid_files": tmp_path / "valid.txt", "test_files": tmp_path / "test.txt"}
    prepare(source, tmp_path / "out", sample_rate=RATE, **lists)
    assert splits_of(tmp_path / "out") == {"0.wav": "train", "1.wav": "valid", "2.wav": "test", "3.wav": "test"}
    assert AudioData.open(tmp_path / "out").manifest.split_info["valid_files"] == "valid.txt"
    (tmp_path / "test.txt").write_text("9.wav\n")
    with pytest.raises(DataError, match=r"test.txt, line 1: no audio file matches '9.wav'"):
        prepare(source, tmp_path / "other", sample_rate=RATE, **lists)
    assert not (tmp_path / "other").exists()


def test_copies_in_another_format_share_a_split_and_are_warned_about(tmp_path):
    source = write_noise(tmp_path / "in", [400] * 8)
    for number in range(8):
        write(source / f"copies/{number}.flac", noise(400, seed=number))
    report = prepare(source, tmp_path / "out", sample_rate=RATE, split=(50, 25, 25))
    split_of = splits_of(tmp_path / "out")
    assert all(split_of[f"{number}.wav"] == split_of[f"copies/{number}.flac"] for number in range(8))
    assert set(split_of.values()) == {"train", "valid", "test"}
    assert len(report.warnings) == 1 and "copies/0.flac = 0.wav" in report.warnings[0]
    assert report.recordings == 16


def test_trimming_cuts_both_ends_and_drops_silent_recordings(tmp_path):
    silence = np.zeros(RATE)
    write(tmp_path / "in/padded.wav", np.concatenate([silence, tone(1.0), silence, tone(1.0), silence]))
    write(tmp_path / "in/silent.wav", 1e-4 * tone(1.0))
    report = prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE, gain=1, trim_silence_db=-50.0)
    pcm = samples_of(tmp_path / "out")["padded.wav"]
    assert 3 * RATE <= len(pcm) <= 3.2 * RATE
    assert report.dropped == (("silent.wav", "silent all through (threshold -50 dB)"),)


def test_trimming_works_across_decoder_blocks(tmp_path):
    sound = np.concatenate([np.zeros(40 * RATE), tone(1.0), np.zeros(40 * RATE)])
    write(tmp_path / "in/a.wav", sound)
    prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE, gain=1, trim_silence_db=-50.0)
    assert RATE <= len(samples_of(tmp_path / "out")["a.wav"]) <= 1.2 * RATE


def test_a_long_recording_needs_little_memory(tmp_path):
    write(tmp_path / "in/long.wav", noise(20 * 60 * RATE))
    tracemalloc.start()
    prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE, cut=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "out" / AUDIO_FILE).stat().st_size == 20 * 60 * RATE * 2
    assert peak < 15e6  # as float32 the recording is 38 MB


@pytest.mark.parametrize(
    "settings",
    [
        {"sample_rate": 0},
        {"sample_rate": 16000.0},
        {"chunk_seconds": 0.0},
        {"chunk_seconds": float("inf")},
        {"gain": -1.0},
        {"gain": "max"},
        {"workers": 0},
        {"split": (0, 50, 50)},
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, settings):
    write_noise(tmp_path / "in", [300])
    with pytest.raises(ConfigError, match=next(iter(settings))):
        prepare(tmp_path / "in", tmp_path / "out", **settings)


def test_the_summary_says_what_there_is(tmp_path):
    source = write_noise(tmp_path / "in", [RATE * 2, RATE * 2 + 1, RATE])
    report = prepare(source, tmp_path / "out", sample_rate=RATE, chunk_seconds=2.0, gain=1.5)
    lines = str(report).splitlines()
    assert lines[0] == f"{tmp_path / 'out'}: 5.0 s of audio, 4 chunks of at most 2 s, 3 recordings, 8000 Hz"
    assert lines[1].startswith("  gain 1.5 (largest peak 0.6104); took ")
    assert [line.split()[0] for line in lines[2:]] == ["train", "valid", "test"]
    assert len(report.splits) == 3 and report.splits["train"].recordings == 1


def test_nothing_is_printed_without_progress(tmp_path, monkeypatch, capfd):
    source = write_noise(tmp_path / "in", [300])
    prepare(source, tmp_path / "out", sample_rate=RATE)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr("samplernn_fast.terminal.is_watched", lambda: True)
    prepare(source, tmp_path / "two", sample_rate=RATE, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "1/1" in err


def test_file_names_that_are_no_text_or_two_lines_are_written_as_escapes(tmp_path):
    source = write_noise(tmp_path / "in", [300, 310, 320])
    (source / "0.wav").rename(source / "caf\udce9.wav")
    (source / "1.wav").rename(source / "two\nlines.wav")
    (source / "bad\r.wav").write_bytes(b"no audio")
    report = prepare(source, tmp_path / "out", sample_rate=RATE)
    assert sorted(samples_of(tmp_path / "out")) == ["2.wav", r"caf\udce9.wav", r"two\nlines.wav"]
    assert [name for name, _ in report.dropped] == [r"bad\r.wav"]
    assert r"  bad\r.wav: damaged, or not audio" in str(report)
    write(source / "two\\nlines.wav", noise(330))
    with pytest.raises(DataError, match="another file's name is written in the same way"):
        prepare(source, tmp_path / "other", sample_rate=RATE)


@pytest.mark.skipif(not FSDD.is_dir(), reason="needs the 3,000 recordings of ../shared/data/fsdd")
def test_three_thousand_small_files_take_seconds(tmp_path):
    started = time.monotonic()
    (tmp_path / "test.txt").write_text("*_[0-4].wav\n")
    report: PrepareReport = prepare(FSDD, tmp_path / "out", sample_rate=8000, test_files=tmp_path / "test.txt")
    assert time.monotonic() - started < 30
    assert (report.recordings, report.dropped) == (3000, ())
    assert f"{report.hours:.2f}" == "0.36"
    assert report.splits["test"].recordings == 300
    assert AudioData.open(tmp_path / "out").audio.size == round(report.hours * 3600 * 8000)


def test_short_recordings_are_followed_by_silence(tmp_path):
    sounds = {"short.wav": noise(RATE // 2), "exact.wav": noise(RATE, seed=1), "long.wav": noise(2 * RATE, seed=2)}
    for name, sound in sounds.items():
        write(tmp_path / "in" / name, sound)
    prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE, gain=1, pad_seconds=1.0)
    assert AudioData.open(tmp_path / "out").manifest.split_info["pad"] == {"seconds": 1.0}
    prepared = samples_of(tmp_path / "out")
    assert {name: len(pcm) for name, pcm in prepared.items()} == {
        "short.wav": RATE,
        "exact.wav": RATE,
        "long.wav": 2 * RATE,
    }
    for name, sound in sounds.items():
        assert prepared[name].tolist() == [*sound, *[0] * (len(prepared[name]) - len(sound))]


def test_copies_of_a_padded_recording_are_still_copies(tmp_path):
    for name in ("a.wav", "b.wav"):
        write(tmp_path / "in" / name, noise(RATE // 2))
    write(tmp_path / "in/c.wav", noise(RATE // 2, seed=1))
    prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE, pad_seconds=1.0, cut=False)
    hashes = {one.path: one.sha256 for one in AudioData.open(tmp_path / "out").manifest.recordings}
    assert hashes["a.wav"] == hashes["b.wav"] != hashes["c.wav"]
