"""The clips of an audition: found in a folder or made, by one thread, in the order in which somebody wants them."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Literal

import numpy as np

from samplernn_fast import api
from samplernn_fast.audio import reading, takes, writing
from samplernn_fast.engine.engine import Engine
from samplernn_fast.engine.together import run_together
from samplernn_fast.errors import AudioError, CheckpointError, SampleRNNError, one_line
from samplernn_fast.evaluation.clips.detectors import faults
from samplernn_fast.evaluation.clips.measures import FRAME_SECONDS, LOWEST_RATE, measure_clip
from samplernn_fast.serving.audition.grid import Cell, Grid

ENGINES = 2
"""How many models are held at once: the one that is listened to, and the one beside it."""
TOGETHER = 4
"""How many clips of a model are made at once, which takes less time than one after another. The clip that somebody
waits for is made alone."""
PRESENT_SECONDS = 30.0
"""A page that has asked for nothing for so long is closed. Nothing is made while there is none."""
_MOST_PAGES = 50
LOUDNESS_DB, CEILING_DB, MOST_GAIN_DB = -23.0, -1.0, 30.0
"""The RMS in dB of full scale at which clips are played, the highest peak that this may give one, and the most that a
quiet clip is raised."""
_QUIETER_DB = 20.0  # Frames that are so much quieter than the loudest are pauses, which say nothing of loudness.

State = Literal["waiting", "making", "ready", "failed"]


@dataclass(frozen=True)
class Status:
    """Where one clip stands."""

    state: State = "waiting"
    faults: tuple[tuple[str, str], ...] = ()
    """The name of each fault of a clip that is ready, and what was found, in words."""
    gain: float = 1.0
    """What its samples are multiplied by to be as loud as the others."""
    problem: str = ""
    """Why it could not be made."""
    version: int = 0
    """The number of the last change of any clip that changed this one."""


@dataclass(frozen=True)
class _Wish:
    """What a page wants: its clips in their order, and the one that somebody waits for."""

    clips: Sequence[int]
    now: int | None
    when: float


class Maker:
    """Makes the clips of a grid. Its methods may be called from any thread."""

    def __init__(self, grid: Grid, folder: Path) -> None:
        """folder: where clips are found and kept."""
        self.grid, self.folder = grid, folder
        playable = [not grid.checkpoints[cell.row].problem for cell in grid.cells]
        self._playable = [number for number, is_so in enumerate(playable) if is_so]
        broken = Status("failed", problem="the checkpoint cannot be played", version=1)
        self._all = [Status(version=1) if is_so else broken for is_so in playable]
        self._version = 1  # a page that knows nothing asks for what has changed behind 0
        self._wishes: OrderedDict[str, _Wish] = OrderedDict()
        self._changed = threading.Condition()
        self._engines: OrderedDict[int, Engine] = OrderedDict()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="audition", daemon=True)

    def start(self) -> None:
        """Begins to make what is wanted."""
        self._thread.start()

    def close(self) -> None:
        """Ends within a fraction of a second. What is not whole is not kept."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def want(self, page: str, clips: Sequence[int], now: int | None = None) -> None:
        """Says what a page wants next, in its order, by the numbers of cells; this replaces what it wanted before.

        now: the clip that somebody waits for, which is made first, and once more where it failed.
        """
        with self._changed:
            self._wishes[page] = _Wish(tuple(clips), now, time.monotonic())
            self._wishes.move_to_end(page)
            while len(self._wishes) > _MOST_PAGES:
                self._wishes.popitem(last=False)
            if now is not None and self._all[now].state == "failed" and now in self._playable:
                self._set([now], Status())
            self._changed.notify_all()

    def touch(self, number: int) -> None:
        """Counts a change of a clip that is kept elsewhere."""
        with self._changed:
            self._set([number], self._all[number])

    def status(self, number: int) -> Status:
        """Where a clip stands."""
        return self._all[number]

    def changes(self, since: int) -> tuple[int, dict[int, Status]]:
        """The number of the newest change, and every clip that has changed behind the change `since`."""
        with self._changed:
            return self._version, {number: one for number, one in enumerate(self._all) if one.version > since}

    def _set(self, numbers: Sequence[int], status: Status) -> None:
        self._version += 1
        for number in numbers:
            self._all[number] = replace(status, version=self._version)

    def _work(self) -> None:
        while True:
            with self._changed:
                group = [] if self._closing else self._next()
                if self._closing:
                    return
                if not group:
                    self._changed.wait(1.0)
                    continue
                self._set(group, Status("making"))
            try:
                self._serve(group)
            except Exception as error:  # whatever it is, the other clips must not wait for ever
                known = isinstance(error, SampleRNNError)
                text = str(error) if known else one_line(f"{type(error).__name__}: {error}")
                with self._changed:
                    left = [number for number in group if self._all[number].state == "making"]
                    self._set(left, Status("failed", problem=text))

    def _next(self) -> list[int]:
        """The cells to make next: clips of one model. Empty where nobody listens, or all are made."""
        recent = time.monotonic() - PRESENT_SECONDS
        wishes = [wish for wish in reversed(self._wishes.values()) if wish.when > recent]
        if not wishes:
            return []
        for wish in wishes:
            if wish.now is not None and self._all[wish.now].state == "waiting":
                return [wish.now]
        wanted = chain(chain.from_iterable(zip_longest(*(wish.clips for wish in wishes))), self._playable)
        waiting = dict.fromkeys(one for one in wanted if one is not None and self._all[one].state == "waiting")
        first = next(iter(waiting), None)
        if first is None:
            return []
        row = self.grid.cells[first].row
        return [one for one in waiting if self.grid.cells[one].row == row][:TOGETHER]

    def _serve(self, group: Sequence[int]) -> None:
        """Finds the clips of a group in the folder, and makes the others."""
        missing = []
        for number in group:
            found = self._found(number)
            if found is None:
                missing.append(number)
            else:
                self._finish(number, found)
        if missing:
            self._make(missing)

    def _found(self, number: int) -> np.ndarray | None:
        """The samples (T,) of a clip in the folder; None where it is not there, or not whole."""
        return found_clip(self.grid, number, self.folder)

    def _finish(self, number: int, samples: np.ndarray) -> None:
        config = self.grid.checkpoints[self.grid.cells[number].row].config
        assert config is not None
        found = _faults(samples, config.sample_rate)
        with self._changed:
            self._set([number], Status("ready", found, loudness_gain(samples, config.sample_rate)))

    def _make(self, group: Sequence[int]) -> None:
        """Makes clips of one model, and keeps them."""
        cells = [self.grid.cells[number] for number in group]
        engine = self._engine(cells[0].row)
        if not write_clips(engine, cells, self.grid.making.seconds, self.folder, lambda: self._closing):
            return
        for number, cell in zip(group, cells, strict=True):
            kept = self._found(number)
            if kept is None:
                raise AudioError(f"{self.folder / cell.clip}: was written, and is not there as it should be")
            self._finish(number, kept)

    def _engine(self, row: int) -> Engine:
        """The engine of a checkpoint. Raises CheckpointError where its file is another one meanwhile."""
        if row not in self._engines:
            while len(self._engines) >= ENGINES:
                self._engines.popitem(last=False)
            self._engines[row] = engine_of(self.grid, row)
        self._engines.move_to_end(row)
        return self._engines[row]


