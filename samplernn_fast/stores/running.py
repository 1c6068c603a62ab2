"""A training run at an address: trained in a local folder, and sent after every checkpoint.

The local folder stays in the cache, so a run whose store cannot be reached loses nothing. Beside its files lies what
was last known of those in the store, from which follows who is ahead: this machine, whose last upload failed or was
killed, or the store, to which another machine has sent more. Where both are, the run is refused.
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import file_digest
from pathlib import Path

from samplernn_fast import terminal
from samplernn_fast.errors import ConfigError, StoreError
from samplernn_fast.files import held, replacing_folder, write_text
from samplernn_fast.stores import addresses
from samplernn_fast.stores.addresses import PathLike
from samplernn_fast.stores.lease import Lease
from samplernn_fast.stores.listing import Entry
from samplernn_fast.stores.reading import cache, check_room, making_room
from samplernn_fast.stores.sending import state_of
from samplernn_fast.stores.store import Store

_KNOWN_FILE, _OWNER_FILE = ".store.json", "owner"
_mirrors: dict[Path, "Mirror"] = {}  # of this process, by the local folder


def working_folder(out: PathLike) -> Path:
    """The folder in which a run at `out` is trained: `out` itself, or for an address always the same local folder."""
    address = addresses.address_of(out)
    if address is None:
        return addresses.path_of(out)
    folder = cache("runs") / addresses.digest(address) / addresses.last_part(address)
    if folder not in _mirrors:
        _mirrors[folder] = Mirror(address, folder)
        addresses.remember(folder, address)
    return folder


def bring(folder: Path, marks: Sequence[str], first: bool = True) -> None:
    """Brings a run's folder to where the store is, where that is ahead; nothing for a folder that has no address.

    marks: the names of the files that say where a run stands, in the order in which they are sent. first: whether this
    is the process that writes the run. Raises ConfigError where another process of this machine trains there, or where
    both the folder and the store have gone on, and StoreError.
    """
    mirror = _mirrors.get(folder)
    if mirror is None:
        return
    with mirror.alone() if first else ExitStack():
        mirror.bring(marks)


@contextmanager
def training_in(folder: Path, marks: Sequence[str], first: bool, say: bool = True) -> Iterator[None]:
    """Around a run: brings its folder, as `bring`, keeps others out, and sends everything when the block ends.

    Only the process that is `first` keeps others out, and sends. say: whether standard error shows where it is trained.
    """
    mirror = _mirrors.get(folder)
    if mirror is None:
        yield
        return
    if not first:
        mirror.bring(marks)
        yield
        return
    with mirror.alone():
        mirror.bring(marks)
        mirror.start(marks)
        if say:
            terminal.say(f"store   {mirror.address}: sent there at every checkpoint; trained in {folder}")
        try:
            yield
        except BaseException as error:
            mirror.finish(marks, failed=error)
            raise
        mirror.finish(marks)


def send(folder: Path, marks: Sequence[str], say: Callable[[str], object]) -> None:
    """Sends what changed in a run's folder; nothing for a folder that has no address, or is not trained in.

    A store that cannot be reached is complained about once, and is tried again by the next call. Raises ConfigError
    where another machine has taken over the run.
    """
    mirror = _mirrors.get(folder)
    if mirror is not None and mirror.lease is not None:
        mirror.send(marks, say)


class Mirror:
    """A run's local folder and its address."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.folder = address, folder
        self.lease: Lease | None = None
        self._complained = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the run against other processes of this machine. Raises ConfigError where one trains there."""
        with ExitStack() as stack:
            refusal = ConfigError(f"{self.address} is being trained in by another process; wait for it, or stop it")
            with making_room(self.address, self.folder):
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(self.folder.parent, refusal=refusal))
            yield

    def start(self, marks: Sequence[str]) -> None:
        """Takes the lease at the address, and brings what its last holder sent while this waited for it."""
        owner = self.folder.parent / _OWNER_FILE
        if not owner.exists():
            write_text(owner, secrets.token_hex(8))
        lease = Lease(Store(self.address), owner.read_text())
        if lease.take():
            try:
                self.bring(marks)
            except BaseException:
                lease.release()
                raise
        self.lease, self._complained = lease, False

    def bring(self, marks: Sequence[str]) -> None:
        """As the function of that name."""
        store = Store(self.address)
        bringing = self.folder.parent / "bringing"
        with making_room(self.address, self.folder):
            bringing.mkdir(parents=True, exist_ok=True)
            with held(bringing, wait=True):
                self._remove_leftovers()
                found = store.files()
                if self._is_behind(store, found, marks):
                    check_room(self.address, self.folder.parent, found)
                    self._fetch(store, found)

    def send(self, marks: Sequence[str], say: Callable[[str], object]) -> None:
        """As the function of that name."""
        assert self.lease is not None
        try:
            self.lease.check()
            self._put_changes(marks)
        except StoreError as error:
            if not self._complained:
                say(f"warning: {error}; training goes on, and every checkpoint tries again")
            self._complained = True
        else:
            if self._complained:
                say(f"{self.address}: is up to date again")
            self._complained = False

    def finish(self, marks: Sequence[str], failed: BaseException | None = None) -> None:
        """Sends the rest and gives the lease back. failed: the error with which the run ends, which is not replaced.

        Raises StoreError, which says where the run is kept, where it cannot be sent.
        """
        assert self.lease is not None
        lease, self.lease = self.lease, None
        try:
            lease.check()
            self._put_changes(marks)
        except (StoreError, ConfigError) as error:
            addresses.forget(self.folder)
            text = f"{error}; the run is kept in {self.folder}"
            if isinstance(error, StoreError):  # and not a run that another machine has taken over
                text += ", and the same command sends it from there"
            if failed is None:
                raise StoreError(text) from None
            terminal.say(f"warning: {text}")
        finally:
            lease.release()

    def _put_changes(self, marks: Sequence[str]) -> None:
        """Sends what is not in the store as it is here: first all that a mark may rely on, then the marks, then
        removals, so that whatever is at the address when this is cut short can be gone on from."""
        store, known, state = Store(self.address), self._known(), state_of(self.folder)
        changed = [name for name, seen in state.items() if known.get(name, [None, None])[:2] != list(seen)]
        gone = [name for name in known if name not in state]
        if not changed and not gone:
            return
        sent = self._sent() + [self._content_of(name) for name in marks if name in changed]
        self._remember(known, sent)
        rest = [name for name in changed if name not in marks]
        for name in [*rest, *(mark for mark in marks if mark in changed)]:
            store.put(name, self.folder / name)
        store.remove(gone)
        found = store.files()
        after = {name: [*seen, found[name].stamp if name in found else ""] for name, seen in state.items()}
        self._remember(after, [])

    def _is_behind(self, store: Store, found: dict[str, Entry], marks: Sequence[str]) -> bool:
        """Whether the store has gone on from what is here. Raises ConfigError where both have, and where the store has
        lost what was sent to it, which is no way to go on."""
        known, state = self._known(), state_of(self.folder) if self.folder.is_dir() else {}
        if not state:
            return bool(found)
        lost = [name for name in marks if name in known and name not in found]
        if lost:
            addresses.forget(self.folder)
            raise ConfigError(
                f"{self.address} has no {lost[0]} any more, and its copy in {self.folder} is kept; move that copy away"
                " to begin anew or with what is left there, or train on from it at another address by resume"
            )
        ahead, behind = [], []
        for name in marks:
            stamp = found[name].stamp if name in found else None
            # A store that gives no stamps may have gone on at any time.
            there, here = (
                stamp == "" or stamp != known.get(name, [None] * 3)[2],
                list(state.get(name, ())) != known.get(name, [])[:2],
            )
            if there and here and self._is_own(store, found, name):
                there = False
            if there:
                behind.append(name)
            elif here:
                ahead.append(name)
            if there and here:
                ahead.append(name)
        if ahead and behind:
            addresses.forget(self.folder)
            raise ConfigError(
                f"{self.address} and its copy in {self.folder} have both gone on since they were one run; move"
                f" away one of them, to go on with the other"
            )
        return bool(behind)

    def _is_own(self, store: Store, found: dict[str, Entry], name: str) -> bool:
        """Whether a file in the store is one that was sent from here, by a call that did not live to note it."""
        if name not in found:
            return False
        place = self.folder.parent / f"{secrets.token_hex(8)}.tmp"
        try:
            store.fetch({name: found[name]}, {name: place})
            content = _digest(place)
        finally:
            place.unlink(missing_ok=True)
        own = [self._content_of(name)] if (self.folder / name).is_file() else []
        return content in [*own, *self._sent()]

    def _remove_leftovers(self) -> None:
        """Removes what a process that was killed while it brought the run left beside it."""
        for path in self.folder.parent.iterdir():
            if path == self.folder or path.name.startswith("."):
                continue
            if path.name.startswith(f"{self.folder.name}.partial-"):
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix == ".tmp":
                path.unlink(missing_ok=True)

    def _fetch(self, store: Store, found: dict[str, Entry]) -> None:
        """Brings the folder to what the store has; a file that is the same already is linked, not fetched."""
        known, state = self._known(), state_of(self.folder) if self.folder.is_dir() else {}
        with replacing_folder(self.folder) as partial:
            wanted = dict(found)
            for name, entry in found.items():
                if entry.stamp and known.get(name) == [*state.get(name, ()), entry.stamp]:
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    os.link(self.folder / name, partial / name)
                    del wanted[name]
            store.fetch(wanted, {name: partial / name for name in wanted})
            brought = {name: [*seen, found[name].stamp] for name, seen in state_of(partial).items()}
            self._remember(brought, [], partial)

    def _known(self) -> dict[str, list[int | str | None]]:
        """What is known of each file in the store: its bytes and its time here, when the two were the same, and the
        stamp there."""
        return self._record().get("files", {})  # type: ignore[return-value]

    def _sent(self) -> list[str]:
        """The contents of marks that were about to be sent by calls which did not end well."""
        return self._record().get("sent", [])  # type: ignore[return-value]

    def _record(self) -> dict[str, object]:
        try:
            found = json.loads((self.folder / _KNOWN_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _remember(self, files: dict, sent: list[str], folder: Path | None = None) -> None:
        record = {"address": self.address, "files": files, "sent": sent}
        write_text((folder or self.folder) / _KNOWN_FILE, json.dumps(record))

    def _content_of(self, name: str) -> str:
        return _digest(self.folder / name)


def _digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return file_digest(opened, "sha256").hexdigest()
