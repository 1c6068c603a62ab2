"""Bits of levels that come slice by slice: those of the model itself, whatever the slices, and of `evaluate`."""

import numpy as np
import pytest
import torch
from cases import make_model

from samplernn_fast.audio.quantize import for_config
from samplernn_fast.audio.synthetic import plucked_music
from samplernn_fast.errors import ConfigError
from samplernn_fast.evaluation import scoring
from samplernn_fast.evaluation.clips.judging import Judge, judge
from samplernn_fast.evaluation.clips.measures import measure_clip
from samplernn_fast.evaluation.scoring import LevelScorer
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.other_configs import SampleRNNGMMConfig
from samplernn_fast.models.registry import build_model

RATE = 8000
CONFIG = {"dim": 16, "emb_size": 8, "frame_sizes": (2, 2, 8), "sample_rate": RATE}


def expected(model: torch.nn.Module, levels: np.ndarray) -> list[float]:
    """Bits of each row, read in one piece behind silence."""
    silence = torch.full((len(levels), model.config.lookback), model.config.q_zero)
    known = torch.cat((silence, torch.from_numpy(levels).long()), dim=1)
    with torch.no_grad():
        return [model.nll_bits(row[None]).item() for row in known]


@pytest.mark.parametrize("backend", ["forward", "cpu"])
@pytest.mark.parametrize("largest", [1, 700, 5000])
def test_bits_are_the_models_whatever_the_slices(backend: str, largest: int, monkeypatch) -> None:
    """1003 levels, no multiple of a frame, of three sounds, scored 80 at a time."""
    model = make_model(SampleRNNConfig(**CONFIG, q_levels=64), dtype=torch.float32)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    monkeypatch.setattr(scoring, "_MAX_PRODUCTS", 240 * parameters)
    rng = np.random.default_rng(largest)
    levels = rng.integers(20, 44, (3, 1003))
    scorer, start = LevelScorer(model, 3, backend=backend), 0
    while start < levels.shape[1]:
        stop = start + int(rng.integers(1, largest + 1))
        scorer.add(levels[:, start:stop])
        start = stop
    assert scorer.bits() == pytest.approx(expected(model, levels), abs=1e-4)


def test_nothing_has_no_bits() -> None:
    assert np.isnan(LevelScorer(make_model(SampleRNNConfig(**CONFIG)), 2).bits()).all()


def test_a_mixture_is_scored_in_bits() -> None:
    model = build_model(SampleRNNGMMConfig(dim=16, frame_sizes=(2, 2, 8), sample_rate=RATE, mean=0.0, std=0.2))
    levels = for_config(model.config).encode(plucked_music(0.1, 1, RATE))[None].astype(np.int64)
    scorer = LevelScorer(model)
    scorer.add(levels)
    assert scorer.bits() == pytest.approx(expected(model, levels), rel=1e-9)


def test_a_clip_is_judged_as_its_levels_are() -> None:
    """Amplitudes in blocks and levels in slices are the same clip, with the same measures and bits."""
    model = make_model(SampleRNNConfig(**CONFIG))
    levels = np.stack([for_config(model.config).encode(plucked_music(0.4, seed, RATE)) for seed in (1, 2)])
    clips = for_config(model.config).decode(levels)
    together = Judge(model, 2)
    for part in np.array_split(levels, 5, axis=1):
        together.add(part)
    for clip, judged in zip(clips, together.clips(), strict=True):
        alone = judge(np.array_split(clip, 3), RATE, model)
        assert judged.bits == pytest.approx(alone.bits, rel=1e-9)
        assert judged.measures == alone.measures == measure_clip(clip, RATE)
        assert judge([clip], RATE).bits is None


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ConfigError, match="sample_rate must be the model's, 8000 Hz, got 16000"):
        judge([np.zeros(9000)], 16000, make_model(SampleRNNConfig(**CONFIG)))
    stretched = make_model(SampleRNNConfig(**CONFIG, quantization="linear-theano"))
    with pytest.raises(ConfigError, match="depend on the peaks of a file"):
        judge([np.zeros(9000)], RATE, stretched)
    with pytest.raises(ConfigError, match="from 1000 Hz on, got 100 Hz"):
        measure_clip(np.zeros(1000), 100)
