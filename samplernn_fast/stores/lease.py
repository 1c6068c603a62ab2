"""Who trains at an address: a small file there, which the run renews as long as it lives.

Two runs at one address would each overwrite what the other sends. A lock of this machine does not reach another one, so
the run writes its name and the time into the store every minute; who comes later is refused until that is five minutes
old. A run that was killed can go on at once on its own machine, and after five minutes on another.
"""

import json
import os
import platform
import secrets
import threading
import time
from contextlib import suppress
from typing import Any

from samplernn_fast import terminal
from samplernn_fast.errors import ConfigError, SampleRNNError, StoreError
from samplernn_fast.stores.store import Store

LEASE_FILE = ".training.json"
"""The file at the address of a run. Hidden files are neither brought nor sent with a run."""
RENEWED_SECONDS, EXPIRES_SECONDS = 60.0, 300.0
"""How often a run renews its lease, and after how long without that it counts as dead."""
ASKED_SECONDS = 10.0
"""How often a run that waits for a lease looks at it."""


class Lease:
    """The right to train at an address, from `take` to `release`."""

    def __init__(self, store: Store, owner: str) -> None:
        """owner: the name of this machine's copy of the run, of which one process at a time may train."""
        self._store, self._owner, self._token = store, owner, secrets.token_hex(8)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def take(self) -> bool:
        """Takes the lease, and returns whether it waited for another one's.

        Raises ConfigError where a run of another machine holds it, and StoreError.
        """
        waited = False
        if not self._store.create(LEASE_FILE, self._content()):
            waited = self._wait_for_dead()
            holder, age = self._other()
            if holder and age < EXPIRES_SECONDS:
                raise ConfigError(
                    f"{self._store.address} is being trained in on {holder.get('machine')}, which said so"
                    f" {max(0, age):.0f} s ago; stop it there, or where it is dead already, wait"
                    f" {EXPIRES_SECONDS / 60:.0f} minutes"
                )
            self._store.write(LEASE_FILE, self._content())
        self.check()
        self._thread.start()
        return waited

    def check(self) -> None:
        """Raises ConfigError where another machine has taken over the run, and StoreError."""
        holder = _holder(self._store)
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

    def _other(self) -> tuple[dict[str, Any], float]:
        """What another machine's lease says, {} where there is none, and how many seconds ago it said so."""
        holder = _holder(self._store)
        return ({} if holder.get("owner") in (None, self._owner) else holder), time.time() - holder.get("time", 0)

    def _wait_for_dead(self) -> bool:
        """Where torchrun has started the run again, its first process may have been on a machine that is gone: waits
        until that one's lease runs out, is given back, or is renewed by one that lives. Returns whether it waited."""
        if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") in ("", "0"):
            return False
        holder, age = first, _ = self._other()
        if waits := bool(holder) and age < EXPIRES_SECONDS:
            terminal.say(f"store   waiting up to {EXPIRES_SECONDS:.0f} s for the lease of {holder.get('machine')}")
        while holder and holder == first and age < EXPIRES_SECONDS:
            time.sleep(min(ASKED_SECONDS, max(0.0, EXPIRES_SECONDS - age) + 0.01))
            holder, age = self._other()
        return waits

    def _renew(self) -> None:
        store = None
        while not self._done.wait(RENEWED_SECONDS):
            with suppress(SampleRNNError):  # the next minute tries again
                # fsspec keeps a connection for each thread, because not all may be used by two.
                store = store or Store(self._store.address)
                if _holder(store).get("token") in (None, self._token):
                    store.write(LEASE_FILE, self._content())

    def _content(self) -> bytes:
        mine = {"machine": platform.node(), "owner": self._owner, "token": self._token, "time": time.time()}
        return json.dumps(mine).encode()


def _holder(store: Store) -> dict[str, Any]:
    """What the lease says; {} where there is none, or it cannot be understood."""
    try:
        found = json.loads(store.read(LEASE_FILE) or b"{}")
    except ValueError:
        return {}
    known = isinstance(found, dict) and isinstance(found.get("time", 0), int | float)
    return found if known else {}
