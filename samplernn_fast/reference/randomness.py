"""Randomness: counter-based Philox, and how the samples of a call are drawn. NumPy alone.

`csrc/model/philox.h` is the C++ twin; `draw` turns 32-bit numbers into levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

_PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10 (Salmon et al. 2011): counter (..., 4) uint32 -> (..., 4) uint32."""
    words = [counter[..., word].astype(np.uint64) for word in range(4)]
    keys = list(key)
    for _ in range(10):
        product0, product1 = (words[2 * i] * np.uint64(_PHILOX_MULTIPLIERS[i]) for i in range(2))
        words = [
            (product1 >> _SHIFT) ^ words[1] ^ np.uint64(keys[0]),
            product1 & _LOW,
            (product0 >> _SHIFT) ^ words[3] ^ np.uint64(keys[1]),
            product0 & _LOW,
        ]
        keys = [(keys[i] + _PHILOX_KEY_STEPS[i]) & 0xFFFFFFFF for i in range(2)]
    return np.stack(words, axis=-1).astype(np.uint32)


def random_words(seed: int, streams: np.ndarray, start: int, steps: int) -> np.ndarray:
    """Four random words for samples start .. start + steps - 1 of every stream: (B, steps, 4) uint32.

    seed: 64 bits, the key. streams: (B,) numbers below 2^32. The counter is (t low, t high, stream, 0), so the words
    depend on (seed, stream, t) alone.
    """
    times = start + np.arange(steps, dtype=np.uint64)
    counter = np.zeros((len(streams), steps, 4), dtype=np.uint32)
    counter[..., 0] = times & _LOW
    counter[..., 1] = times >> _SHIFT
    counter[..., 2] = np.asarray(streams, dtype=np.uint32)[:, None]
    return philox(counter, (seed & 0xFFFFFFFF, seed >> 32))


def draws(seed: int, streams: np.ndarray, start: int, steps: int) -> np.ndarray:
    """The 32-bit draws of samples start .. start + steps - 1 of every stream, which are the first of `random_words`:
    (B, steps) uint32."""
    return np.ascontiguousarray(random_words(seed, streams, start, steps)[..., 0])


@dataclass(frozen=True, eq=False)
class Randomness:
    """What every draw of a call depends on besides the time. It is small enough to be handed to a GPU, which draws
    there."""

    seed: int
    """64 bits, one for all streams."""
    streams: np.ndarray
    """(B,) uint32: the number of each stream."""

    def draws(self, start: int, steps: int) -> np.ndarray:
        """The draws of samples start .. start + steps - 1 of every stream: (B, steps) uint32."""
        return draws(self.seed, self.streams, start, steps)

    def words(self, start: int, steps: int) -> np.ndarray:
        """All four random words of every sample, of which `draws` has the first: (B, steps, 4) uint32."""
        return random_words(self.seed, self.streams, start, steps)


@dataclass(frozen=True, eq=False)
class Drawing:
    """How the samples of one call are drawn, by whichever backend: randomness, temperature, and what is left out."""

    randomness: Randomness
    temperature: np.ndarray
    """(B, n) float32, one for every sample; 0 takes the likeliest level."""
    top_k: int = 0
    """Draw from the k likeliest levels; 0 is off."""
    top_p: float = 1.0
    """Draw from the likeliest levels that together have this probability; 1 is off."""

    @classmethod
    def unused(cls, levels: np.ndarray) -> "Drawing":
        """The drawing of known levels (B, n), none of which is drawn."""
        return cls(Randomness(0, np.zeros(len(levels), np.uint32)), np.ones(levels.shape, np.float32))

    def slice(self, start: int, stop: int) -> "Drawing":
        """The drawing of the samples from the start-th up to the stop-th."""
        return replace(self, temperature=self.temperature[:, start:stop])

    def of_rows(self, rows: Sequence[int], steps: int) -> "Drawing":
        """The drawing of the first samples of some rows of the batch alone."""
        chosen = list(rows)
        some = Randomness(self.randomness.seed, self.randomness.streams[chosen])
        return Drawing(some, self.temperature[chosen, :steps], self.top_k, self.top_p)


@dataclass(frozen=True, eq=False)
class MixedDrawing:
    """How the samples of one call are drawn where every stream has a way of its own, because it belongs to somebody
    else. Only a backend that says so (`Backend.mixes`) takes it in place of a `Drawing`."""

    seeds: np.ndarray
    """(B,) uint64."""
    streams: np.ndarray
    """(B,) uint32: the number of each stream."""
    times: np.ndarray
    """(B,) int64: each stream's own time at the first sample of the call. They may differ by whole top frames."""
    temperature: np.ndarray
    """(B, n) float32, as in `Drawing`."""
    top_k: np.ndarray
    """(B,) int32; 0 is off."""
    top_p: np.ndarray
    """(B,) float64; 1 is off."""

    @classmethod
    def of(cls, drawing: Drawing, t: int) -> "MixedDrawing":
        """The same as a `Drawing` says for a call that begins at time t."""
        streams = drawing.randomness.streams
        return cls(
            seeds=np.full(len(streams), drawing.randomness.seed, np.uint64),
            streams=streams,
            times=np.full(len(streams), t, np.int64),
            temperature=drawing.temperature,
            top_k=np.full(len(streams), drawing.top_k, np.int32),
            top_p=np.full(len(streams), drawing.top_p, np.float64),
        )

    @classmethod
    def together(cls, parts: Sequence["MixedDrawing"]) -> "MixedDrawing":
        """The drawing of the streams of several, one after another."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
