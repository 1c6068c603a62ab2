"""The time that one thread block takes on a multiprocessor of sm_90.

Modelled are four schedulers, each with a share of the warps and one instruction a cycle; stall counts and scoreboards,
as the instructions' control bits say; the widths of the integer, special-function and float64 pipes; the banks and the
one pipe of shared memory; a first-level cache behind a rate of L2; first-level instruction caches; barriers; taken
branches; lanes that part and meet.

Not modelled are larger instruction caches, queues that other blocks' reads fill, blocks that are late, conflicts of
register banks, translation of addresses, and changes of the clock.
"""

import collections
import re
from collections.abc import Callable

import numpy as np

from bench.gpu.cycle_model import conversions  # noqa: F401  (it fills COMPUTE)
from bench.gpu.cycle_model.fetch import InstructionCache
from bench.gpu.cycle_model.instructions import COMPUTE
from bench.gpu.cycle_model.kernel import Kernel
from bench.gpu.cycle_model.machine_code import Instruction, not_modelled
from bench.gpu.cycle_model.memory import WINDOW_HIGH, Memory
from bench.gpu.cycle_model.registers import LANES, U32, U64, Warp, low32
from bench.gpu.cycle_model.timing import LATENCY, OPERANDS_READ, USUAL_LATENCY, Timing, pipe_of

_SCHEDULERS = 4
_ALL_LANES = 99  # stands for the convergence barrier of WARPSYNC.ALL
_NOTHING = {"YIELD", "NOP", "ENDCOLLECTIVE", "ERRBAR", "CGAERRBAR", "MEMBAR", "CCTL", "NANOSLEEP", "UCGABAR_ARV"}
_NOTHING |= {"UCGABAR_WAIT"}


