"""Checkpoints that come and go while an audition is open: what is read again, which rows stay, and what pages learn."""

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the extra `serve`")

from auditions import SHORT, favourite, make_checkpoint, make_run, served_audition, until

from samplernn_fast.errors import CheckpointError
from samplernn_fast.serving.audition import checkpoints as checkpoints_module
from samplernn_fast.serving.audition import clips as clips_module
from samplernn_fast.serving.audition import grid as grid_module
from samplernn_fast.serving.audition import watching
from samplernn_fast.serving.audition.checkpoints import Checkpoints
from samplernn_fast.serving.audition.clips import Maker
from samplernn_fast.serving.audition.favourites import Favourites
from samplernn_fast.serving.audition.grid import Grid, Making
from samplernn_fast.serving.audition.watching import Watch


class Room:
    """A run that is trained while it is auditioned, without a server."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.run, self.folder = run, folder
        checkpoints = Checkpoints([str(run)])
        self.maker = Maker(Grid(checkpoints.rows, SHORT), folder)
        self.favourites = Favourites(folder)
        self.watch = Watch(checkpoints, self.maker, self.favourites)

    def file(self, step: int) -> Path:
        return self.run / "models" / f"step-{step:06d}.safetensors"

    def look(self) -> list[tuple[str, bool]]:
        """The names of the rows after a look, and whether each is gone."""

        async def look() -> None:
            self.watch._looked = float("-inf")
            await self.watch.look(60)

        asyncio.run(look())
        return [(row.names[0], row.gone) for row in self.maker.grid.checkpoints]

    def make(self, *numbers: int) -> None:
        """Waits until clips are ready, or have failed."""
        self.maker.want("page", numbers)
        until(lambda: all(self.maker.status(one).state in ("ready", "failed") for one in numbers))


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """A run with two models, none of which is called the best."""
    run = make_run(tmp_path / "album", "000100", "000200")
    (run / "model.safetensors").unlink()
    made = Room(run, tmp_path)
    made.maker.start()
    yield made
    made.maker.close()


@pytest.fixture
def reads(room: Room, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from here on."""
    names: list[str] = []
    read = checkpoints_module.read_file
    monkeypatch.setattr(checkpoints_module, "read_file", lambda file: names.append(file.name) or read(file))
    return names


# ---- what is read again


def test_nothing_is_read_where_nothing_has_changed_and_else_only_what_is_new(room: Room, reads: list[str]) -> None:
    before = room.maker.grid
    room.look()
    assert not reads and room.maker.grid is before and not room.watch._checkpoints.look()
    make_checkpoint(room.file(150), seed=7)
    assert room.look() == [("step 100", False), ("step 150", False), ("step 200", False)]
    assert reads == [room.file(150).name]
    room.look()
    os.utime(room.file(150))
    grid = room.maker.grid
    room.look()
    assert reads == 2 * [room.file(150).name] and room.maker.grid is grid


