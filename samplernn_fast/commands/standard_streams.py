"""Standard output and error as a program finds them: closed, full, in an old encoding, or read by nobody; and SIGTERM.

They are put in order when a command begins, and flushed when it ends, so that what was printed is either written or
complained about, and the exit status is the command's own.
"""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn, TextIO

FAILURE_STATUS = 1
"""The exit status of a command that could not do what it says."""
USAGE_STATUS = 2
"""The exit status for flags that cannot be used."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came. It passes through code as ctrl-C does, so that files that are half written are taken away."""


def signal_of(stop: KeyboardInterrupt) -> signal.Signals:
    """The signal that ended the work: SIGTERM, or SIGINT for ctrl-C."""
    return signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Within the block, SIGTERM raises Terminated, where `terminal.handled` may change what it does."""

    from samplernn_fast import terminal  # the overview of the commands does without it

    def stop(number: int, frame: object) -> None:
        raise Terminated

    with terminal.handled(stop, signal.SIGTERM):
        yield


def end_by_ctrl_c() -> None:
    """From here on, ctrl-C ends the program without a word: its work is over, and Python would print a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def open_all() -> None:
    """Makes sure that there are three standard streams, and that any text can be printed.

    A stream that was closed would be None in Python, and its number would go to the next file that is opened, into
    which a library could then print. What is printed to a closed standard output is complained about at the end.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            if not _is_open(number):
                # Standard output is opened for reading, so that writing to it fails; errors are thrown away.
                opened = os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
                if opened != number:
                    os.dup2(opened, number)
                    os.close(opened)
            setattr(sys, name, open(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file's name may hold bytes that are no text, or letters that an old terminal does not have.
            stream.reconfigure(errors="backslashreplace")


def finish(status: int, message: str) -> NoReturn:
    """Prints the message, if any, as one line on standard error, and ends the program with that exit status.

    Where standard output cannot be written, that is the message, and a status of 0 becomes 1. It is quiet where nobody
    reads the output any more.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = status or FAILURE_STATUS
    except OSError as error:
        status = status or FAILURE_STATUS
        message = f"standard output: {error.strerror or error}"
    except ValueError:  # closed by the caller of main
        pass
    if message:
        with contextlib.suppress(OSError, ValueError):
            print(f"samplernn-fast: {message}", file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        _forget_what_cannot_be_written(stream)
    sys.exit(status)


def _forget_what_cannot_be_written(stream: TextIO) -> None:
    """Turns a stream that fails to the null device; Python would complain about it once more when it ends."""
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as null:
            os.dup2(null.fileno(), stream.fileno())
    except ValueError:
        pass


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
