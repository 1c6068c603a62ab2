"""Clips judged while they are made or read, so that none is held in memory: their measures, and their bits."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samplernn_fast.audio.quantize import for_config
from samplernn_fast.errors import ConfigError
from samplernn_fast.evaluation.clips.detectors import faults
from samplernn_fast.evaluation.clips.measures import ClipMeasures, Meter

if TYPE_CHECKING:
    from samplernn_fast.models.base import AudioModel


@dataclass(frozen=True)
class JudgedClip:
    """What is known of one clip."""

    measures: ClipMeasures
    bits: float | None = None
    """Its negative log-likelihood under a model, in bits per sample; None where no model was asked."""

    @property
    def faults(self) -> dict[str, str]:
        """The faults that its measures show: name and words; see `detectors.faults`."""
        return faults(self.measures)


class Judge:
    """Judges several streams of a model while their levels come, slice by slice.

    Its bits are those of `evaluate` for the same audio: from silence and the initial state, whatever prompt the stream
    had heard.
    """

    def __init__(self, model: "AudioModel", streams: int, device: str = "auto") -> None:
        """device: where the levels are scored; "auto" is where the model is."""
        from samplernn_fast.evaluation.scoring import LevelScorer  # here, because measuring alone needs no torch

        self._quantizer = for_config(model.config)
        self._meters = [Meter(model.config.sample_rate) for _ in range(streams)]
        self._scorer = LevelScorer(model, streams, device=device)

    def add(self, levels: np.ndarray) -> None:
        """Goes on with the next levels, (B, n) integers."""
        for meter, row in zip(self._meters, self._quantizer.decode(levels), strict=True):
            meter.add(row)
        self._scorer.add(levels)

    def clips(self) -> list[JudgedClip]:
        """What is known of the streams, which end here. ValueError for less than a frame of 32 ms."""
        measures = [meter.measures() for meter in self._meters]
        return [JudgedClip(*pair) for pair in zip(measures, self._scorer.bits(), strict=True)]


def judge(blocks: Iterable[np.ndarray], sample_rate: int, model: "AudioModel | None" = None) -> JudgedClip:
    """Judges one clip: blocks of (n,) amplitudes in [-1, 1] at `sample_rate` Hz, which is the model's rate too.

    The amplitudes are those that the model makes, so a recording must have its gain already. Raises ValueError for
    less than a frame of 32 ms, and ConfigError for a model of another rate, or one whose levels depend on the peaks of
    a whole file.
    """
    meter, scored = Meter(sample_rate), None
    if model is not None:
        from samplernn_fast.evaluation.scoring import LevelScorer

        quantizer = for_config(model.config)
        if model.config.sample_rate != sample_rate:
            raise ConfigError(f"sample_rate must be the model's, {model.config.sample_rate} Hz, got {sample_rate}")
        if quantizer.per_file:
            raise ConfigError(f"levels of {quantizer.name!r} depend on the peaks of a file, so clips are not scored")
        scored = LevelScorer(model)
    for block in blocks:
        meter.add(block)
        if scored is not None:
            scored.add(quantizer.encode(block)[None])
    return JudgedClip(meter.measures(), None if scored is None else scored.bits()[0])
