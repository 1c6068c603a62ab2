"""The measures and detectors of generated clips: each finds what it is for, and leaves a clean sound alone."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samplernn_fast.audio import reading
from samplernn_fast.audio.synthetic import plucked_music
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.evaluation.clips.detectors import DETECTORS, faults
from samplernn_fast.evaluation.clips.loops import similarity
from samplernn_fast.evaluation.clips.measures import Meter, measure_clip

_RATE = 8000
_TONE = 0.3 * np.sin(2 * np.pi * 220 * np.arange(4 * _RATE) / _RATE)
_SHARED = Path(__file__).resolve().parents[2] / "../shared/data"


def music(seconds: float = 10.0, seed: int = 3) -> np.ndarray:
    return plucked_music(seconds, seed, _RATE).astype(np.float64)


def names(clip: np.ndarray, rate: int = _RATE) -> set[str]:
    return set(faults(measure_clip(clip, rate)))


def test_silence_is_not_active_and_has_no_flatness() -> None:
    found = measure_clip(np.zeros(_RATE), _RATE)
    assert found.active == 0 and found.clicks == 0 and math.isnan(found.flatness)
    assert found.seconds == 1 and found.silence == pytest.approx(1, abs=0.04)


def test_the_share_of_active_frames_is_that_of_the_sound() -> None:
    half = np.concatenate([_TONE, np.zeros(4 * _RATE)])
    assert measure_clip(_TONE, _RATE).active == 1
    assert measure_clip(half, _RATE).active == pytest.approx(0.5, abs=0.01)
    assert measure_clip(half, _RATE).silence == pytest.approx(4, abs=0.04)
    assert measure_clip(0.01 * _TONE, _RATE).active == 0


@pytest.mark.parametrize("clicks", [1, 3])
@pytest.mark.parametrize("height", [0.2, -0.5])
def test_clicks_are_counted(clicks: int, height: float) -> None:
    spoilt = _TONE.copy()
    spoilt[5000 : 5000 + 2000 * clicks : 2000] += height
    assert measure_clip(spoilt, _RATE).clicks == clicks


def test_a_step_is_one_click_and_music_has_none() -> None:
    step = _TONE.copy()
    step[9000:] += 0.4
    assert measure_clip(step, _RATE).clicks == 1
    assert measure_clip(music(8.0), _RATE).clicks == 0
    assert measure_clip(np.random.default_rng(0).uniform(-1, 1, 4 * _RATE), _RATE).clicks == 0


def test_noise_is_flat_and_a_tone_is_not() -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, 4 * _RATE)
    assert measure_clip(noise, _RATE).flatness == pytest.approx(math.exp(-np.euler_gamma), abs=0.03)
    assert measure_clip(noise, _RATE).noise == pytest.approx(4, abs=0.1)
    assert measure_clip(_TONE, _RATE).flatness < 0.01


def test_a_clip_that_is_too_short_or_no_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 256 samples"):
        measure_clip(np.zeros(100), _RATE)
    with pytest.raises(ValueError, match=r"must be \(T,\) amplitudes"):
        measure_clip(np.zeros((2, _RATE)), _RATE)


@pytest.mark.parametrize(
    ("spoilt", "error", "message"),
    [
        (np.nan, AudioError, r"NaN or infinite sample at 1\.000 s"),
        (-np.inf, AudioError, r"NaN or infinite sample at 1\.000 s"),
        (3000.0, AudioError, r"an amplitude of 3e\+03 at 1\.000 s"),
        (None, ConfigError, r"must be float amplitudes in \[-1, 1\], got int16"),
    ],
)
def test_what_is_no_audio_is_not_measured(spoilt: float | None, error: type[Exception], message: str) -> None:
    clip = np.zeros(2 * _RATE, np.int16) if spoilt is None else np.zeros(2 * _RATE)
    if spoilt is not None:
        clip[_RATE] = spoilt
    with pytest.raises(error, match=message):
        measure_clip(clip, _RATE)
    meter = Meter(_RATE)
    with pytest.raises(error, match=message):
        for block in np.split(clip, 4):
            meter.add(block)


def test_the_measures_do_not_depend_on_the_blocks() -> None:
    """A clip with a bit of everything, in blocks of all sizes."""
    rng = np.random.default_rng(1)
    looped = np.resize(music(1.0, 5)[:3000], 5 * _RATE)
    parts = (music(4.0), np.zeros(2 * _RATE), looped, rng.uniform(-0.3, 0.3, _RATE), np.clip(9 * music(2.0), -1, 1))
    clip = np.concatenate(parts) + 0.01
    clip[rng.integers(0, 4 * _RATE, 9)] += 0.5
    whole = measure_clip(clip, _RATE)
    for largest in (1000, 9000, 70_000):
        meter, start = Meter(_RATE), 0
        while start < len(clip):
            stop = start + int(rng.integers(1, largest + 1))
            meter.add(clip[start:stop])
            start = stop
        found = meter.measures()
        assert replace(found, flatness=0, offset=0) == replace(whole, flatness=0, offset=0)
        assert (found.flatness, found.offset) == pytest.approx((whole.flatness, whole.offset), rel=1e-6)
    assert set(faults(whole)) == {"clipping", "offset", "loop", "noise", "clicks"}


def test_a_clip_may_come_sample_by_sample() -> None:
    clip = music(0.2)
    clip[700] += 0.5
    meter = Meter(_RATE)
    for sample in clip:
        meter.add([sample])
    found, whole = meter.measures(), measure_clip(clip, _RATE)
    assert replace(found, flatness=0) == replace(whole, flatness=0) and found.clicks == 1
    assert found.flatness == pytest.approx(whole.flatness)


def test_clean_sounds_have_no_faults() -> None:
    assert names(music()) == set()
    assert names(0.99 * music() / np.abs(music()).max()) == set()
    assert names(music(0.2)) == set()
    # A note as it is sung: its pitch wanders by a percent or so.
    wander = np.cumsum(np.random.default_rng(2).normal(0, 0.03, 8 * _RATE))
    assert names(0.3 * np.sin(2 * np.pi * 220 * np.arange(8 * _RATE) / _RATE + wander)) == set()


def test_a_note_that_decays_is_no_loop_and_a_held_one_is() -> None:
    """Both repeat once a period; only the one that does not change for seconds could be a trap."""
    seconds = np.arange(10 * _RATE) / _RATE
    tone = sum(np.sin(2 * np.pi * 220 * n * seconds) / n for n in range(1, 9)) / 4
    decaying = tone * np.exp(-seconds / 1.2)
    assert "loop" not in names(decaying) and "loop" in names(tone)


@pytest.mark.parametrize("period", [0.004, 0.02, 0.31, 0.997])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_trap_is_a_loop_once_it_lasts(period: float, noise: float) -> None:
    size, rng = round(period * _RATE), np.random.default_rng(0)
    piece = music()[20_000 : 20_000 + size]
    for seconds, found in ((4.5, True), (1.0, False)):
        trapped = np.resize(piece, round(seconds * _RATE)) / np.abs(piece).max() * 0.4
        trapped = trapped + rng.normal(0, noise, len(trapped))
        clip = np.concatenate((music()[: 4 * _RATE], trapped, music(2.0, 8)))
        assert ("loop" in names(clip)) == found, seconds


def test_similarity_is_that_of_the_best_lag_and_minds_loudness() -> None:
    rng = np.random.default_rng(0)
    piece = rng.normal(0, 1, 1000)
    same = np.concatenate((piece, rng.normal(0, 0.1, 700), piece))
    assert similarity(same, 1000, 1000, 1700) == pytest.approx(1, abs=0.01)
    half = np.concatenate((piece, rng.normal(0, 0.1, 700), 0.5 * piece))
    assert similarity(half, 1000, 1000, 1700) == pytest.approx(0.8, abs=0.02)
    assert abs(similarity(rng.normal(0, 1, 2700), 1000, 1000, 1700)) < 0.3
    assert similarity(np.zeros(2700), 1000, 1000, 1700) == 0


LEVEL = 1 / 128  # one of 256 linear levels
SPOILT = {
    "nothing": ("silence", lambda clip, rng: np.zeros(len(clip))),
    "two linear levels": ("silence", lambda clip, rng: LEVEL * rng.integers(0, 2, len(clip))),
    "a level for ever": ("silence", lambda clip, rng: np.full(len(clip), 0.3)),
    "too loud": ("clipping", lambda clip, rng: np.clip(15 * clip, -1, 1)),
    "shifted": ("offset", lambda clip, rng: clip + 0.04),
    "hiss": ("noise", lambda clip, rng: rng.uniform(-0.1, 0.1, len(clip))),
    "sparks": ("clicks", lambda clip, rng: np.where(np.arange(len(clip)) % 4000 == 9, clip - 0.7, clip)),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_goes_wrong_in_the_middle_is_found(name: str) -> None:
    fault, spoil = SPOILT[name]
    clip = music(12.0)
    start, stop = (4 * _RATE, 9 * _RATE)
    clip[start:stop] = spoil(clip[start:stop], np.random.default_rng(4))
    assert fault in names(clip)


def test_a_short_pause_and_a_short_hiss_are_none() -> None:
    clip = music()
    clip[2 * _RATE : 4 * _RATE] = 0
    assert "silence" not in names(clip)
    clip[5 * _RATE : round(5.06 * _RATE)] = np.random.default_rng(0).uniform(-0.1, 0.1, round(0.06 * _RATE))
    assert "noise" not in names(clip)
    assert "silence" in names(np.concatenate((music(0.3), np.zeros(2 * _RATE))))


def test_a_reason_is_a_sentence_with_the_measure() -> None:
    found = faults(measure_clip(np.zeros(5 * _RATE), _RATE))
    assert found == {"silence": "silent for 5.0 s on end"}
    assert set(found) <= set(DETECTORS)


@pytest.mark.skipif(not (_SHARED / "fsdd").is_dir(), reason="../shared/data/fsdd is absent: no recorded speech")
def test_recorded_speech_has_no_faults() -> None:
    """Every sixth digit of all six speakers, alone and one after another; bench/clip_detectors.py takes all."""
    read = [reading.read(path)[0] for path in sorted((_SHARED / "fsdd").glob("*.wav"))[::6]]
    assert len(read) == 500
    alarms = [clip for clip in read if names(clip)]
    joined = np.concatenate(read)
    alarms += [clip for clip in np.split(joined, range(80_000, len(joined), 80_000))[:-1] if names(clip)]
    assert len(alarms) <= 5


@pytest.mark.skipif(not (_SHARED / "clips").is_dir(), reason="../shared/data/clips is absent: no recordings")
def test_other_recordings_have_no_faults_but_a_real_offset() -> None:
    """Two readers, and a trumpet, whose notes are held. The recording of a whale has a real offset, a third of full
    scale.
    """
    found = {path.name.split("-")[0]: names(*reading.read(path)) for path in (_SHARED / "clips").glob("*.ogg")}
    assert found == {"speech": set(), "trumpet": set(), "whale": {"offset"}}
