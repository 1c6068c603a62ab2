"""Who trains at an address: a small file there, which the run renews as long as it lives.

Two runs at one address would each overwrite what the other sends. A lock of this machine does not reach another one, so
the run writes its name and the time into the store every minute; who comes later is refused until that is five minutes
old. A run that was killed can go on at once on its own machine, and after five minutes on another.
"""

import json
import platform
import secrets
import threading
import time
from contextlib import suppress
from typing import Any

from samplernn_fast.errors import ConfigError, StoreError
from samplernn_fast.stores.store import Store

LEASE_FILE = ".training.json"
"""The file at the address of a run. Hidden files are neither brought nor sent with a run."""
RENEWED_SECONDS, EXPIRES_SECONDS = 60.0, 300.0
"""How often a run renews its lease, and after how long without that it counts as dead."""


class Lease:
    """The right to train at an address, from `take` to `release`."""

    def __init__(self, store: Store, owner: str) -> None:
        """owner: the name of this machine's copy of the run, of which one process at a time may train."""
        self._store, self._owner, self._token = store, owner, secrets.token_hex(8)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def take(self) -> None:
        """Takes the lease. Raises ConfigError where a run of another machine holds it, and StoreError."""
        if not self._store.create(LEASE_FILE, self._content()):
            holder = self._holder()
            age = time.time() - holder.get("time", 0)
            if holder.get("owner") not in (None, self._owner) and age < EXPIRES_SECONDS:
                raise ConfigError(
                    f"{self._store.address} is being trained in on {holder.get('machine')}, which said so"
                    f" {max(0, age):.0f} s ago; stop it there, or where it is dead already, wait"
                    f" {EXPIRES_SECONDS / 60:.0f} minutes"
                )
            self._store.write(LEASE_FILE, self._content())
        self.check()
        self._thread.start()

    def check(self) -> None:
        """Raises ConfigError where another machine has taken over the run, and StoreError."""
        holder = self._holder()
        if holder.get("token") not in (None, self._token):
            raise ConfigError(f"{self._store.address} was taken over by a run on {holder.get('machine')}")

    def release(self) -> None:
        """Gives the lease back, where the store can be reached."""
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()
        with suppress(StoreError, ConfigError):
            self.check()
            self._store.remove([LEASE_FILE])

    def _renew(self) -> None:
        while not self._done.wait(RENEWED_SECONDS):
            with suppress(StoreError):  # the next minute tries again
                if self._holder().get("token") in (None, self._token):
                    self._store.write(LEASE_FILE, self._content())

    def _content(self) -> bytes:
        mine = {"machine": platform.node(), "owner": self._owner, "token": self._token, "time": time.time()}
        return json.dumps(mine).encode()

    def _holder(self) -> dict[str, Any]:
        """What the lease says; {} where there is none, or it cannot be understood."""
        try:
            found = json.loads(self._store.read(LEASE_FILE) or b"{}")
        except ValueError:
            return {}
        known = isinstance(found, dict) and isinstance(found.get("time", 0), int | float)
        return found if known else {}
