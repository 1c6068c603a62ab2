"""`samplernn-fast demo`: a little synthesised music, a model trained on it for a minute, and new audio from it."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from samplernn_fast import audio
from samplernn_fast.api import generate
from samplernn_fast.config import SampleRNNConfig, TrainConfig
from samplernn_fast.data import prepare
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.sampling import check_seed
from samplernn_fast.training import train

SAMPLE_RATE = 8000
_RECORDINGS, _RECORDING_SECONDS, _RESULT_SECONDS = 12, 8.0, 4.0
_PENTATONIC = (0, 3, 5, 7, 10)


def plucked_music(seconds: float, seed: int, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """A random pentatonic tune on a plucked string: decaying harmonics, (T,) float32 with a peak of 0.5."""
    rng = np.random.default_rng(seed)
    samples = np.zeros(int(seconds * sample_rate))
    note_seconds, root = 0.25, 110.0
    for start in range(0, len(samples), int(note_seconds * sample_rate)):
        pitch = root * 2 ** ((rng.choice(_PENTATONIC) + 12 * rng.integers(0, 2)) / 12)
        t = np.arange(min(len(samples) - start, int(4 * note_seconds * sample_rate))) / sample_rate
        harmonics = range(1, min(9, int(sample_rate / 2 / pitch)))
        tone = sum(np.sin(2 * math.pi * pitch * h * t) * np.exp(-(3 + 1.5 * h) * t) / h for h in harmonics)
        samples[start : start + len(t)] += tone * np.minimum(1, t / 0.002) * rng.uniform(0.5, 1)
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)


def run(output: Path, minutes: float, seed: int, *, overwrite: bool = False) -> Iterator[str]:
    """Do the whole way, one line of text for each step. The rest goes to a folder beside it."""
    if minutes <= 0:
        raise ConfigError(f"minutes must be positive, got {minutes}")
    if output.suffix not in audio.WRITABLE:
        raise AudioError(f"{output}: the demo writes {' '.join(audio.WRITABLE)} files")
    if output.exists() and not overwrite:
        raise AudioError(f"{output} exists; choose another --output, or replace it with --overwrite")
    check_seed(seed)
    work = output.with_name(f"{output.stem}-run")
    for stale in ("audio", "data", "run"):
        shutil.rmtree(work / stale, ignore_errors=True)
    for index in range(_RECORDINGS):
        music = plucked_music(_RECORDING_SECONDS, seed * _RECORDINGS + index)
        (work / "audio").mkdir(parents=True, exist_ok=True)
        audio.write(work / "audio" / f"tune_{index:02d}.wav", music, SAMPLE_RATE)
    yield f"synthesised {_RECORDINGS * _RECORDING_SECONDS:.0f} s of music in {work / 'audio'}"
    report = prepare([work / "audio"], work / "data", sample_rate=SAMPLE_RATE)
    yield f"prepared {report.recordings} recordings in {work / 'data'}; training for {minutes:g} min"
    result = train(demo_training(work / "data", work / "run", minutes, seed))
    bits = "" if result.valid_bits is None else f", {result.valid_bits:.2f} bits per sample on unheard tunes"
    yield f"trained {result.steps} steps{bits}"
    made = generate(work / "run", duration=_RESULT_SECONDS, seed=seed, temperature=0.9)
    made.save(output, overwrite=True)
    speed = f"{made.info['x_real_time']:.3g}x real time (RTF {made.info['rtf']:.3g})"
    yield f"{output.resolve()}: {_RESULT_SECONDS:g} s of new audio at {speed}, {made.info['backend']} backend"


def demo_training(data: Path, out: Path, minutes: float, seed: int) -> TrainConfig:
    """A model small enough to learn a plucked string in a minute on two cores."""
    model = SampleRNNConfig(
        sample_rate=0, gain=0.0, quantization="mu-law", frame_sizes=(8, 8, 16), dim=96, emb_size=32, mlp_hidden=2
    )
    config = TrainConfig(data=data, out=out, model=model, batch_size=16, seq_len=512, seed=seed)
    return replace(config, lr=4e-3, lr_schedule="cosine", warmup_steps=50, max_minutes=minutes, eval_every=400)
