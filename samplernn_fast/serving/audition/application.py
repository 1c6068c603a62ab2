"""The server of an audition: its page, and the addresses under /api by which the page works.

| request | what it does |
|---|---|
| `GET /api/grid` | the newest grid: its name, checkpoints, temperatures and seeds |
| `POST /api/wanted` | `{"page": "...", "grid": "...", "clips": [3, 4], "now": null, "since": 7}`: what a page wants next, by the numbers of cells; the answer has every clip that changed behind the change `since`, and what is new |
| `GET /api/clips/3?grid=...` | a clip that is ready, a WAV file |
| `POST /api/favourites` | `{"grid": "...", "clip": 3, "favourite": true}`: makes a clip a favourite, or no more |
| `GET /api/export?as=playlist`, `as=commands` | the favourites as a file |

Cells have numbers in a grid, so what names a cell names its grid; 409 is the answer where that is not known any more.
"""  # noqa: E501

import asyncio
import socket as socket_module
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from samplernn_fast.errors import DataError
from samplernn_fast.serving import connections
from samplernn_fast.serving.access import Access
from samplernn_fast.serving.audition.clips import Maker
from samplernn_fast.serving.audition.favourites import EXPORTS, Favourite, Favourites, exported
from samplernn_fast.serving.audition.grid import Grid
from samplernn_fast.serving.audition.watching import PATIENCE_SECONDS, Watch
from samplernn_fast.serving.guard import Guard
from samplernn_fast.serving.pages import page_file, refusal
from samplernn_fast.untrusted import Fields, Unreadable, parse_json

_CONTENT = "default-src 'self'; media-src blob:"
_BODY_BYTES = 16_000
_MOST_WANTED = 1000
_MOST_CHANGES = 2**53  # JSON keeps whole numbers exactly up to here


class _Desk:
    """Answers requests. They come one after another in one thread, so favourites have an order."""

    def __init__(self, maker: Maker, favourites: Favourites, watch: Watch, access: Access) -> None:
        self._maker, self._favourites, self._watch, self._check = maker, favourites, watch, access.check

    async def page(self, request: Request) -> Response:
        self._check(request, secret=False)
        return page_file("audition_page", request.path_params.get("name", "index.html"))

    async def grid(self, request: Request) -> Response:
        self._check(request)
        await self._watch.look(PATIENCE_SECONDS)
        grid, making = self._maker.grid, self._maker.grid.making
        rows = [
            {
                "source": row.source,
                "names": row.names,
                "bits": row.bits,
                "sha256": row.sha256[:8],
                "problem": row.problem,
                "gone": row.gone,
            }
            for row in grid.checkpoints
        ]
        told = {
            "grid": grid.name,
            "temperatures": making.temperatures,
            "seeds": making.seeds,
            "seconds": making.seconds,
            "folder": str(self._maker.folder.resolve()),
            "checkpoints": rows,
            "clips": [cell.clip for cell in grid.cells],
        }
        return JSONResponse(told)

    async def wanted(self, request: Request) -> Response:
        self._check(request)
        with _readable():
            told = await _json_body(request)
            grid = self._grid(told.text("grid"))
            last = len(grid.cells) - 1
            page, since = told.text("page")[:40], told.integer("since", 0, _MOST_CHANGES)
            listed = told.value("clips")
            if not isinstance(listed, list) or len(listed) > _MOST_WANTED:
                raise Unreadable(f"clips must be a list of at most {_MOST_WANTED} numbers")
            clips = told.integers("clips", len(listed), 0, last)
            now = None if told.value("now") is None else told.integer("now", 0, last)
        await self._watch.look()
        self._maker.want(page, clips, now, grid)
        version, changed = self._maker.changes(since, grid)
        rows = [
            {
                "clip": number,
                "state": status.state,
                "faults": status.faults,
                "gain": round(status.gain, 4),
                "problem": status.problem,
                "favourite": grid.cells[number].clip in self._favourites,
            }
            for number, status in changed.items()
        ]
        told_back = {"grid": grid.name, "version": version, "changed": rows, "news": self._watch.news(grid)}
        return JSONResponse(told_back)

    async def clip(self, request: Request) -> Response:
        self._check(request)
        number, grid = request.path_params["number"], self._grid(request.query_params.get("grid"))
        if number >= len(grid.cells) or self._maker.status(number, grid).state != "ready":
            raise HTTPException(404, "this clip is not made yet")
        try:
            content = await asyncio.to_thread((self._maker.folder / grid.cells[number].clip).read_bytes)
        except OSError as error:
            raise HTTPException(404, f"The clip cannot be read: {error.strerror or error}") from None
        return Response(content, media_type="audio/wav")

    async def favour(self, request: Request) -> Response:
        self._check(request)
        with _readable():
            told = await _json_body(request)
            grid = self._grid(told.text("grid"))
            number, wanted = told.integer("clip", 0, len(grid.cells) - 1), told.value("favourite")
            if not isinstance(wanted, bool):
                raise Unreadable("favourite must be true or false")
        cell = grid.cells[number]
        if wanted and grid.checkpoints[cell.row].problem:
            raise HTTPException(400, "this checkpoint cannot be played")
        if wanted:
            self._favourites.add(Favourite.of(grid, cell))
        else:
            self._favourites.remove(cell.clip)
        self._maker.touch(cell.clip)
        return JSONResponse({"favourite": wanted, "favourites": len(self._favourites)})

    def _grid(self, name: str | None) -> Grid:
        """The grid that a page names."""
        if name is None:
            raise HTTPException(400, "grid must be named")
        grid = self._maker.known(name)
        if grid is None:
            raise HTTPException(409, "The checkpoints have changed meanwhile; this page must show them anew.")
        return grid

    async def export(self, request: Request) -> Response:
        self._check(request)
        form = request.query_params.get("as", "")
        if form not in EXPORTS:
            raise HTTPException(400, f"as must be one of {', '.join(EXPORTS)}")
        name, kind = EXPORTS[form]
        text = exported(self._favourites, self._maker.folder, form)
        return Response(text, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})


