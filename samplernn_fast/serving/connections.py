"""Connections of the server that end when nothing comes over them, so that they cannot keep others out.

uvicorn ends connections that are silent after an answer, and no others.
"""

import asyncio
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from samplernn_fast.serving import sockets

MOST_SOCKETS = 160
"""Fewer than `sockets.CONNECTIONS`, so that pages are answered however many listen."""
REQUEST_SECONDS = 10.0
"""How long a connection may take until the head of a request is there."""
ANSWER_SECONDS = 120.0
"""How long it may take from then on, until the rest has come and the answer is gone: a clip over a slow line. An
endless answer goes on as long as the other side takes what it is sent."""


class PunctualProtocol(H11Protocol):
    """uvicorn's protocol with a deadline for each request."""

    _deadline: asyncio.TimerHandle | None = None
    _answering = False  # whether the deadline is that of the answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._wait(REQUEST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the waiting."""
        self._stop()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begins to wait for the next request."""
        self._answering = False
        self._wait(REQUEST_SECONDS)
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hands the connection over; from here on the WebSocket watches over it."""
        self._stop()
        super().handle_websocket_upgrade(event)

    def _wait(self, seconds: float) -> None:
        self._stop()
        self._deadline = self.loop.call_later(seconds, self._end_or_wait)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _end_or_wait(self) -> None:
        """Ends the connection, unless a request is there that may take longer."""
        asked = self.cycle is not None and not self.cycle.response_complete
        if asked and not self._answering:
            self._answering = True
            self._wait(ANSWER_SECONDS - REQUEST_SECONDS)
        elif asked and self.cycle.response_started and not self.flow.write_paused:
            self._wait(ANSWER_SECONDS)
        else:
            self.transport.abort()


def config(app: ASGIApp, **other: Any) -> uvicorn.Config:
    """How uvicorn serves an application of ours. other: what only this one needs, such as `ws`."""
    settings: dict[str, Any] = {
        "http": PunctualProtocol,
        "ws": "none",
        "log_config": None,
        "access_log": False,  # addresses hold tokens
        "server_header": False,
        "limit_concurrency": sockets.CONNECTIONS,
        "timeout_graceful_shutdown": 2,
    }
    return uvicorn.Config(app, **settings | other)


class PunctualWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, of which there are not too many, and whose pings are read by nobody who does not read."""

    def handle_connect(self, event: Request) -> None:
        """Refuses those that are too many; uvicorn's own limit is for HTTP only."""
        if len(self.connections) <= MOST_SOCKETS:
            super().handle_connect(event)
            return
        self.handshake_complete = self.close_sent = True
        self.conn.send_response(self.conn.reject(503, "too many are connected"))
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()

    async def send(self, message: Any) -> None:
        """Sends what the application says. A refusal ends the handshake too, of which uvicorn would else complain."""
        await super().send(message)
        self.handshake_complete = self.handshake_complete or self.close_sent

    def handle_ping(self) -> None:
        """Answers, unless earlier answers were not read."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.transport.abort()
