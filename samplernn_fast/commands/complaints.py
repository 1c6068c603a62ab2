"""What is wrong with a command line, in one line: tyro's complaints, which are boxes of several lines, said directly.

tyro's words for a kind of mistake are recognized by its beginning. One that is not known, as of a newer tyro, is
still shown, as it is.
"""

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from samplernn_fast.errors import did_you_mean, quoted
from samplernn_fast.ranges import of_annotation

_FLAG = re.compile(r"--?[A-Za-z][\w-]*")


def settings_of(target: Any, default: Any = None) -> dict[str, Any]:
    """The type of each argument of a command, or of each field of a config and of the configs in it."""
    if isinstance(target, functools.partial):
        target = target.func
    if not dataclasses.is_dataclass(target):
        return typing.get_type_hints(target, include_extras=True)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(target):
        inner = getattr(default, field.name, None)
        found |= settings_of(type(inner), inner) if dataclasses.is_dataclass(inner) else {field.name: field.type}
    return found


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those during whose handling it was raised."""
    while error is not None:
        yield error
        error = error.__context__


_SYNONYMS = {
    "--learning-rate": "--lr",
    "--steps": "--max-steps",
    "--iterations": "--max-steps",
    "--minutes": "--max-minutes",
    "--hidden-size": "--dim",
    "--units": "--dim",
    "--channels": "--dim",
    "--n-layers": "--n-rnn",
    "--length": "--duration",
    "--seconds": "--duration",
}
"""This gives the name that a flag has here for what other programs call it."""


def explain(box: str, args: Sequence[str], settings: Mapping[str, Any], flags: Callable[[], set[str]]) -> str:
    """Why tyro does not take `args`.

    box: what tyro wrote. settings: the types by name in Python. flags: gives all flags of the command.
    """
    known = flags()
    for word in _given_flags(args):
        if word not in known:
            meant = _SYNONYMS.get(_as_flag(word), "")
            guess = f"; did you mean {meant}?" if meant in known else did_you_mean(_as_flag(word), sorted(known))
            return f"there is no flag {word[:60]}{guess}"
    rows = [row.strip("│| ") for row in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    rows = ["\0" if re.match(r"[╭╰]|[─-]{3}", row) else row for row in rows]
    paragraphs = [part.split("\n") for part in "\n".join(rows).split("\0") if part.strip()]
    found = paragraphs if "╭" in box else paragraphs[1:]  # boxes in plain ASCII have a ruler under the title too
    text = " ".join(" ".join(found[0]).split()) if found else "these flags cannot be read"
    return _directly(text, args, settings) or text.rstrip(".")


def _directly(text: str, args: Sequence[str], settings: Mapping[str, Any]) -> str:
    """tyro's complaint in the words of this package; nothing where it is of no known kind."""
    if text.startswith("Missing from "):
        # Names come before the help of each; the metavar of an argument without a flag stands alone.
        names = re.findall(r"(?:^Missing from [^:]*:|\(required\)) (?:-[^,]*, )*(-[^ ]+ [^ ]+|[A-Z]+)", text)
        return f"{' and '.join(names).replace(' [', ' ')} must be given" if names else ""  # "[" begins a list
    if match := re.match(r"invalid choice (.*) for argument '(.*?)'\. Expected one of \((.*)\)", text):
        value = match[1].strip("'\"")
        choices = [choice for choice in re.findall(r"'([^']*)'", match[3]) if choice != "None"]
        guess = did_you_mean(value, choices)
        return f"{_chosen(match[2], settings)} must be one of {', '.join(choices)}, got {quoted(value)}{guess}"
    if match := re.match(r"Error parsing (-[^:]*): ", text):
        flag = _chosen(match[1], settings)
        annotation = settings.get(_as_name(flag))
        return f"{flag} must be {_in_words(annotation)}, got {quoted(' '.join(_values(flag, match[1], args)))}"
    if match := re.match(r"Missing value for argument '(.*?)'\. Expected (\d+) ", text):
        return f"{_chosen(match[1], settings)} needs {'a value' if match[2] == '1' else match[2] + ' values'}"
    if match := re.match(r"Unrecognized options: (.*)", text):
        return f"nothing takes {quoted(match[1].rstrip('.'))}; a word that belongs to a flag stands directly behind it"
    return ""


def _given_flags(args: Sequence[str]) -> Iterator[str]:
    """The words of a command line that look like flags, without values."""
    for word in args:
        if word == "--":
            return
        if match := _FLAG.match(word):
            if match[0] == word.partition("=")[0]:
                yield match[0].replace("_", "-")


def _as_flag(word: str) -> str:
    return "--" + word.lstrip("-")


def _as_name(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _chosen(spellings: str, settings: Mapping[str, Any]) -> str:
    """The spelling that has the argument's name, among those of one flag, such as "-o/--out"."""
    names = spellings.split("/")
    return next((name for name in names if _as_name(name) in settings), names[-1])


def _values(flag: str, spellings: str, args: Sequence[str]) -> list[str]:
    """The words that stand behind a flag."""
    for at, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") in (flag, *spellings.split("/")):
            rest = list(args[at + 1 :])
            ends = [index for index, one in enumerate(rest) if _FLAG.fullmatch(one)]
            return [value] if equals else rest[: ends[0] if ends else None]
    return []


def _in_words(annotation: Any) -> str:
    """What a value of a type looks like."""
    if found := of_annotation(annotation):
        return str(found) if found.words else f"{_in_words(annotation.__origin__)}, {found}"
    bare = annotation.__origin__ if typing.get_origin(annotation) is Annotated else annotation
    parts = [part for part in typing.get_args(bare) if part not in (type(None), Ellipsis)]
    if typing.get_origin(bare) is tuple:
        return f"{'' if Ellipsis in typing.get_args(bare) else f'{len(parts)} '}{_NAMES.get(parts[0], 'word')}s"
    if typing.get_origin(bare) is typing.Literal:
        return " or ".join(map(str, parts))
    if isinstance(bare, types.UnionType) or typing.get_origin(bare) is typing.Union:
        return " or ".join(_in_words(part) for part in parts)
    return f"a {_NAMES.get(bare, 'word')}"


_NAMES = {int: "whole number", float: "number"}
