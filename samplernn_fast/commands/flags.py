"""How flags become arguments: what several commands share, and tyro's complaints as one line."""

import contextlib
import functools
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from samplernn_fast.errors import ConfigError

USAGE_STATUS = 2

Out = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
# PRiSM's and dadabots' names for the same flags; either spelling, with - or _, is read.
Seconds = Annotated[float, tyro.conf.arg(aliases=["--dur", "--n-secs"])]
Pieces = Annotated[int, tyro.conf.arg(aliases=["--num-seqs", "--n-seqs"])]


def parse(target: Callable[..., Any], prog: str, args: Sequence[str], **options: Any) -> Any:
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


def deferred(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The same flags, but the call comes later: what a command raises or prints is not part of reading flags."""

    @functools.wraps(command)
    def later(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return functools.partial(command, *args, **kwargs)

    return later
