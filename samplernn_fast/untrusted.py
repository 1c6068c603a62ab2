"""The limits within which a file is read that somebody else may have written: its kind, its bytes, its depth.

Every reader of such a file opens it by `open_file` or `read_bytes`, and takes JSON and YAML from `read_json` and
`read_yaml`. What is refused is an `Unreadable` with the reason, without the file's name; the reader knows which of the
package's errors it stands for, and names the file. `Fields` takes the values out of a mapping that was read, each
with the type and the range that it must have.
"""

import json
import os
import stat
import sys
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

SETTINGS_BYTES = 1 << 20
"""The most bytes that a file of settings may have, which people write."""
YAML_BYTES = 1 << 17
"""The most bytes that a YAML file may have; reading one takes seconds for each 100 KB."""
INDEX_BYTES = 1 << 28
"""The most bytes that a manifest, or the index of a checkpoint, may have, which programs write."""
CHECKPOINT_BYTES = 1 << 31
"""The most bytes that a checkpoint of another project may have. A file can claim any size and take no room on the disk,
and its tensors are held in memory; the largest published SampleRNN has some 200 MB, its optimizer in it some 600."""
DEPTH = 64
"""How deep lists and mappings of JSON and YAML may stand in each other."""
FEW_LISTS, LIST_CHARACTERS = 10_000, 32
"""The lists and mappings that any JSON file may have, and for how many characters it may have one more. A recording of
a manifest has one mapping in 100 characters and more."""
YAML_NODES = 100_000
"""The most values that a YAML file may have, each counted as often as an alias repeats it."""
YAML_SCALAR = 1000
"""The most characters of a YAML value without quotes; a number of more would take long to work out."""

_LARGEST = sys.float_info.max


class Unreadable(ValueError):
    """A file that cannot be read within the limits; the text is the reason."""


