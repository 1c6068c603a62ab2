"""One listener's stream of a model: settings that change at known positions, a frozen moment, a new beginning."""

import copy
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from samplernn_fast.audio import quantize
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.memory import Memory
from samplernn_fast.engine.state import EngineState
from samplernn_fast.engine.together import run_together
from samplernn_fast.errors import ConfigError, SampleRNNError, as_ours
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.serving.live.settings import RESET, Settings

_LEAST_GRAIN = 64  # samples
_LOOP_SECONDS = 0.5  # how long a frozen model goes on before it returns
_JOINT_SECONDS = 0.005  # how long it takes until a jump of the model's memory is no longer heard as a step
MOST_CHANGES = 5000
"""The most changes of a score."""
_MOST_ASKED = 400  # changes that wait for the next sample
_MOST_KEPT, _LEAST_KEPT = 128, 32  # snapshots of a slot; where there is no room for the fewest, there are none
_KEPT_BYTES = 1 << 22  # that they take at most

Change = tuple[int, dict[str, Any]]
"""A position, in samples since the stream began, and the settings that change there."""


class Report(NamedTuple):
    """A change that a listener asked for has taken effect."""

    number: int
    """By which the listener knows it."""
    at: int
    """The position from which on it holds."""
    changes: dict[str, Any]


