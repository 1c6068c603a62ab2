"""A folder of this machine whose files go to an address when they are whole.

What is at the address already is shown in that folder as empty files, so that whoever writes there finds what exists,
refuses it, numbers around it or replaces it, as in any other folder. What changed goes to the store.
"""

import functools
import inspect
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import ParamSpec, TypeVar

from samplernn_fast.errors import DiskFull, Interrupted, StoreError
from samplernn_fast.stores import addresses
from samplernn_fast.stores.addresses import PathLike
from samplernn_fast.stores.reading import cache, making_room
from samplernn_fast.stores.store import Store

P = ParamSpec("P")
T = TypeVar("T")
State = dict[str, tuple[int, int]]


@contextmanager
def folder_at(out: PathLike, last: Sequence[str] = ()) -> Iterator[Path]:
    """Yields the folder `out` itself, or for an address the local folder whose files go there when the block ends well.

    The folder is there only where something is at the address. last: names of files that go behind all others, because
    they speak of them. An Interrupted and a DiskFull send what there is, too; other errors send nothing. Raises
    StoreError where it cannot be sent, and says where it is kept.
    """
    address = addresses.address_of(out)
    if address is None:
        yield addresses.path_of(out)
        return
    store, made = Store(address), cache("made") / secrets.token_hex(8)
    folder = made / addresses.last_part(address)
    with making_room(address, made):
        made.mkdir(parents=True)
        before = _show(store, folder)
    addresses.remember(folder, address)
    try:
        yield folder
    except (Interrupted, DiskFull):
        _send(store, folder, before, last)
        raise
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    _send(store, folder, before, last)


@contextmanager
def file_at(out: PathLike) -> Iterator[str]:
    """The same for a name that may be a file or a folder, as a text: a folder's name ends in a slash, or has no suffix
    or a number for one. Another name is that of a file, and the folder is the one in which it lies."""
    address = addresses.address_of(out)
    if address is None:
        place = os.fspath(out)  # as it is, because a Path would forget a slash at its end
        yield place if addresses.is_plain(place) else str(addresses.path_of(place)) + "/" * place.endswith("/")
        return
    name = PurePosixPath(addresses.last_part(address))
    if os.fspath(out).endswith("/") or not name.suffix or name.suffix[1:].isdigit():
        with folder_at(address) as folder:
            folder.mkdir(exist_ok=True)
            yield f"{folder}/"
    else:
        parent = address.rpartition("/")[0]
        with folder_at(f"{parent}//" if parent.endswith(":") else f"{parent}/") as folder:
            folder.mkdir(exist_ok=True)
            yield str(folder / name)


def to_address(argument: str, last: Sequence[str] = ()) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator: the argument of that name may be an address, and the function gets the folder of `folder_at`."""

    def decorated(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def sends(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                given = inspect.signature(function).bind(*args, **kwargs)
            except TypeError:  # the function itself says what is missing
                return function(*args, **kwargs)
            value = given.arguments.get(argument)
            if addresses.address_of(value) is None:
                if isinstance(value, str) and not addresses.is_plain(value):  # a file:// address
                    given.arguments[argument] = addresses.path_of(value)
                return function(*given.args, **given.kwargs)
            with folder_at(given.arguments[argument], last) as given.arguments[argument]:
                return function(*given.args, **given.kwargs)

        return sends

    return decorated


def sent_to(path: Path) -> Path:
    """What a file of such a folder is called at its address."""
    return addresses.path_of(addresses.spelled(path))


def _show(store: Store, folder: Path) -> State:
    """Makes an empty file for everything that is directly at the address, and returns how they look."""
    names = store.in_folder()
    if not names and store.has(""):
        raise StoreError(f"{store.address}: is a file; name a folder")
    for name, is_folder in names.items():
        (folder / name if is_folder else folder).mkdir(parents=True, exist_ok=True)
        if not is_folder:
            (folder / name).touch()
    return state_of(folder)


def _send(store: Store, folder: Path, before: State, last: Sequence[str]) -> None:
    changed = {name: folder / name for name, found in state_of(folder).items() if before.get(name) != found}
    try:
        store.put_all(changed, last)
    except StoreError as error:
        raise StoreError(f"{error}; what was made is kept in {_unspelled(folder)}") from None
    shutil.rmtree(folder.parent, ignore_errors=True)


def _unspelled(folder: Path) -> str:
    """The name of a local folder, which is meant itself and not its address."""
    addresses.forget(folder)
    return str(folder)


def state_of(folder: Path) -> State:
    """How each file below a folder looks: its bytes, and when it was changed, in nanoseconds. Hidden ones are not
    told."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            seen = path.stat()
            found[name.as_posix()] = (seen.st_size, seen.st_mtime_ns)
    return found
