"""The `generate` command: flags to audio files. `api.generate` makes the audio."""

import json as json_module
import sys
from pathlib import Path
from typing import Any

import tyro

from samplernn_fast import terminal
from samplernn_fast.commands.flags import Output, Pieces, Seconds
from samplernn_fast.errors import AudioError, ConfigError, SampleRNNError


def generate(
    model: tyro.conf.Positional[str] = "demo",
    /,
    *,
    output: Output = Path("out.wav"),
    duration: Seconds = 4.0,
    num_samples: Pieces = 1,
    temperature: tuple[str, ...] = ("1.0",),
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    prompt: Path | None = None,
    device: str = "auto",
    backend: str = "auto",
    dtype: str = "auto",
    num_threads: int | None = None,
    json: bool = False,
    overwrite: bool = False,
    shard_index: int = 0,
    num_shards: int = 1,
) -> None:
    """Make new audio with a model.

    Args:
        model: Run folder, .safetensors file, or the bundled demo.
        output: File (.wav .flac .ogg .mp3), folder, or - for a WAV on standard output.
        duration: Seconds of new audio.
        num_samples: How many different pieces; they become name-0.wav, name-1.wav, ...
        temperature: One number, one per piece, or a curve over time such as 0:0.7,10:1.1 (seconds:temperature).
        top_k: Draw from the k likeliest levels only.
        top_p: Draw from the likeliest levels that together have this probability.
        seed: The same seed gives the same audio.
        prompt: Audio file that the new audio goes on from.
        device: auto, cpu, cuda or cuda:N.
        backend: auto, or the name of one that `doctor` lists.
        dtype: auto, a numeric mode of the backend, or fastest: the fastest mode that costs at most 0.005 bit a sample.
        num_threads: Threads of the cpu backend; without it, as many as the work is worth.
        json: Print one JSON object instead of text.
        overwrite: Replace files that exist.
        shard_index: Which share of the pieces to make, from 0, where several machines make them.
        num_shards: How many shares there are.
    """
    streams = _streams_to_make(num_samples, shard_index, num_shards, output, json)
    if not streams:
        print("nothing to do: this shard has no pieces", file=sys.stderr)
        return
    if str(output) != "-":
        output = _output_file(output, model, seed)
        _check_output(output, streams, num_samples, overwrite)
    settings: dict[str, Any] = {"device": device, "backend": backend, "dtype": dtype, "num_threads": num_threads}
    settings |= {"duration": duration, "prompt": prompt, "top_k": top_k, "top_p": top_p, "seed": seed}
    settings["temperature"] = parse_temperature(temperature, streams, num_samples)
    _make_and_save(model, streams, settings, output, num_samples, overwrite, json)


def _streams_to_make(num_samples: int, shard_index: int, num_shards: int, output: Path, json: bool) -> range:
    """The streams of this shard. Raises ConfigError for flags that do not go together."""
    if not 1 <= num_samples <= 100_000:
        raise ConfigError(f"--num-samples must be at least 1 and at most 100000, got {num_samples}")
    if json and str(output) == "-":
        raise ConfigError("--json and --output - both write to standard output; choose one")
    if not 0 <= shard_index < num_shards:
        raise ConfigError(f"--shard-index must be 0 to --num-shards - 1, got {shard_index} of {num_shards}")
    return range(num_samples * shard_index // num_shards, num_samples * (shard_index + 1) // num_shards)


def _make_and_save(
    model: str,
    streams: range,
    settings: dict[str, Any],
    output: Path,
    num_samples: int,
    overwrite: bool,
    json: bool,
) -> None:
    """Makes the audio and saves it. ctrl-C once keeps what is made so far, and a second one ends the program."""
    from samplernn_fast import api

    with terminal.interrupts() as caught:
        made = api.generate(
            model,
            num_samples=len(streams),
            first_stream=streams.start,
            progress=True,
            should_stop=lambda: bool(caught),
            **settings,
        )
        if caught and not made.samples.size:
            raise SampleRNNError("interrupted before anything was made")
        _save_and_report(made, output, num_samples, overwrite, json)
        if caught:
            raise SampleRNNError(f"interrupted: kept the first {made.samples.shape[1] / made.sample_rate:.2f} seconds")


def _output_file(output: Path, model: str, seed: int) -> Path:
    """The file to write. A folder stands for a file in it, named after the model and the seed."""
    if output.is_dir() or not output.suffix:
        output.mkdir(parents=True, exist_ok=True)
        return output / f"{Path(model).resolve().stem if model != 'demo' else model}-seed{seed}.wav"
    return output


def _stream_file(output: Path, stream: int, num_samples: int) -> Path:
    """The file of one stream, which has its number in the name where there are several."""
    return output if num_samples == 1 else output.with_stem(f"{output.stem}-{stream}")


def _check_output(output: Path, streams: range, num_samples: int, overwrite: bool) -> None:
    """Raises AudioError, before any time is spent, where a file cannot be written or exists already."""
    from samplernn_fast.audio.writing import WRITABLE

    if output.suffix.lower() not in WRITABLE:
        raise AudioError(f"{output}: --output must be a folder, - or a file of {' '.join(WRITABLE)}")
    if not output.parent.is_dir():
        raise AudioError(f"{output}: there is no folder {output.parent}")
    for stream in streams:
        target = _stream_file(output, stream, num_samples)
        if target.exists() and not overwrite:
            raise AudioError(f"{target} exists; choose another --output, or replace it with --overwrite")


def _save_and_report(made: Any, output: Path, num_samples: int, overwrite: bool, json: bool) -> None:
    """Writes the files and says what was made; for the output "-", writes a WAV to standard output and says nothing."""
    if str(output) == "-":
        from samplernn_fast.audio import writing

        sys.stdout.buffer.write(writing.encode(".wav", made.samples.T, made.sample_rate))
        return
    if num_samples > 1 and len(made.samples) == 1:  # a shard of one piece: its file still has the piece's number
        output = _stream_file(output, made.info["streams"][0], num_samples)
    paths = made.save(output, overwrite=overwrite)
    if json:
        print(json_module.dumps(made.info | {"files": [str(path) for path in paths]}))
        return
    for path in paths:
        print(path)
    seconds = made.samples.shape[1] / made.sample_rate
    speed = f"{made.info['x_real_time']:.3g}x real time (RTF {made.info['rtf']:.3g})"
    print(f"{len(paths)} x {seconds:.2f} s, {speed}, {made.info['backend']} backend, {made.info['dtype']}")


def parse_temperature(texts: tuple[str, ...], streams: range, num_samples: int) -> Any:
    """What --temperature says for these streams: a number, a list with one for each, or a curve over time."""
    from samplernn_fast.engine.temperature import schedule

    try:
        if len(texts) == 1 and ":" in texts[0]:
            pairs = [pair.split(":") for pair in texts[0].split(",")]
            return schedule([(float(time), float(value)) for time, value in pairs])
        values = [float(text) for text in texts]
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"--temperature must be numbers, or a curve such as 0:0.7,10:1.1, got {' '.join(texts)}"
        ) from None
    if len(values) == 1:
        return values[0]
    if len(values) != num_samples:
        raise ConfigError(f"--temperature must be one number or {num_samples}, one per piece, got {len(values)}")
    return values[streams.start : streams.stop]
