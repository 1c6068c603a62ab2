"""Where a server listens."""

import contextlib
import errno
import ipaddress
import os
import socket

from samplernn_fast.errors import ConfigError

CONNECTIONS = 200
"""So many may be open at once; those beyond are refused with status 503."""
_UNSENT_BYTES = 1 << 16  # of a connection, besides what the client's own system takes


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens. port: 0 takes a free one. Raises ConfigError where the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0  # Where a name is not found it is negative.
        if number == errno.EADDRINUSE:
            raise ConfigError(f"port must be a free one, and {port} of {host} is taken; 0 finds one") from None
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
        raise ConfigError(f"host {host}, port {port} cannot be used: {reason}; choose another one") from None
    # Connections inherit this. Without it a small message waits up to 40 ms for the answer to the one before.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A client that does not read is noticed after so many bytes, and not only after megabytes.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT_BYTES)
    return listening


def is_loopback(host: str) -> bool:
    """Whether an address, or the name localhost, is seen on this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shown(host: str) -> str:
    """A host as an address has it. In the place of "all of this machine's addresses", which no browser can open, it is
    the one by which the network knows it, where there is one."""
    if host in ("0.0.0.0", "::"):
        family, elsewhere = (socket.AF_INET, "192.0.2.1") if host == "0.0.0.0" else (socket.AF_INET6, "2001:db8::1")
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((elsewhere, 9))  # sends nothing; the system only chooses an address of its own
            host = asked.getsockname()[0]
    return f"[{host}]" if ":" in host else host
