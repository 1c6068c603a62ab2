"""How recordings are cut into chunks, and in which order an epoch reads them. No list of all chunks is made.

Training starts as quickly, and in as little memory, with thousands of hours as with one: what is kept is a few numbers
for each recording, from which the place of any chunk is worked out, and the order of large data is a formula.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

SORTED, COUNTED = "sorted", "counted"
"""The two orders of chunks: by sorting a random number for each, or by a formula that needs no list."""
SORTED_CHUNKS = 1 << 21
"""The most chunks that are sorted. That takes a second and 50 MB; twice as many, as every later epoch again, two."""
_ROUNDS = 8  # Each mixes one half of a number into the other; from four on no structure is left that a test finds.


def chunk_samples(sample_rate: int, chunk_seconds: float) -> int:
    """The largest number of samples in a chunk."""
    return max(1, round(sample_rate * chunk_seconds))


def chunk_count(length: int, largest: int) -> int:
    """How many chunks of at most `largest` samples a recording of `length` samples is cut into."""
    return -(-length // largest)


def chunk_step(length: int, largest: int, multiple: int) -> int:
    """How many samples lie between the starts of two chunks of a recording of `length` samples.

    All chunks are about equally long, so that no short one is left at the end. The step is a multiple of `multiple`
    (the subsequence) where `largest` allows it, so that only a last chunk needs padding.
    """
    even = -(-length // chunk_count(length, largest))
    return min(largest, -(-even // multiple) * multiple)


class Chunks:
    """The chunks of recordings, by number. Those of a recording leave no gap and do not overlap."""

    def __init__(self, offsets: IntArray, lengths: IntArray, largest: int, multiple: int) -> None:
        """offsets, lengths (R,): where each recording begins, and how many samples it has. largest, multiple: as
        `chunk_step`."""
        count = -(-lengths // largest)
        even = -(-lengths // count)
        self._steps = np.minimum(largest, -(-even // multiple) * multiple)
        self._ends = np.cumsum(-(-lengths // self._steps))  # the number behind each recording's last chunk
        self._offsets, self._lengths = offsets, lengths
        self.longest = int(np.minimum(self._steps, lengths).max(initial=0))
        """The samples of the longest chunk."""
        self.samples = int(lengths.sum())
        """The samples of all chunks."""

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def places(self, numbers: IntArray) -> tuple[IntArray, IntArray]:
        """First sample and length of the chunks of these numbers: two arrays of their shape."""
        recordings = np.searchsorted(self._ends, numbers, side="right")
        steps = self._steps[recordings]
        first = self._ends[recordings] - -(-self._lengths[recordings] // steps)
        begin = (numbers - first) * steps
        return self._offsets[recordings] + begin, np.minimum(self._lengths[recordings] - begin, steps)


class _Permutation(Protocol):
    """An order of the numbers from 0 to n - 1."""

    def at(self, places: IntArray) -> IntArray:
        """The numbers that stand at these places."""


class ChunkOrder:
    """Says which chunk comes at which turn.

    A specification fixes the raw words of Philox, so a resumed run meets the same order under every version of numpy;
    numpy's own `permutation` gives no such promise.
    """

    def __init__(self, seed: int, n_chunks: int, name: str) -> None:
        """name: SORTED or COUNTED."""
        self._seed, self._n_chunks, self.name = seed, n_chunks, name
        self._epoch = -1
        self._permutation: _Permutation = _Sorted(np.zeros(0, np.uint64))

    @classmethod
    def usual(cls, seed: int, n_chunks: int) -> "ChunkOrder":
        """The order of a run that begins now, which depends on the number of chunks alone."""
        return cls(seed, n_chunks, SORTED if n_chunks <= SORTED_CHUNKS else COUNTED)

    def chunks(self, turns: IntArray) -> IntArray:
        """The numbers (n,) of the chunks at (n,) turns."""
        epochs, places = np.divmod(turns, self._n_chunks)
        found = np.empty_like(turns)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            found[here] = self._of_epoch(epoch).at(places[here])
        return found

    def _of_epoch(self, epoch: int) -> _Permutation:
        if epoch != self._epoch:
            words = np.random.Philox(key=np.array([self._seed, epoch], np.uint64))
            if self.name == SORTED:
                self._permutation = _Sorted(words.random_raw(self._n_chunks))
            else:
                self._permutation = Counted(self._n_chunks, words.random_raw(_ROUNDS))
            self._epoch = epoch
        return self._permutation


class _Sorted:
    """The order in which random words stand when they are sorted."""

    def __init__(self, words: npt.NDArray[np.uint64]) -> None:
        self._order = np.argsort(words, kind="stable")

    def at(self, places: IntArray) -> IntArray:
        return self._order[places]


class Counted:
    """An order that is worked out for each place alone: a Feistel network, which is one-to-one whatever it mixes.

    It permutes the numbers of an even count of bits. A result that is no number below n is permuted again until it is
    one, which keeps it one-to-one; fewer than four times on average.
    """

    def __init__(self, n: int, keys: npt.NDArray[np.uint64]) -> None:
        """keys: a random word for each round."""
        self._n, self._keys = n, keys
        self._bits = np.uint64(max(1, -(-(n - 1).bit_length() // 2)))
        self._mask = np.uint64((1 << int(self._bits)) - 1)

    def at(self, places: IntArray) -> IntArray:
        """The numbers that stand at these places."""
        found = self._mixed(places.astype(np.uint64))
        while (outside := np.flatnonzero(found >= self._n)).size:
            found[outside] = self._mixed(found[outside])
        return found.astype(np.int64)

    def _mixed(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = numbers >> self._bits, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_scrambled(right ^ key) & self._mask)
        return left << self._bits | right


def _scrambled(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele, Lea and Flood, 2014): every bit in changes every bit out half of the time.

    Products wrap around at 64 bits, as they are meant to.
    """
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)
