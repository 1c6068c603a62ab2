"""The clips of an audition: found in a folder or made, by one thread, in the order in which somebody wants them."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
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
_MOST_PAGES, _MOST_GRIDS = 50, 20
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


_BROKEN = Status("failed", problem="the checkpoint cannot be played", version=1)


@dataclass(frozen=True)
class _Wish:
    """What a page wants: the names of its clips in their order, and the one that somebody waits for."""

    clips: Sequence[str]
    now: str | None
    when: float


class Maker:
    """Makes the clips of a grid, which may be followed by others. Its methods may be called from any thread.

    Pages name clips by the numbers of cells, and a page shows the grid that it has until its listener asks for the
    next. So the grids before the newest stay known, and states are kept by the names of clips, which are the same in
    all grids.
    """

    def __init__(self, grid: Grid, folder: Path) -> None:
        """folder: where clips are found and kept."""
        self.folder = folder
        self._grids: OrderedDict[str, Grid] = OrderedDict()
        self._cells: dict[str, tuple[Grid, int]] = {}  # where a clip is, in the newest grid where that has it
        self._all: dict[str, Status] = {}
        self._version = 1  # a page that knows nothing asks for what has changed behind 0
        self._wishes: OrderedDict[str, _Wish] = OrderedDict()
        self._changed = threading.Condition()
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="audition", daemon=True)
        self.show(grid)

    def start(self) -> None:
        """Begins to make what is wanted."""
        self._thread.start()

    def close(self) -> None:
        """Ends within a fraction of a second. What is not whole is not kept."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def show(self, grid: Grid) -> None:
        """Takes a grid as the newest. What is ready or being made stays so; what has failed is tried once more."""
        with self._changed:
            self.grid = grid
            self._grids.pop(grid.name, None)
            self._grids[grid.name] = grid
            while len(self._grids) > _MOST_GRIDS:
                self._grids.popitem(last=False)
            self._cells = {cell.clip: (one, number) for one in self._grids.values() for number, cell in _playable(one)}
            self._newest = [cell.clip for _, cell in _playable(grid)]
            self._all = {clip: self._all.get(clip, Status(version=1)) for clip in self._cells}
            self._set([clip for clip in self._newest if self._all[clip].state == "failed"], Status())
            self._changed.notify_all()

    @property
    def grids(self) -> list[Grid]:
        """All grids that are known; the newest is the last."""
        with self._changed:
            return [*(one for one in self._grids.values() if one is not self.grid), self.grid]

    def is_begun(self, clip: str) -> bool:
        """Whether a clip is ready or being made."""
        with self._changed:
            return clip in self._all and self._all[clip].state in ("making", "ready")

    def known(self, name: str) -> Grid | None:
        """A grid by its name: the newest, or one before it that a page still shows; None where it is neither."""
        with self._changed:
            if name in self._grids:
                self._grids.move_to_end(name)  # the one that nobody has asked for longest is forgotten first
            return self._grids.get(name)

    def want(self, page: str, clips: Sequence[int], now: int | None = None, grid: Grid | None = None) -> None:
        """Says what a page wants next, in its order, by the numbers of cells; this replaces what it wanted before.

        now: the clip that somebody waits for, which is made first, and once more where it failed. grid: whose cells
        these are; without it those of the newest.
        """
        cells = (grid or self.grid).cells
        with self._changed:
            wish = _Wish([cells[one].clip for one in clips], None if now is None else cells[now].clip, time.monotonic())
            self._wishes[page] = wish
            self._wishes.move_to_end(page)
            while len(self._wishes) > _MOST_PAGES:
                self._wishes.popitem(last=False)
            if wish.now in self._all and self._all[wish.now].state == "failed":
                self._set([wish.now], Status())
            self._changed.notify_all()

    def touch(self, clip: str) -> None:
        """Counts a change of a clip that is kept elsewhere."""
        with self._changed:
            if clip in self._all:
                self._set([clip], self._all[clip])

    def status(self, number: int, grid: Grid | None = None) -> Status:
        """Where a clip stands. grid: as in `want`."""
        return self._all.get((grid or self.grid).cells[number].clip, _BROKEN)

    def changes(self, since: int, grid: Grid | None = None) -> tuple[int, dict[int, Status]]:
        """The number of the newest change, and every clip that has changed behind the change `since`.

        since: a number that was not given yet is one of another server, before this one, and so counts as 0. grid: as
        in `want`.
        """
        with self._changed:
            since = 0 if since > self._version else since
            statuses = (self._all.get(cell.clip, _BROKEN) for cell in (grid or self.grid).cells)
            return self._version, {number: one for number, one in enumerate(statuses) if one.version > since}

    def _set(self, clips: Sequence[str], status: Status) -> None:
        self._version += 1
        for clip in clips:
            if clip in self._all:  # else no grid has it any more
                self._all[clip] = replace(status, version=self._version)

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
                cells = [self._cells[clip] for clip in group]
            try:
                self._serve(cells)
            except Exception as error:  # whatever it is, the other clips must not wait for ever
                known = isinstance(error, SampleRNNError)
                text = str(error) if known else one_line(f"{type(error).__name__}: {error}")
                with self._changed:
                    left = [clip for clip in group if clip in self._all and self._all[clip].state == "making"]
                    self._set(left, Status("failed", problem=text))

    def _next(self) -> list[str]:
        """The clips to make next, of one model. Empty where nobody listens, or all are made."""
        recent = time.monotonic() - PRESENT_SECONDS
        wishes = [wish for wish in reversed(self._wishes.values()) if wish.when > recent]
        if not wishes:
            return []
        waits = {clip for clip, status in self._all.items() if status.state == "waiting"}
        for wish in wishes:
            if wish.now in waits:
                return [wish.now]
        wanted = chain(chain.from_iterable(zip_longest(*(wish.clips for wish in wishes))), self._newest)
        waiting = [clip for clip in dict.fromkeys(wanted) if clip in waits]
        return [clip for clip in waiting if self._model(clip) == self._model(waiting[0])][:TOGETHER]

    def _model(self, clip: str) -> str:
        grid, number = self._cells[clip]
        return grid.checkpoints[grid.cells[number].row].sha256

    def _serve(self, group: Sequence[tuple[Grid, int]]) -> None:
        """Finds the clips of a group in the folder, and makes the others."""
        missing = []
        for grid, number in group:
            found = found_clip(grid, number, self.folder)
            if found is None:
                missing.append((grid, number))
            else:
                self._finish(grid, number, found)
        if missing:
            self._make(missing)

    def _finish(self, grid: Grid, number: int, samples: np.ndarray) -> None:
        cell = grid.cells[number]
        config = grid.checkpoints[cell.row].config
        assert config is not None
        found = _faults(samples, config.sample_rate)
        with self._changed:
            self._set([cell.clip], Status("ready", found, loudness_gain(samples, config.sample_rate)))

    def _make(self, group: Sequence[tuple[Grid, int]]) -> None:
        """Makes clips of one model, and keeps them."""
        cells, grid = [grid.cells[number] for grid, number in group], group[0][0]
        engine = self._engine(grid, cells[0].row)
        if not write_clips(engine, cells, grid.making.seconds, self.folder, lambda: self._closing):
            return
        for (grid, number), cell in zip(group, cells, strict=True):
            kept = found_clip(grid, number, self.folder)
            if kept is None:
                raise AudioError(f"{self.folder / cell.clip}: was written, and is not there as it should be")
            self._finish(grid, number, kept)

    def _engine(self, grid: Grid, row: int) -> Engine:
        """The engine of a checkpoint. Raises CheckpointError where its file is another one meanwhile."""
        model = grid.checkpoints[row].sha256
        if model not in self._engines:
            while len(self._engines) >= ENGINES:
                self._engines.popitem(last=False)
            self._engines[model] = engine_of(grid, row)
        self._engines.move_to_end(model)
        return self._engines[model]


def _playable(grid: Grid) -> Iterator[tuple[int, Cell]]:
    """The cells of checkpoints that can be played, with their numbers."""
    return ((number, cell) for number, cell in enumerate(grid.cells) if not grid.checkpoints[cell.row].problem)


def engine_of(grid: Grid, row: int) -> Engine:
    """The engine of a checkpoint. Raises CheckpointError where its file is gone or another one since it was read."""
    checkpoint = grid.checkpoints[row]
    if checkpoint.gone:
        raise CheckpointError(f"{checkpoint.file}: is not kept any more, and this clip was not made before")
    engine = grid.making.engine(checkpoint.file)
    if engine.model_sha256 != checkpoint.sha256:
        raise CheckpointError(f"{checkpoint.file}: holds another model since the audition read it; read it anew")
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
