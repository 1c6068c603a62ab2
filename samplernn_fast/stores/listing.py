"""What a store says of the files below an address, as fsspec brings it: their names, sizes, and stamps of change.

Stores differ in what they say. What makes a listing trustworthy is here: a folder that cannot be listed is an error and
never an empty one, and a file of which the store does not say when it changed has no stamp.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from samplernn_fast.errors import StoreError

_STAMPS = "ETag etag md5Hash md5 generation blob_id content_md5 Content-MD5".split()
"""What stores call a name of a file's content; the first that is there is taken."""
_TIMES = "LastModified last_modified Last-Modified updated mtime modified modificationTime modify created".split()
"""What stores call the time of a file's last change, for those that name no content."""
_AT_ONCE = 16  # files that are asked for together, where the list of a folder says too little


@dataclass(frozen=True)
class Entry:
    """A file in a store."""

    size: int | None
    """Its bytes; None where the store does not say it."""
    stamp: str
    """Differs after every change of the file; empty where the store does not say whether it changed."""


def below(system: Any, root: str) -> dict[str, dict[str, Any]]:
    """What fsspec says of every file below a path; {} where nothing is there. Errors of every other kind pass."""
    if not _walks(system):
        found: dict[str, dict[str, Any]] = system.find(root, detail=True)
        return found
    found = dict(_walk(system, root))
    if not found:
        with suppress(FileNotFoundError):
            if system.isfile(root):
                found[root] = {}
    return found


def entries(system: Any, root: str, address: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Entry]:
    """The files of `below` by their names, in order, without hidden ones and with what the list did not say of them.

    Raises StoreError for a name that leads out of the folder into which it would be brought.
    """
    paths, root = {}, root.strip("/")
    for path, info in found.items():
        inside = not root or path.strip("/") == root or path.strip("/").startswith(f"{root}/")
        name = path.strip("/")[len(root) :].lstrip("/")
        if not inside or info.get("type", "file") != "file" or path.endswith("/"):
            continue
        parts = name.split("/") if name else []
        for part in parts:
            check_name(part, f"{address}/{name}")
        if not any(part.startswith(".") for part in parts):
            paths[name] = path
    vague = [path for path in paths.values() if not _stamp(found[path])]
    told = dict(found) | dict(zip(vague, _asked(system, vague), strict=True))
    return {name: _entry(told[path]) for name, path in sorted(paths.items()) if told[path].get("type") == "file"}


def check_name(part: str, spoken: str) -> None:
    """Raises StoreError for a part of a name in a store that no file or folder of this machine can have."""
    if part in ("", ".", "..") or "\0" in part or "/" in part:
        raise StoreError(f"{spoken}: a file of this name cannot be brought here; rename it")


def check_places(names: Mapping[str, Entry], address: str) -> None:
    """Raises StoreError where one file's name is that of a folder in which another lies."""
    for name in names:
        parent = name.rpartition("/")[0]
        while parent and parent not in names:
            parent = parent.rpartition("/")[0]
        if parent:
            raise StoreError(
                f"{address}/{parent} and {address}/{name}: a file and a folder of one name cannot be brought here;"
                " rename one of them"
            )


def _walks(system: Any) -> bool:
    """Whether fsspec would find files by going from folder to folder, where it passes over those that it cannot list,
    as after a network that failed for a moment."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    kind = type(system)
    if isinstance(system, AsyncFileSystem):
        return kind._find is AsyncFileSystem._find
    return kind.find is AbstractFileSystem.find


def _walk(system: Any, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every file below a folder, none of hidden folders. A folder that is not there is empty."""
    try:
        listed = system.ls(folder, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return
    for info in listed:
        path = str(info["name"])
        own = path.strip("/") == folder.strip("/")
        if info.get("type") != "directory":
            yield path, info
        elif not own and not path.rstrip("/").rpartition("/")[2].startswith("."):
            yield from _walk(system, path)


def _asked(system: Any, paths: list[str]) -> list[dict[str, Any]]:
    """What the store says of single files, {} for one that is gone."""

    def info_of(path: str) -> dict[str, Any]:
        try:
            info: dict[str, Any] = system.info(path)
        except FileNotFoundError:
            return {}
        if not _stamp(info):
            with suppress(Exception):  # of many kinds where a store has no such time; the file has no stamp then
                info = info | {"modified": system.modified(path)}
        return info

    if len(paths) < 2 or not getattr(system, "async_impl", False):  # others need not be safe in several threads
        return [info_of(path) for path in paths]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(info_of, paths))


def _stamp(info: Mapping[str, Any]) -> str:
    return next((str(info[key]) for key in (*_STAMPS, *_TIMES) if info.get(key)), "")


def _entry(info: Mapping[str, Any]) -> Entry:
    size, stamp = info.get("size"), _stamp(info)
    return Entry(size if isinstance(size, int) else None, f"{size} {stamp}" if stamp else "")