class Block:
    """One block: its warps, its place in time, and what it has executed."""

    def __init__(self, kernel: Kernel, steps: int, timing: Timing, keeps_scheduler: bool = False) -> None:
        """steps: samples of the launch. keeps_scheduler: whether a warp that waits for a result keeps its scheduler, so
        that other warps wait for it, too. Schedulers do not do that."""
        self.program, self.labels, self.timing = kernel.program, kernel.labels, timing
        self._keeps_scheduler = keeps_scheduler
        self.memory = Memory(kernel, steps, timing)
        self.threads = kernel.threads
        self.warps = [Warp(number, self.memory.constants) for number in range(kernel.threads // 32)]
        self.executed: collections.Counter[int] = collections.Counter()
        """How often each instruction of the program was executed by a warp."""
        self.log: list[tuple[int, int]] = []
        """The first warp's instructions: (place in the program, cycle of its end) of each."""
        self._places = {i.address: k for k, i in enumerate(self.program)}
        self._latency = LATENCY | {"B2R": timing.vote, "REDUX": timing.reduction}
        self._pipes = [pipe_of(i.op, i.mods) for i in self.program]
        self._caches = [InstructionCache(timing.fetch, timing.fetch_each) for _ in range(_SCHEDULERS)]
        self._busy: dict[object, int] = collections.defaultdict(int)
        self._meetings: dict[int, list[tuple[Warp, int, bool, bool]]] = collections.defaultdict(list)

    def run(self, until: Callable[[], bool]) -> None:
        """Executes instructions until the block has ended or `until` says so."""
        while not until():
            ready = [warp for warp in self.warps if not (warp.done or warp.at_barrier)]
            if not ready:
                if all(warp.done for warp in self.warps):
                    return
                raise RuntimeError("all warps wait at barriers")
            self.step(min(ready, key=self._next_time))

    def _next_time(self, w: Warp) -> int:
        return w.time if self._keeps_scheduler else w.ready

    def step(self, w: Warp) -> None:
        """Executes the next instruction of a warp."""
        at, active = w.next
        i = self.program[at]
        lanes = active
        if i.predicate:
            lanes = active & w.predicate(("!" if i.negated else "") + i.predicate)
        self.executed[at] += 1
        w.count += 1
        t = self._issue(w, at)
        w.pc[active] = at + 1
        latency, taken = self._latency.get(i.op, USUAL_LATENCY), False
        if i.op in _CONTROL:
            taken = self._control(w, i, active, lanes)
        elif i.op == "BAR":
            self._barrier(w, i, active, t)
        elif i.op == "B2R":
            for predicate in i.args[1:]:
                w.set_predicate(predicate, np.full(32, w.voted), lanes)
        elif i.op not in _NOTHING and lanes.any():
            latency = self._compute(w, i, lanes, t) or latency
        w.time = max(w.time, t + max(1, i.stall) + (self.timing.branch if taken else 0))
        if i.writes < 6:
            w.scoreboards[i.writes] = max(w.scoreboards[i.writes], t + latency)
        if i.reads < 6:
            w.scoreboards[i.reads] = max(w.scoreboards[i.reads], t + OPERANDS_READ)
        if not w.done:
            w.next = self._next(w)
            self._come_up(w, self.program[w.next[0]])
        if w.number == 0:
            self.log.append((at, w.time))

    def _come_up(self, w: Warp, i: Instruction) -> None:
        """Fetches a warp's next instruction, and tells when all that it waits for is there."""
        if self.timing.fetch:
            w.time = max(w.time, self._caches[w.number % _SCHEDULERS].ready(w.number, i.address, w.time))
        if not self._keeps_scheduler:
            w.ready = max([w.time, *(w.scoreboards[k] for k in i.waits)])

    def _next(self, w: Warp) -> tuple[int, np.ndarray]:
        """The place of a warp's next instruction, and the lanes that execute it: those that are behind the others."""
        running = w.alive & (w.waits_for < 0)
        at = int(w.pc[running].min())
        return at, running & (w.pc == at)

    def _issue(self, w: Warp, at: int) -> int:
        """Takes the scheduler and the pipe for an instruction, and returns when it begins."""
        scheduler, pipe, busy = w.number % _SCHEDULERS, self._pipes[at], self._busy
        t = max([w.time, busy[scheduler], *(w.scoreboards[k] for k in self.program[at].waits)])
        if pipe:
            t = max(t, busy[scheduler, pipe[0]])
            busy[scheduler, pipe[0]] = t + pipe[1]
        busy[scheduler] = t + 1
        return t

    def _control(self, w: Warp, i: Instruction, active: np.ndarray, lanes: np.ndarray) -> bool:
        """Executes what changes where lanes are. Returns whether a branch is taken."""
        if i.op in ("BRA", "CALL", "RET"):
            return self._jump(w, i, lanes)
        if i.op == "BSSY":
            w.meeting[int(i.args[0][1:])] = active.copy()
        elif i.op == "BSYNC":
            w.waits_for[lanes] = int(i.args[0][1:])
            w.release(int(i.args[0][1:]))
        elif i.op == "BREAK":
            barrier = int(i.args[-1][1:])
            w.meeting[barrier] = w.meeting[barrier] & ~lanes
            w.release(barrier)
        elif i.op == "WARPSYNC" and i.mods == ("ALL",):
            w.waits_for[lanes] = _ALL_LANES
            if ((w.waits_for == _ALL_LANES) | ~w.alive).all():
                w.waits_for[:] = -1
        elif i.op == "EXIT":
            w.alive[lanes] = False
            w.done = not w.alive.any()
        return False

    def _jump(self, w: Warp, i: Instruction, lanes: np.ndarray) -> bool:
        """Returns whether any lane goes elsewhere."""
        if i.op == "RET":
            if lanes.any():
                w.pc[lanes] = [self._places[int(x)] for x in w.int32(i.args[0].split()[0])[lanes]]
            return bool(lanes.any())
        if i.mods[:1] == ("DIV",):  # for a warp whose lanes are apart, which the model keeps together
            return False
        if i.op == "BRA" and len(i.args) == 2:
            lanes = lanes & w.predicate(i.args[0])
        if lanes.any():
            found = re.search(r"\((.*?)\)", i.args[-1])
            assert found, i.text
            w.pc[lanes] = self.labels[found[1]]
        return bool(lanes.any())

    def _barrier(self, w: Warp, i: Instruction, active: np.ndarray, t: int) -> None:
        """Comes to a barrier of the block: SYNC waits there, RED waits and votes, ARV only counts."""
        if not (active == w.alive).all():
            raise RuntimeError(f"a divergent barrier at {i.address:#x}")
        kind, args = i.mods[0], [arg for arg in i.args if not re.match(r"^!?U?P", arg)]
        number = int(w.int32(args[0])[0])
        threads = int(w.int32(args[1])[0]) if len(args) > 1 else self.threads
        votes = [arg for arg in i.args if arg not in args]
        vote = kind == "RED" and bool((w.predicate(votes[-1]) & active).any())
        meeting = self._meetings[number]
        meeting.append((w, t + 1, vote, kind != "ARV"))
        w.at_barrier = kind != "ARV"
        if 32 * len(meeting) < threads:
            return
        after = max(time for _, time, _, _ in meeting) + self.timing.barrier
        any_vote = any(vote for _, _, vote, _ in meeting)
        for one, _, _, waits in meeting:
            if waits:
                one.time, one.voted, one.at_barrier = max(one.time, after), any_vote, False
                one.ready = max(one.ready, one.time)
        meeting.clear()

    def _compute(self, w: Warp, i: Instruction, lanes: np.ndarray, t: int) -> int | None:
        """Executes any other instruction. Returns its latency, or None for the usual one."""
        if i.op in ("LDS", "STS"):
            return self.memory.shared_access(w, i, lanes, t)
        if i.op in ("LDL", "STL"):
            return self.memory.local_access(w, i, lanes)
        if i.op in ("LDG", "LD"):
            return self.memory.load(w, i, lanes, t)
        if i.op in ("STG", "ST"):
            return self.memory.store(w, i, lanes, t)
        if i.op == "CS2R":
            value = t if "CLOCK" in i.args[1] else 0
            if "32" in i.mods:
                w.set32(i.args[0], np.full(32, value, U32), lanes)
            else:
                w.set64(i.args[0], np.full(32, value, U64), lanes)
        elif i.op in ("S2R", "S2UR"):
            known = {"SR_TID.X": w.tid, "SR_CTAID.X": 0, "SR_CgaCtaId": 0, "SR_LANEID": LANES.astype(U32)}
            known["SR_SWINHI"] = WINDOW_HIGH
            w.set32(i.args[0], np.zeros(32, U32) + U32(known.get(i.args[1], t)), lanes)
        elif i.op in ("LDC", "ULDC"):
            self._constant(w, i, lanes)
        elif i.op in COMPUTE:
            return COMPUTE[i.op](w, i, lanes)
        else:
            raise not_modelled(i)
        return None

    def _constant(self, w: Warp, i: Instruction, lanes: np.ndarray) -> None:
        """Reads a constant bank, which holds the kernel's parameters."""
        found = re.match(r"c\[(0x\w+)\]\[(?:(\w+)\+?)?(-?0x\w+)?\]", i.args[1])
        assert found, i.text
        _, base, offset = found.groups()
        if base and base.startswith("0x"):
            at = np.full(32, int(base, 16), np.int64)
        else:
            at = (w.int32(base).astype(np.int64) if base else 0) + np.full(32, int(offset or "0", 16), np.int64)
        low, high = (np.array([w.constants.get(int(k) + part, 0) for k in at], U64) for part in (0, 4))
        if "64" in i.mods:
            w.set64(i.args[0], low | (high << U64(32)), lanes)
        else:
            w.set32(i.args[0], low32(low), lanes)


_CONTROL = {"BRA", "CALL", "RET", "BSSY", "BSYNC", "BREAK", "WARPSYNC", "EXIT"}
