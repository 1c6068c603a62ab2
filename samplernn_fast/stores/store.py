"""The one door to fsspec: the files below an address, fetched and put; every failure is one line.

An object store (S3 and its like) shows a new file when all of it has arrived, so a file is put there under its own
name. A store that is a file system would show half a file, so there it is put beside its place and renamed.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from samplernn_fast import terminal
from samplernn_fast.errors import ConfigError, MissingPackage, SampleRNNError, StoreError
from samplernn_fast.files import why_full
from samplernn_fast.stores import listing
from samplernn_fast.stores.listing import Entry

_PUTS_ARE_WHOLE = frozenset("s3 s3a gs gcs hf az abfs abfss adl abs oci oss cos tos obs".split())
_KEEP_WHAT_IS_THERE = frozenset("smb hdfs arrow_hdfs webhdfs webHDFS".split())
"""Stores whose renaming does not replace a file."""
_LONG_BYTES = 8 << 20  # from here on it is shown how far a transfer is


class Store:
    """The file or folder at an address. Names are relative to it; "" is the address itself, where that is a file.

    Every method raises StoreError where the store refuses, or cannot be reached.
    """

    def __init__(self, address: str) -> None:
        """Raises MissingPackage, which names it, where a package is missing, and ConfigError for an unknown scheme."""
        self.address = address
        self._scheme = address.partition("://")[0]
        try:
            import fsspec
        except ImportError:
            raise MissingPackage(
                f"{address} needs fsspec, which is not installed; pip install 'samplernn-fast[store]'"
            ) from None
        known = self._scheme in fsspec.available_protocols() or self._scheme in fsspec.registry
        if not known:
            raise ConfigError(
                f"{address}: no kind of store is called {self._scheme}; name a path, or s3://, gs://, hf://"
            )
        with self._guarded("cannot be opened"):
            try:
                self._system, self._root = fsspec.core.url_to_fs(address)
            except ImportError as error:
                raise MissingPackage(f"{address} needs a package that is not installed: {error}") from None

    def files(self) -> dict[str, Entry]:
        """Every file below the address by its name, without hidden ones; {} where nothing is there.

        Raises StoreError for a name that leads out of the folder into which it would be brought.
        """
        with self._guarded("cannot be listed"):
            self._system.invalidate_cache()
            try:
                found = listing.below(self._system, self._root)
            except FileNotFoundError as error:
                if _is_without_bucket(error):
                    raise
                found = {}
            return listing.entries(self._system, self._root, self.address, found)

    def in_folder(self) -> dict[str, bool]:
        """The names directly at the address, without hidden ones, and whether each is a folder; {} where nothing is."""
        root = self._root.strip("/")
        with self._guarded("cannot be listed"):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._root, detail=True)
            except (FileNotFoundError, NotADirectoryError) as error:
                if _is_without_bucket(error):
                    raise
                return {}
        paths = {str(info["name"]).strip("/"): info.get("type") == "directory" for info in found}
        names = {path.rpartition("/")[2]: folder for path, folder in paths.items() if path != root}
        for name in names:
            listing.check_name(name, self._spoken(name))
        return {name: folder for name, folder in names.items() if not name.startswith(".")}

    def fetch(self, names: Mapping[str, Entry], places: Mapping[str, Path]) -> None:
        """Brings files to `places`, whose folders are made. Raises StoreError where one changed meanwhile."""
        listing.check_places(names, self.address)
        total = sum(entry.size or 0 for entry in names.values())
        for place in places.values():
            place.parent.mkdir(parents=True, exist_ok=True)
        with self._guarded("cannot be fetched"), self._shown(total, "fetch") as callback:
            wanted = list(names)
            self._system.get([self._path(name) for name in wanted], [str(places[name]) for name in wanted], **callback)
        for name, entry in names.items():
            if not places[name].is_file() or entry.size not in (None, places[name].stat().st_size):
                raise StoreError(f"{self._spoken(name)}: changed while it was fetched; try again")

    def put(self, name: str, file: Path) -> None:
        """Puts a local file, which replaces what is there; nobody ever sees half of it."""
        with self._guarded("cannot be written", name), self._shown(file.stat().st_size, "send") as callback:
            if self._scheme in _PUTS_ARE_WHOLE:
                self._system.put_file(str(file), self._path(name), **callback)
                return
            temporary = self._beside(name)
            self._make_folder_of(name)
            try:
                self._system.put_file(str(file), self._path(temporary), **callback)
                self._move(temporary, name)
            except BaseException:
                self._forget(temporary)
                raise

    def put_all(self, files: Mapping[str, Path], last: Iterable[str] = ()) -> None:
        """Puts several files, those of `last` behind all others and in that order.

        Where two or more replace what is there, these are put beside their places first, and renamed when all have
        arrived: until then everything is as it was. The last of them, which speaks of the others, is taken away while
        that is done, so that it never speaks of files that are not its own. What cannot be renamed is sent once more.
        """
        order = [name for name in sorted(files) if name not in set(last)] + [name for name in last if name in files]
        there = [name for name in order if self.has(name)]
        if len(there) < 2:
            for name in order:
                self.put(name, files[name])
            return
        beside = {name: self._beside(name) for name in there}
        try:
            for name in order:
                self.put(beside.get(name, name), files[name])
            self._take_away(there[-1])
        except BaseException:
            for temporary in beside.values():
                self._forget(temporary)
            raise
        # From here on the earlier version is no more, so the new files stay under their hidden names until all is done.
        left = list(there)
        try:
            with self._guarded("cannot be replaced"):
                while left:
                    self._move(beside[left[0]], left[0])
                    left.pop(0)
        except StoreError:
            for name in left:
                self.put(name, files[name])
            for name in left:
                self._forget(beside[name])

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        with self._guarded("cannot be asked for", name):
            self._system.invalidate_cache()
            return bool(self._system.isfile(self._path(name)))

    def remove(self, names: Iterable[str]) -> None:
        """Removes files; one that is gone already is as good as removed."""
        for name in names:
            with self._guarded("cannot be removed", name):
                try:
                    self._system.rm_file(self._path(name))
                except FileNotFoundError:
                    pass

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file; None where there is none."""
        with self._guarded("cannot be read", name):
            self._system.invalidate_cache()
            try:
                content: bytes = self._system.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return content

    def write(self, name: str, content: bytes) -> None:
        """Writes a small file, which replaces what is there."""
        with self._guarded("cannot be written", name):
            self._make_folder_of(name)
            self._system.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Writes a small file where there is none; returns whether it did. In a store that cannot be asked for that in
        one request, two that ask in the same moment may both hear yes."""
        if self.has(name):  # some stores take the condition below, and do not keep it
            return False
        with self._guarded("cannot be written", name):
            self._make_folder_of(name)
            try:
                self._system.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
            except Exception as error:
                words = f"{type(error).__name__} {error}".lower()
                if not isinstance(error, TypeError | ValueError) and "implement" not in words:
                    raise
                self._system.pipe_file(self._path(name), content)
        return True

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    def _beside(self, name: str) -> str:
        return str(PurePosixPath(name).with_name(f".{secrets.token_hex(8)}.tmp"))

    def _make_folder_of(self, name: str) -> None:
        """Makes the folder of a file in a store that has folders."""
        if self._scheme not in _PUTS_ARE_WHOLE:
            self._system.makedirs(self._system._parent(self._path(name)), exist_ok=True)

    def _move(self, name: str, to: str) -> None:
        """Gives a file another name, where it replaces what is there."""
        from fsspec import AbstractFileSystem

        source, target = self._path(name), self._path(to)
        if type(self._system).mv is AbstractFileSystem.mv:  # which takes [, ? and * in a name for a pattern
            self._system.cp_file(source, target)
            self._system.rm_file(source)
            return
        if self._scheme in _KEEP_WHAT_IS_THERE and self._system.isfile(target):
            self._system.rm_file(target)
        self._system.mv(source, target)

    def _take_away(self, name: str) -> None:
        """Removes a file. An error after which it is gone all the same is none."""
        try:
            with self._guarded("cannot be replaced", name):
                self._system.rm_file(self._path(name))
        except StoreError:
            if self.has(name):
                raise

    def _forget(self, name: str) -> None:
        """Removes a temporary file, where that can be done."""
        try:
            self._system.rm_file(self._path(name))
        except Exception:  # it may not be there, and what went wrong before is said already
            pass

    def _spoken(self, name: str) -> str:
        return f"{self.address}/{name}" if name else self.address

    @contextmanager
    def _guarded(self, failed: str, name: str = "") -> Iterator[None]:
        """Errors of fsspec and of the packages behind it, which are of many kinds, become a StoreError in one line."""
        try:
            yield
        except (SampleRNNError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and why_full(error):
                raise  # the disk of this machine; who writes there knows where
            raise StoreError(f"{self._spoken(name)}: {failed}: {_reason(error)}") from None

    @contextmanager
    def _shown(self, size: int, title: str) -> Iterator[dict[str, Any]]:
        """The argument of fsspec's calls that shows how far a transfer is, where it is a long one."""
        if size < _LONG_BYTES:
            yield {}
            return
        from fsspec.callbacks import Callback

        with terminal.Bar(size, "byte", title=title, prefixes=True) as bar:

            class Counting(Callback):  # type: ignore[misc]  # fsspec ships no types
                def __init__(self, counts: bool) -> None:
                    super().__init__()
                    self.counts = counts

                def branched(self, *args: object, **kwargs: object) -> Callback:
                    return Counting(True)

                def relative_update(self, inc: int = 1) -> None:
                    if self.counts:
                        bar.advance(inc)

            yield {"callback": Counting(title == "send")}


def _is_without_bucket(error: BaseException) -> bool:
    """Whether not the file is missing, but all in which it could lie."""
    return "bucket does not exist" in str(error).lower()


def _reason(error: BaseException) -> str:
    """Why, in one line: an error's own words, and its kind where it has none or they do not say it."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    kind = type(error).__name__
    if isinstance(error, PermissionError):
        return f"no right to do that ({text or kind})"
    return text if text and " " in text else f"{kind} {text}".strip()
