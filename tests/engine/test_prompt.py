"""Prompts that are no audio, or too long."""

from pathlib import Path

import numpy as np
import pytest
from sounds import fails, wav

from samplernn_fast.audio import limits
from samplernn_fast.engine.prompt import prompt_levels
from samplernn_fast.errors import ConfigError
from samplernn_fast.models.config import SampleRNNConfig

CONFIG = SampleRNNConfig(sample_rate=16000, gain=1.0, frame_sizes=(2, 8), dim=8, emb_size=8)


def test_a_file_of_1_hz_is_refused_at_once(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", rate=1, samples=bytes(2_000_000))
    fails(lambda: prompt_levels(CONFIG, path), str(path), "1 Hz cannot be resampled to 16000 Hz")


@pytest.mark.parametrize(
    ("samples", "rate", "words"),
    [
        (np.zeros(100_000), 1, "1 Hz cannot be resampled"),
        (np.array([0.0, 1e38]), None, "an amplitude of 1e+38"),
        (np.array([[0.0, np.nan]] * 2), None, "NaN or infinite sample at 0.000 s"),
        (np.zeros(70), 8000, "lasts longer than"),
    ],
)
def test_samples_that_are_no_prompt(samples: np.ndarray, rate: int | None, words: str, monkeypatch) -> None:
    monkeypatch.setattr(limits, "WHOLE_SAMPLES", 100)
    fails(lambda: prompt_levels(CONFIG, samples, rate), "prompt: ", words)


@pytest.mark.parametrize("rate", [0, 10**9, 0.5, float("nan"), "8000"])
def test_rates_beyond_their_range(rate: object) -> None:
    with pytest.raises(ConfigError, match="prompt_sample_rate must be"):
        prompt_levels(CONFIG, np.zeros(4), rate)  # type: ignore[arg-type]
