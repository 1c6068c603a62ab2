"""The bundled models: small files that make a sound at the temperatures that people use."""

import numpy as np
import pytest

import samplernn_fast as srnn
from samplernn_fast.audio.takes import Audio
from samplernn_fast.evaluation.clips.measures import measure_clip
from samplernn_fast.models.places import BUNDLED

_CLIPS, _SECONDS = 40, 4.0


def made_by(name: str, temperature: float) -> Audio:
    """Forty clips of four seconds, in int8, which has the same bits on every processor."""
    settings = {"duration": _SECONDS, "num_samples": _CLIPS, "temperature": temperature, "dtype": "int8"}
    try:
        return srnn.generate(name, device="cpu", backend="cpu", **settings)
    except srnn.BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_is_a_small_file(name: str) -> None:
    assert BUNDLED[name].stat().st_size <= 4 << 20
    made = srnn.generate(name, duration=0.05)
    assert made.samples.std() > 0
    assert srnn.load(name).config.sample_rate == made.sample_rate


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_neither_falls_silent_nor_crackles_nor_hisses(name: str) -> None:
    made = made_by(name, 0.9)
    found = [measure_clip(clip, made.sample_rate) for clip in made.samples]
    assert np.median([clip.active for clip in found]) >= 0.45
    assert sum(clip.clicks > 0 for clip in found) <= _CLIPS // 20
    assert np.nanmedian([clip.flatness for clip in found]) < 0.1
