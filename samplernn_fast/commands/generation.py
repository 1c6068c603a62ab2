"""The `generate` command: flags to audio files. `api.stream` makes the audio.

What can be refused is refused before anything large is loaded.
"""

import json as json_module
import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from samplernn_fast import terminal
from samplernn_fast.backends import names
from samplernn_fast.commands.clips.choosing import Choice, choose
from samplernn_fast.commands.flags import OutputText, Pieces, Seconds
from samplernn_fast.errors import AudioError, ConfigError, Interrupted, needing_torch
from samplernn_fast.ranges import Range
from samplernn_fast.reference import limits
from samplernn_fast.stores import sending
from samplernn_fast.stores.addresses import spelled

if TYPE_CHECKING:
    from samplernn_fast.api import Saved, Stream
    from samplernn_fast.audio.takes import Names
    from samplernn_fast.commands.clips.choosing import Chosen
    from samplernn_fast.evaluation.clips.judging import Judge
    from samplernn_fast.models.base import AudioModel

_STANDARD_OUTPUT = "-"
_MOST_PIECES = 100_000


def generate(
    model: tyro.conf.Positional[str] = "demo",
    /,
    *,
    output: OutputText = None,
    duration: Annotated[Seconds, Range(0, 86400, above=True, unit="seconds")] = 4.0,
    num_samples: Annotated[Pieces, Range(1, _MOST_PIECES)] = 1,
    temperature: tuple[str, ...] = ("1.0",),
    top_k: Annotated[int | None, Range(1, limits.LEVELS)] = None,
    top_p: Annotated[float | None, limits.TOP_P] = None,
    seed: int | Literal["random"] = 0,
    prompt: Path | None = None,
    device: str = "auto",
    backend: str = "auto",
    dtype: str = "auto",
    num_threads: Annotated[int | None, limits.THREADS] = None,
    json: bool = False,
    overwrite: bool = False,
    shard_index: Annotated[int, Range(0, _MOST_PIECES)] = 0,
    num_shards: Annotated[int, Range(1, _MOST_PIECES)] = 1,
    keep_best: Annotated[int | None, Range(1, _MOST_PIECES)] = None,
    sort_out: bool = False,
    rank_by: Literal["usual", "band"] = "usual",
    like: Path | None = None,
) -> None:
    """Make new audio with a model.

    Args:
        model: Run folder, .safetensors file, or a bundled model: demo (spoken digits) or demo-piano.
        output: File (.wav .flac .ogg .opus .mp3), folder, or - for a WAV on standard output. Without it, a file here
            that is named after the model, the seed and settings that are not the usual ones.
        duration: Seconds of new audio.
        num_samples: How many different pieces; they become name-00.wav, name-01.wav, ...
        temperature: One number, one per piece, or a curve over time such as 0:0.7,10:1.1 (seconds:temperature).
        top_k: Draw from the k likeliest levels only.
        top_p: Draw from the likeliest levels that together have this probability.
        seed: The same seed gives the same audio; random takes another one each time, and says which.
        prompt: Audio file that the new audio goes on from.
        device: auto, cpu, cuda or cuda:N.
        backend: auto, or the name of one that `doctor` lists.
        dtype: auto, a numeric mode of the backend, or fastest: the fastest mode that costs at most 0.005 bit a sample.
        num_threads: Threads of the cpu backend; without it, as many as the work is worth.
        json: Print one JSON object instead of text.
        overwrite: Replace files that exist.
        shard_index: Which share of the pieces to make, from 0, where several machines make them.
        num_shards: How many shares there are.
        keep_best: Keep so many of the pieces and remove the others. Those with a fault (silence, clipping, an offset,
            loops, noise, clicks) come last, then those whose likelihood is the least usual.
        sort_out: Move pieces with a fault, and those that --keep-best does not keep, into the folder rejected beside
            the others, with a table of the reasons.
        rank_by: usual takes the likelihood nearest to the median; band rejects the 40% least and the 5% most likely
            pieces besides (Goel et al. 2022).
        like: Data folder whose validation recordings say which likelihood is usual, in place of the pieces.
    """
    names.check(backend, dtype, device, num_threads)
    if shard_index >= num_shards:
        raise ConfigError(f"shard_index must be 0 to num_shards - 1, got {shard_index} of {num_shards}")
    streams = range(num_samples * shard_index // num_shards, num_samples * (shard_index + 1) // num_shards)
    settings: dict[str, Any] = {
        "num_samples": len(streams),
        "first_stream": streams.start,
        "temperature": parse_temperature(temperature, streams, num_samples),
        "top_k": top_k,
        "top_p": top_p,
        "seed": _seed(seed),
        "prompt": _checked_prompt(prompt),
        "device": device,
        "backend": backend,
        "dtype": dtype,
        "num_threads": num_threads,
    }
    choice = Choice(keep_best, sort_out, rank_by, like)
    choice.check(num_samples, num_shards, duration)
    job = _Job(model, settings, duration, json, choice)
    job.check_model()
    if output == _STANDARD_OUTPUT:
        _check_standard_output(streams, json, choice)
        if streams:
            job.play()
    else:
        stem = _stem(model, settings["seed"], temperature, top_k, top_p)
        with sending.file_at(output or ".") as place:
            files = replace(_names(output and place, stem, streams, num_samples, num_shards), overwrite=overwrite)
            files.paths()  # refuses, as does the next line
            check_folder(files.path.parent)
            choice.check_folder(files.path.parent)
            if streams:
                job.save(files)
    if not streams:
        print("nothing to do: this shard has no pieces", file=sys.stderr)


@dataclass(frozen=True)
class _Job:
    """What is made, once every flag is checked. ctrl-C and SIGTERM keep what is made so far.

    A second ctrl-C ends the program at once and keeps nothing.
    """

    model: str
    settings: dict[str, Any]
    duration: float
    json: bool
    choice: Choice

    def check_model(self) -> None:
        """Raises CheckpointError where there is no such model."""
        from samplernn_fast.models.places import model_file

        model_file(self.model)

    def save(self, names: "Names") -> None:
        """Writes files, whose folder is made, and prints their names. Where pieces are chosen, that comes after the
        last is whole; an interruption keeps all of them."""
        stream, model = self._stream(), self._model()
        usual = [] if model is None else self.choice.usual_bits(model)
        with terminal.interrupts(signal.SIGTERM) as caught:
            _make_folder(names.path.parent)
            judge = self._judge(stream, model)
            heard = None if judge is None else judge.add
            saved = stream.save(names, self.duration, progress=True, should_stop=lambda: bool(caught), heard=heard)
            if caught or judge is None:
                chosen = None
            else:
                chosen = choose(self.choice, saved.paths, judge.clips(), usual)
            if saved.paths:
                _report(saved, self.json, chosen)
            if caught and chosen is None:
                kept = f": kept the first {saved.seconds:.2f} seconds" if saved.paths else " before anything was made"
                raise Interrupted(f"interrupted{kept}", caught[0])

    def play(self) -> None:
        """Writes a WAV to standard output, each block as it is made."""
        from samplernn_fast.audio.takes import comment
        from samplernn_fast.audio.writing import WavPipe

        stream = self._stream()
        with terminal.interrupts(signal.SIGTERM) as caught:
            out = sys.stdout.buffer
            told = comment(stream.info(), 0)
            pipe = WavPipe(out, stream.sample_rate, frames=stream.steps(self.duration), comment=told)
            samples = 0
            for levels in stream.slices(self.duration, progress=True, should_stop=lambda: bool(caught)):
                pipe.write(stream.quantizer.decode(levels[0]))
                samples += levels.shape[1]
            if caught:
                raise Interrupted(f"interrupted: wrote {samples / stream.sample_rate:.2f} seconds", caught[0])

    def _stream(self) -> "Stream":
        """The stream, which has heard the prompt. A signal ends the program here, because nothing is made yet."""
        prompt = "" if self.settings["prompt"] is None else ", and listening to the prompt"
        with terminal.waiting(f"loading the model{prompt}"):
            from samplernn_fast import api

            return api.stream(self.model, **self.settings)

    def _model(self) -> "AudioModel | None":
        """The torch model that judges pieces, where some are to be chosen."""
        if not self.choice.wanted:
            return None
        with terminal.waiting("loading torch, which judges the pieces"), needing_torch("to choose among pieces"):
            from samplernn_fast.models.checkpoint import load_model
        return load_model(self.model)

    def _judge(self, stream: "Stream", model: "AudioModel | None") -> "Judge | None":
        """What judges the pieces while they are made, where some are to be chosen."""
        if model is None:
            return None
        from samplernn_fast.evaluation.clips.judging import Judge

        return Judge(model, stream.state.num_streams, stream.engine.device)


def parse_temperature(texts: tuple[str, ...], streams: range, num_samples: int) -> Any:
    """What --temperature says for these streams: a number, a list with one for each, or a curve over time."""
    from samplernn_fast.engine import temperature

    if len(texts) == 1:
        return temperature.parse(texts[0])
    values = [temperature.parse(text) for text in texts]
    if any(callable(value) for value in values):
        raise ConfigError("temperature must be numbers, or one curve for all pieces")
    if len(values) != num_samples:
        several = "" if num_samples == 1 else f" or {num_samples}, one per piece"
        raise ConfigError(f"temperature must be one number{several}, got {len(values)}")
    return values[streams.start : streams.stop]


def _seed(seed: int | Literal["random"]) -> int:
    return limits.random_seed() if isinstance(seed, str) else limits.check_seed(seed)


def _checked_prompt(prompt: Path | None) -> Path | None:
    """Returns the prompt. Raises AudioError where it is no audio file that can be read."""
    if prompt is not None:
        from samplernn_fast.audio import reading

        reading.probe(prompt)
    return prompt


def _check_standard_output(streams: range, json: bool, choice: Choice) -> None:
    """Raises ConfigError where a WAV cannot go to standard output."""
    if choice.wanted:
        raise ConfigError("keep_best and sort_out choose between files; name a folder for --output")
    if json:
        raise ConfigError("--json and --output - both write to standard output; choose one")
    if len(streams) > 1:
        raise ConfigError(f"--output - writes one piece, got {len(streams)}; name a folder for several")
    if sys.stdout.isatty():
        raise ConfigError("standard output is a terminal, which cannot show a WAV; name a file, or a program behind |")


def _stem(model: str, seed: int, texts: tuple[str, ...], top_k: int | None, top_p: float | None) -> str:
    """The name of files that nobody named, which is that of the whole where a share is made."""
    from samplernn_fast.audio import takes
    from samplernn_fast.engine import temperature
    from samplernn_fast.models.places import short_name

    values = [temperature.parse(text) for text in texts]
    heats = [heat for one in values for heat in ([one] if isinstance(one, float) else one.temperatures)]
    return takes.stem(short_name(model), seed, heats, top_k, top_p)


def _names(output: str | None, stem: str, streams: range, num_samples: int, num_shards: int) -> "Names":
    """What the files are called. A folder stands for files in it of the name `stem`."""
    from samplernn_fast.audio.takes import Names

    if output is not None and not _is_folder(output):
        return Names(Path(output), streams, total=num_samples)
    # The names of a share are those that the whole would have, so they cannot be others where files exist.
    return Names(Path(output or ".") / f"{stem}.wav", streams, total=num_samples, numbered=num_shards == 1)


def _is_folder(output: str) -> bool:
    """Whether a name stands for a folder: it ends in /, is one already, or has no suffix, or a number for a suffix."""
    path = Path(output)
    return output.endswith("/") or path.is_dir() or not path.suffix or path.suffix[1:].isdigit()


def check_folder(folder: Path) -> None:
    """Raises AudioError where a file stands in the way of a folder that is to be made, ConfigError for a data folder.

    `prepare` replaces no data folder that holds something else, so nobody's audio may get into one. A run folder takes
    audio: none of its own files has such a name, and beside its model audio is easy to find.
    """
    from samplernn_fast.data.manifest import MANIFEST_FILE

    if (folder / MANIFEST_FILE).exists():
        raise ConfigError(f"output must not be in a data folder, and {folder} is one; choose another folder")
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise AudioError(f"{there}: the folder cannot be made: something else has its name")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(f"{folder}: the folder cannot be made: {error.strerror}") from None


def _report(saved: "Saved", json: bool, chosen: "Chosen | None") -> None:
    files = saved.paths if chosen is None else [path for path, _ in chosen.kept]
    if json:
        clips = {} if chosen is None else {"clips": chosen.rows()}
        print(json_module.dumps(saved.info | {"files": [spelled(path) for path in files]} | clips))
        return
    for path in files:
        print(spelled(path))
    if chosen is not None:
        print(chosen.text())
    speed = f"{saved.info['x_real_time']:.3g}x real time (RTF {saved.info['rtf']:.3g})"
    made_by = f"{saved.info['backend']} backend, {saved.info['dtype']}, seed {saved.info['seed']}"
    print(f"{len(saved.paths)} x {saved.seconds:.2f} s, {speed}, {made_by}")
