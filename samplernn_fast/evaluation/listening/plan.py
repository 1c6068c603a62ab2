"""Which pairs of clips a listener hears: every pair of systems equally often, everything else at random.

The pairs of systems stand in one cyclic order for the whole test, and each listener takes the next `trials` of them.
So the numbers of two pairs of systems differ by one at most, for one listener and for all listeners together, however
many there are. Which clips are heard, in which order, and on which side, is random.
"""

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

from samplernn_fast.evaluation.listening.folder import ListeningTest


class Pair(NamedTuple):
    """The clips of one trial, by their names in the test."""

    a: str
    b: str


def pairs_of(test: ListeningTest, listener: int) -> list[Pair]:
    """The pairs of one listener, in the order of the trials. listener: a number from 1 on."""
    names = test.names()
    cycle = list(itertools.combinations(names, 2))
    random.Random(f"{test.seed} pairs of systems").shuffle(cycle)
    start = (listener - 1) * test.trials
    chosen = [cycle[at % len(cycle)] for at in range(start, start + test.trials)]
    draw = random.Random(f"{test.seed} listener {listener}")
    draw.shuffle(chosen)
    decks = {name: _deck(test.clips_of(name), draw) for name in names}
    pairs = []
    for systems in chosen:
        one, other = (next(decks[name]) for name in systems)
        pairs.append(Pair(one, other) if draw.random() < 0.5 else Pair(other, one))
    return pairs


def _deck(clips: list[str], draw: random.Random) -> Iterator[str]:
    """The clips in random order, all of them before one comes again."""
    while True:
        yield from draw.sample(clips, len(clips))
