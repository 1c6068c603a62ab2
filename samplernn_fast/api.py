"""The front desk: `load`, `generate`, `stream`, and the `Audio` that comes back."""

import functools
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from samplernn_fast._version import __version__
from samplernn_fast.audio import quantize
from samplernn_fast.audio.takes import SPEED, Audio, Names, Takes
from samplernn_fast.engine.beside import Beside
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.prompt import Prompt, prompt_levels
from samplernn_fast.engine.state import EngineState
from samplernn_fast.engine.temperature import Temperature, TemperatureCurve
from samplernn_fast.errors import ConfigError, DiskFull, needing_torch
from samplernn_fast.models.places import DEMO
from samplernn_fast.models.places import model_path as model_path
from samplernn_fast.ranges import Range, checked
from samplernn_fast.reference import limits
from samplernn_fast.stores import sending
from samplernn_fast.stores.addresses import spelled
from samplernn_fast.terminal import audio_bar

if TYPE_CHECKING:
    from samplernn_fast.models.base import AudioModel

_DURATION = Range(0, 24 * 3600, above=True, unit="seconds")  # One call makes at most a day.
_BLOCK = Range(0, 3600, above=True, unit="seconds")

ModelLike = Union[str, Path, "AudioModel", Engine]


def load(path: str | Path = DEMO) -> "AudioModel":
    """The model of a run folder, a .safetensors file, "hf:owner/name" or the bundled "demo", as a torch module.

    Raises CheckpointError where it cannot be loaded.
    """
    with needing_torch("load, unlike generate and Engine,"):
        from samplernn_fast.models.checkpoint import as_model

    return as_model(path)


def generate(
    model: ModelLike = DEMO,
    *,
    duration: float = 4.0,
    num_samples: int = 1,
    temperature: Temperature = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = 0,
    prompt: Prompt | Audio | None = None,
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

    model: a bundled one ("demo", "demo-piano"), a run folder, a .safetensors file, one of the Hub ("hf:owner/name"), a
    model of any system, or an Engine to use again.
    temperature: a number, one per stream, a curve over time such as "0:0.7,10:1.1" (seconds:temperature), or a function
    of seconds; 0 always takes the likeliest level.
    seed: 64 bits; None draws one, which `info` tells.
    prompt: what every stream has heard before; a file of any rate and length, samples (T,) or (B, T) at
    prompt_sample_rate, or Audio. The audio returned is what follows it.
    A stream's audio depends on the model, seed and stream number (from first_stream on) alone, not on num_samples
    (but for the rounding of matrix products, on the reference backend in float32 and on triton, which multiplies
    differently from 8 streams on, in float32 from 16, and from 128). On a GPU backend="triton" makes 64 streams and
    more several times as fast as "auto", which takes cuda.
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
    began = time.perf_counter()
    slices = [np.empty((num_samples, 0), np.int64), *stream_.slices(duration, progress, should_stop)]
    tokens = np.concatenate(slices, axis=1)
    info = stream_.info() | _speed(tokens.shape, time.perf_counter() - began, stream_.sample_rate)
    return Audio(stream_.quantizer.decode(tokens), tokens, stream_.sample_rate, info)


@dataclass(frozen=True)
class Saved:
    """What `Stream.save` wrote."""

    paths: list[Path]
    """A file for each stream."""
    seconds: float
    """How long each of them is."""
    info: dict[str, Any]
    """How they were made, as `Audio.info`."""


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
        return self.engine.run(self.state, n)

    @checked
    def slices(
        self, duration: float, progress: bool = False, should_stop: Callable[[], bool] | None = None
    ) -> Iterator[np.ndarray]:
        """The next `duration` seconds, as levels (B, n) in slices of about a quarter of a second of work.

        progress: show on standard error how far it is. should_stop is asked before every slice; when it says so, there
        are no more.
        """
        steps = self.steps(duration)
        with audio_bar(steps / self.sample_rate, shown=progress, title="generate") as bar:
            while steps > 0 and not (should_stop is not None and should_stop()):
                levels = self.next_levels(min(steps, self.engine.pace.samples(self.state.num_streams)))
                steps -= levels.shape[1]
                bar.advance(levels.shape[1] / self.sample_rate)
                yield levels

    def steps(self, duration: float) -> int:
        """The samples of `duration` seconds, at least one. Raises ConfigError where it is more than a day."""
        _DURATION.check("duration", duration)
        return max(1, round(duration * self.sample_rate))

    @checked
    def save(
        self,
        path: str | Path | Names,
        duration: float,
        *,
        overwrite: bool = False,
        progress: bool = False,
        should_stop: Callable[[], bool] | None = None,
        heard: Callable[[np.ndarray], object] | None = None,
    ) -> Saved:
        """Make the next `duration` seconds, and write them as they are made: a day of audio takes no more memory than
        a second.

        The files are those of `Audio.save`; they end early where should_stop says so, and there are none where it says
        so at once. heard: called with the levels (B, n) of every slice that was made, as `Judge.add` of the clips.
        Raises AudioError as `Audio.save`, and then there are no files; but where the disk takes no more, the files end
        there and are kept, and a DiskFull tells how long they are. The stream may be further then than they are.
        """
        names = path if isinstance(path, Names) else Names(Path(path), self.info()["streams"], overwrite=overwrite)
        info, frames, began = self.info(), self.steps(duration), time.perf_counter()
        with (
            sending.file_at(names.path if isinstance(path, Names) else path) as place,
            Takes(replace(names, path=Path(place)), info, self.sample_rate, frames, end_when_full=True) as takes,
        ):
            begun = self.write_to(takes, duration, progress, should_stop, heard) > 0
            made_here = takes.finish() if begun else []
        paths = made_here if isinstance(path, Names) else [sending.sent_to(file) for file in made_here]
        speed = _speed((self.state.num_streams, takes.frames), time.perf_counter() - began, self.sample_rate)
        saved = Saved(paths, takes.frames / self.sample_rate, info | speed)
        if takes.full:
            raise _disk_full(names, saved, takes.full)
        return saved

    def write_to(
        self,
        takes: Takes,
        duration: float,
        progress: bool = False,
        should_stop: Callable[[], bool] | None = None,
        heard: Callable[[np.ndarray], object] | None = None,
    ) -> int:
        """Make the next `duration` seconds, and write them into files that were begun, as `save`. Returns the samples
        of each. Raises AudioError as `Audio.save`."""
        made, write = 0, lambda levels: takes.write(self.quantizer.decode(levels))

        def stopped() -> bool:
            return bool(takes.full) or (should_stop is not None and should_stop())

        with Beside(self.engine.device != "cpu") as writing:  # A GPU makes the next slice meanwhile.
            for levels in self.slices(duration, progress, stopped):
                writing.do(functools.partial(write, levels))
                made += levels.shape[1]
                if heard is not None:
                    heard(levels)
            writing.wait()
        return made

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
            "device": self.engine.device,
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
    seed: int | None = 0,
    prompt: Prompt | Audio | None = None,
    prompt_sample_rate: int | None = None,
    device: str = "auto",
    backend: str = "auto",
    dtype: str = "auto",
    num_threads: int | None = None,
    first_stream: int = 0,
) -> Stream:
    """Endless audio in blocks (B, n) float32 of `block_seconds`; settings as in `generate`. Any block size makes the
    same audio. `stream(...).state.temperature = 0.9` takes effect at the next block."""
    _BLOCK.check("block_seconds", block_seconds)
    limits.STREAMS.check("num_samples", num_samples, whole=True)
    limits.STREAM_NUMBERS.check("first_stream", first_stream, whole=True)
    if isinstance(model, Engine):
        engine = model
    else:
        # It does not say how many streams there will be, so that "auto" takes the same backend for any number of them.
        engine = Engine(model, backend=backend, dtype=dtype, device=device, num_threads=num_threads)
    if engine.config.sample_rate == 0:
        raise ConfigError("this model has no sample rate yet: train it, or give its config one")
    levels = None if prompt is None else _prompt_levels(engine, prompt, prompt_sample_rate)
    state = engine.init_state(
        num_samples,
        seed=limits.random_seed() if seed is None else seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        prompt=levels,
        first_stream=first_stream,
    )
    prompt_sha256 = None if levels is None else hashlib.sha256(levels.tobytes()).hexdigest()
    return Stream(engine, state, max(1, round(block_seconds * engine.config.sample_rate)), prompt_sha256)


