"""The log of a radio: JSON lines that say what was played when, and states beside it from which it can be made again.

{"is": "radio", "version": 1, "seed": 0, ...}    how the radio was begun; the first line
{"is": "part", "at": 480000, ...}                another model and seed take over at this sample, and why
{"is": "state", "at": 960000, "file": "..."}     a state that stands before this sample
{"is": "file", "from": 0, "to": 28800000, ...}   a file of sound that is whole

A radio that is stopped writes one more state, of which the log says nothing: so the log of one that was stopped has the
same bytes as that of one that was not. That state itself says which beginning of the log it belongs to.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from samplernn_fast import files
from samplernn_fast.errors import AudioError, CheckpointError, ConfigError
from samplernn_fast.models.stored.header import STATE_KIND, opened
from samplernn_fast.untrusted import Unreadable, parse_json, read_bytes

LOG_FILE = "radio.jsonl"
STATES = "states"
"""The folder of states, beside the log."""
STOPPED = "stopped.safetensors"
"""The state at which the radio was stopped last, among the others."""
VERSION = 1
_MOST_BYTES = 1 << 30


def read(path: Path) -> list[dict[str, Any]]:
    """The entries of a log, its header first. A last line that was cut short is left out.

    path: the file, or its folder. Raises AudioError where there is no log.
    """
    file = path / LOG_FILE if path.is_dir() else path
    try:
        text = read_bytes(file, _MOST_BYTES).decode("utf-8")
        entries = [parse_json(line) for line in text.split("\n")[:-1]]
    except (Unreadable, UnicodeDecodeError) as error:
        raise AudioError(f"{file}: is no log of a radio: {error}") from None
    if not entries or not all(isinstance(entry, dict) for entry in entries) or entries[0].get("is") != "radio":
        raise AudioError(f"{file}: is no log of a radio")
    if entries[0].get("version") != VERSION:
        raise AudioError(f"{file}: is a log of another version of samplernn_fast")
    return entries


def states(entries: list[dict[str, Any]], folder: Path) -> Iterator[tuple[int, int, Path]]:
    """The states of a log, the newest first: the number of the entry, the sample, and the file."""
    for number in range(len(entries) - 1, 0, -1):
        entry = entries[number]
        at, name = entry.get("at"), entry.get("file")
        if entry.get("is") == "state" and isinstance(at, int) and isinstance(name, str) and os.sep not in name:
            yield number, at, folder / STATES / name


class Place(NamedTuple):
    """A beginning of a log."""

    entries: int
    sha256: str
    """Of its lines."""


class Log:
    """The log of a radio that plays. Its methods raise AudioError where something cannot be written."""

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        """Makes the folder. header: the first line of the log."""
        self.folder, self._path = folder, folder / LOG_FILE
        self.entries: list[dict[str, Any]] = []
        """What the log held, until `go_on`."""
        self._header = header
        self._count, self._hash = 0, hashlib.sha256()
        try:
            (folder / STATES).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def begin(self) -> None:
        """Reads what the log holds, if there is one. Raises ConfigError where it is that of another radio."""
        if os.path.lexists(self._path):
            self.entries = read(self._path)
            _check_same(self.entries[0], self._header, self.folder)
        else:
            self.entries = [self._header]

    def go_on(self, number: int) -> None:
        """Leaves out what stands behind an entry, which is going to be decided again."""
        lines = "".join(_line(entry) for entry in self.entries[: number + 1])
        try:
            files.write_text(self._path, lines)
        except OSError as error:
            raise self._unwritable(error) from None
        self._count, self._hash = number + 1, hashlib.sha256(lines.encode())
        self.entries = []

    def add(self, *entries: dict[str, Any], lasting: bool = False) -> None:
        """Writes entries. lasting: and waits until the disk has them."""
        if not entries and not lasting:
            return
        lines = "".join(map(_line, entries)).encode()
        try:
            # Opened anew for every line: a log that was removed must not be written on into nowhere.
            with open(self._path, "r+b") as file:
                file.seek(0, os.SEEK_END)
                file.write(lines)
                if lasting:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from None
        self._count += len(entries)
        self._hash.update(lines)

    def place(self) -> Place:
        """How far it goes now."""
        return Place(self._count, self._hash.hexdigest())

    @property
    def stopped_file(self) -> Path:
        """Where the state is kept at which the radio is stopped, with the `place` of the log as `log`."""
        return self.folder / STATES / STOPPED

    def places(self, until: int | None) -> Iterator[tuple[int, int, Path]]:
        """From where the radio can go on, the latest place first: the number of the last entry that then stays, the
        sample, and the file. until: a sample behind which it was stopped in vain."""
        saved = list(states(self.entries, self.folder))
        found = self._stopped()
        if found is not None and found[1] > max((at for _, at, _ in saved), default=0):
            if until is None or found[1] <= until:
                yield found
        yield from saved

    def _stopped(self) -> tuple[int, int, Path] | None:
        """The place at which the radio was stopped; None where there is none, or one of a log that was another."""
        try:
            with opened(self.stopped_file, (STATE_KIND,), "np") as (_, header):
                info = header["info"]
            place, position = Place(*info["log"]), int(info["radio"]["position"])
            lines = "".join(map(_line, self.entries[: place.entries])).encode()
        except (CheckpointError, KeyError, TypeError, ValueError):
            return None  # an earlier state makes the same sound
        same = 0 < place.entries <= len(self.entries) and hashlib.sha256(lines).hexdigest() == place.sha256
        return (place.entries - 1, position, self.stopped_file) if same else None

    def forget_stop(self) -> None:
        """Removes the state at which the radio was stopped, when there is a later one."""
        try:
            self.stopped_file.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def state_file(self, position: int) -> Path:
        """Where the state before a sample is kept."""
        return self.folder / STATES / f"{position:012d}.safetensors"

    def _unwritable(self, error: OSError) -> AudioError:
        return AudioError(f"{error.filename or self._path}: cannot be written: {error.strerror or error}")


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _check_same(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    wanted = json.loads(json.dumps(wanted))  # lists for tuples
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        was, now = (_shown(header.get(other[0])) for header in (found, wanted))
        what = f"models were {was}, and are" if other[0] == "models" else f"{other[0]} was {was}, and is"
        raise ConfigError(f"{folder} holds another radio: {what} {now} now; choose another folder")


def _shown(value: Any) -> str:
    """An entry of a header for a message; models by their names, and by hashes, which tell two of one name apart."""
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return ", ".join(f"{one.get('name')} ({str(one.get('sha256'))[:8]}, {one.get('dtype')})" for one in value)
    return json.dumps(value)
