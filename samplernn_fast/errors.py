"""The errors a user can meet. Each message is one line: what is wrong, where, and what to do.

A message speaks of arguments as Python has them; the command line writes them as flags.
"""

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_MOST_CHARACTERS = 1000  # A message may quote what a damaged file holds, so it has at most so many.
# The least ratio of difflib at which a word is offered: at 0.6 --stereo would be taken for --seed. In a word of three
# letters one that is wrong leaves 0.67.
_ALIKE, _ALIKE_SHORT, _SHORT = 0.7, 0.66, 3


def one_line(text: object) -> str:
    """`text` with every line break and other character that cannot be shown written as its escape, as in `\\n`.

    File names may hold such characters, and bytes that are no text, and a message quotes them.
    """
    line = str(text)
    if line.isprintable():  # Nearly all are, and one is made for every file that is begun.
        return line
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in line
    )


def _shortened(message: str) -> str:
    """`message`, or its beginning and end with dots between them where it is too long to be read."""
    if len(message) <= _MOST_CHARACTERS:
        return message
    return f"{message[: _MOST_CHARACTERS - 305]} ... {message[-300:]}"


def quoted(text: object, most: int = 60) -> str:
    """`text` in quotation marks, of at most `most` characters; the rest of a longer one is dots. What is no text has
    none."""
    if not isinstance(text, str):
        return repr(text)
    return repr(text if len(text) <= most else f"{text[: most - 3]}...")


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """ "; did you mean X?" with the known word that is most like `word`, or nothing where none is like it.

    The dashes in front of flags do not count, because they would make any two short flags alike.
    """
    import difflib

    if not isinstance(word, str):
        return ""
    by_name = {one.lstrip("-"): one for one in known}
    name = word.lstrip("-")
    found = [one for one in by_name if len(name) >= 2 and one.startswith(name)]
    cutoff = _ALIKE_SHORT if len(name) <= _SHORT else _ALIKE
    found = found or difflib.get_close_matches(name, by_name, n=1, cutoff=cutoff)
    return f"; did you mean {by_name[found[0]]}?" if found else ""


def exists(path: object) -> str:
    """The message of every refusal to write over a file or folder."""
    return f"{path} exists; choose another name, or replace it with overwrite=True"


class SampleRNNError(Exception):
    """Base of every error this package raises on purpose; the command line prints it without a traceback."""

    def __init__(self, message: object = "") -> None:
        super().__init__(_shortened(one_line(message)))


class ConfigError(SampleRNNError, ValueError):
    """A model, training or generation setting that cannot work."""


NO_TORCH = "needs torch, which is not installed; pip install torch"


class MissingPackage(SampleRNNError, ImportError):
    """Something was asked for that needs a package which is not installed."""


def check_torch(what: str) -> None:
    """Raises MissingPackage, which says what needs torch, where torch is not installed. It is not loaded."""
    import importlib.util

    with needing_torch(what):
        if "torch" not in sys.modules and importlib.util.find_spec("torch") is None:
            raise ModuleNotFoundError("No module named 'torch'", name="torch")


@contextmanager
def needing_torch(what: str) -> Iterator[None]:
    """Where torch is not installed, its import in the block becomes a MissingPackage that says what needs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingPackage(f"{what} {NO_TORCH}") from None


class AudioError(SampleRNNError):
    """An audio file that cannot be read or written."""


class DataError(SampleRNNError):
    """A data folder that is missing, damaged, or does not fit the model."""


class CheckpointError(SampleRNNError):
    """A run folder or checkpoint that is missing, damaged, or of another format."""


class NotFinite(SampleRNNError, ValueError):
    """A backend raises this where a logit is not a finite number; an engine says more in a CheckpointError."""


class DeviceError(SampleRNNError):
    """A GPU that failed or gave no answer while audio was made."""


class StoreError(SampleRNNError):
    """A store behind an address, such as s3://bucket/data, that cannot be reached, read or written."""


class BackendUnavailable(SampleRNNError):
    """A backend was asked for by name and cannot run this model on this device."""


class DiskFull(AudioError):
    """A disk took no more while audio was written to it. The message says how much of it is kept."""

    def __init__(self, message: object, saved: Any = None) -> None:
        """saved: what is kept, as an `api.Saved`."""
        super().__init__(message)
        self.saved = saved


class Interrupted(SampleRNNError):
    """Work that a signal ended before it was done. The message says what is kept."""

    def __init__(self, message: object = "interrupted", number: int = signal.SIGINT) -> None:
        """number: the signal; a program that it ends has the exit status 128 + number."""
        super().__init__(message)
        self.number = number


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether an error says that memory ran out. torch raises RuntimeErrors: a class of its own for a GPU, the
    plain one for the CPU."""
    of_gpu, of_cpu = type(error).__name__ == "OutOfMemoryError", "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or of_gpu or of_cpu


def as_ours(error: Exception) -> SampleRNNError:
    """An error of torch or of the system as one of ours, in one line; ours as they are."""
    if isinstance(error, SampleRNNError):
        return error
    return DeviceError(f"{type(error).__name__}: {error}".splitlines()[0])
