"""How long the warps of a kernel wait before they look for packets (`Params::first_look`), measured on the GPU at hand.

A look that comes too early is in the way of the packets, and one that comes late wastes time. Which wait is best
depends on the kernel and on how long packets take on a GPU (docs/decisions/cuda.md). No number that a kernel makes
depends on it.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from samplernn_fast.backends import cache

if TYPE_CHECKING:
    import torch

MOST_STREAMS = 64
"""With more streams in a group of blocks a wait is too small a part of a sample to be measured."""
_COARSE, _FINE = range(0, 1201, 150), (-100, -50, 50, 100)
_MOST_TICKS = _COARSE[-1] + _FINE[-1]
_ROUNDS = 3
_WORTH_IT = 0.99  # A wait that is not faster by so much may be the noise of the clock.
# Where four of six launches with the usual wait take longer than the quickest one by more, others use the GPU.
_STEADY = 1.05
_BYTES = 4
MEASURED = cache.Store("first-looks", ".ticks", 1 << 20)
"""The waits that were measured on this machine."""
_VERSION = 1  # It is counted up when `best` searches in another way.


def measurable(device: "torch.device") -> bool:
    """This says whether launches on a device take the time of a GPU. Those on a GPU that is played do not."""
    return device.type == "cuda"


def best(usual: int, seconds: Callable[[int], float]) -> int | None:
    """The wait, in ticks of a multiprocessor's clock, with which a kernel is fastest, or `usual` where that is as good;
    None where the launches of one wait take so different times that nothing can be told.

    seconds: the time of a launch with a wait. Waits take turns, so that a change of the GPU's clock meets all of them,
    and each counts with its least time.
    """
    times: dict[int, list[float]] = {}

    def take_turns(waits: Collection[int]) -> None:
        for _ in range(_ROUNDS):
            for ticks in waits:
                times.setdefault(ticks, []).append(seconds(ticks))

    def least(ticks: int) -> float:
        return min(times[ticks])

    seconds(usual)  # The first launch may be slow.
    take_turns([usual, *(ticks for ticks in _COARSE if ticks != usual)])
    middle = min(times, key=least)
    take_turns(dict.fromkeys([usual, middle, *(middle + ticks for ticks in _FINE if middle + ticks >= 0)]))
    found = min(times, key=least)
    of_usual = sorted(times[usual])
    if of_usual[(len(of_usual) - 1) // 2] > _STEADY * of_usual[0]:
        return None
    return found if least(found) < _WORTH_IT * least(usual) else usual


def kept_or_best(program: str, usual: int, seconds: Callable[[int], float]) -> int:
    """The wait that was kept for a program on this kind of GPU, else the best one, which is kept then; `usual` where
    nothing can be told now.

    program: tells the program and the kind of GPU from all others.
    """
    name = cache.key([str(_VERSION), program])
    content = MEASURED.read(name)
    if content is not None and len(content) == _BYTES and int.from_bytes(content, "little") <= _MOST_TICKS:
        return int.from_bytes(content, "little")
    found = best(usual, seconds)
    if found is None:
        return usual
    MEASURED.write(name, found.to_bytes(_BYTES, "little"))
    return found
