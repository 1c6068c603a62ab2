"""The `demo` command: synthesises a little music, trains a model on it for a minute, and makes new audio with it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from samplernn_fast import files
from samplernn_fast._version import __version__
from samplernn_fast.commands.flags import Output
from samplernn_fast.errors import AudioError, ConfigError, Interrupted, SampleRNNError, check_torch
from samplernn_fast.models.config import AudioConfig, SampleRNNConfig
from samplernn_fast.ranges import Range
from samplernn_fast.terminal import counted, duration, waiting
from samplernn_fast.training.config import TrainConfig

if TYPE_CHECKING:
    from samplernn_fast.data.folder import AudioData
    from samplernn_fast.training.run_log import TrainResult

SAMPLE_RATE = 8000
"""Samples per second of the music and of the result."""
_RECORDINGS, _RECORDING_SECONDS, _RESULT_SECONDS = 12, 8.0, 4.0  # how many tunes; their length; the result's length
# Measured on the demo's music, whose levels have 7.4 bits each where nothing before them is known: a model of 6.2 bits
# makes white noise, one of 5.6 tones, one of 4.7 a melody. 200 updates in all end at 5.5 bits, 300 at 4.8.
_LEAST_STEPS = 300
_NOISE_MARGIN = 1.5  # A model must predict better than the levels' own frequencies by so many bits.
_STAMP = "demo.json"


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
        minutes: How long to train; on a slow machine longer, until there are enough updates for a melody.
        seed: Draws the music, the first weights and the result.
        overwrite: Replace an earlier result.
    """
    check_torch("the command demo")
    for line in run_demo(output, minutes, seed, overwrite=overwrite):
        print(line, flush=True)


def run_demo(output: Path, minutes: float, seed: int, *, overwrite: bool = False) -> Iterator[str]:
    """Makes the audio file `output`, and yields a line of text after each step.

    Music, data folder and run folder go to a folder beside `output`, named after it. A second demo of the same settings
    uses them again. Raises ConfigError and AudioError before anything is written where a setting cannot work or
    `output` is in the way, and SampleRNNError where the model has learnt too little to make more than noise.
    """
    from samplernn_fast.audio import writing
    from samplernn_fast.reference.limits import check_seed

    if minutes <= 0:
        raise ConfigError(f"minutes must be positive, got {minutes}")
    if output.suffix not in writing.WRITABLE:
        raise ConfigError(f"output must be a file of {' '.join(writing.WRITABLE)}, got {output}")
    files.check_free(output, AudioError, overwrite=overwrite)
    check_seed(seed)
    with waiting("loading torch"):
        from samplernn_fast.api import generate
        from samplernn_fast.data.preparation import prepare
    work = output.with_name(f"{output.stem}-run")
    config = demo_training(work / "data", work / "run", minutes, seed)
    if _begin(work, config):
        yield f"{work} has this demo already, and is used again"
    else:
        yield _make_music(work, seed)
        report = prepare([work / "audio"], work / "data", sample_rate=SAMPLE_RATE)
        yield f"prepared {counted(report.recordings, 'recording')} in {work / 'data'}; training for {minutes:g} min"
    result = _train(config)
    if result.steps < _LEAST_STEPS:
        left = (_LEAST_STEPS - result.steps) * result.seconds / result.steps
        yield (
            f"{counted(result.steps, 'step')} in {duration(result.seconds)}, too few for a sound: training goes on to"
            f" {_LEAST_STEPS}, about {duration(left)} more"
        )
        result = _train(replace(config, max_minutes=None, max_steps=_LEAST_STEPS), header=False)
    _check_heard(config, result.valid_bits)
    bits = "" if result.valid_bits is None else f", {result.valid_bits:.2f} bits per sample on unheard tunes"
    yield f"trained {counted(result.steps, 'step')} in {duration(result.seconds)}{bits}"
    made = generate(work / "run", duration=_RESULT_SECONDS, seed=seed, temperature=0.9)
    made.save(output, overwrite=True)
    speed = f"{made.info['x_real_time']:.3g}x real time (RTF {made.info['rtf']:.3g})"
    yield f"{output.resolve()}: {_RESULT_SECONDS:g} s of new audio at {speed}, {made.info['backend']} backend"


def _begin(work: Path, config: TrainConfig) -> bool:
    """Whether `work` holds a demo of these settings, which can be used again; otherwise it is emptied for a new one.

    Raises ConfigError where it holds something that no demo made.
    """
    from samplernn_fast import files
    from samplernn_fast.untrusted import Unreadable, read_json

    stamp = work / _STAMP
    wanted = {"version": __version__, "training": config.to_dict()}
    if work.exists() and not stamp.exists() and (not work.is_dir() or any(work.iterdir())):
        raise ConfigError(
            f"{work} holds something that the demo did not make; choose another --output, or move it away"
        )
    with suppress(Unreadable):
        if read_json(stamp) == wanted and (work / "data" / "manifest.json").is_file():
            return True
    for stale in ("audio", "data", "run"):
        shutil.rmtree(work / stale, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    files.write_text(stamp, json.dumps(wanted, indent=1) + "\n")
    return False


def _make_music(work: Path, seed: int) -> str:
    """Writes the tunes; returns the line that says so."""
    from samplernn_fast.audio import writing
    from samplernn_fast.audio.synthetic import plucked_music

    (work / "audio").mkdir(parents=True)
    for index in range(_RECORDINGS):
        music = plucked_music(_RECORDING_SECONDS, seed * _RECORDINGS + index, SAMPLE_RATE)
        writing.write(work / "audio" / f"tune_{index:02d}.wav", music, SAMPLE_RATE)
    return f"synthesised {_RECORDINGS * _RECORDING_SECONDS:.0f} s of music in {work / 'audio'}"


def _train(config: TrainConfig, *, header: bool = True) -> "TrainResult":
    """Trains, or goes on. header: whether it says what will happen. Raises Interrupted where a signal ended it."""
    from samplernn_fast.training.trainer import train

    result = train(config, header=header)
    if result.stopped == "signal":
        raise Interrupted("interrupted while training; the same command goes on from here", result.signal)
    return result


def _check_heard(config: TrainConfig, valid_bits: float | None) -> None:
    """Raises SampleRNNError where a model predicts so badly that what it makes is noise."""
    from samplernn_fast.data.folder import AudioData

    by_chance = level_entropy(AudioData.open(config.data), config.model)
    if valid_bits is not None and valid_bits > by_chance - _NOISE_MARGIN:
        raise SampleRNNError(
            f"the model has learnt too little: {valid_bits:.2f} bits per sample, where levels without any context have"
            f" {by_chance:.2f}, so it would make noise and nothing was written; train longer with --minutes"
        )


def level_entropy(data: "AudioData", config: AudioConfig) -> float:
    """The entropy in bits of one level of the training audio by itself, which a model must fall well below."""
    import numpy as np

    from samplernn_fast.audio.quantize import for_config

    level_of = for_config(config).lut_int16(1.0)
    samples = np.concatenate([data.samples(one) for one in data.recordings("train")])
    shares = np.bincount(level_of[samples.astype(np.int64) + 32768]) / len(samples)
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


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
