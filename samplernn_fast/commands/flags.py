"""How flags become arguments: types that several commands share, and the error messages of tyro in one line."""

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
"""The exit status for flags that cannot be used."""

Out = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
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


def deferred(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """A function with the same flags that returns the call, so that it is made after tyro has read the flags."""

    @functools.wraps(command)
    def later(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return functools.partial(command, *args, **kwargs)

    return later
