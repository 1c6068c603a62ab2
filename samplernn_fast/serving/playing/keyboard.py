"""Keys of the terminal, read one by one, while it stays usable: its settings come back on every way out."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from samplernn_fast import terminal

_MOST_BYTES = 1024  # that are read at a time
_SEQUENCE = re.compile(rb"\x1b[\[O]([\x30-\x3f]*)([\x20-\x2f]*)([\x40-\x7e])")  # as terminals send for arrows
_BEGUN = re.compile(rb"\x1b(?:[\[O][\x30-\x3f]*[\x20-\x2f]*)?\Z")
_ARROWS = {b"A": "up", b"B": "down", b"C": "right", b"D": "left"}


class Key(NamedTuple):
    """What a key does to a parameter."""

    parameter: str
    steps: int = 0
    """By how much it moves it; 0 turns a switch over, and pulls a trigger."""


KEYS = {
    "up": Key("temperature", 1),
    "down": Key("temperature", -1),
    "right": Key("top_k", 1),
    "left": Key("top_k", -1),
    "]": Key("top_p", 1),
    "[": Key("top_p", -1),
    "+": Key("volume", 1),
    "=": Key("volume", 1),
    "-": Key("volume", -1),
    " ": Key("pause"),
    "f": Key("freeze"),
    "r": Key("reset"),
    "n": Key("seed"),
}
"""What the keys that move something do."""
SAVE, HELP, QUIT = "s", "?", "q"
PAGE = (
    "up/down     temperature      space  pause or go on     s  save the settings and the score",
    "left/right  top-k            f      freeze or let go   ?  this page",
    "[ ]         top-p            r      begin again        q  quit",
    "- +         volume           n      another seed",
)
"""What `?` shows."""


def names_of(content: bytes) -> tuple[list[str], bytes]:
    """The names of the keys in what a terminal sent, and the beginning of one that has not come whole.

    Arrows are up, down, left and right, other keys are their character; keys of other kinds are left out.
    """
    names: list[str] = []
    while content:
        if match := _SEQUENCE.match(content):
            if match[3] in _ARROWS and not match[1]:
                names.append(_ARROWS[match[3]])
            content = content[match.end() :]
        elif _BEGUN.match(content):
            break
        else:
            if 0x20 <= content[0] < 0x7F:
                names.append(chr(content[0]))
            content = content[1:]
    return names, content


class Keyboard:
    """The keys of a terminal. `held` takes it, and gives it back however its block ends."""

    def __init__(self, number: int) -> None:
        """number: of the open terminal."""
        self.number = number
        self._before: list[Any] | None = None  # the settings from before, while the terminal is taken
        self._rest = b""
        self._gone = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block each key comes at once and is not shown. ctrl-Z gives the terminal back until `fg`."""
        try:
            with terminal.handled(self._stop, signal.SIGTSTP):
                self._take()
                yield
        finally:
            self._give_back()

    def read(self) -> list[str]:
        """The keys that were pressed since the last call. A job in the background hears none."""
        import select

        if self._gone or not in_front(self.number):
            return []
        if self._before is None:
            self._take()  # the job came to the front
        if not select.select([self.number], [], [], 0)[0]:
            return []
        try:
            found = os.read(self.number, _MOST_BYTES)
        except OSError:
            found = b""
        self._gone = not found  # the terminal was closed
        names, self._rest = names_of(self._rest + found)
        return names

    @property
    def waits_for(self) -> list[int]:
        """What becomes readable when a key is pressed."""
        return [] if self._gone or not in_front(self.number) else [self.number]

    def _take(self) -> None:
        import termios
        import tty

        if self._before is not None or not in_front(self.number):
            return
        with suppress(termios.error):
            self._before = termios.tcgetattr(self.number)
            # Signals still come from ctrl-C and ctrl-Z, and what is printed still has its line breaks.
            tty.setcbreak(self.number, termios.TCSANOW)

    def _give_back(self) -> None:
        import termios

        before, self._before = self._before, None
        if before is not None and in_front(self.number):
            with suppress(termios.error):
                termios.tcsetattr(self.number, termios.TCSANOW, before)

    def _stop(self, number: int, frame: object) -> None:
        """Stops the program as ctrl-Z does others, with the terminal as it was."""
        self._give_back()
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here the program goes on, when the shell lets it; `read` takes the terminal again, once it is in front.
        signal.signal(signal.SIGTSTP, ours)


def in_front(number: int) -> bool:
    """Whether this job has the terminal behind an open file. One in the background that touched it would be stopped."""
    try:
        return os.tcgetpgrp(number) == os.getpgrp()
    except OSError:
        return False


def keyboard() -> Keyboard | None:
    """The keys of standard input; None where that is no terminal, or the system has none."""
    import importlib.util
    import sys

    if importlib.util.find_spec("termios") is None or sys.stdin is None or sys.stdin.closed:
        return None
    try:
        number = sys.stdin.fileno()
    except (OSError, ValueError):
        return None
    return Keyboard(number) if os.isatty(number) else None
