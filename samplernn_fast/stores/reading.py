"""What lies at an address, as a file or folder of this machine: in the cache, whole or not at all.

A copy is kept by the address and by the stamps that the store gives to the files, so a file that changed is fetched
again, and one that did not is not. A copy never changes: a process that has mapped an old one into memory keeps it.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path

from samplernn_fast.errors import StoreError
from samplernn_fast.files import cache_folder, held, replacing_folder, why_full
from samplernn_fast.stores import addresses
from samplernn_fast.stores.addresses import PathLike
from samplernn_fast.stores.listing import Entry
from samplernn_fast.stores.store import Store

Chooser = Callable[[list[str]], Iterable[str]]
"""Chooses, of the names of all files in a folder, those that are wanted."""
_UNUSED_SECONDS = 24 * 3600.0  # an older version of a copy is removed when nobody has asked for it for so long
_left: dict[Path, list[str]] = {}  # a copy -> the names that were not brought with it
_TRIES = 3  # how often a folder that changes while it is fetched is fetched again


def local(name: PathLike, wanted: Chooser | None = None) -> Path:
    """The path of a name; of an address, that of a copy in the cache, which is brought there where it is missing.

    wanted: which files of a folder are needed. Raises StoreError where nothing is at the address, where it cannot be
    reached, and where the copy finds no room.
    """
    address = addresses.address_of(name)
    if address is None:
        return addresses.path_of(name)
    store = Store(address)
    for _ in range(_TRIES):
        found = store.files()
        chosen = _chosen(store, found, wanted)
        copy, is_new = _copy_of(store, chosen)
        if not is_new or _chosen(store, store.files(), wanted) == chosen:
            addresses.remember(copy, address)
            _left[copy] = [name for name in found if name not in chosen]
            return copy
    raise StoreError(f"{address}: changes again and again while it is fetched; wait until it is written")


def left_in_store(copy: Path, folder: str) -> list[Path]:
    """The files of a folder that was not brought with a copy, as addresses; [] for a path that is no copy."""
    names = _left.get(copy, [])
    at = addresses.spelled(copy)
    return [addresses.path_of(f"{at}/{name}") for name in names if name.startswith(f"{folder}/")]


def _chosen(store: Store, found: dict[str, Entry], wanted: Chooser | None) -> dict[str, Entry]:
    if not found:
        raise StoreError(f"{store.address}: nothing is there")
    if wanted is None or "" in found:
        return found
    names = set(wanted(list(found)))
    if not names:
        raise StoreError(f"{store.address}: holds nothing of what is looked for there, but {min(found)}")
    return {name: entry for name, entry in found.items() if name in names}


def _copy_of(store: Store, found: Mapping[str, Entry]) -> tuple[Path, bool]:
    """The copy of these files, which is made where there is none, and whether it was.

    Where the store does not say whether a file changed, all are fetched anew, and the copy is named by their content.
    """
    version = addresses.digest(repr(sorted((name, entry.stamp) for name, entry in found.items())))
    versions = cache("read") / addresses.digest(store.address)
    is_told = all(entry.stamp for entry in found.values())
    folder = versions / (version if is_told else secrets.token_hex(8))
    copy = folder / addresses.last_part(store.address)
    with making_room(store.address, versions):
        versions.mkdir(parents=True, exist_ok=True)
        with held(versions, wait=True):
            is_new = not folder.is_dir()
            if is_new:
                check_room(store.address, versions, found)
                with replacing_folder(folder) as partial:
                    inside = partial / copy.name
                    places = {name: inside / name if name else inside for name in found}
                    store.fetch(found, places)
                if not is_told:
                    folder = _named_by_content(folder)
            with suppress(OSError):  # a cache that may only be read serves as well
                os.utime(folder)
            _remove_unused(versions, folder)
    return folder / copy.name, is_new


def _named_by_content(folder: Path) -> Path:
    """Renames a new copy so that equal ones have one name; removes it where there is one of that name."""
    digests = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb") as opened:
                digests.append((path.relative_to(folder).as_posix(), file_digest(opened, "sha256").hexdigest()))
    named = folder.with_name(addresses.digest(repr(digests)))
    if named.is_dir():
        shutil.rmtree(folder)
    else:
        os.rename(folder, named)
    return named


def _remove_unused(versions: Path, used: Path) -> None:
    """Removes other versions of a copy, and what killed processes left, that nobody asked for in a day."""
    for folder in versions.iterdir():
        with suppress(OSError):
            if folder != used and time.time() - folder.stat().st_mtime > _UNUSED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def describe() -> str:
    """Where copies are kept, and how much room they take."""
    try:
        folder = cache_folder("stores")
    except RuntimeError as error:
        return f"nowhere ({error})"
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            size += 0 if path.is_dir() else path.stat().st_size
    return f"{folder} ({size / 1e9:.3g} GB)" if size else str(folder)


def cache(kind: str) -> Path:
    """A folder in that of all copies. Raises StoreError where there is none."""
    try:
        return cache_folder("stores") / kind
    except RuntimeError as error:
        raise StoreError(f"there is no folder for copies ({error}); set SAMPLERNN_FAST_CACHE to one") from None


class making_room:
    """Around what writes into the cache: an OSError there, such as of a full disk, becomes a StoreError."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address, self._folder = address, folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            reason = why_full(error) or error.strerror or str(error)
            raise StoreError(
                f"{self._address}: no copy can be kept in {self._folder}: {reason}; make room, or set"
                " SAMPLERNN_FAST_CACHE to another folder"
            ) from None


def check_room(address: str, folder: Path, found: Mapping[str, Entry]) -> None:
    """Raises StoreError where the disk of `folder` has less room than these files need."""
    needed, free = sum(entry.size or 0 for entry in found.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"{address}: {needed / 1e9:.3g} GB do not fit into {folder}, where {free / 1e9:.3g} GB are free; make room,"
            " or set SAMPLERNN_FAST_CACHE to a folder on a larger disk"
        )
