"""Audio files with damaged headers and content, alone and in `prepare` beside a good one."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fuzzing import fuzz, fuzz_cases, write_case
from mutations import mutate
from recordings import RATE, noise, write

from samplernn_fast.audio import ffmpeg, reading
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.preparation import prepare
from samplernn_fast.untrusted import Unreadable

FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".wave": ("WAV", "FLOAT"),
    ".w64": ("W64", "PCM_24"),
    ".rf64": ("RF64", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aifc": ("AIFF", "FLOAT"),
    ".au": ("AU", "PCM_16"),
    ".caf": ("CAF", "ALAC_16"),
    ".voc": ("VOC", "PCM_16"),
    ".sph": ("NIST", "PCM_16"),
    ".iff": ("SVX", "PCM_16"),
    ".paf": ("PAF", "PCM_16"),
    ".avr": ("AVR", "PCM_16"),
    ".sds": ("SDS", "PCM_16"),
    ".sf": ("IRCAM", "PCM_16"),
}
MONO = {".iff", ".sds"}


def encoded(suffix: str) -> bytes:
    """A file of a fiftieth of a second, in stereo where the format has it."""
    container, subtype = FORMATS[suffix]
    channels = 1 if suffix in MONO else 2
    pcm = np.stack([noise(160, seed=seed) for seed in range(channels)], 1) / 32768
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, RATE, format=container, subtype=subtype)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def seeds() -> list[tuple[str, bytes]]:
    return [(suffix, encoded(suffix)) for suffix in FORMATS]


def damaged(source: random.Random, seeds: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    suffix, content = source.choice(seeds)
    # Headers lie at the front, so most damage is done there.
    front = source.choice((len(content), 48, 96, 200))
    content = mutate(source, content[:front], [other for _, other in seeds]) + content[front:]
    return (source.choice(seeds)[0] if source.random() < 0.05 else suffix), content


@fuzz_cases
def test_reading(cases: int, tmp_path: Path, seeds: list[tuple[str, bytes]]) -> None:
    def target(case: tuple[str, bytes]) -> None:
        path = write_case(tmp_path / f"a{case[0]}", case[1])
        reading.read(path, sample_rate=16000)

    fuzz(target, lambda source: damaged(source, seeds), cases, valid=seeds)


@fuzz_cases
def test_a_good_recording_beside_a_damaged_one_is_prepared(
    cases: int, tmp_path: Path, seeds: list[tuple[str, bytes]]
) -> None:
    write(tmp_path / "in/good.wav", noise(200))

    def target(case: tuple[str, bytes]) -> None:
        bad = write_case(tmp_path / f"in/bad{case[0]}", case[1])
        prepare(tmp_path / "in", tmp_path / "out", sample_rate=RATE, gain=1, workers=1, overwrite=True)
        bad.unlink()
        assert "good.wav" in [entry.path for entry in AudioData.open(tmp_path / "out").manifest.recordings]

    fuzz(target, lambda source: damaged(source, seeds), cases // 10, valid=seeds)


@fuzz_cases
def test_what_ffprobe_prints(cases: int) -> None:
    whole = b'{"programs": [], "streams": [{"sample_rate": "8000", "channels": 2}], "format": {"duration": "0.5"}}'
    fuzz(ffmpeg._parsed, lambda source: mutate(source, whole), cases, valid=[whole], refusals=(Unreadable,))
