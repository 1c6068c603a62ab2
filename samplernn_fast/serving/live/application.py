"""The addresses of a live server (docs/live.md), and who may use them."""

import asyncio
import gc
import io
import secrets
import socket as socket_module
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from importlib.resources import files as package_files
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import soundfile
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from samplernn_fast.audio.limits import RATES
from samplernn_fast.errors import AudioError, ConfigError
from samplernn_fast.serving import sockets
from samplernn_fast.serving.connections import PunctualProtocol
from samplernn_fast.serving.guard import Guard
from samplernn_fast.serving.live.broadcast import broadcast, wanted_by
from samplernn_fast.serving.live.listener import Connection
from samplernn_fast.serving.live.messages import MESSAGE_BYTES
from samplernn_fast.serving.live.prompts import SECONDS, UPLOAD_BYTES
from samplernn_fast.serving.live.studio import Full, Studio

_CONTENT = (
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; media-src blob:;"
    " worker-src 'self' blob:"
)
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_CLIP_SAMPLES = SECONDS * 48_000 + 1
_BODY_BYTES = 2000  # of requests that have nothing to say
_HERE = {"localhost", "127.0.0.1", "::1"}


class _Desk:
    """Answers requests."""

    def __init__(self, studio: Studio, token: str | None, host: str) -> None:
        self._studio, self._token = studio, token
        # A page elsewhere can give its own name our address. Its requests name that page as the host.
        self._hosts = {*_HERE, host} if sockets.is_loopback(host) else None

    def check(self, connection: HTTPConnection, secret: bool = True) -> None:
        """Raises HTTPException unless the request may be answered. secret: whether it needs the token."""
        host = connection.headers.get("host", "")
        if self._hosts is not None and urlsplit(f"//{host}").hostname not in self._hosts:
            self._refuse(421, "this server listens to this machine only")
        origin = connection.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            self._refuse(403, "only pages of this server may ask this")
        if secret and connection.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            self._refuse(403, "only pages of this server may ask this")
        given = connection.query_params.get("token", "")
        if secret and self._token is not None and not secrets.compare_digest(given.encode(), self._token.encode()):
            self._refuse(401, "the address needs ?token=, as the server printed it when it began")

    def _refuse(self, status: int, reason: str) -> None:
        self._studio.metrics.refused.inc()
        raise HTTPException(status, reason)

    async def page(self, request: Request) -> Response:
        self.check(request, secret=False)
        name = request.path_params.get("name", "index.html")
        found = package_files("samplernn_fast.serving").joinpath("live_page", name)
        suffix = name[name.rfind(".") :]
        if "/" in name or suffix not in _TYPES or not found.is_file():
            raise HTTPException(404, "there is no such page")
        return Response(found.read_bytes(), media_type=_TYPES[suffix])

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def metrics(self, request: Request) -> Response:
        self.check(request)
        return Response(self._studio.metrics.text(), media_type="text/plain; version=0.0.4")

    async def prompt(self, request: Request) -> Response:
        self.check(request)
        name = request.query_params.get("name", "")
        suffix = name[name.rfind(".") :].lower() if "." in name else ""
        content = await request.body()
        try:
            key, seconds = await asyncio.to_thread(self._studio.prompts.add, content, suffix[:8])
        except (AudioError, ConfigError) as error:
            raise HTTPException(400, str(error)) from None
        return JSONResponse({"prompt": key, "seconds": round(seconds, 3)}, 201)

    async def flac(self, request: Request) -> Response:
        self.check(request)
        content, text = await request.body(), request.query_params.get("rate", "")
        rate = int(text) if text.isdecimal() and len(text) < 9 else 0
        if not 1 <= rate <= min(RATES.high, 655_350) or len(content) % 4:
            raise HTTPException(400, "the body must be float32 samples, and rate their number in a second")
        return Response(await asyncio.to_thread(_flac, content, rate), media_type="audio/flac")

    async def ogg(self, request: Request) -> Response:
        self.check(request)
        try:
            sound = broadcast(self._studio, wanted_by(request.query_params, next(iter(self._studio.players))))
            first = await anext(sound)
        except ConfigError as error:
            raise HTTPException(400, str(error)) from None
        except Full as error:
            raise HTTPException(503, str(error)) from None
        return StreamingResponse(_rest(first, sound), media_type="audio/ogg")

    async def listen(self, websocket: WebSocket) -> None:
        try:
            self.check(websocket)
        except HTTPException as error:
            await websocket.send_denial_response(PlainTextResponse(error.detail, error.status_code))
            return
        await Connection(websocket, self._studio).serve()


async def _rest(first: bytes, sound: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """A stream whose first bytes were taken to see whether it begins. It ends when this does."""
    async with aclosing(sound):
        yield first
        async for data in sound:
            yield data


def _flac(content: bytes, rate: int) -> bytes:
    """A FLAC file of float32 samples. Raises HTTPException where they are no sound."""
    samples = np.frombuffer(content, "<f4")
    if not len(samples) or len(samples) > _CLIP_SAMPLES or not np.isfinite(samples).all():
        raise HTTPException(400, f"a clip must be finite samples, at most {_CLIP_SAMPLES} of them")
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), rate, format="FLAC", subtype="PCM_24")
    return file.getvalue()


def application(studio: Studio, token: str | None, host: str) -> ASGIApp:
    """The ASGI application that plays the models of a studio. token: None where everybody who reaches it may listen."""
    desk = _Desk(studio, token, host)
    routes = [
        Route("/", desk.page),
        Route("/healthz", desk.health),
        Route("/metrics", desk.metrics),
        Route("/api/prompts", desk.prompt, methods=["POST"]),
        Route("/api/flac", desk.flac, methods=["POST"]),
        Route("/stream.ogg", desk.ogg),
        WebSocketRoute("/ws", desk.listen),
        Route("/{name}", desk.page),
    ]
    handlers: dict[Any, Callable[..., Any]] = {HTTPException: _refusal}
    most = {"/api/prompts": UPLOAD_BYTES, "/api/flac": 4 * _CLIP_SAMPLES}
    app = Starlette(routes=routes, exception_handlers=handlers)
    return Guard(app, _CONTENT, lambda path: most.get(path, _BODY_BYTES))


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code)


def config(studio: Studio, token: str | None, host: str) -> uvicorn.Config:
    """How uvicorn serves a studio."""
    return uvicorn.Config(
        application(studio, token, host),
        http=PunctualProtocol,
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,  # sound of one block is small, and packing it takes time
        log_config=None,
        access_log=False,  # addresses hold the token
        server_header=False,
        limit_concurrency=sockets.CONNECTIONS,
        timeout_graceful_shutdown=2,
    )


def run(studio: Studio, listening: socket_module.socket, token: str | None, host: str) -> None:
    """Serves until ctrl-C or SIGTERM ends the program."""
    gc.freeze()  # What was loaded stays. To look at all of it would hold up the sound for some 20 ms now and then.
    uvicorn.Server(config(studio, token, host)).run(sockets=[listening])
