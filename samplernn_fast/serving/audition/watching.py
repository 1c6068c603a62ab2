"""Checkpoints that come and go while an audition is open: a run that still trains keeps new ones, and removes others.

What is new is offered to a page, never forced on it: the page names its own grid until its listener asks for the next.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from samplernn_fast.errors import ConfigError, SampleRNNError, one_line
from samplernn_fast.serving.audition.checkpoints import Checkpoint, Checkpoints
from samplernn_fast.serving.audition.clips import Maker
from samplernn_fast.serving.audition.favourites import Favourites
from samplernn_fast.serving.audition.grid import Cell, Grid

LOOK_SECONDS = 3.0
"""So long after a look at the files the next one may follow."""
PATIENCE_SECONDS = 1.0
"""So long a page that opens waits for what is new."""


class Watch:
    """Looks at the files of checkpoints while pages ask, and gives a `Maker` the next grid."""

    def __init__(self, checkpoints: Checkpoints, maker: Maker, favourites: Favourites) -> None:
        self._checkpoints, self._maker, self._favourites = checkpoints, maker, favourites
        self._problem = ""
        self._looked = time.monotonic()
        self._is_due = False  # whether there are new rows, of which no grid could be made yet
        self._task: asyncio.Future[None] | None = None

    async def look(self, patience: float = 0.0) -> None:
        """Begins a look at the files, unless one was a moment ago, and waits for it for at most `patience` seconds. All
        that touches files is in a thread, since folders may be far away and models large; nobody waits for that thread
        where the server ends."""
        if self._task is None and time.monotonic() - self._looked >= LOOK_SECONDS:
            loop = asyncio.get_running_loop()
            self._task = loop.create_future()
            threading.Thread(target=self._look, args=(loop,), name="look at checkpoints", daemon=True).start()
        if self._task is not None and patience:
            await asyncio.wait({self._task}, timeout=patience)

    def news(self, grid: Grid) -> dict[str, Any]:
        """What a page that shows a grid may say of the newest: how many checkpoints came and went, and why others
        cannot be shown. One that cannot be read is no news: as a rule, it is being written."""
        shown, newest = _models(grid), _models(self._maker.grid)
        return {"new": len(newest - shown), "gone": len(shown - newest), "problem": self._problem}

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        grid = self.read()
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._take, grid)

    def _take(self, grid: Grid | None) -> None:
        """In the event loop and not in the thread, so that no request sees half a change."""
        task, self._looked, self._task = self._task, time.monotonic(), None
        if grid is not None and grid.name != self._maker.grid.name:
            self._maker.show(grid)
        if task is not None:
            task.set_result(None)

    def read(self) -> Grid | None:
        """The grid of what lies in the folders now; None where nothing has changed, and where no grid can be made of
        it, so that the one before stays."""
        try:
            self._is_due |= self._checkpoints.look()
            if not self._is_due:
                return None
            grid = next_grid(self._maker, self._checkpoints.rows, self._favourites)
            self._is_due, self._problem = False, ""
            return grid
        except ConfigError as error:  # too many, until there are others
            self._is_due, self._problem = False, str(error)
        except (SampleRNNError, OSError):
            pass  # nothing can be read, as while a disk is away; the next look may
        except Exception as error:  # such as of memory; the thread must tell, and the next look may do better
            self._is_due, self._problem = True, one_line(f"{type(error).__name__}: {error}")
        return None


def _models(grid: Grid) -> set[str]:
    return {row.sha256 for row in grid.checkpoints if not (row.problem or row.gone)}


def next_grid(maker: Maker, rows: Sequence[Checkpoint], favourites: Favourites) -> Grid:
    """The grid of new rows, and of those rows of the grids before that are gone and still have something to hear.

    A checkpoint that its run has removed stays while a clip of it is made or being made, or is a favourite: what
    somebody has heard or may want to hear again must not vanish, and clips need no model to be played. The others could
    only fail. Where there would be too many clips, only rows with a favourite stay. Raises ConfigError as `Grid`.
    """

    def is_favourite(cell: Cell) -> bool:
        return cell.clip in favourites

    def can_be_heard(cell: Cell) -> bool:
        return is_favourite(cell) or maker.is_begun(cell.clip) or (maker.folder / cell.clip).exists()

    def with_gone(stays: Callable[[Cell], bool]) -> list[Checkpoint]:
        merged = list(rows)
        for grid in reversed(maker.grids):
            known = {row.sha256 for row in merged}
            gone = {number for number, row in enumerate(grid.checkpoints) if row.sha256 not in known}
            merged = _with_gone(grid, merged, {cell.row for cell in grid.cells if cell.row in gone and stays(cell)})
        return merged

    making = maker.grid.making
    try:
        return Grid(with_gone(can_be_heard), making)
    except ConfigError:
        return Grid(with_gone(is_favourite), making)


def _with_gone(before: Grid, rows: Sequence[Checkpoint], kept: Container[int]) -> list[Checkpoint]:
    """The rows, and those of a grid before that are kept: where they were, in a run by step. kept: their numbers."""
    merged, place = list(rows), 0
    for number, row in enumerate(before.checkpoints):
        same = next((at for at, one in enumerate(merged) if one.sha256 == row.sha256), None)
        if row.problem:
            continue
        if same is not None:
            place = same + 1
        elif number in kept:
            while place < len(merged) and _is_earlier(merged[place], row):
                place += 1
            merged.insert(place, replace(row, gone=True))
            place += 1
    return merged


def _is_earlier(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether a checkpoint was kept before another of the same run."""
    if one.source != other.source or one.step is None or other.step is None:
        return False
    return one.step < other.step
