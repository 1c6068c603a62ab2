"""The addresses of a live server (docs/live.md)."""

import asyncio
import gc
import io
import socket as socket_module
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import numpy as np
import soundfile
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from samplernn_fast.audio.limits import RATES
from samplernn_fast.errors import AudioError, ConfigError, SampleRNNError
from samplernn_fast.serving import connections
from samplernn_fast.serving.access import Access
from samplernn_fast.serving.guard import Guard
from samplernn_fast.serving.live.broadcast import broadcast, wanted_by
from samplernn_fast.serving.live.listener import Connection
from samplernn_fast.serving.live.messages import MESSAGE_BYTES
from samplernn_fast.serving.live.prompts import SECONDS, UPLOAD_BYTES
from samplernn_fast.serving.live.studio import Full, Studio
from samplernn_fast.serving.pages import page_file, refusal

_CONTENT = (
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; media-src blob:;"
    " worker-src 'self' blob:"
)
_CLIP_SAMPLES = SECONDS * 48_000 + 1
_UPLOADS = 4  # at once
_BODY_BYTES = 2000  # of requests that have nothing to say


class _Desk:
    """Answers requests."""

    def __init__(self, studio: Studio, token: str | None, host: str) -> None:
        self._studio, self._uploads, self._turn = studio, 0, asyncio.Semaphore(1)
        self.check = Access(token, host, studio.metrics.refused.inc).check

    async def page(self, request: Request) -> Response:
        self.check(request, secret=False)
        return page_file("live_page", request.path_params.get("name", "index.html"))

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def metrics(self, request: Request) -> Response:
        self.check(request)
        return Response(self._studio.metrics.text(), media_type="text/plain; version=0.0.4")

    async def prompt(self, request: Request) -> Response:
        self.check(request)
        name = request.query_params.get("name", "")
        suffix = name[name.rfind(".") :].lower() if "." in name else ""
        if self._uploads >= _UPLOADS:
            self._studio.metrics.refused.inc()
            raise HTTPException(503, "others are sending recordings; try again soon")
        self._uploads += 1
        try:
            content = await request.body()
            async with self._turn:  # so that uploads take one of the threads in which streams begin
                key, seconds = await asyncio.to_thread(self._studio.prompts.add, content, suffix[:8])
        except (AudioError, ConfigError) as error:
            raise HTTPException(400, str(error)) from None
        except ClientDisconnect:
            raise HTTPException(400, "the recording did not come whole") from None
        except OSError as error:
            raise HTTPException(503, f"the recording cannot be read: {error.strerror or error}") from None
        finally:
            self._uploads -= 1
        return JSONResponse({"prompt": key, "seconds": round(seconds, 3)}, 201)

    async def flac(self, request: Request) -> Response:
        self.check(request)
        text = request.query_params.get("rate", "")
        try:
            content = await request.body()
        except ClientDisconnect:
            raise HTTPException(400, "the clip did not come whole") from None
        rate = int(text) if text.isdecimal() and len(text) < 9 else 0
        if not 1 <= rate <= min(RATES.high, 655_350) or len(content) % 4:
            raise HTTPException(400, "the body must be float32 samples, and rate their number in a second")
        return Response(await asyncio.to_thread(_flac, content, rate), media_type="audio/flac")

    async def ogg(self, request: Request) -> Response:
        self.check(request)
        if request.method == "HEAD":  # which starlette answers as GET, and here GET never ends
            return Response(media_type="audio/ogg")
        try:
            sound = broadcast(self._studio, wanted_by(request.query_params, next(iter(self._studio.players))))
            first = await anext(sound)
        except ConfigError as error:
            raise HTTPException(400, str(error)) from None
        except Full as error:
            raise HTTPException(503, str(error)) from None
        except (SampleRNNError, StopAsyncIteration) as error:
            raise HTTPException(503, f"this model cannot play: {error or 'it failed'}") from None
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
    handlers: dict[Any, Callable[..., Any]] = {HTTPException: refusal}
    most = {"/api/prompts": UPLOAD_BYTES, "/api/flac": 4 * _CLIP_SAMPLES}
    app = Starlette(routes=routes, exception_handlers=handlers)
    return Guard(app, _CONTENT, lambda path: most.get(path, _BODY_BYTES))


def config(studio: Studio, token: str | None, host: str) -> uvicorn.Config:
    """How uvicorn serves a studio."""
    return connections.config(
        application(studio, token, host),
        ws=connections.PunctualWebSocket,
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,  # sound of one block is small, and packing it takes time
    )


def run(studio: Studio, listening: socket_module.socket, token: str | None, host: str) -> None:
    """Serves until ctrl-C or SIGTERM ends the program."""
    gc.freeze()  # What was loaded stays. To look at all of it would hold up the sound for some 20 ms now and then.
    _Server(config(studio, token, host), studio).run(sockets=[listening])


class _Server(uvicorn.Server):
    """uvicorn's server, at whose end endless answers end too."""

    def __init__(self, config: uvicorn.Config, studio: Studio) -> None:
        super().__init__(config)
        self._studio = studio

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Is called at the first signal, before anything is closed."""
        self._studio.over = True
        super().handle_exit(sig, frame)
