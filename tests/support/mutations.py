"""What a fuzz test does to a file or to a value that is valid: damage of many kinds, drawn from a seeded generator."""

import json
import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

_EXTREMES = (0, 1, 2, 127, 128, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**24, 2**27, 2**29, 2**31 - 1, 2**31)
_WIDE = (2**32 - 1, 2**32, 2**40, 2**48, 2**56, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS = ("", "x", "a\nb", "\0", "\ud800", "é" * 300, "../..", "/dev/zero", "nan", "-1", "9" * 5000, "%s%n", "{}")
_NUMBERS = (0, -1, 1, 0.5, -0.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"), True, 10**30, 9 * 10**400)


def mutate(source: random.Random, content: bytes, others: Sequence[bytes] = ()) -> bytes:
    """`content` with one to eight damages. others: further valid contents, of which parts are put in."""
    damaged = bytearray(content)
    for _ in range(source.choice((1, 1, 1, 2, 3, 8))):
        source.choice(_DAMAGES)(source, damaged)
        if others and source.random() < 0.1:
            _splice(source, damaged, source.choice(others))
    return bytes(damaged)


def _flip(source: random.Random, data: bytearray) -> None:
    for _ in range(source.choice((1, 1, 4))):
        if data:
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def _overwrite(source: random.Random, data: bytearray) -> None:
    at, length = _place(source, data, 8)
    data[at : at + length] = source.randbytes(length)


def _extreme(source: random.Random, data: bytearray) -> None:
    """An integer of 1 to 8 bytes, in either order, or one in groups of 7 bits."""
    code = source.choice("BHIQ")
    value = source.choice(_EXTREMES + _WIDE) % (1 << 8 * struct.calcsize(code))
    raw = struct.pack(source.choice("<>") + code, value)
    if source.random() < 0.2:
        raw = bytes([255] * source.randrange(1, 10)) + b"\x01"
    at = source.randrange(len(data) + 1)
    data[at : at + (len(raw) if source.random() < 0.8 else 0)] = raw


def _digits(source: random.Random, data: bytearray) -> None:
    """Another number where one stands as text."""
    found = list(re.finditer(rb"\d+", bytes(data)))
    if found:
        begin, end = source.choice(found).span()
        data[begin:end] = str(source.choice((*_EXTREMES, *_WIDE, -1, 10**50, "9" * 5000))).encode()


def _cut(source: random.Random, data: bytearray) -> None:
    del data[source.randrange(len(data) + 1) :]


def _remove(source: random.Random, data: bytearray) -> None:
    at, length = _place(source, data, 64)
    del data[at : at + length]


def _insert(source: random.Random, data: bytearray) -> None:
    at = source.randrange(len(data) + 1)
    data[at:at] = source.randbytes(source.choice((1, 4, 100)))


def _repeat(source: random.Random, data: bytearray) -> None:
    at, length = _place(source, data, 64)
    data[at:at] = data[at : at + length] * source.choice((1, 1, 2, 50))


def _zeros(source: random.Random, data: bytearray) -> None:
    at, length = _place(source, data, 64)
    data[at : at + length] = bytes([source.choice((0, 0, 255))]) * length


def _move(source: random.Random, data: bytearray) -> None:
    at, length = _place(source, data, 64)
    part = data[at : at + length]
    del data[at : at + length]
    to = source.randrange(len(data) + 1)
    data[to:to] = part


_DAMAGES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _flip,
    _flip,
    _overwrite,
    _extreme,
    _extreme,
    _digits,
    _cut,
    _remove,
    _insert,
    _repeat,
    _zeros,
    _move,
)


def _splice(source: random.Random, data: bytearray, other: bytes) -> None:
    begin = source.randrange(len(other) + 1)
    at = source.randrange(len(data) + 1)
    part = other[begin : begin + source.choice((4, 40, 4000))]
    data[at : at + source.choice((0, len(part)))] = part


def _place(source: random.Random, data: bytearray, most: int) -> tuple[int, int]:
    """A first byte and a number of bytes inside the data."""
    at = source.randrange(len(data) + 1)
    return at, min(source.randint(1, most), len(data) - at)


def odd_value(source: random.Random) -> Any:
    """A value of JSON of any kind, of the sort that a reader does not expect."""
    kind = source.randrange(8)
    if kind < 3:
        return source.choice((*_NUMBERS, *_EXTREMES, *_WIDE))
    if kind < 5:
        return source.choice(_TEXTS)
    deep: Any = source.choice(([], {}, None))
    for _ in range(source.choice((0, 1, 1, 30, 200))):
        deep = [deep] if source.random() < 0.5 else {"a": deep}
    return source.choice((None, [], {}, deep, [1, 2], [None] * 300, {"": 0}, True, False))


def mutate_value(source: random.Random, value: Any) -> Any:
    """A copy of a value of JSON in which a few parts are replaced, left out, added or renamed."""
    copy = json.loads(json.dumps(value))
    for _ in range(source.choice((1, 1, 2, 5))):
        inner = source.choice(_containers(copy) or [None])
        if inner is None or source.random() < 0.02:
            return odd_value(source)
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = source.choice(keys) if keys else None
        action = source.randrange(6)
        if key is None or action == 0:
            if isinstance(inner, dict):
                inner[source.choice(_TEXTS)] = odd_value(source)
            else:
                inner.append(odd_value(source))
        elif action == 1:
            del inner[key]
        elif action == 2:
            inner[key] = inner[source.choice(keys)]
        else:
            inner[key] = odd_value(source)
    return copy


def _containers(value: Any) -> list[Any]:
    """All lists and dicts of a value, itself included."""
    found, waiting = [], [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (dict, list)) and len(found) < 10_000:
            found.append(one)
            waiting += one.values() if isinstance(one, dict) else one
    return found