def grain_of(config: AudioConfig) -> int:
    """The number of samples at whose multiples settings may change: whole frames of every tier."""
    return -(-_LEAST_GRAIN // config.top_frame) * config.top_frame


class _Asked(NamedTuple):
    """A change that a listener asked for and that does not hold yet."""

    number: int
    changes: dict[str, Any]
    since: int | None
    """The first position at which it may hold; None for the next sample that is not made yet."""


class Slot:
    """A stream of one listener. `advance` makes its samples; the other methods may be called from other threads.

    Its sound may be made far ahead of the ears and still change soon: `keep` takes snapshots, and `rewind` goes back to
    one of them, from which on the samples are made again as a listener wants them now.
    """

    def __init__(
        self,
        engine: Engine,
        seed: int,
        settings: Settings,
        prompt: np.ndarray | None = None,
        score: Sequence[Change] = (),
    ) -> None:
        """prompt: levels (T,) that the model has heard before. score: what changes by itself, in any order.

        Raises ConfigError for a score that cannot be.
        """
        self.engine, self.config, self.grain = engine, engine.config, grain_of(engine.config)
        self.settings = settings
        self.score = _checked_score(score, settings, self.config)
        self.state: EngineState = engine.init_state(1, seed=seed, prompt=prompt)
        self.position = 0  # samples since the stream began
        self.obeys = 0  # the number of the last change that a listener asked for and that holds now
        self.error: SampleRNNError | None = None  # why there are no more samples
        self._quantizer = quantize.for_config(engine.config)
        self._next = 0  # the first change of the score that does not hold yet
        self._asked: deque[_Asked] = deque()
        self._reports: list[Report] = []
        self._beginning = self.state.memory()
        room = _KEPT_BYTES // (2 * self._beginning.nbytes)  # a frozen slot has two memories
        self.rewinds = room >= _LEAST_KEPT  # whether it takes snapshots
        self.most_kept = min(room, _MOST_KEPT)  # snapshots, one for each of the newest blocks
        self._kept: deque[_Snapshot] = deque(maxlen=self.most_kept)
        self._moment, self._moment_at = self._beginning, 0
        self._loop = -(-round(_LOOP_SECONDS * self.config.sample_rate) // self.grain) * self.grain
        self._joint = _Joint(max(1, round(_JOINT_SECONDS * self.config.sample_rate)))
        self._set(settings)

    def ask(self, number: int, changes: dict[str, Any], since: int | None = None) -> None:
        """Changes settings at the next sample that is not made yet, or at a position from `since` on: the first one
        that has a snapshot or is not made yet. Raises ConfigError where they cannot be.
        """
        self.settings.changed(changes, self.config)
        if len(self._asked) >= _MOST_ASKED:
            raise ConfigError(f"{_MOST_ASKED} changes wait already for sound that nobody wants")
        self._asked.append(_Asked(number, changes, since))

    def take_reports(self) -> list[Report]:
        """The changes that have taken effect since this was called last."""
        reports, self._reports = self._reports, []
        return reports

    def settle(self) -> int:
        """Makes the changes that are due at this position. Returns for how many samples nothing changes from here."""
        if self.settings.frozen and self.position > self._moment_at and self._since_moment() % self._loop == 0:
            self._return_to(self._moment)
        while self._next < len(self.score) and self.score[self._next][0] <= self.position:
            self._change(self.score[self._next][1])
            self._next += 1
        while self._asked and (self._since or 0) <= self.position and not self.must_rewind:
            number, changes, _ = self._asked.popleft()
            self._change(changes)
            self.obeys = number
            self._reports.append(Report(number, self.position, changes))
            if self._kept:  # a change that was reported stays
                self._kept.clear()
                self._kept.append(self._snapshot())
        return min(self._events(), default=1 << 62) - self.position

    def _events(self) -> Iterable[int]:
        """Positions at which something changes."""
        if self._next < len(self.score):
            yield self.score[self._next][0]
        if self.settings.frozen:
            yield self.position + self._loop - self._since_moment() % self._loop
        since = self._since or 0
        if since > self.position:
            yield -(-since // self.grain) * self.grain

    def keep(self, since: int) -> None:
        """Takes a snapshot of this position, before its changes are made, and drops those before `since`."""
        while self._kept and self._kept[0].position < since:
            self._kept.popleft()
        if self.rewinds and not (self._kept and self._kept[-1].position == self.position):
            self._kept.append(self._snapshot())

    @property
    def must_rewind(self) -> bool:
        """It says whether the next change that was asked for holds from a snapshot on."""
        return self._goal() is not None

    def rewind(self) -> bool:
        """Goes back to the snapshot from which on the next change holds. Returns whether there is one."""
        goal = self._goal()
        if goal is None:
            return False
        while self._kept[-1] is not goal:
            self._kept.pop()
        self._next, self.position = goal.next, goal.position
        self._moment, self._moment_at, self._joint = goal.moment, goal.moment_at, copy.copy(goal.joint)
        self.state.recall(goal.memory, go_back=True)
        self._set(goal.settings)
        return True

    @property
    def _since(self) -> int | None:
        return self._asked[0].since if self._asked else None

    def _goal(self) -> "_Snapshot | None":
        since = self._since
        if since is None or since >= self.position:
            return None
        return next((one for one in self._kept if since <= one.position < self.position), None)

    def _snapshot(self) -> "_Snapshot":
        how = self._moment, self._moment_at, copy.copy(self._joint)
        return _Snapshot(self.position, self.state.memory(), self.settings, self._next, *how)

    def take(self, levels: np.ndarray) -> np.ndarray:
        """The sound (n,) float32 of the levels (n,) that were made, behind which the stream stands now."""
        self.position += len(levels)
        return self._joint.smooth(self._quantizer.decode(levels))

    def _since_moment(self) -> int:
        return self.position - self._moment_at

    def _change(self, changes: dict[str, Any]) -> None:
        reset, frozen = bool(changes.get(RESET)), self.settings.frozen
        if reset:
            self._return_to(self._beginning)
            self.state.t = self._beginning.t
        self._set(self.settings.changed(changes, self.config))
        if self.settings.frozen and (reset or not frozen):
            self._moment, self._moment_at = self.state.memory(), self.position

    def _set(self, settings: Settings) -> None:
        self.settings, self.state.temperature = settings, settings.temperature
        self.state.set_truncation(settings.top_k, settings.top_p)

    def _return_to(self, memory: Memory) -> None:
        """Gives the model an earlier memory. Its time goes on, so that it draws other numbers."""
        self.state.recall(memory)
        self._joint.begin()


class _Snapshot(NamedTuple):
    """A slot at one position."""

    position: int
    memory: Memory
    settings: Settings
    next: int
    moment: Memory
    moment_at: int
    joint: "_Joint"


class _Joint:
    """Takes the step out of a sound whose model jumped: what comes begins where the sound was, and moves to its own
    place within some milliseconds."""

    def __init__(self, length: int) -> None:
        """length: samples."""
        self._fade = (0.5 + 0.5 * np.cos(np.pi * np.arange(length) / length)).astype(np.float32)
        self._last, self._step, self._at = np.float32(0), np.float32(0), length
        self._begins = False

    def begin(self) -> None:
        """The next sample is the first one behind a jump."""
        self._begins = True

    def smooth(self, samples: np.ndarray) -> np.ndarray:
        """The samples (n,) without the step; a copy where something changes."""
        if not len(samples):
            return samples
        if self._begins:
            self._step, self._at, self._begins = self._last - samples[0], 0, False
        if self._at < len(self._fade):
            fade = self._fade[self._at : self._at + len(samples)]
            samples = samples.copy()
            samples[: len(fade)] += self._step * fade
            samples = np.clip(samples, -1, 1)
            self._at += len(fade)
        self._last = samples[-1]
        return samples


def _checked_score(score: Iterable[Change], settings: Settings, config: AudioConfig) -> list[Change]:
    """A score in the order of its positions. Raises ConfigError for a change that cannot be."""
    entries, grain = list(score), grain_of(config)
    if len(entries) > MOST_CHANGES:
        raise ConfigError(f"a score may have {MOST_CHANGES} changes, got {len(entries)}")
    for at, changes in entries:
        if isinstance(at, bool) or not isinstance(at, int) or at < 0 or at % grain:
            raise ConfigError(f"a score changes settings at multiples of {grain} samples, got {at!r}")
        settings = settings.changed(changes, config)
    return sorted(entries, key=lambda entry: entry[0])


def advance(engine: Engine, slots: Sequence[Slot], n: int) -> list[np.ndarray]:
    """The next n samples of the sound of every slot, (n,) float32 each. n: a multiple of the grain.

    A slot that cannot go on has an error from then on, and fewer samples; the others do not notice.
    """
    made: list[list[np.ndarray]] = [[] for _ in slots]
    done = 0
    while done < n:
        playing = [number for number, slot in enumerate(slots) if slot.error is None]
        if not playing:
            break
        steps = min(n - done, *(slots[number].settle() for number in playing))
        levels = _levels(engine, [slots[number] for number in playing], steps)
        for number, part in zip(playing, levels, strict=True):
            if part is not None:
                made[number].append(slots[number].take(part))
        done += steps
    return [np.concatenate(parts) if parts else np.empty(0, np.float32) for parts in made]


def _levels(engine: Engine, slots: list[Slot], steps: int) -> list[np.ndarray | None]:
    """The next levels (n,) of every slot; None for one that cannot go on, which has the error now."""
    try:
        return [levels[0] for levels in run_together(engine, [slot.state for slot in slots], steps)]
    except Exception as error:  # torch and the system have errors of their own, and no thread may end by one
        if len(slots) == 1:
            slots[0].error = as_ours(error)
            return [None]
    return list(itertools.chain.from_iterable(_levels(engine, [slot], steps) for slot in slots))
