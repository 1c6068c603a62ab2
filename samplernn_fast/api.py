"""The front desk: `load`, `generate`, `stream`, and the `Audio` that comes back."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samplernn_fast._version import __version__
from samplernn_fast.audio import quantize
from samplernn_fast.audio import writing as audio_files
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.prompt import Prompt, prompt_levels
from samplernn_fast.engine.state import EngineState
from samplernn_fast.engine.temperature import Temperature, TemperatureCurve
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.checkpoint import DEMO, load_model, model_path
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.terminal import audio_bar

# The entries of `Audio.info` that differ from run to run are left out of a file's metadata.
_SPEED = ("seconds", "samples_per_second", "x_real_time", "rtf")

ModelLike = str | Path | AudioModel | Engine


@dataclass(frozen=True)
class Audio:
    """Generated audio of one or several streams."""

    samples: np.ndarray
    """(B, T) float32 in [-1, 1]."""
    tokens: np.ndarray
    """(B, T) integer levels."""
    sample_rate: int
    info: dict[str, Any] = field(default_factory=dict)
    """How it was made: backend, dtype, speed, model hash, seed, streams, settings."""

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write .wav, .flac, .ogg or .mp3, with provenance in the file's own metadata; returns the paths.

        Several streams become out-0.wav, out-1.wav, ... by stream number. AudioError when a file exists, before any
        is written.
        """
        path, streams = Path(path), self.info.get("streams", list(range(len(self.samples))))
        paths = [path] if len(self.samples) == 1 else [path.with_stem(f"{path.stem}-{stream}") for stream in streams]
        taken = [target for target in paths if target.exists()]
        if taken and not overwrite:
            raise AudioError(f"{taken[0]} exists; choose another name, or overwrite with --overwrite")
        for row, target in enumerate(paths):
            comment = json.dumps(self._provenance(row))
            audio_files.write(target, self.samples[row], self.sample_rate, comment=comment, overwrite=overwrite)
        return paths

    def _provenance(self, row: int) -> dict[str, Any]:
        """What makes one stream again. No timings: the same audio is the same file."""
        info = {name: value for name, value in self.info.items() if name not in _SPEED}
        for name in ("streams", "temperature"):
            if isinstance(info.get(name), (list, tuple)):
                info[name] = [info[name][row]]
        return info


def load(path: str | Path = DEMO) -> AudioModel:
    """The model of a run folder or .safetensors file, or the bundled "demo". Raises CheckpointError."""
    return load_model(model_path(path))


def generate(
    model: ModelLike = DEMO,
    *,
    duration: float = 4.0,
    num_samples: int = 1,
    temperature: Temperature = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    prompt: Prompt | None = None,
    prompt_sample_rate: int | None = None,
    device: str = "auto",
    backend: str = "auto",
    dtype: str = "auto",
    num_threads: int | None = None,
    progress: bool = False,
    first_stream: int = 0,
    should_stop: Callable[[], bool] | None = None,
) -> Audio:
    """Make `duration` seconds of new audio, `num_samples` streams of it at once.

    model: the bundled demo, a run folder, a .safetensors file, a SampleRNN, or an Engine to use again.
    temperature: a number, one per stream, or a function of seconds (`engine.temperature.schedule`); 0: the likeliest.
    prompt: what every stream has heard before; a file of any rate and length, or samples (T,) or (B, T) at
    prompt_sample_rate. The audio returned is what follows it.
    A stream's audio depends on the model, seed and stream number (from first_stream on) alone, not on num_samples
    (but for the rounding of matrix products, on the reference backend in float32 and on triton, which multiplies
    differently from 16 and from 128 streams on).
    should_stop is asked several times a second; when it says so, what is done is returned.
    """
    stream_ = stream(
        model,
        num_samples=num_samples,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        prompt=prompt,
        prompt_sample_rate=prompt_sample_rate,
        device=device,
        backend=backend,
        dtype=dtype,
        num_threads=num_threads,
        first_stream=first_stream,
    )
    if not 0 < duration <= 24 * 3600:
        raise ConfigError(f"duration must be above 0 and at most a day (86400 seconds), got {duration!r}")
    engine, config = stream_.engine, stream_.engine.config
    steps = max(1, round(duration * config.sample_rate))
    slices, began = [np.empty((num_samples, 0), np.int64)], time.perf_counter()
    with audio_bar(steps / config.sample_rate, shown=progress) as bar:
        while steps > 0 and not (should_stop is not None and should_stop()):
            slices.append(engine.run(stream_.state, min(steps, engine.pace.samples(num_samples))).numpy())
            steps -= slices[-1].shape[1]
            bar.advance(slices[-1].shape[1] / config.sample_rate)
    seconds = time.perf_counter() - began
    tokens = np.concatenate(slices, axis=1)
    info = stream_.info() | _speed(tokens, seconds, config)
    return Audio(stream_.quantizer.decode(tokens), tokens, config.sample_rate, info)


