"""Entries that are not one whole recording: medleys of short recordings, and pieces of long ones.

`preparation` first writes every recording, which gives each its hash and its split, and then arranges them here. The
plan of an entry lists its parts, and `rearrange` copies them in that order, so every sample stays as it was.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from samplernn_fast.data.folder import SAMPLE, Int16Array
from samplernn_fast.data.manifest import SPLITS, Part, Recording
from samplernn_fast.data.splits import split_by_share

CUT_SECONDS = 60
"""The shortest recording that `cut` cuts."""
GAP_SECONDS = 2
"""What `cut` leaves out where training audio and held-out audio, or two held-out splits, would touch."""
_PIECES = 50  # most pieces that a recording is cut into before they are shared out
_PIECE_SECONDS = 5  # the shortest of them; after the gaps at both ends something is left
_COPIED_AT_ONCE = 1 << 20  # samples


@dataclass(frozen=True)
class Plan:
    """An entry to make: its name, its split, and the parts that it is made of, in order."""

    path: str
    split: str
    parts: tuple[Part, ...]
    length: int
    """How many samples it has, pauses between the parts included."""


def whole(recordings: Sequence[Recording]) -> list[Plan]:
    """Plans every recording as it is."""
    return [Plan(r.path, r.split, (Part(r.path, 0, 0, r.length),), r.length) for r in recordings]


def cut(recordings: Sequence[Recording], shares: tuple[float, float, float], seed: int, rate: int) -> list[Plan]:
    """Plans pieces of the recordings that last `CUT_SECONDS` or more, each in one split; the others stay whole.

    The pieces of a recording are shared out as recordings are by `split_by_share`. Between two splits `GAP_SECONDS`
    are left out, and neighbours of one split stay together. Exact copies are cut alike. rate: samples a second.
    """
    first_of: dict[str, str] = {}  # hash -> the name that stands for all copies
    for recording in sorted(recordings, key=lambda recording: recording.path):
        first_of.setdefault(recording.sha256, recording.path)
    long = [r for r in recordings if r.length >= CUT_SECONDS * rate]
    borders = {r.sha256: _borders(r.length, rate) for r in long}
    lengths = {
        f"{first_of[content]}/{start}": stop - start
        for content, places in borders.items()
        for start, stop in pairwise(places)
    }
    split_of = split_by_share(lengths, shares, seed)
    plans: list[Plan] = []
    for recording in recordings:
        if recording.sha256 not in borders:
            plans += whole([recording])
            continue
        places = borders[recording.sha256]
        splits = [split_of[f"{first_of[recording.sha256]}/{start}"] for start in places[:-1]]
        for split, start, stop in _runs(places, splits, GAP_SECONDS * rate):
            part = Part(recording.path, 0, start, stop - start)
            plans.append(Plan(f"{recording.path}/{_clock(start // rate)}", split, (part,), part.length))
    return plans


def _borders(length: int, rate: int) -> list[int]:
    """Where a recording of `length` samples is cut: the first and last sample of every piece, evenly."""
    count = min(_PIECES, length // (_PIECE_SECONDS * rate))
    return [length * number // count for number in range(count + 1)]


def _runs(places: Sequence[int], splits: Sequence[str], gap: int) -> Iterator[tuple[str, int, int]]:
    """Yields (split, start, stop) of neighbouring pieces of one split, without the gaps, which training gives up."""
    changes = [n for n in range(1, len(splits)) if splits[n] != splits[n - 1]]
    for first, last in zip([0, *changes], [*changes, len(splits)], strict=True):
        split, start, stop = splits[first], places[first], places[last]
        if first and (split == "train" or splits[first - 1] != "train"):
            start += gap
        if last < len(splits) and split == "train":
            stop -= gap
        yield split, start, stop


def _clock(seconds: int) -> str:
    return f"{seconds // 3600}h{seconds // 60 % 60:02}m{seconds % 60:02}s"


def join(entries: Sequence[Plan], seed: int, most: int, pause: int) -> list[Plan]:
    """Plans medleys that hold the entries of each split one after another, in an order drawn by `seed`.

    most: the samples that a medley may have; an entry that is longer is a medley of its own. pause: the samples of
    silence between two entries. The order depends on the names and the seed alone.
    """
    plans = []
    for split in SPLITS:
        inside = sorted((e for e in entries if e.split == split), key=lambda entry: _draw(seed, entry.path))
        medleys = list(_filled(inside, most, pause))
        digits = max(3, len(str(len(medleys) - 1)))
        for number, parts in enumerate(medleys):
            length = parts[-1].offset + parts[-1].length
            plans.append(Plan(f"joined/{split}-{number:0{digits}}", split, tuple(parts), length))
    return plans


def _draw(seed: int, path: str) -> bytes:
    """Where an entry stands in the order: a hash, which every version of Python and NumPy works out alike."""
    return hashlib.sha256(f"join/{seed}/{path}".encode(errors="surrogateescape")).digest()


def _filled(entries: Sequence[Plan], most: int, pause: int) -> Iterator[list[Part]]:
    """Yields the parts of one medley after another; an entry that no longer fits begins the next."""
    parts: list[Part] = []
    end = 0
    for entry in entries:
        begin = end + pause if parts else 0
        if parts and begin + entry.length > most:
            yield parts
            parts, begin = [], 0
        parts += [replace(part, offset=begin + part.offset) for part in entry.parts]
        end = begin + entry.length
    if parts:
        yield parts


def rearrange(source: Path, recordings: Sequence[Recording], plans: Sequence[Plan], target: Path) -> list[Recording]:
    """Writes the planned entries to `target`, a file as audio.i16, from those of `source`; returns them in order."""
    starts = {recording.path: recording.offset for recording in recordings}
    made, offset = [], 0
    with open(source, "rb") as audio, open(target, "wb") as file:
        for plan in plans:
            digest = hashlib.sha256()
            for block in _blocks(audio, starts, plan.parts):
                digest.update(block.data)
                file.write(block.data)
            made.append(Recording(plan.path, plan.split, offset, plan.length, digest.hexdigest(), plan.parts))
            offset += plan.length
    return made


def _blocks(audio: BinaryIO, starts: Mapping[str, int], parts: Sequence[Part]) -> Iterator[Int16Array]:
    """Yields the samples of an entry, and silence between its parts, in blocks that need little memory."""
    end = 0
    for part in parts:
        for first in range(end, part.offset, _COPIED_AT_ONCE):
            yield np.zeros(min(_COPIED_AT_ONCE, part.offset - first), SAMPLE)
        begin = starts[part.path] + part.start
        for first in range(begin, begin + part.length, _COPIED_AT_ONCE):
            audio.seek(first * SAMPLE.itemsize)
            yield np.fromfile(audio, SAMPLE, min(_COPIED_AT_ONCE, begin + part.length - first))
        end = part.offset + part.length
