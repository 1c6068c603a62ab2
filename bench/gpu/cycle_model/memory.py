"""A block reads and writes its shared memory, the arrays of the launch, and packets of other blocks.

Weights are zeros, temperatures 1, seeds 0, history the middle level. What comes from L2 comes at a limited rate, behind
a first-level cache that keeps what other blocks do not write.
"""

import collections

import numpy as np

from bench.gpu.cycle_model.kernel import Kernel
from bench.gpu.cycle_model.machine_code import Instruction, not_modelled
from bench.gpu.cycle_model.other_blocks import Buffer, OtherBlocks
from bench.gpu.cycle_model.registers import F32, LOCAL_BYTES, U32, U64, Warp
from bench.gpu.cycle_model.timing import L1_LATENCY, LATENCY, NEAR_L2_BYTES, OPERANDS_READ, Timing

WINDOW_HIGH = 0x7FF0
"""The upper half of the generic addresses of shared memory."""
_SHARED_FROM = 0x400  # where shared memory begins in its window of addresses
_SHARED_BYTES = 228 << 10
_LINE = 128
# The bytes of what members of Params point to, except the weights.
_ARRAYS = {
    **{"hidden": 1 << 20, "new_hidden": 1 << 20, "history": 1 << 16, "levels": 1 << 18},
    **{"temperature": 1 << 18, "drawings": 1 << 16, "workspace": 64 << 20, "error": 1 << 12, "profile": 1 << 12},
}
_DRAWING_WORDS, _NUMBER_OF_STREAM = 8, 4  # of StreamDrawing in csrc/cuda/params.h
_TIME_LIMIT_NS = 2_000_000_000


