"""`Part`: what one model makes with one seed, from one change of the radio to the next."""

from collections import deque
from typing import Any

import numpy as np

from samplernn_fast.audio import quantize
from samplernn_fast.audio.resampling import resample
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.memory import Memory
from samplernn_fast.errors import CheckpointError
from samplernn_fast.serving.radio import guarding, levelling
from samplernn_fast.serving.radio.guarding import Fault, Guard
from samplernn_fast.serving.radio.program import Plan, Program

AHEAD = guarding.LATEST + 1
"""So many blocks are made beyond the one that is heard, so that a fault is known before it was heard for long."""
CHANGE_FADE, FAULT_FADE = 4, 2
"""The blocks of a cross-fade. Whoever leaves a fault has little time for it."""
_KEPT = max(guarding.MEMORY, AHEAD + 3)  # blocks, and states of the model before each


class Part:
    """Makes and judges the blocks of one plan, and gives each of them once, at its loudness."""

    def __init__(self, plan: Plan, engine: Engine, start: int, sizes: tuple[int, int], rate: int) -> None:
        """start: the block of the radio at which it begins. sizes: the samples of a block, of the model and of the
        radio. rate: of the radio, in Hz."""
        self.plan, self.engine, self.start, self.rate = plan, engine, start, rate
        self._size, self._out_size = sizes
        self._own_rate = engine.config.sample_rate
        self.end = max(CHANGE_FADE, round(plan.seconds * self._own_rate / self._size))
        """The block of this part at which the next one takes over; a fault brings it nearer."""
        self.fault: Fault | None = None
        self.made = 0
        self._state = engine.init_state(1, seed=plan.seed)
        self._quantizer = quantize.for_config(engine.config)
        self._weights = levelling.k_weights(self._size, self._own_rate)
        self._powers: deque[float] = deque(maxlen=levelling.MEMORY)
        self._gain: float | None = None
        self._forget()

    def _forget(self) -> None:
        """Nothing is known of what was made before."""
        self._guard = Guard(self._own_rate, self.made)
        self._blocks: deque[tuple[int, np.ndarray]] = deque(maxlen=_KEPT)
        self._moments: deque[tuple[int, Memory]] = deque(maxlen=_KEPT)

    def make(self, until: int, program: Program) -> None:
        """Makes what has to be there for the block `until` of this part to be heard."""
        while self.made < min(until + 1 + AHEAD, self.end + CHANGE_FADE + 1):
            fault = self._make_one(program)
            if fault is not None and self.fault is None and fault.leave < self.end:
                self.fault, self.end = fault, fault.leave

    def _make_one(self, program: Program) -> Fault | None:
        seconds, state = (self.start + self.made) * self._size / self._own_rate, self._state
        self._moments.append((self.made, state.memory()))
        state.temperature = program.temperature(seconds)
        state.set_truncation(None, program.top_p(seconds))
        block = self._quantizer.decode(self.engine.run(state, self._size)[0])
        self._blocks.append((self.made, block))
        self._powers.append(levelling.power(block, self._weights))
        self.made += 1
        return self._guard.add(block)

    def sound(self, number: int, wanted: float) -> np.ndarray:
        """The block of that number, (n,) float64 at the radio's rate; they are asked for in turn. wanted: LUFS."""
        gain = levelling.next_gain(self._gain, self._powers, wanted)
        first = gain if self._gain is None else self._gain
        self._gain = gain
        return self._at_rate(number) * levelling.ramp(first, gain, self._out_size)

    def _at_rate(self, number: int) -> np.ndarray:
        """A block at the radio's rate. Its neighbours are resampled too, so that no border is heard."""
        blocks = dict(self._blocks)
        if self._own_rate == self.rate:
            return blocks[number].astype(np.float64)
        silence = np.zeros(self._size, np.float32)
        three = np.concatenate([blocks.get(one, silence) for one in range(number - 1, number + 2)])
        resampled = resample(three, self._own_rate, self.rate)
        return resampled[self._out_size : 2 * self._out_size].astype(np.float64)

    def saved(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What makes this part again as it stands: numbers, and arrays. It is small, because the newest blocks are not
        in it, which are made once more."""
        first, moment = self._moments[0]
        arrays = {f"hidden.{tier}": np.ascontiguousarray(one) for tier, one in enumerate(moment.arrays)}
        arrays |= {"history": np.ascontiguousarray(moment.history), "powers": np.array(self._powers)}
        fault = None if self.fault is None else list(self.fault)
        numbers = {"first": first, "t": moment.t, "made": self.made, "end": self.end}
        return numbers | {"gain": self._gain, "fault": fault}, arrays

    def restore(self, numbers: dict[str, Any], arrays: dict[str, np.ndarray], program: Program) -> None:
        """Goes on where `saved` was called. Raises CheckpointError where that does not fit."""
        first, made = int(numbers["first"]), int(numbers["made"])
        if not 0 <= made - first <= _KEPT:
            raise CheckpointError("the state of the radio does not fit")
        tiers = len(self._state.hidden)
        hidden = [arrays[f"hidden.{tier}"] for tier in range(tiers)]
        self._state.load_state_dict(
            self._state.state_dict() | {"hidden": hidden, "history": arrays["history"], "t": int(numbers["t"])}
        )
        self.made = first
        self._forget()
        while self.made < made:
            self._make_one(program)
        self._powers.clear()
        self._powers.extend(float(one) for one in arrays["powers"])
        self.end, self._gain = int(numbers["end"]), numbers["gain"]
        self.fault = None if numbers["fault"] is None else Fault(*numbers["fault"])