def _prompt_levels(engine: Engine, prompt: Prompt | Audio, sample_rate: int | None) -> np.ndarray:
    """The levels (T,) or (B, T) of a prompt. Audio that this very model has made keeps its levels, so that what follows
    is what it would have made itself."""
    if not isinstance(prompt, Audio):
        return prompt_levels(engine.config, prompt, sample_rate)
    if sample_rate not in (None, prompt.sample_rate):
        own = prompt.sample_rate
        raise ConfigError(f"prompt_sample_rate must be the prompt's own rate, {own} Hz, got {sample_rate}")
    if prompt.info.get("model_sha256") == engine.model_sha256:
        levels = prompt.tokens
    else:
        levels = prompt_levels(engine.config, prompt.samples, prompt.sample_rate)
    return levels[0] if len(levels) == 1 else levels


def _disk_full(names: Names, saved: Saved, why: str) -> DiskFull:
    """The error of files that end where the disk took no more, or of which there are none. why: as `files.why_full`."""
    if not saved.paths:
        return DiskFull(f"{spelled(names.path)}: cannot be written: {why}", saved)
    several = f" to {saved.paths[-1].name}" if len(saved.paths) > 1 else ""
    kept = f"kept the first {saved.seconds:.2f} seconds"
    return DiskFull(f"{spelled(saved.paths[0])}{several}: {why}; {kept}", saved)


def _temperature_info(temperature: Temperature) -> Any:
    """As JSON: a number, a list, a curve in the words of `--temperature`, or that it was some function."""
    if isinstance(temperature, TemperatureCurve) and len(str(temperature)) <= 600:  # a WAV's comment is short
        return str(temperature)
    return "function" if callable(temperature) else temperature


def _speed(shape: tuple[int, ...], seconds: float, sample_rate: int) -> dict[str, Any]:
    """The entries of `SPEED` for levels (B, T) of this shape."""
    streams, samples = shape
    per_second = streams * samples / max(seconds, 1e-9)
    real_time = samples / sample_rate / max(seconds, 1e-9)
    factor = round(1 / real_time, 4) if real_time else None
    return dict(zip(SPEED, (round(seconds, 6), round(per_second, 1), round(real_time, 4), factor), strict=True))
