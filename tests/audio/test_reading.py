"""Audio files: reading and resampling them, and every way in which that can fail."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import fails, noise, peak_hertz, tone

from samplernn_fast.audio import finding, reading, resampling, writing
from samplernn_fast.data import decoding
from samplernn_fast.data.preparation import prepare
from samplernn_fast.errors import ConfigError

CLIPS = (Path(__file__).resolve().parents[2] / "../shared/data/clips").resolve()
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


@pytest.mark.parametrize(
    ("suffix", "subtype", "error"),
    [
        (".wav", "PCM_U8", 1 / 128),
        (".wav", "PCM_16", 1 / 32768),
        (".wav", "PCM_24", 1e-6),
        (".wav", "FLOAT", 0.0),
        (".wav", "ULAW", 0.02),
        (".flac", "PCM_16", 1 / 32768),
        (".aiff", "PCM_16", 1 / 32768),
        (".au", "PCM_16", 1 / 32768),
        (".w64", "PCM_16", 1 / 32768),
        (".caf", "PCM_16", 1 / 32768),
        (".ogg", "VORBIS", 0.03),
        (".mp3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_read_many_formats(tmp_path: Path, suffix: str, subtype: str, error: float) -> None:
    path, x = tmp_path / f"a{suffix}", tone(1.0, 16000)
    soundfile.write(path, x, 16000, subtype=subtype)
    y, rate = reading.read(path)
    assert rate == 16000 and y.dtype == np.float32 and y.shape == x.shape
    assert np.abs(y - x)[800:-800].max() <= error * 1.01
    assert reading.probe(path) == reading.AudioInfo(16000, 16000, 1, 1.0)


def test_channels(tmp_path: Path) -> None:
    path, left, right = tmp_path / "stereo.wav", tone(0.2, 8000, 300), tone(0.2, 8000, 500)
    soundfile.write(path, np.stack([left, right], 1), 8000, subtype="FLOAT")
    assert reading.probe(path).channels == 2
    for choice, wanted in {"mix": (left + right) / 2, "left": left, "right": right, "0": left, 1: right}.items():
        np.testing.assert_allclose(reading.read(path, channels=choice)[0], wanted, atol=1e-7)
    for missing in ("2", 2):
        fails(
            lambda choice=missing: reading.read(path, channels=choice),
            str(path),
            "no channel 2; its channels are 0 to 1",
        )
    for unknown in ("middle", "-1", "", "1.0", -1):
        with pytest.raises(ConfigError, match="channels must be mix, left, right or the number of a channel from 0"):
            reading.read(tmp_path / "is not even looked for.wav", channels=unknown)
    mono = tmp_path / "mono.wav"
    soundfile.write(mono, left, 8000, subtype="FLOAT")
    np.testing.assert_array_equal(reading.read(mono, channels="left")[0], left)
    fails(lambda: reading.read(mono, channels="right"), str(mono), "no channel 1")


def test_resampling_keeps_frequency_level_and_length(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(2.0, 44100, 1000.0), 44100, subtype="FLOAT")
    x, rate = reading.read(path, sample_rate=16000)
    assert rate == 16000 and len(x) == 32000
    assert abs(peak_hertz(x, rate) - 1000.0) <= 0.5
    np.testing.assert_allclose(x[2000:-2000], tone(2.0, 16000, 1000.0)[2000:-2000], atol=1e-3)
    above_nyquist = tmp_path / "b.wav"
    soundfile.write(above_nyquist, tone(1.0, 44100, 11000.0), 44100, subtype="FLOAT")
    assert np.abs(reading.read(above_nyquist, 16000)[0][1000:-1000]).max() < 1e-3


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rate", [None, 16000, 22050])
def test_blocks_join_to_the_whole(tmp_path: Path, suffix: str, rate: int | None) -> None:
    """MP3 above all: seeking between blocks would leave clicks (in a tone; in noise it would not)."""
    path = tmp_path / f"a{suffix}"
    writing.write(path, tone(5.0, 48000), 48000)
    whole, _ = reading.read(path, rate)
    blocks = list(reading.read_blocks(path, rate, block_seconds=0.37))
    joined = np.concatenate(blocks)
    assert len(blocks) > 10 and all(block.dtype == np.float32 and block.ndim == 1 for block in blocks)
    assert len(joined) == len(whole) == 5 * (rate or 48000)
    np.testing.assert_allclose(joined, whole, atol=1e-4)
    assert max(map(len, blocks)) <= 0.75 * (rate or 48000)


def test_reading_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = tmp_path / "a.wav", []
    writing.write(path, tone(3.0, 8000), 8000)
    original = soundfile.SoundFile.read

    def spy(self: soundfile.SoundFile, frames: int = -1, **rest: object) -> object:
        asked.append(frames)
        return original(self, frames, **rest)

    monkeypatch.setattr(soundfile.SoundFile, "read", spy)
    first = next(reading.read_blocks(path, block_seconds=0.5))
    assert len(first) == 4000 and asked == [4000]


def test_resample() -> None:
    y = resampling.resample(tone(1.0, 8000, 440.0), 8000, 48000)
    assert y.dtype == np.float32 and len(y) == 48000 and abs(peak_hertz(y, 48000) - 440) <= 1
    assert resampling.resample(np.zeros((800, 2)), 8000, 16000).shape == (1600, 2)
    np.testing.assert_array_equal(resampling.resample(y, 48000, 48000), y)


def test_without_soxr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    writing.write(path, tone(0.1, 8000), 8000)
    monkeypatch.setitem(sys.modules, "soxr", None)
    assert len(reading.read(path, 8000)[0]) == 800
    with pytest.raises(ConfigError, match=r"a\.wav: .*pip install soxr \(extra `audio`\)"):
        reading.read(path, 16000)
    with pytest.raises(ConfigError, match="pip install soxr"):
        resampling.resample(np.zeros(8), 8000, 16000)


def test_a_package_that_is_missing_is_no_fault_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for name, rate in (("a", 8000), ("b", 16000)):
        writing.write(tmp_path / "in" / f"{name}.wav", tone(0.5, rate), rate)
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(ConfigError, match=r"a\.wav: .*pip install soxr"):
        prepare(tmp_path / "in", tmp_path / "data", sample_rate=16000)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("rate", [0, -1])
def test_impossible_arguments(tmp_path: Path, rate: int) -> None:
    with pytest.raises(ConfigError, match="sample_rate"):
        reading.read(tmp_path / "a.wav", rate)
    with pytest.raises(ConfigError, match="block_seconds"):
        list(reading.read_blocks(tmp_path / "a.wav", block_seconds=rate))


def test_unreadable_files(tmp_path: Path) -> None:
    fails(lambda: reading.read(tmp_path / "no.wav"), str(tmp_path / "no.wav"), "No such file")
    fails(lambda: reading.read(tmp_path), str(tmp_path), "is a folder, not a file")
    for name, content, words in (
        ("empty.wav", b"", ("the file is empty",)),
        ("text.wav", b"not audio at all " * 99, ("damaged, or not audio",)),
        ("noise.mp3", bytes(9999), ("damaged, or not audio",)),
        ("a song.odd", b"\0\0\0\x20ftypM4A " + bytes(999), ("ffmpeg -i", "a song.wav'")),
        ("cut header.wav", b"RIFF\0\0\0\0WAVEfmt ", ("damaged, or not audio",)),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        fails(lambda path=path: reading.read(path), str(path), *words)
        fails(lambda path=path: reading.probe(path), str(path), *words)


def test_no_frames(tmp_path: Path) -> None:
    for suffix in (".wav", ".aiff"):
        path = tmp_path / f"a{suffix}"
        soundfile.write(path, np.zeros(0, np.float32), 16000)
        fails(lambda path=path: reading.read(path), str(path), "holds no audio")


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("suffix", [*SUFFIXES, ".aiff", ".au", ".caf", ".w64", ".rf64"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, part: float) -> None:
    """libsndfile itself quietly plays what is left of most of these."""
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    soundfile.write(
        whole, noise(12.0, 16000), 16000, **({"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {})
    )
    assert len(reading.read(whole)[0]) == 192000
    content = whole.read_bytes()
    cut.write_bytes(content[: int(len(content) * part)])
    fails(lambda: reading.read(cut), str(cut))


def test_damage_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    writing.write(path, noise(10.0, 16000), 16000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    path.write_bytes(content)
    fails(lambda: list(reading.read_blocks(path, block_seconds=1.0)), str(path), "damaged after")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_wav_of_unknown_length_is_no_truncation(tmp_path: Path, size: int) -> None:
    """What programs write into a pipe."""
    path = tmp_path / "a.wav"
    writing.write(path, tone(1.0, 8000), 8000)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    assert len(reading.read(path)[0]) == 8000


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    writing.write(path, tone(1.0, 8000), 8000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36-bit number of samples in STREAMINFO
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert reading.probe(path) == reading.AudioInfo(None, 8000, 1, None)
    assert len(reading.read(path)[0]) == 8000


def test_two_mp3_files_in_one(tmp_path: Path) -> None:
    """The header of the first states the length of the first only."""
    path = tmp_path / "a.mp3"
    writing.write(path, noise(20.0, 16000), 16000)
    path.write_bytes(path.read_bytes() * 2)
    fails(lambda: reading.read(path), str(path), "longer than its header says", "ffmpeg")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, bad: float) -> None:
    path, x = tmp_path / "a.wav", tone(1.0, 8000)
    x[6000] = bad
    soundfile.write(path, x, 8000, subtype="FLOAT")
    fails(lambda: list(reading.read_blocks(path, block_seconds=0.1)), str(path), "NaN or infinite", "0.750 s")
    fails(lambda: writing.write(tmp_path / "b.wav", x, 8000), "b.wav", "NaN or infinite")
    assert not (tmp_path / "b.wav").exists()


@pytest.mark.skipif(not CLIPS.is_dir(), reason="../shared/data/clips is absent: no recordings to read")
def test_recordings() -> None:
    files = finding.find_audio(CLIPS)
    assert files
    for file in files:
        info = reading.probe(file)
        x, rate = reading.read(file, 16000)
        assert rate == 16000 and info.seconds is not None and abs(len(x) - info.seconds * 16000) <= 1
        assert 0.01 < np.abs(x).max() < 2.0
        start, stop = decoding.trim_silence(x, rate, -60.0)
        assert 0 <= start < stop <= len(x)
