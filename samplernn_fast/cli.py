"""The command line: `samplernn-fast COMMAND`, the same as `python -m samplernn_fast COMMAND`.

Each command is a plain function that tyro turns into flags. Results go to standard output, progress to standard error.
"""

import contextlib
import dataclasses
import functools
import io
import json as json_module
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from samplernn_fast.config import TrainConfig
from samplernn_fast.errors import ConfigError, SampleRNNError
from samplernn_fast.generate_command import Out, generate
from samplernn_fast.import_command import import_

if TYPE_CHECKING:
    from samplernn_fast.data import AudioData
    from samplernn_fast.evaluation import EvalResult

_USAGE, _FAILURE = 2, 1


def prepare(
    inputs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    out: Out,
    sample_rate: int = 16000,
    chunk_seconds: float = 8.0,
    split: tuple[float, float, float] = (88, 6, 6),
    split_seed: int = 0,
    valid_files: Path | None = None,
    test_files: Path | None = None,
    channels: str = "mix",
    trim_silence_db: float | None = None,
    gain: float | Literal["auto"] = "auto",
    workers: int | None = None,
    overwrite: bool = False,
) -> None:
    """Turn audio files into a data folder to train on.

    Reads WAV, FLAC, Ogg, MP3 and more, of any rate, length and channel count, in nested folders. Files that cannot be
    read are named, skipped and counted.

    Args:
        inputs: Audio files, or folders to search.
        out: The data folder to make.
        sample_rate: Samples per second to train at; other rates are converted (needs soxr).
        chunk_seconds: Longest piece that training reads in one go.
        split: Shares of train, valid and test; one recording is never in two of them.
        split_seed: Draws which recording goes where.
        valid_files: Text file of names or patterns that are the validation split, one in a line.
        test_files: The same for the test split.
        channels: mix, left, right or a channel number from 0.
        trim_silence_db: Trim what is quieter than this at both ends of each recording, for example -50.
        gain: One factor for all audio; auto brings the largest peak to 0.98.
        workers: Files decoded at once.
        overwrite: Replace an existing data folder.
    """
    from samplernn_fast.data import prepare as run

    report = run(
        inputs,
        out,
        sample_rate=sample_rate,
        chunk_seconds=chunk_seconds,
        split=split,
        split_seed=split_seed,
        valid_files=valid_files,
        test_files=test_files,
        channels=channels,
        trim_silence_db=trim_silence_db,
        gain=gain,
        workers=workers,
        overwrite=overwrite,
        progress=sys.stderr.isatty(),
    )
    print(report.summary())


def train(args: Sequence[str], prog: str) -> None:
    """Train a model: PRESET, then any setting of the run or the model as a flag. The same command resumes."""
    from samplernn_fast.presets import PRESETS

    if not args or args[0] in ("-h", "--help") or args[0] not in PRESETS:
        if args and args[0] not in ("-h", "--help"):
            raise ConfigError(f"train: the first argument is a preset, one of {', '.join(PRESETS)}; got {args[0]!r}")
        print(f"usage: {prog} PRESET --data FOLDER --out RUN [--help] ...\n\npresets:")
        for name, (text, _) in PRESETS.items():
            print(f"  {name:14} {text}")
        sys.exit(0 if args else _USAGE)
    text, preset = PRESETS[args[0]]
    default = dataclasses.replace(preset, data=tyro.MISSING, out=tyro.MISSING)
    config = _parse(TrainConfig, f"{prog} {args[0]}", args[1:], description=text, default=default)
    if config.max_steps and not any(re.match("--max[-_]minutes", arg) for arg in args):
        config = dataclasses.replace(config, max_minutes=None)  # the preset's clock gives way to steps asked for
    from samplernn_fast.data import AudioData
    from samplernn_fast.training import train as run

    result = run(config)
    if int(os.environ.get("RANK", "0")):
        return
    print(f"{result.run}: {result.steps} steps in {result.seconds / 60:.1f} min, stopped by {result.stopped}")
    if result.stopped == "signal":
        print("the same command goes on from here")
        return
    data = AudioData.open(config.data)
    if data.recordings("test"):
        test = _score(result.run, data, "test", device=config.device)
        print(f"test NLL {test.nll_bits:.4f} bits per sample over {test.n_samples} samples")


def evaluate(
    model: tyro.conf.Positional[str],
    /,
    *,
    data: Path,
    split: Literal["train", "valid", "test"] = "test",
    batch_size: int = 32,
    backend: str = "auto",
    dtype: str = "auto",
    device: str = "auto",
    per_file: bool = False,
    json: bool = False,
) -> None:
    """Negative log-likelihood of a split in bits per sample, whole recordings with the state carried.

    Args:
        model: Run folder or .safetensors file.
        data: Data folder that `prepare` made.
        split: Which recordings to read.
        batch_size: Recordings read side by side; the result does not depend on it.
        backend: A backend's name scores with its own kernels, forward with the training forward; auto takes the cpu
            backend on a CPU and the training forward on a GPU.
        dtype: Numeric mode of the backend.
        device: auto, cpu, cuda or cuda:N.
        per_file: Print a line for every recording too.
        json: Print one JSON object instead of text, every recording in it.
    """
    from samplernn_fast import api
    from samplernn_fast.data import AudioData

    settings = {"batch_size": batch_size, "backend": backend, "dtype": dtype, "device": device}
    result = _score(api.model_path(model), AudioData.open(data), split, **settings)
    if json:
        print(json_module.dumps(result.to_dict()))
        return
    if per_file:
        for file in result.per_file:
            print(f"{file.nll_bits:8.4f}  {file.n_samples:9d}  {file.path}")
    print(f"{split} NLL {result.nll_bits:.4f} bits per sample over {result.n_samples} samples")


