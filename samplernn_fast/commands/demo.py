"""The `demo` command: synthesises a little music, trains a model on it for a minute, and makes new audio with it."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from samplernn_fast.commands.flags import Output
from samplernn_fast.errors import AudioError, ConfigError, Interrupted
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.ranges import Range
from samplernn_fast.training.config import TrainConfig

SAMPLE_RATE = 8000
"""Samples per second of the music and of the result."""
_RECORDINGS, _RECORDING_SECONDS, _RESULT_SECONDS = 12, 8.0, 4.0  # how many tunes; their length; the result's length


def demo(
    *,
    output: Output = Path("demo.wav"),
    minutes: Annotated[float, Range(0, 10_000, above=True, unit="minutes")] = 1.0,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """From nothing to sound: synthesise a little music, train on it, and make new audio.

    Args:
        output: The audio file to write; the training run goes to a folder beside it, named after it.
        minutes: How long to train.
        seed: Draws the music, the first weights and the result.
        overwrite: Replace an earlier result.
    """
    for line in run_demo(output, minutes, seed, overwrite=overwrite):
        print(line, flush=True)


def run_demo(output: Path, minutes: float, seed: int, *, overwrite: bool = False) -> Iterator[str]:
    """Makes the audio file `output`, and yields a line of text after each step.

    Music, data folder and run folder go to a folder beside `output`, named after it. Raises ConfigError and AudioError
    before anything is written where a setting cannot work or `output` is in the way.
    """
    from samplernn_fast.api import generate
    from samplernn_fast.audio import writing
    from samplernn_fast.audio.synthetic import plucked_music
    from samplernn_fast.data.preparation import prepare
    from samplernn_fast.reference.limits import check_seed
    from samplernn_fast.training.trainer import train

    if minutes <= 0:
        raise ConfigError(f"minutes must be positive, got {minutes}")
    if output.suffix not in writing.WRITABLE:
        raise AudioError(f"{output}: the demo writes {' '.join(writing.WRITABLE)} files")
    if output.exists() and not overwrite:
        raise AudioError(f"{output} exists; choose another --output, or replace it with --overwrite")
    check_seed(seed)
    work = output.with_name(f"{output.stem}-run")
    for stale in ("audio", "data", "run"):
        shutil.rmtree(work / stale, ignore_errors=True)
    for index in range(_RECORDINGS):
        music = plucked_music(_RECORDING_SECONDS, seed * _RECORDINGS + index, SAMPLE_RATE)
        (work / "audio").mkdir(parents=True, exist_ok=True)
        writing.write(work / "audio" / f"tune_{index:02d}.wav", music, SAMPLE_RATE)
    yield f"synthesised {_RECORDINGS * _RECORDING_SECONDS:.0f} s of music in {work / 'audio'}"
    report = prepare([work / "audio"], work / "data", sample_rate=SAMPLE_RATE)
    yield f"prepared {report.recordings} recordings in {work / 'data'}; training for {minutes:g} min"
    result = train(demo_training(work / "data", work / "run", minutes, seed))
    if result.stopped == "signal":
        raise Interrupted("interrupted while training; nothing was made", result.signal)
    bits = "" if result.valid_bits is None else f", {result.valid_bits:.2f} bits per sample on unheard tunes"
    yield f"trained {result.steps} steps{bits}"
    made = generate(work / "run", duration=_RESULT_SECONDS, seed=seed, temperature=0.9)
    made.save(output, overwrite=True)
    speed = f"{made.info['x_real_time']:.3g}x real time (RTF {made.info['rtf']:.3g})"
    yield f"{output.resolve()}: {_RESULT_SECONDS:g} s of new audio at {speed}, {made.info['backend']} backend"


def demo_training(data: Path, out: Path, minutes: float, seed: int) -> TrainConfig:
    """The settings of the demo: a model small enough to learn a plucked string in a minute on two CPU cores."""
    model = SampleRNNConfig(
        sample_rate=0, gain=0.0, quantization="mu-law", frame_sizes=(8, 8, 16), dim=96, emb_size=32, mlp_hidden=2
    )
    config = TrainConfig(data=data, out=out, model=model, batch_size=16, seq_len=512, seed=seed)
    return replace(
        config,
        lr=4e-3,
        lr_schedule="cosine",
        warmup_steps=50,
        max_minutes=minutes,
        eval_every=400,
        sample_every=0,
        keep=0,
    )
