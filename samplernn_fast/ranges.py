"""The range of a setting, written beside its type: `Annotated[int, Range(1, 64)]` in a config class or a command.

A config class calls `check_fields` in its `__post_init__`, the arguments of a command are checked by `check_arguments`,
those of a public function by `checked`, and all messages come from here. So a value that cannot work, or is of another
type than is declared, is refused before anything is read or written. A message begins with the name as Python has it;
the command line writes it as a flag.
"""

import collections.abc
import dataclasses
import functools
import inspect
import math
import numbers
import os
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from samplernn_fast.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`. None is allowed where the type beside it allows it; NaN never is."""

    low: float
    high: float = math.inf
    above: bool = False
    """Whether `low` itself is refused."""
    unit: str = ""
    """What is counted, for messages: "Hz", "seconds"."""
    words: tuple[str, ...] = ()
    """Words that stand for a number: "auto"."""

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        words = "".join(f"{word} or " for word in self.words)
        low, high = _plain(self.low), _plain(self.high)
        if self.above:
            return f"{words}above {low}" + (f" and at most {high}" if self.high < math.inf else "") + unit
        return words + (f"{low} to {high}" if self.high < math.inf else f"at least {low}") + unit

    def check(self, name: str, value: Any, whole: bool = False) -> None:
        """Raises ConfigError, which says what `name` must be, where `value` is not in the range.

        Infinity is refused by every range, and so is what is no number. whole: whether fractions are refused too.
        """
        if isinstance(value, str) and value in self.words:
            return
        if _is_bool(value):
            raise ConfigError(f"{name} must be {self}, got {value}, which is no number")
        if not isinstance(value, numbers.Real) or not self._holds(value):
            raise ConfigError(f"{name} must be {self}, got {_short(value)}")
        if whole and not isinstance(value, numbers.Integral):
            raise ConfigError(f"{name} must be a whole number, got {_short(value)}")

    def _holds(self, number: Any) -> bool:
        if not isinstance(number, numbers.Rational) and not math.isfinite(number):
            return False
        return bool(self.low < number if self.above else self.low <= number) and bool(number <= self.high)


def of_annotation(annotation: Any) -> Range | None:
    """The Range in an `Annotated` type; None where there is none."""
    return next((part for part in getattr(annotation, "__metadata__", ()) if isinstance(part, Range)), None)


def check_fields(config: Any) -> None:
    """Checks every field of a dataclass against its type and its Range. Raises ConfigError for the first that differs.

    The class must not postpone its annotations (`from __future__ import annotations`).
    """
    for field in dataclasses.fields(config):
        _check(field.name, getattr(config, field.name), field.type)


def check_arguments(function: Any, arguments: typing.Mapping[str, Any]) -> None:
    """Checks the arguments of a call, by name, against their types and Ranges. Raises ConfigError."""
    hints = _hints(function)
    for name, value in arguments.items():
        _check(name, value, hints.get(name, Any))


_hints = functools.cache(functools.partial(typing.get_type_hints, include_extras=True))


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A public function whose arguments are checked when it is called."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        check_arguments(function, signature.bind(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    return call


def _check(name: str, value: Any, annotation: Any) -> None:
    """Checks a value, or each of a tuple or list, against the type that it was declared with."""
    found = of_annotation(annotation)
    if found is None:
        if not _is_of(value, annotation):
            raise ConfigError(f"{name} must be {in_words(annotation)}, got {_short(value)}")
    elif not (value is None and type(None) in typing.get_args(annotation.__origin__)):
        for one in value if isinstance(value, (tuple, list)) else (value,):
            found.check(name, one, _is_whole(annotation))


def _is_of(value: Any, annotation: Any) -> bool:
    """Whether a value is of a type as it is declared. NumPy's numbers count as Python's, and any iterable but text as
    a sequence. What cannot be told is taken."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _is_of(value, parts[0])
    if origin in (typing.Union, types.UnionType):
        return any(_is_of(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is collections.abc.Callable:
        return callable(value)
    if origin in (tuple, list, collections.abc.Sequence):
        if isinstance(value, str | bytes) or not isinstance(value, collections.abc.Iterable):
            return False
        return origin is tuple or not isinstance(value, list | tuple) or all(_is_of(one, parts[0]) for one in value)
    kind = origin or annotation
    if kind is Any or not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return True
    if kind in _NUMBERS:
        return _is_bool(value) if kind is bool else isinstance(value, _NUMBERS[kind]) and not _is_bool(value)
    return isinstance(value, kind)


def _is_bool(value: Any) -> bool:
    """Returns whether a value is True or False of Python or of NumPy, whose class has two names."""
    return isinstance(value, bool) or (type(value).__module__, type(value).__name__) in _NUMPY_BOOLS


_NUMPY_BOOLS = (("numpy", "bool"), ("numpy", "bool_"))
_NUMBERS = {bool: bool, int: numbers.Integral, float: numbers.Real}
_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    os.PathLike: "a path",
    type(None): "None",
    collections.abc.Callable: "a function",
    collections.abc.Mapping: "names with values",
}


def in_words(annotation: Any) -> str:
    """What a value of a type is called: "a whole number or None"."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return in_words(parts[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(in_words(part) for part in parts))
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin in (tuple, list, collections.abc.Sequence):
        return f"several, each {in_words(parts[0])}" if parts else "several values"
    kind = origin or annotation
    return _WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}")


def _is_whole(annotation: Any) -> bool:
    """Whether a type takes whole numbers and no others."""
    parts = typing.get_args(annotation)
    return all(_is_whole(part) for part in parts) if parts else annotation is not float


def _short(value: Any) -> str:
    """A value for a message; a number of hundreds of digits is cut, and so is a long text."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**30:
        return f"a number of {int(math.log10(abs(value))) + 1} digits"
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _plain(bound: float) -> str:
    """A bound as a person would write it: whole numbers in full, others in at most six digits."""
    return str(int(bound)) if bound == bound // 1 and abs(bound) < 2**63 else f"{bound:g}"
