"""Reads pickles without Python's unpickler: a stack of plain values, and calls of a few functions of ours only.

Python's unpickler sets the state of any object that a pickle names, and makes room for what a pickle claims to hold;
NumPy and torch trust what they are given. So the steps of a pickle are carried out here, and each has a limit: a length
or a memo's number that the file is too short for is refused, numbers have at most 64 bits, keys are text or numbers.
`pickletools` of the standard library knows how the argument of a step is written.
"""

import codecs
import pickletools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from samplernn_fast.errors import CheckpointError
from samplernn_fast.untrusted import Unreadable

MOST_STEPS = 300_000
"""The most steps of one pickle. A tensor or an array takes about 30; so many take a second."""
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The magic number with which torch's files begin that are no zip archive, as a pickle writes it."""
_MOST_INTEGER = 1 << 63
# The name of each step by its byte, and what reads its argument from a `Bounded`.
_READERS: dict[int, tuple[str, Callable[[Any], Any] | None]] = {
    ord(step.code): (step.name, step.arg.reader if step.arg else None) for step in pickletools.opcodes
}


class Forbidden(Unreadable):
    """The pickle asks for a name that it does not need; the text is that name, of at most 100 characters."""


@contextmanager
def refusing(path: Path, file: str, content: str) -> Iterator[None]:
    """Turns what the block raises for a bad file into a CheckpointError that names it.

    file: what the file should be, "torch file"; content: what its pickle may hold, "tensor".
    """
    try:
        yield
    except Forbidden as error:
        raise CheckpointError(
            f"{path}: refused: it asks for {error}, which is no {content} and might run code; nothing of it was loaded"
        ) from None
    except Unreadable as error:
        raise CheckpointError(f"{path}: not a readable {file}, truncated or of another format ({error})") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


class Bounded:
    """A binary file, or a part of one, of which no more is read than there is."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        """size: how many bytes there are behind the place where `file` stands."""
        self._file, self.left = file, size

    def read(self, count: int) -> bytes:
        """The next `count` bytes. Raises Unreadable when there are fewer."""
        if not 0 <= count <= self.left:
            raise Unreadable("a length in it reaches behind its end")
        data = self._file.read(count)
        if len(data) != count:
            raise Unreadable("it became shorter while it was read")
        self.left -= count
        return data

    def skip(self, count: int) -> None:
        """Passes over `count` bytes. Raises Unreadable when there are fewer."""
        if not 0 <= count <= self.left:
            raise Unreadable("a length in it reaches behind its end")
        self._file.seek(count, 1)
        self.left -= count

    def readline(self) -> bytes:
        """The next line, with the byte that ends it; pickletools refuses a line without one."""
        line = self._file.readline(self.left)
        self.left -= len(line)
        return line


class Call:
    """What stands on the stack for a function or class that a pickle names: a function of ours."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class Held:
    """What stands for an object whose state a pickle may set. It keeps the state, and can do nothing."""

    def __init__(self) -> None:
        self.state: Any = None

    def build(self, state: Any) -> None:
        """Takes the state. A subclass checks it, and raises Unreadable."""
        self.state = state


