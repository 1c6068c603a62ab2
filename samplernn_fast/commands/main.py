"""The command line: `samplernn-fast COMMAND`, the same as `python -m samplernn_fast COMMAND`.

Each command is a plain function whose arguments tyro turns into flags. Results go to standard output, progress and
errors to standard error. An error of the package is one line without a traceback.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Sequence

from samplernn_fast._version import __version__
from samplernn_fast.commands.benchmark.command import bench
from samplernn_fast.commands.demo import demo
from samplernn_fast.commands.evaluation import evaluate
from samplernn_fast.commands.flags import USAGE_STATUS, deferred, parse, spell
from samplernn_fast.commands.generation import generate
from samplernn_fast.commands.imports import import_
from samplernn_fast.commands.info import doctor, info
from samplernn_fast.commands.preparation import prepare
from samplernn_fast.commands.training import train
from samplernn_fast.errors import ConfigError, SampleRNNError
from samplernn_fast.models.config import OneTierConfig, SampleRNNConfig
from samplernn_fast.training.config import TrainConfig

_FAILURE = 1  # the exit status of a command that failed

COMMANDS: dict[str, Callable[..., None]] = {
    "prepare": prepare,
    "train": train,
    "generate": generate,
    "evaluate": evaluate,
    "import": import_,
    "info": info,
    "doctor": doctor,
    "bench": bench,
    "demo": demo,
}
"""Every command by name, in the order of the overview."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command. The exit status is 0, 1 where the command fails, and 2 for a wrong command line."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "--version"):
        _print_overview(version=args[:1] == ["--version"])
        sys.exit(0 if args else USAGE_STATUS)
    name, rest = args[0], args[1:]
    if name not in COMMANDS:
        _fail(f"there is no command {name!r}; the commands are {', '.join(COMMANDS)}", USAGE_STATUS)
    prog = f"samplernn-fast {name}"
    try:
        if name == "train":
            train(rest, prog)
        else:
            parse(deferred(COMMANDS[name]), prog, rest)()
    except SampleRNNError as error:
        status = USAGE_STATUS if isinstance(error, ConfigError) else _FAILURE
        _fail(spell(str(error), _setting_names(name)), status)
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


def _setting_names(command: str) -> set[str]:
    """The names in Python of all that a command's flags set."""
    if command != "train":
        return set(inspect.signature(COMMANDS[command]).parameters)
    return {field.name for kind in (TrainConfig, SampleRNNConfig, OneTierConfig) for field in dataclasses.fields(kind)}


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out. torch raises RuntimeErrors: a class of its own for a GPU, the plain one for the CPU."""
    of_gpu, of_cpu = type(error).__name__ == "OutOfMemoryError", "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or of_gpu or of_cpu


def _fail(message: str, status: int) -> None:
    print(f"samplernn-fast: {message}", file=sys.stderr)
    sys.exit(status)


def _print_overview(version: bool) -> None:
    if version:
        print(f"samplernn-fast {__version__}")
        return
    print("usage: samplernn-fast COMMAND [--help] ...\n\ncommands:")
    for name, function in COMMANDS.items():
        print(f"  {name:10} {(function.__doc__ or '').splitlines()[0]}")