class Memory:
    """The memory that one block of a launch of `steps` samples sees."""

    def __init__(self, kernel: Kernel, steps: int, timing: Timing) -> None:
        self.kernel, self.steps, self.timing = kernel, steps, timing
        self.others = OtherBlocks(kernel)
        self.shared = np.zeros(_SHARED_BYTES // 4 + 64, U32)
        sizes = _ARRAYS | {"weights": kernel.weight_bytes}
        self._arrays = {name: (k << 32, np.zeros(size // 4, U32)) for k, (name, size) in enumerate(sizes.items(), 1)}
        self.array("temperature").view(F32)[:] = 1
        self.array("history")[:] = kernel.levels // 2
        drawings = self.array("drawings").reshape(-1, _DRAWING_WORDS)
        drawings[:, _NUMBER_OF_STREAM] = np.arange(len(drawings))
        self.constants = {0x28: 0, 0x208: 0, 0x20C: 0}
        values = {name: base for name, (base, _) in self._arrays.items()}
        values |= {"time_limit": _TIME_LIMIT_NS, "steps": steps, "first_look": kernel.first_look}
        for name, at in kernel.parameters.items():
            value = values.get(name, 0)
            self.constants[at] = value & 0xFFFFFFFF
            if value >> 32:
                self.constants[at + 4] = value >> 32
        self.drawn: list[tuple[int, int]] = []
        """(level, cycle) of each sample of the first stream."""
        self._arriving: dict[Buffer, tuple[int, float]] = {}  # of a cluster: the tag and the time
        self._shared_free = 0
        self._l2_free = 0.0
        self._l2_rate = timing.l2_rate if kernel.l2_bytes <= NEAR_L2_BYTES else timing.far_l2_rate
        self._l1: collections.OrderedDict[int, None] = collections.OrderedDict()

    def array(self, name: str) -> np.ndarray:
        """The words of an array of the launch."""
        return self._arrays[name][1]

    # --- shared memory --------------------------------------------------------------------------

    def shared_access(self, w: Warp, i: Instruction, lanes: np.ndarray, t: int) -> int:
        """Executes LDS or STS. Returns its latency."""
        words, load = words_of(i), i.op == "LDS"
        at = (w.address(i.args[1] if load else i.args[0]) & U64(0xFFFFFF)).astype(np.int64) - _SHARED_FROM
        waves = _waves(at, lanes, words)
        began = max(t, self._shared_free)
        self._shared_free = began + waves
        index = at[lanes] // 4
        narrow = [mod for mod in i.mods if mod.lstrip("US") in ("8", "16")]
        if load:
            if narrow:
                raise not_modelled(i)
            self._arrive(t)
            if i.args[0] != "RZ":
                first = int(i.args[0][1:])
                for k in range(words):
                    w.R[first + k][lanes] = self.shared[index + k]
            return LATENCY["LDS"] + began - t + waves - 1
        if narrow:
            kind = np.uint8 if narrow[0].endswith("8") else np.uint16
            value = w.int32(i.args[1]) & U32(np.iinfo(kind).max)
            self.shared.view(kind)[(at // np.dtype(kind).itemsize)[lanes]] = value.astype(kind)[lanes]
            return OPERANDS_READ
        for k in range(words):
            value = np.zeros(32, U32) if i.args[1] == "RZ" else w.R[int(i.args[1][1:]) + k]
            self.shared[index + k] = value[lanes]
        return OPERANDS_READ

    def _arrive(self, t: int) -> None:
        """Puts what has come from the blocks of a cluster into shared memory."""
        if not self._arriving:
            return
        for buffer in [buffer for buffer, (_, time) in self._arriving.items() if time <= t]:
            vector, place, number = buffer
            tag, _ = self._arriving.pop(buffer)
            assert self.kernel.pushed_at is not None
            start = self.kernel.pushed_at + vector.offset + place * vector.place_bytes + number * vector.buffer_bytes
            words = self.others.words(vector, 0, vector.buffer_bytes // 4, tag)
            self.shared[start // 4 : start // 4 + len(words)] = words

    def local_access(self, w: Warp, i: Instruction, lanes: np.ndarray) -> int:
        """Executes LDL or STL, by which a thread keeps what it has no registers for. Returns its latency."""
        load = i.op == "LDL"
        index = (w.address(i.args[1] if load else i.args[0]).astype(np.int64) % LOCAL_BYTES) // 4
        for k in range(words_of(i)):
            if not load:
                value = np.zeros(32, U32) if i.args[1] == "RZ" else w.R[int(i.args[1][1:]) + k]
                w.local[index[lanes] + k, lanes] = value[lanes]
            elif i.args[0] != "RZ":
                w.R[int(i.args[0][1:]) + k][lanes] = w.local[index[lanes] + k, lanes]
        return L1_LATENCY if load else OPERANDS_READ

    # --- global memory --------------------------------------------------------------------------

    def _find(self, address: int) -> tuple[str, int, np.ndarray]:
        """The name of the array that has an address, the number of the word, and the words."""
        for name, (base, words) in self._arrays.items():
            if base <= address < base + 4 * len(words):
                return name, (address - base) // 4, words
        raise RuntimeError(f"no array holds {address:#x}")

    def _in_exchange(self, address: int) -> int | None:
        """The offset of an address among the buffers of exchanges, None where it lies elsewhere."""
        offset = address - self._arrays["workspace"][0]
        return offset if self.kernel.pushed_at is None and 0 <= offset < self.kernel.exchange_bytes else None

    def load(self, w: Warp, i: Instruction, lanes: np.ndarray, t: int) -> int:
        """Executes LDG. Returns its latency."""
        words, strong, addresses = words_of(i), "STRONG" in i.mods, w.address(i.args[1])
        active = [(lane, int(addresses[lane])) for lane in np.nonzero(lanes)[0]]
        if strong and self._in_exchange(active[0][1]) is not None:
            return self._look(w, i, active, words, t)
        missing = 0
        for line in {address // _LINE for _, address in active}:
            if line in self._l1:
                self._l1.move_to_end(line)
                continue
            missing += 1
            if not strong:
                self._l1[line] = None
            if len(self._l1) > self.timing.l1_lines:
                self._l1.popitem(last=False)
        if i.args[0] != "RZ":
            first = int(i.args[0][1:])
            for lane, address in active:
                _, word, array = self._find(address)
                for k in range(words):
                    w.R[first + k][lane] = array[word + k]
        return self._from_l2(_LINE * missing, t) if missing else L1_LATENCY

    def _from_l2(self, size: int, t: int) -> int:
        began = max(t, self._l2_free)
        self._l2_free = began + size / self._l2_rate
        return self.timing.load + int(began - t)

    def _look(self, w: Warp, i: Instruction, active: list[tuple[int, int]], words: int, t: int) -> int:
        """Reads packets, which may have come or not when the load reaches L2."""
        first = int(i.args[0][1:])
        for lane, address in active:
            offset = self._in_exchange(address)
            assert offset is not None
            w.R[first : first + words, lane] = self.others.read(offset, words, t + self.timing.load // 2)
        return self._from_l2(32 * len({address // 32 for _, address in active}), t)

    def store(self, w: Warp, i: Instruction, lanes: np.ndarray, t: int) -> int:
        """Executes STG or ST. Returns its latency."""
        words, addresses = words_of(i), w.address(i.args[0])
        register = None if i.args[1] == "RZ" else int(i.args[1][1:])
        pushed = ".64" not in i.args[0]  # to the window of addresses that the cluster shares
        for lane in np.nonzero(lanes)[0]:
            address = int(addresses[lane])
            value = np.zeros(words, U32) if register is None else w.R[register : register + words, lane].copy()
            if pushed:
                assert self.kernel.pushed_at is not None
                offset = (address & 0xFFFFFF) - _SHARED_FROM - self.kernel.pushed_at
                buffer, _ = self.others.buffer(offset)
                arrival = t + self.timing.push + buffer[0].buffer_bytes / self.timing.push_rate
                self._arriving[buffer] = (self.others.give(offset, value, arrival), arrival)
            elif (offset := self._in_exchange(address)) is not None:
                self.others.give(offset, value, t + self.timing.stored)
            else:
                name, word, array = self._find(address)
                array[word : word + words] = value
                if name == "levels" and word < self.steps:
                    self.drawn.append((int(value[0]), t))
        return OPERANDS_READ


def words_of(i: Instruction) -> int:
    """Returns how many words of 4 bytes an instruction moves."""
    return 4 if "128" in i.mods else 2 if "64" in i.mods else 1


def _waves(at: np.ndarray, lanes: np.ndarray, words: int) -> int:
    """Returns how often the banks are read: once for each group of lanes with 128 bytes, more often in conflicts."""
    waves, group = 0, 32 // words
    for begin in range(0, 32, group):
        part = at[begin : begin + group][lanes[begin : begin + group]] // 4
        if len(part):
            wanted = {int(word) + k for word in part for k in range(words)}
            waves += max(collections.Counter(word % 32 for word in wanted).values())
    return waves