def _score(model: Path, data: "AudioData", split: str, **settings: Any) -> "EvalResult":
    """`evaluation.evaluate` with a bar of the samples read, where somebody watches."""
    from tqdm import tqdm

    from samplernn_fast.evaluation import evaluate as run

    total = sum(recording.length for recording in data.recordings(split))
    with tqdm(total=total, desc=split, unit=" samples", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        return run(model, data, split, progress=bar.update, **settings)


def info(model: tyro.conf.Positional[str] = "demo", /, *, json: bool = False) -> None:
    """What a model is: its settings, size, hash and how it was trained.

    Args:
        model: Run folder, .safetensors file, or the bundled demo.
        json: Print one JSON object instead of text.
    """
    from samplernn_fast import api, checkpoint

    described = checkpoint.describe(api.model_path(model))
    if json:
        print(json_module.dumps(described))
        return
    for name in ("file", "made_by", "parameters", "model_sha256"):
        print(f"{name:12} {described[name]}")
    for name, value in described["config"].items():
        print(f"  {name:18} {value}")
    for name in ("imported", "step", "seconds", "train_bits", "valid_bits", "data"):
        if name in described["info"]:
            print(f"{name:12} {described['info'][name]}")


def doctor(*, json: bool = False) -> None:
    """What this machine can run, and why not the rest.

    Args:
        json: Print one JSON object instead of text.
    """
    from samplernn_fast.diagnosis import diagnose

    report = diagnose()
    if json:
        print(json_module.dumps(report))
        return
    width = max(len(name) for values in report.values() for name in values)
    for section, values in report.items():
        print(section)
        for name, value in values.items():
            print(f"  {name:{width}} {value}")


def demo(*, output: Out = Path("demo.wav"), minutes: float = 1.0, seed: int = 0, overwrite: bool = False) -> None:
    """From nothing to sound: synthesise a little music, train on it, and make new audio.

    Args:
        output: The audio file to write; the training run goes to a folder beside it, named after it.
        minutes: How long to train.
        seed: Draws the music, the first weights and the result.
        overwrite: Replace an earlier result.
    """
    from samplernn_fast.demo import run

    for line in run(output, minutes, seed, overwrite=overwrite):
        print(line, flush=True)


COMMANDS: dict[str, Callable[..., None]] = {
    "prepare": prepare,
    "train": train,
    "generate": generate,
    "evaluate": evaluate,
    "import": import_,
    "info": info,
    "doctor": doctor,
    "demo": demo,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0, 1 for a failure, 2 for a wrong command line."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "--version"):
        _print_overview(version=args[:1] == ["--version"])
        sys.exit(0 if args else _USAGE)
    name, rest = args[0], args[1:]
    if name not in COMMANDS:
        _fail(f"there is no command {name!r}; the commands are {', '.join(COMMANDS)}", _USAGE)
    prog = f"samplernn-fast {name}"
    try:
        if name == "train":
            train(rest, prog)
        else:
            _parse(_deferred(COMMANDS[name]), prog, rest)()
    except ConfigError as error:
        _fail(str(error), _USAGE)
    except SampleRNNError as error:
        _fail(str(error), _FAILURE)
    except KeyboardInterrupt:
        _fail("interrupted", _FAILURE)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        _fail("not enough memory; use a smaller --batch-size, --num-samples or model", _FAILURE)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(_FAILURE)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}", _FAILURE)


def _out_of_memory(error: Exception) -> bool:
    """Also torch's errors, which are RuntimeErrors: of a GPU a class of their own, of the CPU's allocator none."""
    of_gpu, of_cpu = type(error).__name__ == "OutOfMemoryError", "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or of_gpu or of_cpu


def _fail(message: str, status: int) -> None:
    print(f"samplernn-fast: {message}", file=sys.stderr)
    sys.exit(status)


def _parse(target: Callable[..., Any], prog: str, args: Sequence[str], **options: Any) -> Any:
    """What tyro makes of the flags. Its complaints, boxes of several lines, become one ConfigError."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(target, prog=prog, args=args, config=(tyro.conf.OmitArgPrefixes,), **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(f"{_one_line(complaint.getvalue()).rstrip('.')}; see {prog} --help") from None


def _one_line(box: str) -> str:
    """What a box says before its first ruler. Where no line can be drawn, its title has a ruler of its own."""
    rows = [row.strip("│ ") for row in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    text = "\n".join("\0" if re.match(r"[╭╰]|[─-]{3}", row) else row for row in rows)
    paragraphs = [" ".join(part.split()) for part in text.split("\0") if part.strip()]
    found = paragraphs if "╭" in box else paragraphs[1:]
    return found[0] if found else "these flags cannot be read"


def _deferred(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The same flags, but the call comes later: what a command raises or prints is not part of reading flags."""

    @functools.wraps(command)
    def later(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return functools.partial(command, *args, **kwargs)

    return later


def _print_overview(version: bool) -> None:
    from samplernn_fast import __version__

    if version:
        print(f"samplernn-fast {__version__}")
        return
    print("usage: samplernn-fast COMMAND [--help] ...\n\ncommands:")
    for name, function in COMMANDS.items():
        print(f"  {name:10} {(function.__doc__ or '').splitlines()[0]}")