class Stream:
    """Endless audio, block by block: iterate, or call `next_levels`. Made by `stream`."""

    def __init__(self, engine: Engine, state: EngineState, block: int, prompt_sha256: str | None = None) -> None:
        self.engine, self.state, self.block, self.prompt_sha256 = engine, state, block, prompt_sha256
        self.quantizer = quantize.for_config(engine.config)
        self.sample_rate = engine.config.sample_rate

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        """The next block: (B, n) float32 in [-1, 1]."""
        return self.quantizer.decode(self.next_levels(self.block))

    def next_levels(self, n: int) -> np.ndarray:
        """The next n levels of every stream, (B, n)."""
        return self.engine.run(self.state, n).numpy()

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands; `load_state_dict` of another stream of the same model goes on from there."""
        return self.state.state_dict()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. Raises CheckpointError as `EngineState.load_state_dict`."""
        self.state.load_state_dict(saved)

    def info(self) -> dict[str, Any]:
        """Provenance: what made this audio, and with which settings."""
        return {
            "made_by": f"samplernn_fast {__version__}",
            "model_sha256": self.engine.model_sha256,
            "backend": self.engine.backend.name,
            "dtype": self.engine.dtype,
            "device": str(self.engine.device),
            "seed": self.state.seed,
            "streams": self.state.streams.tolist(),
            "temperature": _temperature_info(self.state.temperature),
            "top_k": self.state.top_k or None,
            "top_p": None if self.state.top_p == 1 else self.state.top_p,
            "prompt_sha256": self.prompt_sha256,
        }


def stream(
    model: ModelLike = DEMO,
    *,
    block_seconds: float = 0.25,
    num_samples: int = 1,
    temperature: Temperature = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    prompt: Prompt | None = None,
    prompt_sample_rate: int | None = None,
    device: str = "auto",
    backend: str = "auto",
    dtype: str = "auto",
    num_threads: int | None = None,
    first_stream: int = 0,
) -> Stream:
    """Endless audio in blocks (B, n) float32 of `block_seconds`; settings as in `generate`. Any block size makes the
    same audio. `stream(...).state.temperature = 0.9` takes effect at the next block."""
    if not 0 < block_seconds <= 3600:
        raise ConfigError(f"block_seconds must be above 0 and at most 3600, got {block_seconds!r}")
    if isinstance(model, Engine):
        engine = model
    else:
        loaded = model if isinstance(model, AudioModel) else load(model)
        engine = Engine(loaded, backend=backend, dtype=dtype, device=device, num_threads=num_threads)
    if engine.config.sample_rate == 0:
        raise ConfigError("this model has no sample rate yet: train it, or give its config one")
    levels = None if prompt is None else prompt_levels(engine.config, prompt, prompt_sample_rate)
    state = engine.init_state(
        num_samples,
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        prompt=levels,
        first_stream=first_stream,
    )
    prompt_sha256 = None if levels is None else hashlib.sha256(levels.tobytes()).hexdigest()
    return Stream(engine, state, max(1, round(block_seconds * engine.config.sample_rate)), prompt_sha256)


def _temperature_info(temperature: Temperature) -> Any:
    """As JSON: a number, a list, a curve in the words of `--temperature`, or that it was some function."""
    if isinstance(temperature, TemperatureCurve) and len(str(temperature)) <= 600:  # a WAV's comment is short
        return str(temperature)
    return "function" if callable(temperature) else temperature


def _speed(tokens: np.ndarray, seconds: float, config: SampleRNNConfig) -> dict[str, Any]:
    per_second = tokens.size / max(seconds, 1e-9)
    real_time = tokens.shape[1] / config.sample_rate / max(seconds, 1e-9)
    return {
        "seconds": round(seconds, 6),
        "samples_per_second": round(per_second, 1),
        "x_real_time": round(real_time, 4),
        "rtf": round(1 / real_time, 4) if real_time else None,
    }
