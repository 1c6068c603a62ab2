"""Clips of an audition that many processes make together, before anybody opens the page."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from samplernn_fast.jobs.ledger import SUFFIX, Ledger, Plan
from samplernn_fast.jobs.shards import Shard
from samplernn_fast.serving.audition.clips import TOGETHER, engine_of, found_clip, write_clips
from samplernn_fast.serving.audition.grid import Grid


def ledger_of(grid: Grid, folder: Path) -> Ledger:
    """The ledger of a grid's clips in their folder. The name of a clip tells all that it depends on.

    Raises ConfigError and DataError as `Ledger.begin`.
    """
    clips = tuple(cell.clip for cell in grid.cells if not grid.checkpoints[cell.row].problem)
    name = hashlib.sha256("\n".join(clips).encode()).hexdigest()[:12]
    return Ledger.begin(folder / f"clips-{name}{SUFFIX}", Plan("audition", {"seconds": grid.making.seconds}, clips))


def make_share(
    grid: Grid,
    ledger: Ledger,
    shard: Shard,
    report: Callable[[str], object],
    each: Callable[[int], object],
    should_stop: Callable[[], bool],
) -> int:
    """Makes the clips of a shard that are not there yet, and returns how many it made.

    report: is called with a line about each clip that is wrong. each: is called with the number of clips that were
    just made. should_stop: is asked several times a second; what is not whole is then not kept.
    """
    folder, made = ledger.folder.parent, 0
    playable = [number for number, cell in enumerate(grid.cells) if not grid.checkpoints[cell.row].problem]
    mine = shard.share(playable)
    for number in mine:
        clip = grid.cells[number].clip
        if ledger.record(clip) is None and found_clip(grid, number, folder) is not None:
            ledger.adopt(clip, folder / clip)  # a page has made it
    wanted = set(ledger.to_make([grid.cells[number].clip for number in mine], report))
    left = [number for number in mine if grid.cells[number].clip in wanted]
    for row, groups in _by_row(grid, left):
        engine = engine_of(grid, row)
        for group in groups:
            cells = [grid.cells[number] for number in group]
            with ledger.making() as made_here:
                if not write_clips(engine, cells, grid.making.seconds, made_here, should_stop):
                    return made
                for cell in cells:
                    ledger.adopt(cell.clip, made_here / cell.clip)
            made += len(cells)
            each(len(cells))
    return made


def _by_row(grid: Grid, numbers: Sequence[int]) -> Iterator[tuple[int, list[Sequence[int]]]]:
    """The cells of each checkpoint, at most `TOGETHER` at a time."""
    for row in dict.fromkeys(grid.cells[number].row for number in numbers):
        own = [number for number in numbers if grid.cells[number].row == row]
        yield row, [own[first : first + TOGETHER] for first in range(0, len(own), TOGETHER)]
