"""What stands around every application: limits on what comes in, and headers on what goes out."""

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_FRAMES = "frame-ancestors 'none'; base-uri 'none'"


class Guard:
    """Adds the headers to every answer of the application, and ends a request whose body is too large.

    What uvicorn answers itself has none of them: 400 to what is no HTTP, 503 beyond `sockets.CONNECTIONS`.
    """

    def __init__(self, app: ASGIApp, content: str, most_bytes: Callable[[str], int]) -> None:
        """content: the rules of a Content-Security-Policy besides those that hold for all pages. most_bytes: of the
        body of a request to a path."""
        self._app, self._most_bytes = app, most_bytes
        headers = _HEADERS | {"content-security-policy": f"{content}; {_FRAMES}"}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received, most = 0, self._most_bytes(scope["path"])

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise HTTPException(413, f"what is sent here may have {_size(most)} at most; send less of it")
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await self._app(scope, limited, with_headers)


def _size(count: int) -> str:
    """A number of bytes in words, rounded down, so that what has this size is taken: 16.7 MB, 2,000 bytes."""
    return f"{count // 100_000 / 10:.15g} MB" if count >= 1_000_000 else f"{count:,} bytes"
