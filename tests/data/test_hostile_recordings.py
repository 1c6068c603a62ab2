"""prepare with files that claim or hold what no audio does: each is named and left out, and the rest goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import RATE, noise, write, write_noise
from sounds import flac_claiming, wav

from samplernn_fast.audio import reading
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.preparation import prepare
from samplernn_fast.errors import ConfigError, DataError


def names(folder: Path) -> list[str]:
    return [entry.path for entry in AudioData.open(folder).manifest.recordings]


def test_hostile_files_are_named_and_the_good_ones_beside_them_are_kept(tmp_path):
    source = write_noise(tmp_path / "in", [300, 310, 320])
    wav(source / "200 MHz.wav", 200_000_000)
    wav(source / "1 Hz.wav", 1)
    flac_claiming(source / "gigabytes.flac", 2**35)
    loud = np.zeros(400)
    loud[7] = 1e38
    write(source / "loud.wav", loud, subtype="FLOAT")
    os.mkfifo(source / "pipe.wav")
    (source / "gone.wav").symlink_to(source / "nowhere")
    report = prepare([source, "/dev/zero"], tmp_path / "out", sample_rate=RATE, gain=1)
    assert sorted(names(tmp_path / "out")) == [f"{str(source)[1:]}/{n}.wav" for n in range(3)]
    reasons = {name.rpartition("/")[2]: reason for name, reason in report.dropped}
    assert set(reasons) == {"200 MHz.wav", "1 Hz.wav", "gigabytes.flac", "loud.wav", "pipe.wav", "gone.wav", "zero"}
    assert "claims 200000000 Hz" in reasons["200 MHz.wav"]
    assert "1 Hz cannot be resampled" in reasons["1 Hz.wav"]
    assert "claims 4294967 s of audio" in reasons["gigabytes.flac"]
    assert "amplitude of 1e+38" in reasons["loud.wav"]
    assert "pipe or a device" in reasons["pipe.wav"] and "pipe or a device" in reasons["zero"]


def test_a_file_for_which_memory_does_not_suffice_is_left_out(tmp_path, monkeypatch):
    source = write_noise(tmp_path / "in", [300, 310, 320])
    read_blocks = reading.read_blocks

    def starved(path: Path, *more: object, **settings: object):
        if path.name == "1.wav":
            raise MemoryError
        return read_blocks(path, *more, **settings)

    monkeypatch.setattr(reading, "read_blocks", starved)
    report = prepare(source, tmp_path / "out", sample_rate=RATE)
    assert names(tmp_path / "out") == ["0.wav", "2.wav"]
    assert report.dropped == (("1.wav", "decoding it takes more memory than there is"),)


FULL_DISK = """
import resource, signal, sys
sys.dont_write_bytecode = True  # Python would keep modules cut off, and take them for whole later.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
from samplernn_fast.commands.main import main
main(["prepare", sys.argv[1], "--out", sys.argv[2], "--sample-rate", "8000"])
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    source = write_noise(tmp_path / "in", [20_000] * 3)
    command = [sys.executable, "-c", FULL_DISK, str(source), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1 and "preparing failed and nothing was kept" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_is_no_audio_is_counted(tmp_path):
    source = write_noise(tmp_path / "in", [300, 310, 320])
    for name in ("cover.jpg", "back.jpg", "album.m3u"):
        (source / name).write_bytes(b"not audio")
    report = prepare(sorted(source.iterdir()), tmp_path / "out", sample_rate=RATE)
    assert report.dropped == () and report.passed_over == "2 .jpg, 1 .m3u"
    assert "passed over what is no audio: 2 .jpg, 1 .m3u" in report.summary()
    for file in source.glob("*.wav"):
        file.unlink()
    with pytest.raises(DataError, match=r"no audio files found \(2 .jpg, 1 .m3u passed over\)"):
        prepare(source, tmp_path / "other")


def test_channels_in_opposite_phase_are_warned_about_and_one_of_them_can_be_chosen(tmp_path):
    left = noise(4000).astype(np.int32)
    write(tmp_path / "in/opposite.wav", np.stack([left, 1 - left], 1).astype(np.int16))
    write(tmp_path / "in/stereo.wav", np.stack([noise(4000, seed=2), noise(4000, seed=1)], 1).astype(np.int16))
    write(tmp_path / "in/one side.wav", np.stack([left, 0 * left], 1).astype(np.int16))
    report = prepare(tmp_path / "in", tmp_path / "mix", sample_rate=RATE)
    assert len(report.warnings) == 3  # mixed, every sample of opposite.wav is half a step of 16 bits
    assert report.warnings[0].startswith("opposite.wav: the channels nearly cancel each other")
    assert 'channels="left"' in report.warnings[0]
    assert report.warnings[1].startswith("opposite.wav: silence or one constant value")
    assert report.warnings[2].startswith("all of valid is silence, or nearly so")
    one = prepare(tmp_path / "in", tmp_path / "left", sample_rate=RATE, channels="left", split=(1, 0, 0))
    assert one.warnings == ("exact copies, kept, each in the split of its twin: opposite.wav = one side.wav",)


@pytest.mark.parametrize("value", [0, 1000])
def test_silence_and_constants_are_refused_alone_and_named_beside_others(tmp_path, value):
    write(tmp_path / "in/flat.wav", np.full(400, value, np.int16))
    with pytest.raises(DataError, match=r"all 1 recordings are .*nothing can be learnt"):
        prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE)
    write_noise(tmp_path / "in", [300, 310, 320])
    report = prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE)
    assert report.warnings == ("flat.wav: silence or one constant value all through; leave out such recordings",)


