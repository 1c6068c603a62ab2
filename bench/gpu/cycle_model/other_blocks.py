"""The other blocks of a launch, which are played. Each gives a packet when the block that runs has given the packet of
the same rows, and it arrives a time later: nobody is late.

Packets hold fixed random numbers, so the logits that a block draws from are known. What lay in a buffer before stays
until a new packet is there, because a packet of 4 bytes tells its turn by the sign alone.
"""

import math

import numpy as np

from bench.gpu.cycle_model.kernel import Kernel, Vector
from bench.gpu.cycle_model.registers import F32, U32

_SIGN = U32(1 << 31)
_RANDOM = np.random.default_rng(0).standard_normal(4096).astype(F32).view(U32)

Buffer = tuple[Vector, int, int]
"""A vector, the number of its place from 0, and the buffer."""


class OtherBlocks:
    """What the buffers of exchanges hold at a time."""

    def __init__(self, kernel: Kernel) -> None:
        self._vectors = kernel.vectors[::-1]
        self._levels = kernel.levels
        self._given: dict[tuple[Buffer, int], tuple[int | None, int | None, float]] = {}
        """Of each packet of the block that runs: the tags of those that lie there and of those that come, and when
        these are there."""

    def buffer(self, offset: int) -> tuple[Buffer, int]:
        """Returns the buffer that an offset among all of them lies in, and the offset in that buffer."""
        vector = next(vector for vector in self._vectors if offset >= vector.offset)
        place, at = divmod(offset - vector.offset, vector.place_bytes)
        number, at = divmod(at, vector.buffer_bytes)
        return (vector, place, number), at

    def give(self, offset: int, packet: np.ndarray, arrival: float) -> int:
        """Takes note of a packet of the block that runs, in words: the others' are there at `arrival`.

        Returns its tag: the sequence number, or for packets of 4 bytes the sign.
        """
        buffer, at = self.buffer(offset)
        key = buffer, at // buffer[0].packet_bytes
        tag = int(packet[-1] if len(packet) > 1 else packet[0] & _SIGN)
        _, before, _ = self._given.get(key, (None, None, 0.0))
        self._given[key] = (before, tag, arrival)
        return tag

    def read(self, offset: int, count: int, time: float) -> np.ndarray:
        """`count` words at a time."""
        (buffer, at), parts = self.buffer(offset), []
        vector = buffer[0]
        size = vector.packet_bytes
        for packet in range(at // size, (at + 4 * count) // size):
            before, coming, arrival = self._given.get((buffer, vector.own_packet(packet)), (None, None, math.inf))
            tag = coming if time >= arrival else before
            parts.append(self.words(vector, packet * size // 4, size // 4, tag))
        return np.concatenate(parts)

    @staticmethod
    def words(vector: Vector, first: int, count: int, tag: int | None) -> np.ndarray:
        """Words of a buffer whose packets have that tag; zeros where none has been given."""
        at = np.arange(first, first + count)
        if tag is None:
            return np.zeros(count, U32)
        size = vector.packet_bytes // 4
        if size == 1:
            return _RANDOM[at % len(_RANDOM)] & ~_SIGN | U32(tag)
        numbers = size - 1
        played = _RANDOM[(at // size * numbers + at % size) % len(_RANDOM)]
        return np.where(at % size == numbers, U32(tag), played)

    def logits(self) -> np.ndarray:
        """The logits (levels,) of the first stream, which are the same in every sample."""
        vector = self._vectors[0]  # logits are exchanged last
        words = self.words(vector, 0, vector.buffer_bytes // 4, 0)
        return words[[vector.word(level) for level in range(self._levels)]].view(F32)
