"""What an address is: `scheme://...`, wherever a path could stand; and which local copies stand for which addresses.

A `Path` of an address has lost one of its slashes, as in `s3:/bucket/run`. `address_of` knows it all the same, so that
a flag or a field may be a Path; `path_of` makes a Path that keeps both.
"""

import hashlib
import os
import re
from pathlib import Path, PosixPath

from samplernn_fast.errors import ConfigError

PathLike = str | os.PathLike[str]

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//?)(.*)", re.DOTALL)
_LOCAL = ("file", "local")
"""The schemes of this machine's own files, which are paths and nothing else."""
_USUAL = frozenset("s3 s3a gs gcs hf az abfs abfss adl oci oss memory http https ftp sftp ssh smb hdfs webhdfs".split())
"""Schemes that are known where fsspec is not installed."""

_copies: dict[str, str] = {}  # a local copy, or a Path that has lost a slash -> the address that it stands for


class AddressPath(PosixPath):
    """A path that is an address: its text has both slashes. It names nothing on this machine, so no file is there."""

    def __str__(self) -> str:
        return re.sub(r"^([^/:]+):/(?!/)", r"\1://", super().__str__())


def address_of(name: object) -> str | None:
    """The address that a text or a Path is, without a slash at its end; None where it is a path of this machine.

    Raises ConfigError for an address that holds a password, and for one with a part that would lead out of a folder.
    """
    if not isinstance(name, str | os.PathLike):
        return None
    text = os.fspath(name)
    found = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[1].lower() in _LOCAL:
        return None
    scheme, slashes, rest = found.groups()
    if slashes == "/" and (scheme not in _schemes() or os.path.lexists(f"{scheme}:")):
        return None
    _check(scheme, rest)
    address = f"{scheme}://{rest.strip('/') if scheme == 'memory' else rest.rstrip('/')}"
    if slashes == "/":
        remember(text, address)
    return address


def is_plain(name: str) -> bool:
    """Whether a text is a path of this machine and no address, not one of its own files either."""
    return _ADDRESS.fullmatch(name) is None


def path_of(name: PathLike) -> Path:
    """A Path for a text or a Path: one whose text is the address where it is one, the file behind a file:// address."""
    address = address_of(name)
    if address is not None:
        return AddressPath(address)
    text = os.fspath(name)
    found = _ADDRESS.fullmatch(text)
    if found is not None and found[1].lower() in _LOCAL and not os.path.lexists(f"{found[1]}:"):
        return Path(found[3] if found[3].startswith("/") or found[2] == "//" else f"/{found[3]}")
    return Path(name)


def last_part(address: str) -> str:
    """What a local copy of an address is called: the last part of it, or the scheme where there is none."""
    scheme, _, rest = address.partition("://")
    return rest.rpartition("/")[2] or scheme


def digest(text: str) -> str:
    """A short name that two texts do not share."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def remember(copy: PathLike, address: str) -> None:
    """From here on, `spelled` writes this address for that local copy."""
    _copies[os.fspath(copy)] = address


def forget(copy: PathLike) -> None:
    """`spelled` leaves that local copy as it is from here on: it is itself what is spoken of."""
    _copies.pop(os.fspath(copy), None)


def spelled(text: object) -> str:
    """A text with the address in place of every local copy in it."""
    spoken = str(text)
    for copy in sorted(_copies, key=len, reverse=True):
        if copy in spoken:
            address = _copies[copy].replace("\\", r"\\")
            spoken = re.sub(rf"(?<![\w/]){re.escape(copy)}(?![\w-])", address, spoken)
    return spoken


def placed(path: Path) -> str:
    """Where a path is, from the root on; for a local copy, /s3:/bucket/file, as if its address were such a place."""
    absolute = os.path.abspath(path)
    address = spelled(absolute)
    return absolute if address == absolute else f"/{address.replace('://', ':/', 1)}"


def _check(scheme: str, rest: str) -> None:
    """Raises ConfigError for an address that is refused. Nothing of a password is in the message."""
    user, at, _ = rest.lstrip("/").partition("/")[0].rpartition("@")
    if at and ":" in user:
        raise ConfigError(
            f"an address may hold a user's name, but no password, and that of a {scheme}:// address does: it would be"
            f" shown and written into files; give it by the environment or the configuration of the package for"
            f" {scheme}://"
        )
    parts = rest.split("/")
    if "." in parts or ".." in parts or "\0" in rest:
        raise ConfigError(f"{scheme}://{rest}: no part of an address may be . or .. or hold a zero byte; write it out")


def _schemes() -> frozenset[str]:
    """The schemes that a Path may have kept."""
    try:
        from fsspec.registry import known_implementations
    except ImportError:
        return _USUAL
    return _USUAL.union(known_implementations)