def test_a_gain_that_amplifies_noise_and_a_peak_beyond_full_scale_are_said(tmp_path):
    write(tmp_path / "quiet/a.wav", np.array([0, 1, 0, -2] * 100, np.int16))
    quiet = prepare(tmp_path / "quiet", tmp_path / "q", sample_rate=RATE, split=(1, 0, 0))
    assert len(quiet.warnings) == 1 and "gain auto multiplies it and all noise by 1.61e+04" in quiet.warnings[0]
    (kept,) = prepare(tmp_path / "quiet", tmp_path / "q1", sample_rate=RATE, split=(1, 0, 0), gain=1).warnings
    assert kept.startswith("all of train is silence, or nearly so") and "a larger gain" in kept
    write_noise(tmp_path / "loud", [300, 310, 320])
    write(tmp_path / "loud/over.wav", noise(300) / 500.0, subtype="FLOAT")
    loud = prepare(tmp_path / "loud", tmp_path / "l", sample_rate=RATE)
    assert len(loud.warnings) == 1 and loud.warnings[0].startswith("over.wav has a peak of 39")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": "up"}, "channels must be mix, left, right or the number of a channel from 0, got 'up'"),
        ({"sample_rate": 10**9}, "sample_rate must be 1 to 768000 Hz"),
        ({"sample_rate": True}, "sample_rate must be"),
        ({"chunk_seconds": 1e300}, "chunk_seconds must be above 0 and at most 10000000 seconds"),
        ({"chunk_seconds": "8"}, "chunk_seconds must be"),
        ({"split_seed": 2**64}, "split_seed must be"),
        ({"trim_silence_db": float("nan")}, "trim_silence_db must be"),
        ({"trim_silence_db": 3.0}, "trim_silence_db must be -200 to 0 dB"),
        ({"gain": float("nan")}, "gain must be auto or above 0"),
        ({"gain": True}, "gain must be"),
        ({"workers": 100_000}, "workers must be 1 to 256"),
    ],
)
def test_settings_beyond_their_ranges_are_refused_before_anything_is_read(tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        prepare(tmp_path / "is not even looked for", tmp_path / "out", **settings)


def test_a_channel_that_no_file_has_is_named(tmp_path):
    write(tmp_path / "in/a.wav", np.stack([noise(400)] * 2, 1))
    with pytest.raises(DataError, match=r"a\.wav: there is no channel 5; its channels are 0 to 1"):
        prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE, channels=5)


def test_numbers_of_numpy_are_settings_too(tmp_path):
    source = write_noise(tmp_path / "in", [300, 310, 320])
    prepare(source, tmp_path / "out", sample_rate=np.int64(RATE), chunk_seconds=np.float32(2), gain=np.float64(1))
    values = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (values["sample_rate"], values["chunk_seconds"], values["gain"]) == (RATE, 2.0, 1.0)
