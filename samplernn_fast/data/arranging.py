"""Entries that are not one whole recording: short recordings joined into streams.

`preparation` first writes every recording, which gives each its hash and its split, and then arranges them here. The
plan of an entry lists its parts, and `rearrange` copies them in that order, so every sample stays as it was.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samplernn_fast.data.folder import SAMPLE, SPLITS, Int16Array, Part, Recording

_COPIED_AT_ONCE = 1 << 20  # samples


@dataclass(frozen=True)
class Plan:
    """An entry to make: its name, its split, and the parts that it is made of, in order."""

    path: str
    split: str
    parts: tuple[Part, ...]
    length: int
    """How many samples it has, pauses between the parts included."""


def join(recordings: Sequence[Recording], seed: int, most: int, pause: int) -> list[Plan]:
    """Plans streams that hold the recordings of each split one after another, in an order drawn by `seed`.

    most: the samples that a stream may have; a recording that is longer is a stream of its own. pause: the samples of
    silence between two recordings. The order depends on the names and the seed alone.
    """
    plans = []
    for split in SPLITS:
        inside = sorted((r for r in recordings if r.split == split), key=lambda r: _draw(seed, r.path))
        streams = list(_filled(inside, most, pause))
        digits = max(3, len(str(len(streams) - 1)))
        for number, parts in enumerate(streams):
            length = parts[-1].offset + parts[-1].length
            plans.append(Plan(f"joined/{split}-{number:0{digits}}", split, tuple(parts), length))
    return plans


def _draw(seed: int, path: str) -> bytes:
    """Where a recording stands in the order: a hash, which every version of Python and NumPy works out alike."""
    return hashlib.sha256(f"join/{seed}/{path}".encode(errors="surrogateescape")).digest()


def _filled(recordings: Sequence[Recording], most: int, pause: int) -> Iterator[list[Part]]:
    """Yields the parts of one stream after another; a recording that no longer fits begins the next."""
    parts: list[Part] = []
    end = 0
    for recording in recordings:
        begin = end + pause if parts else 0
        if parts and begin + recording.length > most:
            yield parts
            parts, begin = [], 0
        parts.append(Part(recording.path, begin, 0, recording.length))
        end = begin + recording.length
    if parts:
        yield parts


def rearrange(source: Path, recordings: Sequence[Recording], plans: Sequence[Plan], target: Path) -> list[Recording]:
    """Writes the planned entries to `target`, a file as audio.i16, from those of `source`; returns them in order."""
    audio = np.memmap(source, SAMPLE, mode="r").view(np.ndarray)
    starts = {recording.path: recording.offset for recording in recordings}
    made, offset = [], 0
    with open(target, "wb") as file:
        for plan in plans:
            digest = hashlib.sha256()
            for block in _blocks(audio, starts, plan.parts):
                digest.update(block.data)
                file.write(block.data)
            made.append(Recording(plan.path, plan.split, offset, plan.length, digest.hexdigest(), plan.parts))
            offset += plan.length
    return made


def _blocks(audio: Int16Array, starts: Mapping[str, int], parts: Sequence[Part]) -> Iterator[Int16Array]:
    """Yields the samples of an entry, and silence between its parts, in blocks that need little memory."""
    end = 0
    for part in parts:
        for first in range(end, part.offset, _COPIED_AT_ONCE):
            yield np.zeros(min(_COPIED_AT_ONCE, part.offset - first), SAMPLE)
        begin = starts[part.path] + part.start
        for first in range(begin, begin + part.length, _COPIED_AT_ONCE):
            yield audio[first : min(first + _COPIED_AT_ONCE, begin + part.length)]
        end = part.offset + part.length
