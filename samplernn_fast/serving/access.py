"""Who may use a server: programs on this machine, or everybody with a token; and never pages of other sites."""

import secrets
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from samplernn_fast.serving import sockets

_HERE = {"localhost", "127.0.0.1", "::1"}


class Access:
    """The rules of one server."""

    def __init__(self, token: str | None, host: str, refused: Callable[[], object] = lambda: None) -> None:
        """token: what addresses must hold, None for nothing. host: where the server listens. refused: is called for
        every request that is refused."""
        self._token, self._refused = token, refused
        # A page elsewhere can give its own name our address. Its requests name that page as the host.
        self._hosts = {*_HERE, host} if sockets.is_loopback(host) else None

    def check(self, connection: HTTPConnection, secret: bool = True) -> None:
        """Raises HTTPException unless the request may be answered. secret: whether it needs the token."""
        host = connection.headers.get("host", "")
        if self._hosts is not None and _host_of(f"//{host}") not in self._hosts:
            self._refuse(421, "this server listens to this machine only")
        origin = connection.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            self._refuse(403, "only pages of this server may ask this")
        if secret and connection.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            self._refuse(403, "only pages of this server may ask this")
        given = connection.query_params.get("token", "")
        if secret and self._token is not None and not secrets.compare_digest(given.encode(), self._token.encode()):
            self._refuse(401, "the address needs ?token=, as the server printed it when it began")

    def _refuse(self, status: int, reason: str) -> None:
        self._refused()
        raise HTTPException(status, reason)


def _host_of(address: str) -> str | None:
    """The host of an address; None where it is no address."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def token_for(host: str, given: str | None) -> str | None:
    """The token of a server that listens on `host`: the one that was given, and beyond this machine always one."""
    return given or (None if sockets.is_loopback(host) else secrets.token_urlsafe(12))


def address(host: str, port: int, token: str | None) -> str:
    """The address of a server's page."""
    query = f"?token={quote(token, safe='')}" if token else ""
    return f"http://{sockets.shown(host)}:{port}/{query}"
