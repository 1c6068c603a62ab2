"""The `generate` command: flags to audio files. `api.stream` makes the audio.

What can be refused is refused before anything large is loaded.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from samplernn_fast.backends import names
from samplernn_fast.commands.clips.choosing import Choice
from samplernn_fast.commands.flags import (
    Backend,
    Device,
    Dtype,
    NumShards,
    NumThreads,
    OutputText,
    Pieces,
    Seconds,
    ShardIndex,
)
from samplernn_fast.commands.generation.making import Making
from samplernn_fast.commands.generation.places import check_folder, names_of, stem_of
from samplernn_fast.commands.generation.sharing import Sharing
from samplernn_fast.errors import ConfigError
from samplernn_fast.jobs.shards import Shard
from samplernn_fast.ranges import Range
from samplernn_fast.reference import limits
from samplernn_fast.stores import sending
from samplernn_fast.stores.addresses import address_of

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
    device: Device = "auto",
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    num_threads: NumThreads = None,
    json: bool = False,
    overwrite: bool = False,
    shard_index: ShardIndex = None,
    num_shards: NumShards = None,
    batch: Annotated[int | Literal["auto"] | None, Range(1, _MOST_PIECES, words=("auto",))] = None,
    keep_best: Annotated[int | None, Range(1, _MOST_PIECES)] = None,
    sort_out: bool = False,
    rank_by: Literal["usual", "band"] = "usual",
    like: Path | None = None,
) -> None:
    """Make new audio with a model.

    Args:
        model: Run folder, .safetensors file, hf:OWNER/NAME of the Hub, or a bundled model: demo (spoken digits) or
            demo-piano.
        output: File (.wav .flac .ogg .opus .mp3), folder, or - for a WAV on standard output. Without it, a file here
            that is named after the model, the seed and settings that are not the usual ones.
        duration: Seconds of new audio.
        num_samples: How many different pieces; they become name-00.wav, name-01.wav, ...
        temperature: One number, one per piece, or a curve over time such as 0:0.7,10:1.1 (seconds:temperature).
        top_k: Draw from the k likeliest levels only.
        top_p: Draw from the likeliest levels that together have this probability.
        seed: The same seed gives the same audio; random takes another one each time, and says which.
        prompt: Audio file that the new audio goes on from.
        json: Print one JSON object instead of text.
        overwrite: Replace files that exist.
        shard_index: Which share of the pieces to make, from 0, where several processes make them; pieces that are there
            and right are left out. Without it, what SLURM, Kubernetes, AWS Batch, Open MPI or torchrun says.
        num_shards: How many shares there are; 1 makes all pieces here, and goes on where it was stopped.
        batch: How many pieces of a share are made at a time; auto, which a share takes without it, measures for some
            seconds how many fill the machine.
        keep_best: Keep so many of the pieces and remove the others. Those with a fault (silence, clipping, an offset,
            loops, noise, clicks) come last, then those whose likelihood is the least usual.
        sort_out: Move pieces with a fault, and those that --keep-best does not keep, into the folder rejected beside
            the others, with a table of the reasons.
        rank_by: usual takes the likelihood nearest to the median; band rejects the 40% least and the 5% most likely
            pieces besides (Goel et al. 2022).
        like: Data folder whose validation recordings say which likelihood is usual, in place of the pieces.
    """
    names.check(backend, dtype, device, num_threads)
    choice = Choice(keep_best, sort_out, rank_by, like)
    choice.check(num_samples, num_shards or 1, duration)
    shard = _shard(shard_index, num_shards, num_samples, batch)
    choice.check(num_samples, 1 if shard is None else shard.count, duration)  # the count may come from a scheduler
    common: dict[str, Any] = {"top_k": top_k, "top_p": top_p, "seed": _seed(seed), "prompt": _checked_prompt(prompt)}
    common |= {"device": device, "backend": backend, "dtype": dtype, "num_threads": num_threads}

    def settings(streams: range) -> dict[str, Any]:
        heat = parse_temperature(temperature, streams, num_samples)
        return {"num_samples": len(streams), "first_stream": streams.start, "temperature": heat, **common}

    streams = range(num_samples) if shard is None else shard.numbers(num_samples)
    making = Making(model, settings(streams), duration, json, choice)
    making.check_model()
    if output == _STANDARD_OUTPUT:
        _check_standard_output(streams, json, choice)
        making.play()
        return
    stem = stem_of(model, common["seed"], temperature, top_k, top_p)
    if shard is not None and not choice.wanted:
        if output is not None and address_of(output) is not None:
            raise ConfigError("output must be a folder that all processes share where work is shared, not an address")
        files = names_of(output, stem, num_samples)
        check_folder(files.path.parent)
        sharing = Sharing(model, settings, temperature, duration, json, shard, batch or "auto")
        sharing.check(seed, overwrite)
        sharing.save(files)
        return
    with sending.file_at(output or ".") as place:
        files = replace(names_of(output and place, stem, num_samples), overwrite=overwrite)
        files.paths()  # refuses, as do the next lines
        check_folder(files.path.parent)
        choice.check_folder(files.path.parent)
        making.save(files)


def _shard(shard_index: int | None, num_shards: int | None, num_samples: int, batch: Any) -> Shard | None:
    """The share that is asked for; None where all pieces are made at once. A single piece is not shared because a
    scheduler's variables are there: an array of jobs may make one of each seed."""
    if shard_index is None and num_shards is None and num_samples == 1:
        return None if batch is None else Shard(0, 1)
    shard = Shard.of(shard_index, num_shards)
    return Shard(0, 1) if shard is None and batch is not None else shard


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
    if len(streams) != 1:
        raise ConfigError(f"--output - writes one piece, got {len(streams)}; name a folder for several")
    if sys.stdout.isatty():
        raise ConfigError("standard output is a terminal, which cannot show a WAV; name a file, or a program behind |")
