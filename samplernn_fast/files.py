"""Files and folders that appear whole or not at all: whatever must never be seen half written is written through here.

OSError passes through; the caller knows which of the package's errors it stands for.
"""

import errno
import math
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from samplernn_fast.errors import SampleRNNError, exists

_AT_ONCE = 8  # files
_Item = TypeVar("_Item")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path` to write a file to.

    When the block ends well, what was written is flushed to the disk and takes `path`'s place, so a reader never sees
    half a file. When the block fails, `path` is as it was, and the temporary file is removed. The file has the
    permissions that the process gives to new files, even if a library that wrote it gave it others. An OSError of the
    temporary file names `path`, because nobody knows the other name.
    """
    temporary = temporary_beside(path)
    try:
        temporary.touch()
        permissions = stat.S_IMODE(temporary.stat().st_mode)
        temporary.unlink()
        yield temporary
        temporary.chmod(permissions)
        put_in_place(temporary, path)
    except OSError as error:
        if error.filename not in (temporary, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        remove(temporary)


def check_free(path: Path, refusal: type[SampleRNNError], *, overwrite: bool = False) -> None:
    """Raises `refusal` where `path` is no name for a new file: a folder has it, or a file (unless `overwrite`), or it
    holds a character that no name can hold."""
    try:
        os.lstat(path)
    except ValueError as error:
        raise refusal(f"{path}: cannot be the name of a file ({error})") from None
    except OSError:
        pass  # Whoever makes the file says what is wrong, if anything is.
    if os.path.isdir(path):  # unlike a Path's own, it is False for a name that the system does not take
        raise refusal(f"{path}: is a folder; name a file")
    if not overwrite and os.path.lexists(path):
        raise refusal(exists(path))


def temporary_beside(path: Path) -> Path:
    """A name in `path`'s folder that nobody has, for what is to take `path`'s place. No file is made."""
    return path.with_name(f".{secrets.token_hex(8)}.tmp")


def put_in_place(temporary: Path, path: Path) -> None:
    """Flushes a file to the disk and renames it to `path`, which it replaces."""
    with open(temporary, "rb+") as written:
        os.fsync(written.fileno())
    os.replace(temporary, path)


def why_full(error: OSError) -> str:
    """Returns why the disk takes no more, if that is what an error says; otherwise nothing.

    The disk, or the share of this user, is full; or it takes no larger file, such as a memory card beyond 4 GB.
    """
    if error.errno == errno.EFBIG:
        return "the disk takes no larger file"
    return "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""


def for_each(work: Callable[[_Item], object], items: Sequence[_Item]) -> None:
    """Does `work` with every item, some of them at once, because a disk flushes several files in little more time than
    one. Raises what the first failure raised; work that was not begun then is left out."""
    from concurrent import futures  # 9 ms that not every start needs

    with futures.ThreadPoolExecutor(min(_AT_ONCE, max(1, len(items)))) as pool:
        for _ in pool.map(work, items):
            pass


def remove(temporary: Path) -> None:
    """Removes a temporary file, where it is still there and can be removed."""
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8 by way of `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes a file of bytes by way of `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_in_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Writes a file of bytes that come in pieces, which together may be more than there is memory."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.writelines(pieces)


def for_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for JSON, which has no NaN and no infinity: None stands for such a number."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def write_figure(path: Path, figure: Any) -> None:
    """Writes a figure of matplotlib as a PNG file by way of `replacing`."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def cache_folder(kind: str) -> Path:
    """The folder `kind` of what is kept to save time: in what SAMPLERNN_FAST_CACHE names, else in the user's own folder
    for caches. RuntimeError where there is none."""
    if chosen := os.environ.get("SAMPLERNN_FAST_CACHE"):
        return Path(chosen).expanduser() / kind
    try:
        import platformdirs
    except ImportError as error:  # a machine without a network may lack it
        raise RuntimeError(str(error)) from None
    found = platformdirs.user_cache_path("samplernn_fast", appauthor=False) / kind
    return found if found.is_absolute() else Path.home() / ".cache" / "samplernn_fast" / kind


@contextmanager
def held(folder: Path, *, wait: bool = False, refusal: Exception | None = None) -> Iterator[None]:
    """Holds a folder against other processes for the block.

    Raises BlockingIOError, or the `refusal`, where another one holds it; wait: waits until it does not, instead.

    The system lets go of it when the process ends, however that is, and no file is left. On systems and file systems
    that cannot hold a folder, the block runs without that.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                if refusal is not None:
                    raise refusal from None
                raise
        yield
    finally:
        os.close(number)


def something_else(folder: Path, marks: Collection[str]) -> str | None:
    """A name in a folder that is neither new, nor empty, nor has one of the files `marks`; None where all is well.

    Hidden files do not count. Where `folder` is a file, its own name is returned.
    """
    if not folder.is_dir():
        return folder.name if folder.exists() else None
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    return None if not names or any(name in marks for name in names) else names[0]


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of `replacing`, and those of safetensors, that a killed process left in `folder`.

    Call it only where no other process writes into `folder`: its temporary files would be removed too.
    """
    for pattern in (".*.tmp", ".tmp??????"):  # safetensors writes to a name of the second kind before it renames
        for leftover in folder.glob(pattern):
            leftover.unlink()


@contextmanager
def replacing_folder(folder: Path, within: Path | None = None) -> Iterator[Path]:
    """Yields a new, empty folder to fill, beside `folder`, or in a folder `within` on the same disk.

    Parents of `folder` that are missing are made.

    When the block ends well, the new folder takes `folder`'s place; one that exists already stands aside until then,
    and comes back if the renaming fails. When the block fails, `folder` is as it was, and the new folder is removed.
    Files are not flushed to the disk, unlike those of `replacing`.
    """
    partial = (within or folder.parent) / f"{folder.name}.partial-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(parents=True)
        yield partial
        _move_into_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move_into_place(partial: Path, folder: Path) -> None:
    old = folder.with_name(f"{folder.name}.old-{secrets.token_hex(4)}")
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(partial, folder)
    except BaseException:
        if old.exists():
            os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
