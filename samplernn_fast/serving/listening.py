"""The server of a listening test: the files of its page, and four addresses under /api by which the page works.

| request | what it does |
|---|---|
| `POST /api/listeners` | a token, by which a new listener is known from then on |
| `GET /api/listeners/TOKEN` | how far the listener is |
| `GET /api/listeners/TOKEN/trials/TRIAL/a`, `.../b` | a clip of the trial that is due, and of no other |
| `POST /api/listeners/TOKEN/answers` | an answer to the trial that is due |

A clip's address has the trial and the side in it and nothing of the system. All requests are served by one thread, so
answers are taken one after another, and each is on the disk before its request is answered. A listener takes a place of
the test with the first clip that is asked for, and not before. starlette and uvicorn are
optional packages (extra `serve`).
"""

import socket
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from samplernn_fast.errors import DataError
from samplernn_fast.evaluation.listening.answers import AnswerBook, Listener, Refused
from samplernn_fast.serving import connections
from samplernn_fast.serving.guard import Guard
from samplernn_fast.serving.joining import Joins
from samplernn_fast.serving.pages import page_file, refusal
from samplernn_fast.untrusted import Fields, Unreadable, parse_json

BODY_BYTES = 2000
"""The most bytes of a request's body; an answer has fewer than 100."""
_PAGE = ("", "base.css", "page.css", "page.js", "icon.svg")
_CONTENT = "default-src 'self'; media-src blob:"


class _Desk:
    """Answers the requests of the page."""

    def __init__(self, book: AnswerBook, most_listeners: int) -> None:
        self._book, self._most, self._joins = book, most_listeners, Joins()

    async def page(self, request: Request) -> Response:
        return page_file("listening_page", request.url.path.lstrip("/") or "index.html")

    async def about(self, request: Request) -> Response:
        test = self._book.test
        return JSONResponse({name: getattr(test, name) for name in ("key", "title", "question", "trials")})

    async def join(self, request: Request) -> Response:
        await _json_body(request)
        self._refuse_where_full()
        token = self._joins.new(request.client.host if request.client else "")
        if token is None:
            raise HTTPException(429, "Too many listeners have started from this address; please come back in an hour.")
        return JSONResponse({"token": token} | self._beginning(), 201)

    async def state(self, request: Request) -> Response:
        if self._joins.waits(request.path_params["token"]):
            return JSONResponse(self._beginning())
        return JSONResponse(self._state(self._listener(request)))

    async def clip(self, request: Request) -> Response:
        listener, trial = self._listener(request), request.path_params["trial"]
        if trial != self._book.next_trial(listener):
            raise HTTPException(404, "this trial is not due")
        pair = listener.pairs[trial - 1]
        side = {"a": pair.a, "b": pair.b}.get(request.path_params["side"])
        if side is None:
            raise HTTPException(404, "a trial has the clips a and b")
        try:
            return Response(self._book.test.clip_path(side).read_bytes(), media_type="audio/wav")
        except (FileNotFoundError, IsADirectoryError, PermissionError):
            raise HTTPException(404, "A clip of this test is missing; please tell whoever runs it.") from None
        except OSError as error:  # such as too many open files, which passes: the page asks again
            raise HTTPException(503, f"A clip of this test cannot be read: {error.strerror or error}") from None

    async def answer(self, request: Request) -> Response:
        listener = self._listener(request)
        told = await _json_body(request)
        try:
            fields = Fields(told, "the answer")
            trial, due = fields.integer("trial", 1, len(listener.pairs)), self._book.next_trial(listener)
            if due is not None and trial > due:
                raise Refused(f"trial {due} is due, not trial {trial}")
            self._book.answer(listener, trial, fields.value("choice"), fields.value("seconds"))
        except (Refused, Unreadable) as error:
            already = isinstance(error, Refused) and error.already
            status = 409 if already else 400
            return JSONResponse({"detail": str(error)} | self._state(listener), status)
        return JSONResponse(self._state(listener), 201)

    def _listener(self, request: Request) -> Listener:
        """Who asks. Somebody who joined takes a place, which is a line on the disk, when this is called first."""
        token = request.path_params["token"]
        if self._joins.waits(token):
            self._refuse_where_full()
            listener = self._book.join(token)
            self._joins.seated(token)
            return listener
        try:
            return self._book.listener(token)
        except Refused as error:
            raise HTTPException(404, str(error)) from None

    def _refuse_where_full(self) -> None:
        if len(self._book.listeners) >= self._most:
            raise HTTPException(403, "This test has as many listeners as it takes. Thank you for wanting to help.")

    def _beginning(self) -> dict[str, Any]:
        """What `_state` is for somebody who has no place yet."""
        return {"trial": 1, "trials": self._book.test.trials}

    def _state(self, listener: Listener) -> dict[str, Any]:
        """How far a listener is: `trial` is the one that is due, None at the end."""
        return {"trial": self._book.next_trial(listener), "trials": len(listener.pairs)}


def application(book: AnswerBook, most_listeners: int) -> ASGIApp:
    """The ASGI application of a test whose answers go into `book`."""
    desk = _Desk(book, most_listeners)
    listener = "/api/listeners/{token}"
    routes = [
        *(Route(f"/{name}", desk.page) for name in _PAGE),
        Route("/api/test", desk.about),
        Route("/api/listeners", desk.join, methods=["POST"]),
        Route(listener, desk.state),
        Route(f"{listener}/trials/{{trial:int}}/{{side}}", desk.clip),
        Route(f"{listener}/answers", desk.answer, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {HTTPException: refusal, DataError: _not_kept}
    # The guard is around all of it, because what answers 500 is outside of starlette's own middleware.
    return Guard(Starlette(routes=routes, exception_handlers=handlers), _CONTENT, lambda path: BODY_BYTES)


def run(book: AnswerBook, listening: socket.socket, most_listeners: int) -> None:
    """Serves a test until ctrl-C or SIGTERM ends the program."""
    uvicorn.Server(config(book, most_listeners)).run(sockets=[listening])


def config(book: AnswerBook, most_listeners: int) -> uvicorn.Config:
    """How uvicorn serves a test."""
    return connections.config(application(book, most_listeners))


async def _json_body(request: Request) -> Any:
    """The value in a request's body. Raises HTTPException where it is no JSON.

    A page of another site can send a body of another type without asking, so those are refused.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "the body must be application/json")
    try:
        return parse_json((await request.body()).decode())
    except (Unreadable, UnicodeDecodeError) as error:
        raise HTTPException(400, f"the body {error}") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body did not come whole") from None


async def _not_kept(request: Request, error: Exception) -> Response:
    """An answer that could not be written: the page says so and tries again."""
    return JSONResponse({"detail": str(error)}, 503)
