"""Connections of the server that end when nothing comes over them, so that they cannot keep others out.

uvicorn ends connections that are silent after an answer, and no others.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

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
