"""OSC by python-osc: messages to a port of this machine move parameters."""

import socket
from collections.abc import Iterable
from typing import Any

from samplernn_fast.errors import ConfigError, MissingPackage, quoted
from samplernn_fast.serving.playing.instrument import Instrument
from samplernn_fast.serving.playing.parameters import parameter

_LOOPBACK = "127.0.0.1"
_DATAGRAM = 1 << 16  # bytes, more than UDP has
_AT_ONCE = 100  # messages between two blocks; a flood may not hold up the sound


class OscControl:
    """Lets OSC messages play an instrument: the address is / and a parameter's name, the argument its value."""

    name = "OSC"

    def __init__(self, port: int) -> None:
        """port: of UDP, on the loopback address; 0 takes a free one. Raises MissingPackage, and ConfigError where the
        port is taken."""
        try:
            from pythonosc import osc_packet
        except ImportError:
            raise MissingPackage("OSC needs python-osc; pip install python-osc (extra `live`)") from None
        self._read = osc_packet.OscPacket
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((_LOOPBACK, port))
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"osc must be a free port of UDP, and {port} is not: {error.strerror}") from None
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        self.words = f"{_LOOPBACK}:{self.port}"

    @property
    def waits_for(self) -> list[int]:
        """What becomes readable when a message comes."""
        return [self._socket.fileno()]

    def poll(self, instrument: Instrument) -> Iterable[str]:
        """Does what came since the last call. Yields what is wrong with a message. Times of bundles count as now."""
        for _ in range(_AT_ONCE):
            try:
                packet = self._socket.recv(_DATAGRAM)
            except OSError:  # there is nothing more
                return
            try:
                messages = self._read(packet).messages
            except Exception as error:  # a damaged packet raises whatever its bytes lead to
                yield f"a packet of {len(packet)} bytes is no OSC ({type(error).__name__})"
                continue
            for _, message in messages:
                try:
                    self._take(message.address, message.params, instrument)
                except ConfigError as error:
                    yield f"{quoted(message.address)}: {error}"

    def close(self) -> None:
        """Gives the port back."""
        self._socket.close()

    def _take(self, address: str, values: list[Any], instrument: Instrument) -> None:
        name = address.removeprefix("/")
        one = parameter(instrument.parameters, name)
        if len(values) > 1 or (not values and one.kind not in ("trigger", "seed")):
            raise ConfigError(f"{name} takes one value, got {len(values)}")
        if values and values[0] is None and one.off_at is None:
            raise ConfigError(f"{name} takes one value, got nil")
        instrument.set(name, *values)
