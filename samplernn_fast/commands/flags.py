"""How flags become arguments: types that several commands share, and the error messages of tyro in one line."""

import contextlib
import functools
import inspect
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from samplernn_fast.errors import ConfigError
from samplernn_fast.ranges import check_arguments

USAGE_STATUS = 2
"""The exit status for flags that cannot be used."""

_APART, _AFTER = r"(?<![\w./\\'\"=-])", r"(?![\w/\\'\"=-]|\.\w)"  # a name that is no part of a path or a quotation

# -o, --out and --output name the same thing in every command, whichever of them the argument itself bears.
Out = Annotated[Path, tyro.conf.arg(aliases=["-o", "--output"])]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o", "--out"])]
# The aliases are the names in PRiSM's and dadabots' programs; both spellings, with - and with _, are read.
Seconds = Annotated[float, tyro.conf.arg(aliases=["--dur", "--n-secs"])]
Pieces = Annotated[int, tyro.conf.arg(aliases=["--num-seqs", "--n-seqs"])]


def parse(target: Callable[..., Any], prog: str, args: Sequence[str], **options: Any) -> Any:
    """Calls `target` with what tyro reads from `args`. Its error messages, boxes of lines, become a ConfigError."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(target, prog=prog, args=args, config=(tyro.conf.OmitArgPrefixes,), **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(f"{_one_line(complaint.getvalue()).rstrip('.')}; see {prog} --help") from None


def _one_line(box: str) -> str:
    """The text of an error box of tyro up to its first ruler. Boxes in plain ASCII have a ruler under the title too."""
    rows = [row.strip("│ ") for row in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    text = "\n".join("\0" if re.match(r"[╭╰]|[─-]{3}", row) else row for row in rows)
    paragraphs = [" ".join(part.split()) for part in text.split("\0") if part.strip()]
    found = paragraphs if "╭" in box else paragraphs[1:]
    return found[0] if found else "these flags cannot be read"


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

    The package speaks of arguments as Python has them (`batch_size`, `overwrite=True`); a command has flags.
    A name without an underscore is an ordinary word too, so it is replaced only where a message begins with it, as
    those of settings do.
    """
    for name in sorted(names, key=len, reverse=True):
        flag = "--" + name.replace("_", "-")
        message = re.sub(rf"{_APART}{name}=True{_AFTER}", flag, message)
        if "_" in name:
            message = re.sub(rf"{_APART}{name}{_AFTER}", flag, message)
        else:
            message = re.sub(rf"^{name} ", f"{flag} ", message)
    return message
