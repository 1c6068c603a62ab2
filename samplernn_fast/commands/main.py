"""The command line: `samplernn-fast COMMAND`, the same as `python -m samplernn_fast COMMAND`.

Each command is a plain function whose arguments tyro turns into flags. Results go to standard output, progress and
errors to standard error. An error of the package is one line without a traceback.
"""

import os
import re
import signal
import sys
from collections.abc import Sequence

from samplernn_fast._version import __version__
from samplernn_fast.commands import COMMANDS, SENDING, TRAINING, standard_streams
from samplernn_fast.commands.standard_streams import FAILURE_STATUS, USAGE_STATUS
from samplernn_fast.errors import (
    ConfigError,
    Interrupted,
    SampleRNNError,
    did_you_mean,
    is_out_of_memory,
    needing_torch,
    quoted,
)

_SPINS = "2000"  # how often a thread of torch looks whether its wait is over before it sleeps
_LOG2_CYCLES = "10"  # the logarithm of the cycles for which an idle thread of NumPy's BLAS spins before it sleeps
_INTERRUPTED, _TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and ends the program with its exit status.

    That is 0 where the command did what it says, 1 where it could not, and 2 where it was never begun, because a flag
    or a setting cannot be used. A signal that ends it makes 128 more than its number: 130 for ctrl-C, 143 for SIGTERM.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        standard_streams.open_all()
        with standard_streams.stopped_by_sigterm():
            status, message = run_command(args)
    except KeyboardInterrupt:  # it came while the outcome was worked out
        status, message = _INTERRUPTED, "interrupted"
    if argv is None:
        standard_streams.end_by_ctrl_c()
    standard_streams.finish(status, message)


def run_command(args: Sequence[str]) -> tuple[int, str]:
    """Runs a command. Returns its exit status, and the line that says why, or "" where nothing is to be said."""
    args = [_path(word) for word in args]
    name = args[0] if args else None
    try:
        with needing_torch(f"the command {name}"):
            _command(name, args[1:])
    except SystemExit as stop:
        return (stop.code if isinstance(stop.code, int) else 0), ""
    except SampleRNNError as error:
        from samplernn_fast.commands.flags import spell
        from samplernn_fast.stores.addresses import spelled

        return _status(error), spell(spelled(error), _setting_names(name))
    except KeyboardInterrupt as error:
        return (
            (_TERMINATED, "terminated")
            if isinstance(error, standard_streams.Terminated)
            else (_INTERRUPTED, "interrupted")
        )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return FAILURE_STATUS, "not enough memory; use a smaller --batch-size, --num-samples or model"
    except BrokenPipeError:
        return FAILURE_STATUS, ""  # whoever read the output has seen enough
    except OSError as error:
        from samplernn_fast.stores.addresses import spelled

        return FAILURE_STATUS, spelled(f"{error.filename or 'output'}: {error.strerror or error}")
    return 0, ""


def _command(name: str | None, rest: Sequence[str]) -> None:
    """Runs the command of that name with its flags. Raises ConfigError where there is none."""
    if name in (None, "-h", "--help"):
        print(overview(), file=sys.stdout if name else sys.stderr)
        sys.exit(0 if name else USAGE_STATUS)
    if name == "--version":
        print(f"samplernn-fast {__version__}")
        return
    if name not in COMMANDS:
        guess = did_you_mean(name, COMMANDS)
        raise ConfigError(f"there is no command {quoted(name)}{guess or '; the commands are ' + ', '.join(COMMANDS)}")
    if name != "bench":  # which measures plain torch as it comes
        # torch's threads wait for each other by spinning, which takes several times as long on a busy machine; sleeping
        # at once takes a quarter longer on a quiet one. torch reads this when it is loaded, which is behind this line.
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
        # Those of NumPy would spin for a tenth of a second behind every product, on the cores that make sound then.
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", _LOG2_CYCLES)
    if name not in SENDING:
        _check_outputs(name, rest)
    prog, command = f"samplernn-fast {name}", COMMANDS[name].load()
    if name in TRAINING or COMMANDS[name].parts:
        command(rest, prog)
    else:
        from samplernn_fast.commands.flags import deferred, introduction, parse, with_example

        parse(deferred(command), prog, rest, description=with_example(introduction(command), name))()


def _check_outputs(name: str, args: Sequence[str]) -> None:
    """Raises ConfigError where the output of a command is an address, which that command would take for a path."""
    for number, flag in enumerate(args):
        named, _, behind = flag.partition("=")
        value = behind or "".join(args[number + 1 : number + 2])
        if named in ("-o", "--out", "--output") and "://" in value:
            raise ConfigError(f"{name}: output must be a folder or file of this machine, got {quoted(value)}")


def _path(word: str) -> str:
    """A word with the path that it means, where it is a file:// address or has one as its value: a Path would lose a
    slash, and then it would be another place. ~ is the home of the user also where the shell leaves it:
    behind a flag, in quotation marks and in words that a program hands over."""
    for scheme in ("file", "local"):
        flag, found, path = word.partition(f"{scheme}:///")
        if found and re.fullmatch(r"(--?[\w-]+=)?", flag):
            return f"{flag}/{path}"
    if home := re.fullmatch(r"(--?[\w-]+=|-\w|)(~(?:/.*)?)", word, re.DOTALL):
        return home[1] + os.path.expanduser(home[2])
    return word


def _status(error: SampleRNNError) -> int:
    """The exit status that stands for a class of errors."""
    if isinstance(error, Interrupted):
        return 128 + error.number
    return USAGE_STATUS if isinstance(error, ConfigError) else FAILURE_STATUS


def _setting_names(command: str | None) -> set[str]:
    """The names in Python of all that a command's flags set."""
    if command not in COMMANDS:
        return set()
    import dataclasses
    import inspect

    parts = [] if command in TRAINING else COMMANDS[command].load_flags()
    own = {name for flags in parts for name in inspect.signature(flags).parameters}
    if command not in (*TRAINING, "search"):  # a search takes the flags of train too
        return own
    from samplernn_fast.models.config import AudioConfig
    from samplernn_fast.models.other_configs import CONFIGS
    from samplernn_fast.training.config import TrainConfig

    kinds: tuple[type[TrainConfig | AudioConfig], ...] = (TrainConfig, *CONFIGS)
    return own | {field.name for kind in kinds for field in dataclasses.fields(kind)}


def overview() -> str:
    """What `samplernn-fast` alone prints: the commands of a first hour, then all of them."""
    first = "\n".join(f"  {COMMANDS[name].example}" for name in ("demo", "prepare", "train", "generate"))
    rows = "\n".join(f"  {name:10} {command.summary}" for name, command in COMMANDS.items())
    return f"usage: samplernn-fast COMMAND [--help] ...\n\na first hour:\n{first}\n\ncommands:\n{rows}"