@contextmanager
def _readable() -> Iterator[None]:
    """What a client sent and cannot be read in the block is an HTTPException."""
    try:
        yield
    except Unreadable as error:
        raise HTTPException(400, str(error)) from None


async def _json_body(request: Request) -> Fields:
    """The mapping in a request's body. Raises Unreadable where it is none, and HTTPException where it breaks off."""
    try:
        return Fields(parse_json((await request.body()).decode()), "the body")
    except UnicodeDecodeError:
        raise Unreadable("the body is not text in UTF-8") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body did not come whole") from None


def application(maker: Maker, favourites: Favourites, watch: Watch, token: str | None, host: str) -> ASGIApp:
    """The ASGI application of an audition. token: None where everybody who reaches it may listen."""
    desk = _Desk(maker, favourites, watch, Access(token, host))
    routes = [
        Route("/", desk.page),
        Route("/api/grid", desk.grid),
        Route("/api/wanted", desk.wanted, methods=["POST"]),
        Route("/api/clips/{number:int}", desk.clip),
        Route("/api/favourites", desk.favour, methods=["POST"]),
        Route("/api/export", desk.export),
        Route("/{name}", desk.page),
    ]
    handlers: dict[Any, Any] = {HTTPException: refusal, DataError: _not_kept}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), _CONTENT, lambda path: _BODY_BYTES)


async def _not_kept(request: Request, error: Exception) -> Response:
    """A favourite that could not be written."""
    return JSONResponse({"detail": str(error)}, 503)


def run(
    maker: Maker,
    favourites: Favourites,
    watch: Watch,
    listening: socket_module.socket,
    token: str | None,
    host: str,
) -> None:
    """Serves until ctrl-C or SIGTERM ends the program."""
    config = connections.config(application(maker, favourites, watch, token, host))
    uvicorn.Server(config).run(sockets=[listening])
