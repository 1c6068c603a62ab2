"""Audio files that are written: what comes back, what a format cannot hold, and files that are in the way."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from file_limit import file_limit
from sounds import fails, tone

from samplernn_fast.audio import reading, writing
from samplernn_fast.errors import ConfigError

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_write_and_read_back_with_comment(tmp_path: Path, suffix: str) -> None:
    path, x = tmp_path / f"out{suffix.upper()}", tone(1.0, 16000)
    comment = {"model": "é 音", "seed": 7, "long": "x" * 1500}
    writing.write(path, x, 16000, comment=json.dumps(comment, ensure_ascii=suffix == ".mp3"))
    y, rate = reading.read(path)
    assert rate == 16000 and len(y) == len(x) and np.abs(y - x)[1000:-1000].max() < 0.05
    with soundfile.SoundFile(path) as file:
        assert json.loads(file.comment) == comment
        assert file.subtype == {".wav": "PCM_16", ".flac": "PCM_16", ".mp3": "MPEG_LAYER_III"}.get(
            suffix, "OPUS" if suffix == ".opus" else "VORBIS"
        )
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_16_bit_files_keep_every_value(tmp_path: Path, suffix: str) -> None:
    x = (np.arange(-32768, 32768) / 32768).astype(np.float32)
    path = tmp_path / f"a{suffix}"
    writing.write(path, x, 16000)
    np.testing.assert_array_equal(reading.read(path)[0], x)
    writing.write(path, np.array([1.0, 3.0, -3.0]), 16000, overwrite=True)
    np.testing.assert_array_equal(reading.read(path)[0], np.float32([32767 / 32768, 32767 / 32768, -1.0]))


def test_write_stereo(tmp_path: Path) -> None:
    x = np.stack([tone(0.5, 8000, 300), tone(0.5, 8000, 500)], 1)
    writing.write(tmp_path / "a.wav", x, 8000)
    np.testing.assert_allclose(reading.read(tmp_path / "a.wav", channels="right")[0], x[:, 1], atol=2e-5)


def test_existing_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    writing.write(path, tone(1.0, 8000), 8000)
    before = path.read_bytes()
    fails(lambda: writing.write(path, tone(0.1, 8000), 8000), str(path), "overwrite=True")
    assert path.read_bytes() == before
    writing.write(path, tone(0.1, 8000), 8000, overwrite=True)
    assert reading.probe(path).frames == 800
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode  # as any new file, not private


@pytest.mark.parametrize(
    ("name", "rate", "channels", "words"),
    [
        ("a.mp3", 11000, 1, "8000, 11025, 12000"),
        ("a.mp3", 96000, 1, "8000, 11025, 12000"),
        ("a.mp3", 16000, 3, "1 or 2 channels"),
        ("a.opus", 44100, 1, "8000, 12000, 16000"),
        ("a.ogg", 700000, 1, "up to 200000 Hz"),
        ("a.flac", 65537, 1, "multiple of 10"),
        ("a.flac", 8000, 9, "up to 8 channels"),
        ("a.wav", 0, 1, "use .wav or resample"),
    ],
)
def test_what_formats_cannot_hold(tmp_path: Path, name: str, rate: int, channels: int, words: str) -> None:
    fails(lambda: writing.write(tmp_path / name, np.zeros((99, channels)), rate), str(tmp_path / name), words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.aac", "a"])
def test_an_unknown_suffix_is_a_setting_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: the suffix must be one of \.wav \.flac \.ogg \.opus \.mp3"):
        writing.write(tmp_path / name, np.zeros(99), 16000)
    assert not list(tmp_path.iterdir())


def test_write_refuses_other_arrays_and_comments_that_would_be_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for bad in (np.zeros(0), np.zeros((2, 2, 2)), np.zeros(5, np.int16)):
        fails(lambda bad=bad: writing.write(path, bad, 8000), str(path), "floats of shape")
    fails(lambda: writing.write(path, np.zeros(9), 8000, comment="x" * 2001), str(path), "comment", ".flac")
    fails(lambda: writing.write(tmp_path / "a.mp3", np.zeros(9), 8000, comment="é"), "comment", "ASCII")
    fails(lambda: writing.write(tmp_path / "no" / "a.wav", np.zeros(9), 8000), "cannot be written", "No such file")
    (tmp_path / "folder.wav").mkdir()
    fails(lambda: writing.write(tmp_path / "folder.wav", np.zeros(9), 8000, overwrite=True), "is a folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.wav"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    writing.write(path, tone(0.1, 8000), 8000)
    before = path.read_bytes()
    with file_limit(10_000):
        fails(lambda: writing.write(path, tone(9.0, 8000), 8000, overwrite=True), str(path), "cannot be written")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.wav"] and path.read_bytes() == before


def test_a_wav_beyond_4_gb_is_an_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_WAV_BYTES", 20_000)
    x = tone(1.0, 16000)
    for seconds, container in ((0.5, "WAV"), (1.0, "RF64")):
        path, part = tmp_path / f"{container}.wav", x[: round(seconds * 16000)]
        writing.write(path, part, 16000, comment='{"seed": 7}')
        with soundfile.SoundFile(path) as file:
            assert (file.format, file.comment) == (container, '{"seed": 7}')
        np.testing.assert_array_equal(reading.read(path)[0], np.floor(part * 32768 + 0.5) / 32768)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_blocks_make_the_bytes_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path, x = tmp_path / f"a{suffix}", tone(1.0, 16000)
    with writing.Writer(path, 16000, frames=len(x), comment="{}") as writer:
        for block in np.split(x, [1, 300, 301, 9000]):
            writer.write(block)
        assert not path.exists()
        writer.end()
        writer.finish(path)
    assert path.read_bytes() == writing.encode(suffix, x, 16000, "{}")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_writer_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with writing.Writer(tmp_path / "a.wav", 16000, frames=100) as writer:
        writer.write(tone(0.1, 16000))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frames", [16000, 2**40])
def test_a_pipe_begins_with_the_promised_length(frames: int) -> None:
    pipe, x = io.BytesIO(), tone(1.0, 16000)
    writer = writing.WavPipe(pipe, 16000, frames=frames, comment='{"seed": 7}')
    for block in np.split(x, [1, 300]):
        writer.write(block)
    whole = writing.encode(".wav", x, 16000, '{"seed": 7}')
    if frames == len(x):
        assert pipe.getvalue() == whole
    size = min(2 * frames, 2**32 - 1).to_bytes(4, "little")
    assert pipe.getvalue()[len(whole) - 2 * len(x) - 4 :] == size + whole[len(whole) - 2 * len(x) :]
    samples, rate = soundfile.read(io.BytesIO(pipe.getvalue()))
    assert rate == 16000 and len(samples) == len(x)
