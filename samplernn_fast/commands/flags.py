"""How flags become arguments: types that several commands share, and the error messages of tyro in one line."""

import contextlib
import functools
import inspect
import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from samplernn_fast.commands import COMMANDS
from samplernn_fast.commands.standard_streams import USAGE_STATUS
from samplernn_fast.errors import ConfigError, did_you_mean, quoted
from samplernn_fast.jobs.shards import COUNT, INDEX
from samplernn_fast.ranges import check_arguments
from samplernn_fast.reference import limits

_APART, _AFTER = r"(?<![\w./\\'\"=-])", r"(?![\w/\\'\"=-]|\.\w)"  # a name that is no part of a path or a quotation

_NARROWEST = 20  # the fewest columns of a terminal for which help is laid out

# -o, --out and --output name the same thing in every command, whichever of them the argument itself bears.
Out = Annotated[Path, tyro.conf.arg(aliases=["-o", "--output"])]
OptionalOut = Annotated[Path | None, tyro.conf.arg(aliases=["-o", "--output"])]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o", "--out"])]
OutputText = Annotated[str | None, tyro.conf.arg(aliases=["-o", "--out"])]  # a Path would forget a / at the end
# The aliases are the names in PRiSM's and dadabots' programs; both spellings, with - and with _, are read.
Seconds = Annotated[float, tyro.conf.arg(aliases=["--dur", "--n-secs"])]
Pieces = Annotated[int, tyro.conf.arg(aliases=["--num-seqs", "--n-seqs"])]

Device = Annotated[str, tyro.conf.arg(help="auto, cpu, cuda or cuda:N.")]
Backend = Annotated[str, tyro.conf.arg(help="auto, or the name of one that `doctor` lists.")]
Dtype = Annotated[
    str,
    tyro.conf.arg(
        help="auto, a numeric mode of the backend, or fastest: the fastest mode that costs at most 0.005 bit a sample."
    ),
]
NumThreads = Annotated[
    int | None,
    limits.THREADS,
    tyro.conf.arg(help="Threads of the cpu backend; without it, as many as the work is worth."),
]

# What is not said is read from a scheduler's variables: `jobs.shards.Shard.of`.
ShardIndex = Annotated[int | None, INDEX]
NumShards = Annotated[int | None, COUNT]


def parse(
    target: Callable[..., Any], prog: str, args: Sequence[str], default: Any = None, description: str | None = None
) -> Any:
    """Calls `target` with what tyro reads from `args`; of a config class, `default` has the values to begin with.

    description: what the help begins with, in place of the target's docstring. Raises ConfigError, which says in one
    line what is wrong with the flags.
    """
    options: dict[str, Any] = {"prog": prog, "description": description, "config": (tyro.conf.OmitArgPrefixes,)}
    if default is not None:
        options["default"] = default
    if shutil.get_terminal_size().columns < _NARROWEST:
        os.environ["COLUMNS"] = str(_NARROWEST)  # tyro wraps its text for ever where the lines have no place for it
    read = functools.partial(tyro.cli, target, **options)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return read(args=args)
    except SystemExit as stop:
        if not stop.code:
            raise
        from samplernn_fast.commands.complaints import causes, explain, settings_of  # only a mistake needs them

        refused = next((error for error in causes(stop) if isinstance(error, ConfigError)), None)
        if refused is not None:  # a config class did not take its values
            raise refused from None
        reason = explain(complaint.getvalue(), args, settings_of(target, default), lambda: _flags_in_help(read))
        raise ConfigError(f"{reason}{' See' if reason.endswith('?') else '; see'} {prog} --help") from None


def _flags_in_help(read: Callable[..., Any]) -> set[str]:
    """All flags that a command takes, in every spelling."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        read(args=["--help"])
    return set(re.findall(r"(?<![\w`-])--?[A-Za-z][\w-]*", re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())))


def introduction(command: Callable[..., Any]) -> str:
    """What a command's docstring says before its arguments."""
    return inspect.cleandoc(command.__doc__ or "").partition("\n\nArgs:")[0]


