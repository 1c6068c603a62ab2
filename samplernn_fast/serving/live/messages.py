"""What a listener's client may say, read from the JSON of its messages (docs/live.md)."""

from dataclasses import dataclass
from typing import Any

from samplernn_fast.errors import ConfigError
from samplernn_fast.serving.live.settings import RESET
from samplernn_fast.serving.live.slot import MOST_CHANGES, Change
from samplernn_fast.untrusted import Fields, Unreadable, parse_json

MESSAGE_BYTES = 1 << 18
"""The most bytes of a message; only a long score needs more than some hundred."""
_FAR = 1 << 53  # positions are exact as numbers of JavaScript below it
_SETTINGS = ("temperature", "top_k", "top_p", "frozen")


@dataclass(frozen=True)
class Play:
    """Begin a new stream."""

    model: str
    seed: int | None
    changes: dict[str, Any]
    """The settings at position 0 that are not the usual ones."""
    prompt: str | None
    """The name of an uploaded recording."""
    block: int
    """Samples that are made at a time."""
    score: list[Change]


@dataclass(frozen=True)
class Want:
    """Samples before this position may be made."""

    until: int
    keep: int | None = None
    """Samples from this position on may have to be made again."""


@dataclass(frozen=True)
class Set:
    """Change settings, or begin again, from the next sample on."""

    number: int
    changes: dict[str, Any]
    since: int | None = None
    """Instead from the first position from here on that is not made yet or can be made again."""
    until: int | None = None
    """Only samples before this position may be made then."""


@dataclass(frozen=True)
class Underrun:
    """The player ran out of sound so many times more."""

    count: int


@dataclass(frozen=True)
class Stop:
    """End the stream."""


Message = Play | Want | Set | Underrun | Stop


class RefusedPlay(ConfigError):
    """A message `play` that cannot be obeyed."""


def parse(text: str) -> Message:
    """The message of a text. Raises ConfigError, for the client to show, where it is none; RefusedPlay where it is
    a `play` all the same."""
    kind = ""
    try:
        fields = Fields(parse_json(text), "the message")
        kind = fields.text("do")
        if kind == "play":
            return _play(fields)
        if kind == "want":
            return Want(fields.integer("until", 0, _FAR), _position(fields, "keep"))
        if kind in ("set", "reset"):
            changes = {RESET: True} if kind == "reset" else _settings(fields)
            number = fields.integer("id", 1, (1 << 32) - 1)
            return Set(number, changes, _position(fields, "from"), _position(fields, "until"))
        if kind == "underrun":
            return Underrun(fields.integer("count", 1, 1_000_000))
        if kind == "stop":
            return Stop()
        raise Unreadable(f"there is nothing to do that is called {kind[:40]!r}")
    except Unreadable as error:
        refusal = RefusedPlay if kind == "play" else ConfigError
        raise refusal(f"a message cannot be obeyed: {error}") from None


def _position(fields: Fields, name: str) -> int | None:
    """A position that a message may leave out."""
    return fields.integer(name, 0, _FAR) if fields.has(name) else None


def _settings(fields: Fields) -> dict[str, Any]:
    """The settings that a message has."""
    return {name: fields.value(name) for name in _SETTINGS if fields.has(name)}


def _play(fields: Fields) -> Play:
    score = fields.value("score") if fields.has("score") else []
    if not isinstance(score, list) or len(score) > MOST_CHANGES:
        raise Unreadable(f"score must be a list of at most {MOST_CHANGES} entries")
    prompt = fields.value("prompt") if fields.has("prompt") else None
    seed = fields.value("seed") if fields.has("seed") else None
    return Play(
        model=fields.text("model"),
        seed=None if seed is None else fields.integer("seed", 0, 2**64 - 1),
        changes=_settings(fields),
        prompt=None if prompt is None else fields.text("prompt"),
        block=fields.integer("block", 1, 1 << 16) if fields.has("block") else 128,
        score=[_change(entry) for entry in score],
    )


def _change(entry: Any) -> Change:
    """An entry of a score: a position and what changes there, whose values are checked when the stream begins."""
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], dict):
        raise Unreadable("an entry of a score must be a position and what changes there")
    if not isinstance(entry[0], int) or not 0 <= entry[0] <= _FAR:
        raise Unreadable(f"a position of a score must be a whole number from 0 to {_FAR}")
    return entry[0], entry[1]
