"""The measures of generated audio: each finds what it is for, and leaves a clean sound alone."""

import math

import numpy as np
import pytest

from samplernn_fast.audio.synthetic import plucked_music
from samplernn_fast.evaluation.clips import measure

_RATE = 8000
_TONE = 0.3 * np.sin(2 * np.pi * 220 * np.arange(4 * _RATE) / _RATE)


def test_silence_is_not_active_and_has_no_flatness() -> None:
    found = measure(np.zeros(_RATE), _RATE)
    assert found.active == 0 and found.clicks == 0 and math.isnan(found.flatness)


def test_the_share_of_active_frames_is_that_of_the_sound() -> None:
    half = np.concatenate([_TONE, np.zeros(4 * _RATE)])
    assert measure(_TONE, _RATE).active == 1
    assert measure(half, _RATE).active == pytest.approx(0.5, abs=0.01)
    assert measure(0.01 * _TONE, _RATE).active == 0


@pytest.mark.parametrize("clicks", [1, 3])
@pytest.mark.parametrize("height", [0.2, -0.5])
def test_clicks_are_counted(clicks: int, height: float) -> None:
    spoilt = _TONE.copy()
    spoilt[5000 : 5000 + 2000 * clicks : 2000] += height
    assert measure(spoilt, _RATE).clicks == clicks


def test_a_step_is_one_click_and_music_has_none() -> None:
    step = _TONE.copy()
    step[9000:] += 0.4
    assert measure(step, _RATE).clicks == 1
    assert measure(plucked_music(8.0, 3, _RATE), _RATE).clicks == 0
    assert measure(np.random.default_rng(0).uniform(-1, 1, 4 * _RATE), _RATE).clicks == 0


def test_noise_is_flat_and_a_tone_is_not() -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, 4 * _RATE)
    assert measure(noise, _RATE).flatness == pytest.approx(math.exp(-np.euler_gamma), abs=0.03)
    assert measure(_TONE, _RATE).flatness < 0.01


def test_a_clip_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 256 samples"):
        measure(np.zeros(100), _RATE)