def open_file(path: Path, most: int | None = None) -> BinaryIO:
    """Opens a regular file for reading bytes. Raises Unreadable for a folder, a pipe, a device or a missing file.

    A pipe or a device would make a reader wait for ever, or never end.
    most: the most bytes that the file may have; None takes any number.
    """
    try:
        # A pipe that nobody writes to would block here, so it is opened without waiting and then refused.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:  # a ValueError is a name with a zero byte
        raise Unreadable(_reason(error)) from None
    found = os.fstat(number)
    reason = ""
    if not stat.S_ISREG(found.st_mode):
        reason = "is a folder, not a file" if stat.S_ISDIR(found.st_mode) else "is a pipe or a device, not a file"
    elif most is not None and found.st_size > most:
        reason = f"has {found.st_size} bytes, and at most {most} are read"
    if reason:
        os.close(number)
        raise Unreadable(reason)
    return open(number, "rb")


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises Unreadable as `open_file`, or for a larger one."""
    with open_file(path, most) as opened:
        try:
            return opened.read(
                os.fstat(opened.fileno()).st_size
            )  # `most` would be taken as memory before anything is read
        except OSError as error:
            raise Unreadable(_reason(error)) from None


def read_json(path: Path, most: int = SETTINGS_BYTES) -> Any:
    """The value in a JSON file. Raises Unreadable."""
    return parse_json(_text(read_bytes(path, most)))


def parse_json(text: str) -> Any:
    """The value that a JSON text stands for. Raises Unreadable where it is none, is deeper than `DEPTH`, or has more
    lists and mappings than files of its length have."""
    # An empty list has two characters as text, and takes 60 bytes of memory.
    if text.count("[") + text.count("{") > FEW_LISTS + len(text) // LIST_CHARACTERS:
        raise Unreadable("is too deep, or has more lists and mappings than a file of its length may have")
    try:
        return _check_depth(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not JSON: {_reason(error)}") from None


def read_yaml(path: Path, most: int = YAML_BYTES) -> Any:
    """The value in a YAML file of plain values. Raises Unreadable."""
    return parse_yaml(_text(read_bytes(path, most)))


def parse_yaml(text: str) -> Any:
    """The value in a text of YAML, of plain values. Raises Unreadable."""
    import yaml

    try:
        _check_yaml(yaml.parse(text, yaml.SafeLoader))
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError, TypeError, OverflowError) as error:
        raise Unreadable(f"is not YAML: {_reason(error)}") from None


class Fields:
    """The named values of a mapping that was read, each taken with its type and range.

    Every method raises Unreadable, which names the value, where it is missing or is not what it must be.
    """

    def __init__(self, values: Any, title: str) -> None:
        """title: what the mapping is, for messages."""
        if not isinstance(values, dict):
            raise Unreadable(f"{title} must be names with values, got {_shown(values)}")
        self._values, self._title = values, title

    def value(self, name: str) -> Any:
        """The value under a name, whatever it is."""
        if name not in self._values:
            raise Unreadable(f"{self._title} has no {name}")
        return self._values[name]

    def shown(self, name: str) -> str:
        """The value under a name, for a message."""
        return _shown(self.value(name))

    def fields(self, name: str) -> "Fields":
        """The mapping under a name."""
        return Fields(self.value(name), f"{name} of {self._title}")

    def has(self, name: str) -> bool:
        """Whether there is a value under a name."""
        return name in self._values

    def mapping(self, name: str) -> dict[str, Any]:
        """The mapping under a name, as it is."""
        return self.fields(name)._values

    def text(self, name: str) -> str:
        """The text under a name."""
        value = self.value(name)
        return str(value) if isinstance(value, str) else self._refuse(name, "must be text", value)

    def texts(self, name: str, most: int) -> list[str]:
        """A list of at most `most` texts."""
        values = self.value(name)
        if not isinstance(values, list) or len(values) > most or not all(isinstance(one, str) for one in values):
            self._refuse(name, f"must be a list of at most {most} texts", values)
        return list(values)

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        return self._integer(name, self.value(name), low, high)

    def integers(self, name: str, count: int, low: int, high: int) -> list[int]:
        """A list of `count` whole numbers from `low` to `high`."""
        return [self._integer(name, value, low, high) for value in self._list(name, count, "whole numbers")]

    def number(self, name: str, low: float, high: float) -> float:
        """A finite number from `low` to `high`."""
        return self._number(name, self.value(name), low, high)

    def number_or_none(self, name: str, low: float, high: float) -> float | None:
        """A finite number from `low` to `high`, or None."""
        return None if self.value(name) is None else self.number(name, low, high)

    def numbers(self, name: str, count: int, low: float, high: float) -> list[float]:
        """A list of `count` finite numbers from `low` to `high`."""
        return [self._number(name, value, low, high) for value in self._list(name, count, "numbers")]

    def _list(self, name: str, count: int, kind: str) -> list[Any]:
        values = self.value(name)
        if not isinstance(values, (list, tuple)) or len(values) != count:
            self._refuse(name, f"must be a list of {count} {kind}", values)
        return list(values)

    def _number(self, name: str, value: Any, low: float, high: float) -> float:
        real = isinstance(value, Real) and not isinstance(value, bool)
        if not real or not low <= value <= min(high, _LARGEST):
            self._refuse(name, f"must be a number from {low:g} to {high:g}", value)
        return float(value)

    def _integer(self, name: str, value: Any, low: int, high: int) -> int:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or not low <= value <= high:
            self._refuse(name, f"must be a whole number from {low} to {high}", value)
        return int(value)

    def _refuse(self, name: str, wanted: str, value: Any) -> NoReturn:
        raise Unreadable(f"{name} of {self._title} {wanted}, got {_shown(value)}")


def _shown(value: Any) -> str:
    """A value for a message: a number, a short text, or the name of its type."""
    if isinstance(value, (int, float)) and abs(value) < 10**30:
        return repr(value)
    if isinstance(value, str):
        return repr(value[:40])
    return "nothing" if value is None else f"a {type(value).__name__}"


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("is not text in UTF-8") from None


def _check_depth(value: Any) -> Any:
    """Returns `value`. Raises ValueError where its lists and mappings stand deeper in each other than `DEPTH`."""
    level, depth = [value], 0
    while level:
        level = [inner for outer in level for inner in _inside(outer)]
        depth += 1
        if depth > DEPTH:
            raise ValueError(f"more than {DEPTH} lists or mappings stand in each other")
    return value


def _inside(value: Any) -> list[Any]:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in values if isinstance(inner, (dict, list))]


def _check_yaml(events: Any) -> None:
    """Raises ValueError where values stand too deep, or are too many once every alias is replaced by what it repeats.

    Only the events are read, so nothing is built that an alias could make large.
    """
    import yaml

    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []  # the anchor of each collection that is open, and the count before it
    count = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias {event.anchor} stands inside its own anchor, or has none")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
            if event.style is None and len(event.value) > YAML_SCALAR:
                raise ValueError(f"a value without quotes has more than {YAML_SCALAR} characters")
        if len(opened) > DEPTH:
            raise ValueError(f"more than {DEPTH} lists or mappings stand in each other")
        if count > YAML_NODES:
            raise ValueError(f"it holds more than {YAML_NODES} values")


def _reason(error: BaseException) -> str:
    """An error's text in one line of at most 100 characters."""
    if isinstance(error, RecursionError):
        return "its values stand too deep in each other"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:100] or type(error).__name__