def engine_of(grid: Grid, row: int) -> Engine:
    """The engine of a checkpoint. Raises CheckpointError where its file is another one since the grid was made."""
    checkpoint = grid.checkpoints[row]
    engine = grid.making.engine(checkpoint.file)
    if engine.model_sha256 != checkpoint.sha256:
        raise CheckpointError(f"{checkpoint.file}: holds another model since the audition began; start it anew")
    return engine


def clip_samples(seconds: float, sample_rate: int) -> int:
    """The samples of a clip."""
    return max(1, round(seconds * sample_rate))


def found_clip(grid: Grid, number: int, folder: Path) -> np.ndarray | None:
    """The samples (T,) of a cell's clip in a folder; None where it is not there, or not whole."""
    cell = grid.cells[number]
    config = grid.checkpoints[cell.row].config
    assert config is not None  # only what can be played is made
    try:
        samples, rate = reading.read(folder / cell.clip)
    except AudioError:
        return None
    length = clip_samples(grid.making.seconds, config.sample_rate)
    return samples if (len(samples), rate) == (length, config.sample_rate) else None


def write_clips(
    engine: Engine, cells: Sequence[Cell], seconds: float, folder: Path, should_stop: Callable[[], bool]
) -> bool:
    """Makes clips of one model, side by side, and writes their files. They are those that `generate` makes, byte for
    byte. Returns False, and has written nothing, where should_stop said so. Raises AudioError as `writing.write`."""
    states = [engine.init_state(1, seed=cell.seed, temperature=cell.temperature) for cell in cells]
    left, parts = clip_samples(seconds, engine.config.sample_rate), [list[np.ndarray]() for _ in cells]
    while left:
        if should_stop():
            return False
        made = run_together(engine, states, min(left, engine.pace.samples(len(cells))))
        for part, levels in zip(parts, made, strict=True):
            part.append(levels)
        left -= made[0].shape[1]
    for cell, state, part in zip(cells, states, parts, strict=True):
        stream = api.Stream(engine, state, 1)
        samples = stream.quantizer.decode(np.concatenate(part, axis=1))[0]
        told = takes.comment(stream.info(), 0)
        writing.write(folder / cell.clip, samples, stream.sample_rate, comment=told, overwrite=True)
    return True


def _faults(samples: np.ndarray, sample_rate: int) -> tuple[tuple[str, str], ...]:
    """The faults of a clip; none where it is too short, or its rate too low, to tell."""
    if sample_rate < LOWEST_RATE or len(samples) < max(16, round(FRAME_SECONDS * sample_rate)):
        return ()
    return tuple(faults(measure_clip(samples, sample_rate)).items())


def loudness_gain(samples: np.ndarray, sample_rate: int) -> float:
    """What makes a clip (T,) as loud as the others, by the RMS of what is not a pause."""
    size = max(1, round(FRAME_SECONDS * sample_rate))
    heard = samples.astype(np.float64) - samples.mean(dtype=np.float64)  # an offset has power and no sound
    padded = np.pad(heard, (0, -len(samples) % size))
    powers = np.square(padded).reshape(-1, size).mean(axis=1)
    loudest, peak = float(powers.max()), float(np.abs(samples).max())
    if not loudest:
        return 1.0  # silence
    loudness = 10 * np.log10(powers[powers >= loudest * 10 ** (-_QUIETER_DB / 10)].mean())
    decibels = min(LOUDNESS_DB - loudness, CEILING_DB - 20 * np.log10(peak), MOST_GAIN_DB)
    return float(10 ** (decibels / 20))