def test_looks_are_some_seconds_apart(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(room.watch, "read", lambda: looks.append(1))

    async def ask() -> None:
        for _ in range(5):
            await room.watch.look(10)

    asyncio.run(ask())
    assert not looks  # all was read a moment ago
    room.watch._looked -= watching.LOOK_SECONDS
    asyncio.run(ask())
    assert len(looks) == 1


def test_half_a_file_is_read_again_when_it_is_whole(room: Room) -> None:
    whole = make_checkpoint(room.run / "copied", seed=7).read_bytes()
    shown = room.maker.grid
    room.file(300).write_bytes(whole[: len(whole) // 2])
    room.look()
    assert "not a readable checkpoint" in room.maker.grid.checkpoints[2].problem
    assert room.watch.news(shown) == {"new": 0, "gone": 0, "problem": ""}  # that is no news to anybody
    room.file(300).write_bytes(whole)
    room.look()
    assert not room.maker.grid.checkpoints[2].problem
    assert room.watch.news(shown) == {"new": 1, "gone": 0, "problem": ""}
    assert room.watch.news(room.maker.grid) == {"new": 0, "gone": 0, "problem": ""}


def test_where_nothing_can_be_read_the_grid_stays_until_something_can(room: Room) -> None:
    before = room.maker.grid
    os.rename(room.run, room.folder / "away")
    assert room.look() == [("step 100", False), ("step 200", False)] and room.maker.grid is before
    assert room.watch.news(before) == {"new": 0, "gone": 0, "problem": ""}
    room.run.mkdir()
    room.look()
    assert room.maker.grid is before
    room.run.rmdir()
    os.rename(room.folder / "away", room.run)
    make_checkpoint(room.file(300), seed=7)
    assert len(room.look()) == 3


def test_a_run_that_is_away_does_not_hide_what_is_new_in_another(room: Room) -> None:
    other = make_run(room.folder / "other", "000100", seed=50)
    checkpoints = Checkpoints([str(room.run), str(other)])
    shutil.rmtree(room.run)
    make_checkpoint(other / "models" / "step-000200.safetensors", seed=60)
    assert checkpoints.look() and [row.source for row in checkpoints.rows] == ["other", "other"]


def test_more_clips_than_a_page_shows_leave_the_grid_and_are_said(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "MOST_CLIPS", 8)
    make_checkpoint(room.file(300), seed=7)
    assert room.look() == [("step 100", False), ("step 200", False)]
    problem = room.watch.news(room.maker.grid)["problem"]
    assert "3 checkpoints, 2 temperatures and 2 seeds are 12 clips" in problem
    room.look()
    assert room.watch.news(room.maker.grid)["problem"] == problem
    room.make(0)
    room.file(100).unlink()  # its row would stay, and so be one too many
    assert room.look() == [("step 200", False), ("step 300", False)]
    assert not room.watch.news(room.maker.grid)["problem"]


def test_what_could_not_be_read_for_a_moment_is_tried_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    read = checkpoints_module.read_file

    def fails(file: Path) -> object:
        raise CheckpointError(f"{file}: not now")

    make_checkpoint(room.file(300), seed=7)
    monkeypatch.setattr(checkpoints_module, "read_file", fails)
    room.look()
    assert "not now" in room.maker.grid.checkpoints[2].problem
    monkeypatch.setattr(checkpoints_module, "read_file", read)
    room.look()
    assert room.maker.grid.checkpoints[2].problem  # it is the same file
    room.watch._checkpoints._tried -= checkpoints_module.AGAIN_SECONDS
    room.look()
    assert not room.maker.grid.checkpoints[2].problem


@pytest.mark.parametrize("error", [OSError("stale"), MemoryError("too large")])
def test_a_look_that_fails_is_repeated(error: Exception, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    make, failures = watching.next_grid, [error]

    def sometimes(*arguments: Any) -> Grid:
        if failures:
            raise failures.pop()
        return make(*arguments)

    monkeypatch.setattr(watching, "next_grid", sometimes)
    make_checkpoint(room.file(300), seed=7)
    assert len(room.look()) == 2
    problem = room.watch.news(room.maker.grid)["problem"]
    assert problem == ("MemoryError: too large" if isinstance(error, MemoryError) else "")
    assert len(room.look()) == 3 and not room.watch.news(room.maker.grid)["problem"]


def test_a_server_that_ends_does_not_wait_for_a_look(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    monkeypatch.setattr(room.watch, "read", lambda: held.wait(60) and None)

    async def look() -> None:
        room.watch._looked = float("-inf")
        await room.watch.look(0.05)

    began = time.monotonic()
    asyncio.run(look())
    assert time.monotonic() - began < 30
    held.set()


# ---- what is gone


def test_a_checkpoint_that_is_gone_leaves_the_grid(room: Room) -> None:
    shown = room.maker.grid
    room.file(100).unlink()
    assert room.look() == [("step 200", False)]
    assert room.watch.news(shown) == {"new": 0, "gone": 1, "problem": ""}


def test_its_row_stays_where_a_clip_is_made_and_the_others_are_not_tried(room: Room) -> None:
    shown = room.maker.grid
    cell = shown.cells[1]
    clips_module.write_clips(clips_module.engine_of(shown, 0), [cell], 0.2, room.folder, lambda: False)
    before = (room.folder / cell.clip).stat().st_mtime_ns
    room.file(100).unlink()
    make_checkpoint(room.file(50), seed=7)
    assert room.look() == [("step 50", False), ("step 100", True), ("step 200", False)]
    assert room.watch.news(shown) == {"new": 1, "gone": 1, "problem": ""}
    again = Maker(room.maker.grid, room.folder)  # knows nothing of what was made
    again.start()
    again.want("page", range(4, 8))
    until(lambda: all(again.status(number).state in ("ready", "failed") for number in range(4, 8)))
    again.close()
    assert [again.status(number).state for number in range(4, 8)] == ["failed", "ready", "failed", "failed"]
    assert "is not kept any more, and this clip was not made before" in again.status(4).problem
    assert (room.folder / cell.clip).stat().st_mtime_ns == before
    assert room.look() == [("step 50", False), ("step 100", True), ("step 200", False)]


def test_its_row_stays_where_a_clip_is_being_made(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    write, looks = clips_module.write_clips, list[list[tuple[str, bool]]]()

    def looked(engine: Any, cells: Any, *rest: Any) -> bool:
        room.file(100).unlink(missing_ok=True)
        looks.append(room.look())
        return write(engine, cells, *rest)

    monkeypatch.setattr(clips_module, "write_clips", looked)
    room.make(0)
    assert looks[0] == [("step 100", True), ("step 200", False)] and room.maker.status(0).state == "ready"


def test_a_favourite_of_a_page_that_shows_an_old_grid_brings_its_row_back(room: Room) -> None:
    shown = room.maker.grid
    room.file(100).unlink()
    assert room.look() == [("step 200", False)]
    room.favourites.add(favourite(shown, 0))
    make_checkpoint(room.file(300), seed=7)
    assert room.look() == [("step 100", True), ("step 200", False), ("step 300", False)]


def test_its_row_stays_for_a_favourite_and_it_can_come_back(room: Room) -> None:
    room.favourites.add(favourite(room.maker.grid, 7))
    content = room.file(200).read_bytes()
    room.file(200).unlink()
    assert room.look() == [("step 100", False), ("step 200", True)]
    room.make(7)
    assert room.maker.status(7).state == "failed"
    room.file(200).write_bytes(content)
    assert room.look() == [("step 100", False), ("step 200", False)]
    room.make(7)
    assert room.maker.status(7).state == "ready"


# ---- what goes on


def test_what_is_made_meanwhile_is_made_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    states: list[str] = []
    write, shown = clips_module.write_clips, room.maker.grid

    def slow(engine: object, cells: list[grid_module.Cell], *rest: object) -> bool:
        written.extend(cell.clip for cell in cells)
        if len(written) == 4:  # a new checkpoint comes while these are made, before all others
            make_checkpoint(room.file(50), seed=7)
            room.look()
            states.extend(room.maker.status(one).state for one in range(len(room.maker.grid.cells)))
        return write(engine, cells, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(clips_module, "write_clips", slow)
    room.maker.want("page", [4, 5, 6, 7])
    until(lambda: all(room.maker.status(one).state == "ready" for one in range(len(room.maker.grid.cells))))
    assert states == 8 * ["waiting"] + 4 * ["making"] and len(written) == len(set(written)) == 12
    assert written[:4] == [cell.clip for cell in shown.cells[4:]]
    version, changed = room.maker.changes(0, shown)
    assert sorted(changed) == list(range(8))  # a page that shows the grid of before learns by its own numbers
    assert room.maker.changes(version + 100, shown) == (version, changed)  # a page of a server before this one


def test_a_page_may_want_by_the_numbers_of_its_own_grid(room: Room) -> None:
    shown = room.maker.grid
    make_checkpoint(room.file(50), seed=7)
    room.look()
    room.maker.want("page", [], now=0, grid=shown)
    until(lambda: room.maker.status(0, shown).state == "ready")
    assert room.maker.status(4).state == "ready" and room.maker.grid.cells[4].clip == shown.cells[0].clip


def test_grids_that_nobody_shows_are_forgotten(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips_module, "_MOST_GRIDS", 3)
    shown, rows = room.maker.grid, room.maker.grid.checkpoints
    others = [Grid(rows, Making((0.5,), seeds)) for seeds in (1, 2, 3, 4)]
    for grid in others:
        assert room.maker.known(shown.name) is shown
        room.maker.show(grid)
    assert room.maker.grid is others[3]
    assert [room.maker.known(one.name) for one in (shown, *others)] == [shown, None, None, others[2], others[3]]
    assert set(room.maker._all) == {cell.clip for one in (shown, *others[2:]) for cell in one.cells}


# ---- the server


def test_a_page_learns_what_is_new_and_numbers_are_those_of_its_grid(tmp_path: Path) -> None:
    run = make_run(tmp_path / "album", "000100", "000200")
    with served_audition(run, "--temperatures", 0.5, 1, "--seeds", 2, "--seconds", 0.2) as server:
        shown = server.grid()
        name = shown["grid"]
        make_checkpoint(run / "models" / "step-000050.safetensors", 7)
        until(lambda: server.wanted(name)[1]["news"]["new"] == 1)
        told = server.wanted(name, 0)[1]
        assert told["grid"] == name and told["news"] == {"new": 1, "gone": 0, "problem": ""}
        newest = server.grid()
        assert newest["grid"] != name and newest["clips"][4:] == shown["clips"]
        assert [row["gone"] for row in newest["checkpoints"]] == [False] * 3
        assert server.wanted(newest["grid"])[1]["news"]["new"] == 0
        server.ready(4)
        assert server.clip(0, name)[1] == server.clip(4)[1]
        assert server.favour(0, grid=name)[0] == 200 and server.want()[4]["favourite"]
        assert server.wanted(name, 8)[0] == 400  # there are eight in this grid, and twelve in the newest
        for status, answer in (server.wanted("another"), server.clip(0, "another"), server.favour(0, grid="another")):
            assert status == 409 and "have changed meanwhile" in answer["detail"]
        assert server.ask("api/clips/0")[0] == 400
        for path, body in (
            ("wanted", {"page": "a", "clips": [], "now": None, "since": 0}),
            ("favourites", {"clip": 0}),
        ):
            assert "the body has no grid" in server.ask(f"api/{path}", body)[1]["detail"]
