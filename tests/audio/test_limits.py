"""Audio files that claim or hold what no audio does: one line each, and little memory."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import fails, flac_claiming, tone, wav

from samplernn_fast.audio import limits, reading, resampling


@pytest.mark.parametrize("rate", [200_000_000, 768_001, 2**31 - 1])
def test_a_rate_that_no_audio_has(tmp_path: Path, rate: int) -> None:
    path = wav(tmp_path / "a.wav", rate)
    fails(lambda: reading.probe(path), str(path), f"claims {rate} Hz", "1 to 768000 Hz")
    fails(lambda: reading.read(path, 16000), str(path), f"claims {rate} Hz")


def test_a_header_that_claims_gigabytes(tmp_path: Path) -> None:
    path = flac_claiming(tmp_path / "a.flac", 2**35)
    tracemalloc.start()
    fails(lambda: reading.read(path), str(path), "claims 4294967 s of audio", "more than its bytes can hold")
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_as_many_channels_as_no_audio_has(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", channels=1000, samples=bytes(2000 * 3))
    fails(lambda: reading.read(path), str(path), "claims 1000 channels")


@pytest.mark.parametrize(("rate", "to_rate"), [(1, 16000), (62, 16000), (768_000, 2999)])
def test_rates_too_far_apart_are_not_resampled(tmp_path: Path, rate: int, to_rate: int) -> None:
    path = wav(tmp_path / "a.wav", rate)
    fails(lambda: reading.read(path, to_rate), str(path), f"{rate} Hz cannot be resampled to {to_rate} Hz", "256")
    fails(lambda: resampling.resample(np.zeros(9), rate, to_rate), f"{rate} Hz cannot be resampled")


def test_a_large_ratio_of_rates_needs_little_memory(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", rate=100, samples=bytes(2 * 100_000))
    tracemalloc.start()
    count = sum(len(block) for block in reading.read_blocks(path, 25_600))
    assert tracemalloc.get_traced_memory()[1] < 60e6  # all of it would be 102 MB
    tracemalloc.stop()
    assert count == 25_600_000


@pytest.mark.parametrize(
    ("value", "words"), [(1e38, "an amplitude of 1e+38"), (-3e4, "an amplitude of 3e+04"), (np.inf, "NaN or infinite")]
)
def test_samples_that_are_no_audio(tmp_path: Path, value: float, words: str) -> None:
    samples = np.stack([tone(0.1, 8000)] * 2, 1)
    samples[40, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, 8000, "FLOAT")
    fails(lambda: reading.read(tmp_path / "a.wav"), str(tmp_path / "a.wav"), words, "at 0.005 s")


def test_audio_beyond_full_scale_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([99.0, -99.0]), 8000, "FLOAT")
    assert reading.read(tmp_path / "a.wav")[0].tolist() == [99.0, -99.0]


def test_what_is_read_whole_is_bounded(tmp_path: Path, monkeypatch) -> None:
    path = wav(tmp_path / "a.wav", samples=bytes(2 * 80_000))
    monkeypatch.setattr(limits, "WHOLE_SAMPLES", 79_999)
    fails(lambda: reading.read(path), str(path), "lasts longer than 0 minutes", "at 8000 Hz; cut out the piece")
    assert len(reading.read(path, 4000)[0]) == 40_000


def test_what_unpacks_without_end_is_stopped(tmp_path: Path, monkeypatch) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(400_000), 8000)
    assert len(reading.read(tmp_path / "a.flac")[0]) == 400_000
    monkeypatch.setattr(limits, "COMPRESSED_SAMPLES_PER_BYTE", 20)
    fails(lambda: reading.read(tmp_path / "a.flac"), "a.flac", "more than its bytes can hold")
    monkeypatch.setattr(limits, "check_header", lambda *_: None)
    fails(lambda: reading.read(tmp_path / "a.flac"), "a.flac", "unpacks to more than", "cannot hold")


def test_a_format_that_does_not_compress_cannot_claim_more_than_its_bytes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.sds", tone(0.1, 8000), 8000)
    content = bytearray((tmp_path / "a.sds").read_bytes())
    content[10:13] = bytes([127, 127, 1])  # the number of samples, in groups of 7 bits from the lowest
    (tmp_path / "a.sds").write_bytes(content)
    fails(lambda: reading.read(tmp_path / "a.sds"), "a.sds", "claims 4 s of audio, more than its bytes can hold")


def test_pipes_devices_and_samples_without_a_header_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    fails(lambda: reading.read(tmp_path / "pipe.wav"), "pipe.wav: is a pipe or a device, not a file")
    fails(lambda: reading.probe("/dev/zero"), "/dev/zero: is a pipe or a device")
    (tmp_path / "a.raw").write_bytes(bytes(100))
    fails(lambda: reading.read(tmp_path / "a.raw"), "a.raw", "without a header")


def test_names_that_are_no_text_or_two_lines_are_read(tmp_path: Path) -> None:
    for name in ("caf\udce9.wav", "two\nlines.wav", "caf\udce9.mp3"):
        soundfile.write(tmp_path / f"a{Path(name).suffix}", tone(0.5, 8000), 8000)
        (tmp_path / f"a{Path(name).suffix}").rename(tmp_path / name)
        assert len(reading.read(tmp_path / name)[0]) >= 4000
    (tmp_path / "two\nlines.wav").write_bytes(b"damaged")
    fails(lambda: reading.read(tmp_path / "two\nlines.wav"), "two\\nlines.wav: damaged")