def read_pickle_values(
    stream: Bounded, find: Callable[[str, str], Call], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """The value that the next pickle in `stream` stands for, which then stands behind it.

    find: gives what stands for (module, name), or raises Forbidden.
    persistent: gives what stands for the identifier of an object that lies outside the pickle.
    Raises Unreadable for a pickle that is damaged, does not keep the limits or does what is not needed.
    """
    machine = _Machine(find, persistent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged text gives warnings about escape sequences
        for _ in range(MOST_STEPS):
            name, argument = _next_step(stream)
            try:
                if name == "STOP":
                    return machine.pop()
                machine.step(name, argument, stream.left)
            except Unreadable:
                raise
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise _damaged(name, error) from None
    raise Unreadable(f"it has more than {MOST_STEPS} steps")


def _next_step(stream: Bounded) -> tuple[str, Any]:
    """The name and the argument of the next step."""
    code = stream.read(1)[0]
    if code not in _READERS:
        raise Unreadable(f"byte {code} begins no step of a pickle")
    name, reader = _READERS[code]
    try:
        return name, _text_in_quotes(stream) if name == "STRING" else reader(stream) if reader else None
    except Unreadable:
        raise
    except ValueError as error:
        raise _damaged(name, error) from None


def _text_in_quotes(stream: Any) -> str:
    """The argument of STRING, which may hold any byte; pickletools reads ASCII only."""
    raw = pickletools.read_stringnl(stream, decode=False)
    return codecs.escape_decode(raw)[0].decode("latin1")  # type: ignore[attr-defined]


def _damaged(name: str, error: Exception) -> Unreadable:
    return Unreadable(f"a step {name} of it is damaged ({' '.join(str(error)[:200].split())[:60]})")


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, find: Callable[[str, str], Call], persistent: Callable[[Any], Any] | None) -> None:
        self._find, self._persistent = find, persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        """Takes the last value, of which there must be one behind the last mark."""
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise Unreadable("a step of it finds no value")
        return self._stack.pop()

    def step(self, name: str, argument: Any, left: int) -> None:
        """Carries out one step. left: how many bytes of the pickle's file follow."""
        if name in _VALUES:
            self._stack.append(_checked(argument))
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            number = len(self._memo) if name == "MEMOIZE" else argument
            if not 0 <= number < MOST_STEPS:
                raise Unreadable("a number of its memo is too large")
            self._memo[number] = self._top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name == "GLOBAL":
            module, _, attribute = argument.partition(" ")
            self._stack.append(self._find(module, attribute))
        elif name == "FRAME":
            if argument > left:
                raise Unreadable("a length in it reaches behind its end")
        elif name != "PROTO":
            raise Unreadable(f"it has a step {name}, which no checkpoint needs")

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def _since_mark(self) -> list[Any]:
        if not self._marks:
            raise Unreadable("a step of it finds no mark")
        place = self._marks.pop()
        values = self._stack[place:]
        del self._stack[place:]
        return values

    def _top(self) -> Any:
        value = self.pop()
        self._stack.append(value)
        return value

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def collect(self, make: Callable[[list[Any]], Any]) -> None:
        self._stack.append(make(self._since_mark()))

    def append(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Held):
            raise Unreadable("it puts values into what is no list")

    def appends(self) -> None:
        self.append(self._since_mark())

    def set_items(self, items: list[Any]) -> None:
        target = self._top()
        if isinstance(target, dict):
            target.update(_dict_of(items))
        elif not isinstance(target, Held):
            raise Unreadable("it puts values by name into what is no dict")

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def named(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Unreadable("a name in it is no text")
        self._stack.append(self._find(module, name))

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Call) or not isinstance(arguments, tuple):
            raise Unreadable("it calls what is no function")
        self._stack.append(function.function(*arguments))

    def call_with_names(self) -> None:
        self.pop()  # arguments by name, which only stand-ins would get, and they keep nothing of them
        self.call()

    def build(self) -> None:
        state, target = self.pop(), self._top()
        if isinstance(target, Held):
            target.build(state)
        elif not isinstance(target, dict):  # a dict's state are attributes, which are left out
            raise Unreadable("it sets the state of what has none")

    def outside(self) -> None:
        if self._persistent is None:
            raise Unreadable("it asks for an object outside it")
        self._stack.append(self._persistent(self.pop()))


def _checked(value: Any) -> Any:
    """A value as it is. Raises Unreadable for a whole number of more than 64 bits."""
    if isinstance(value, int) and not -_MOST_INTEGER <= value <= 2 * _MOST_INTEGER:
        raise Unreadable("a number in it has more than 64 bits")
    return value


def _dict_of(items: list[Any]) -> dict[Any, Any]:
    """A dict of keys and values that take turns."""
    if len(items) % 2:
        raise Unreadable("a key in it has no value")
    if not all(key is None or isinstance(key, (str, int, float, Call)) for key in items[::2]):
        raise Unreadable("a key in it is neither text nor a number")
    return dict(zip(items[::2], items[1::2], strict=True))


_VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE"
    " SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,  # sets are read as lists: their values need not be fit to be looked up
}
_STEPS: dict[str, Callable[[_Machine], None]] = {
    "MARK": _Machine.mark,
    "POP": lambda machine: machine.pop(),
    "TUPLE": lambda machine: machine.collect(tuple),
    "TUPLE1": lambda machine: machine.tuple_of(1),
    "TUPLE2": lambda machine: machine.tuple_of(2),
    "TUPLE3": lambda machine: machine.tuple_of(3),
    "LIST": lambda machine: machine.collect(list),
    "FROZENSET": lambda machine: machine.collect(list),
    "DICT": lambda machine: machine.collect(_dict_of),
    "APPEND": lambda machine: machine.append([machine.pop()]),
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda machine: machine.set_items(machine._since_mark()),
    "STACK_GLOBAL": _Machine.named,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_names,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.outside,
}