def with_example(text: str, command: str, example: str | None = None) -> str:
    """What a command's help begins with: what it does, and a call that works; `example` for a part of a command."""
    return f"{text}\n\nExample: {example or COMMANDS[command].example}"


class Part(NamedTuple):
    """A part of a command, which the command's first word chooses."""

    function: Callable[..., None]
    """The function whose arguments are the flags."""
    example: str
    """A call that works, where the files that it names are there."""
    summary: str = ""
    """What it does, in one line; empty where the first line of the function's docstring says it."""
    takes_word: bool = False
    """Whether the first word is the function's first argument too."""

    def title(self) -> str:
        """What it does, in one line."""
        return self.summary or introduction(self.function).splitlines()[0]


def run_part(command: str, parts: Mapping[str, Part], args: Sequence[str], prog: str) -> None:
    """Runs the part that the first word of `args` names; without one it lists them. Raises ConfigError for another."""
    name = args[0] if args else None
    if name in (None, "-h", "--help"):
        width = max(map(len, parts))
        rows = "\n".join(f"  {word:{width}}  {part.title()}" for word, part in parts.items())
        text = f"usage: {prog} {'|'.join(parts)} [--help] ...\n\nExample: {COMMANDS[command].example}\n\n{rows}"
        print(text, file=sys.stdout if name else sys.stderr)
        sys.exit(0 if name else USAGE_STATUS)
    if name not in parts:
        got = f"{quoted(name)}{did_you_mean(name, parts)}"
        raise ConfigError(f"{command}: the first word must be one of {', '.join(parts)}, got {got}")
    part = parts[name]
    text = introduction(part.function)
    text = with_example(f"{part.summary}\n\n{text}" if part.summary else text, command, part.example)
    function = deferred(part.function)
    call = functools.partial(function, name) if part.takes_word else function
    parse(call, f"{prog} {name}", args[1:], description=text)()


def with_long_out(args: Sequence[str]) -> list[str]:
    """`args` with --out for -o and --output: what a config class with a field `out` calls it."""
    return [re.sub(r"^(-o|--output)(?==|$)", "--out", arg) for arg in args]


def deferred(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """A function with the same flags that returns the call, so that it is made after tyro has read the flags.

    The ranges beside the types of the command's arguments are checked when the call is made.
    """

    @functools.wraps(command)
    def later(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return functools.partial(_checked, command, args, kwargs)

    return later


def _checked(command: Callable[..., None], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Calls a command whose arguments lie in their ranges. Raises ConfigError otherwise."""
    check_arguments(command, inspect.signature(command).bind(*args, **kwargs).arguments)
    command(*args, **kwargs)


def spell(message: str, names: Collection[str]) -> str:
    """A message of the package in the words of the command line, for a command with arguments of these names.

    The package speaks of arguments as Python has them (`batch_size`, `overwrite=True`, `device="cpu"`); a command has
    flags.
    A name without an underscore is an ordinary word too, and may be that of a file, so it is replaced only where a
    clause begins by saying what it must be, as those of settings do.
    """
    for name in sorted(names, key=len, reverse=True):
        flag = "--" + name.replace("_", "-")
        message = re.sub(rf"{_APART}{name}=True{_AFTER}", flag, message)
        message = re.sub(rf"{_APART}{name}=False{_AFTER}", f"--no-{flag[2:]}", message)
        message = re.sub(rf'{_APART}{name}="([\w.:-]+)"{_AFTER}', rf"{flag} \1", message)
        if "_" in name:
            message = re.sub(rf"{_APART}{name}{_AFTER}", flag, message)
        else:
            message = re.sub(rf"(^|; ){name}(?= (must|needs)\b| \S+ (was asked for|has)\b)", rf"\1{flag}", message)
    return message
