"""`Ledger`: which units of a job there are, and which of them are made and right.

A job has a folder beside what it makes, `NAME.job`. `plan.json` in it names the command, the settings and every unit;
whoever comes first writes it, and who comes later must want the same. A unit is a file. Its hash is recorded before it
gets its name, so a file without a record was made by somebody else, a record without a file is a unit to make, and a
process that is killed at any moment leaves nothing that looks finished and is not.
"""

import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from samplernn_fast import files
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.untrusted import INDEX_BYTES, Fields, Unreadable, read_json

SUFFIX = ".job"
"""What the name of a job's folder ends in."""
BESIDE, INSIDE = "beside", "inside"
"""Where the files of units lie: beside the job's folder, or in its folder `parts`."""
_PLAN_FILE, _MANIFEST_FILE = "plan.json", "manifest.json"
_CLOSED_FILE = "closed"
_RECORDS, _PARTS, _MAKING, _SET_ASIDE = "units", "parts", "making", "set-aside"
_MISSING = object()
_FORMAT, _VERSION = "samplernn_fast job", 1
_MOST_UNITS = 10_000_000
_MOST_BYTES = 2**60
_FORGOTTEN = 86400.0  # After so many seconds without a change, what a process was making is left over.
_QUIET = 3600.0  # The same where all units are there: a process may still be making one of them once more.
_FILES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".json")
_NAME = re.compile(r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]{0,199}")

on_begin: list[Callable[[Path], object]] = []
"""What is called with the folder of each job that this process begins or takes up again."""


@dataclass(frozen=True)
class Plan:
    """What a job makes. Two processes work on the same job where their plans are equal."""

    command: str
    """The command of samplernn-fast: generate, prepare, evaluate."""
    settings: Mapping[str, Any]
    """All that decides what the units are, as JSON."""
    units: tuple[str, ...]
    """The names of the units' files, in their order."""
    place: str = BESIDE
    """Where they lie: `BESIDE` or `INSIDE`."""

    def to_dict(self) -> dict[str, Any]:
        """The plan as plan.json has it."""
        head = {"format": _FORMAT, "version": _VERSION, "command": self.command, "place": self.place}
        return head | {"settings": dict(self.settings), "units": list(self.units)}


@dataclass(frozen=True)
class Record:
    """What is known of a unit that was made."""

    bytes: int
    sha256: str


class Ledger:
    """A job's folder. Any number of processes, on any machines that share it, may work with it at once."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self._known = frozenset(plan.units)

    @classmethod
    def begin(cls, folder: Path, plan: Plan) -> Self:
        """The ledger of a job that is begun here, or was begun before with the same plan.

        Raises ConfigError, which names what differs, where the folder has another plan, and DataError where it cannot
        be read or written.
        """
        plan = Plan(plan.command, json.loads(json.dumps(dict(plan.settings))), plan.units, plan.place)
        wrong = next((name for name in plan.units if not _NAME.fullmatch(name)), None)
        if wrong is not None:
            raise ConfigError(f"a unit's name must be that of a file, got {wrong!r}")
        try:
            for part in (_RECORDS, _MAKING, *([_PARTS] if plan.place == INSIDE else [])):
                (folder / part).mkdir(parents=True, exist_ok=True)
            with files.held(folder, wait=True):
                if not (folder / _PLAN_FILE).exists():
                    files.write_text(folder / _PLAN_FILE, json.dumps(plan.to_dict(), indent=1) + "\n")
            ledger = cls.open(folder)
            ledger._check_same(plan)
            ledger._remove_forgotten(_FORGOTTEN)
        except OSError as error:
            raise DataError(f"{folder}: the job cannot be kept there: {error.strerror or error}") from None
        for told in on_begin:
            told(folder)
        return ledger

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The ledger of a job that was begun. Raises DataError where the folder has none that can be read."""
        path = folder / _PLAN_FILE
        try:
            fields = Fields(read_json(path, INDEX_BYTES), "the plan")
            if fields.text("format") != _FORMAT or fields.integer("version", 0, 10**6) != _VERSION:
                raise Unreadable(f"is no plan of version {_VERSION}; another version of samplernn_fast wrote it")
            units = tuple(fields.texts("units", _MOST_UNITS))
            if len(set(units)) != len(units) or not all(_NAME.fullmatch(name) for name in units):
                raise Unreadable("names units twice, or by what is no name of a file")
            place = fields.text("place")
            if place not in (BESIDE, INSIDE):
                raise Unreadable(f"place must be {BESIDE} or {INSIDE}")
            return cls(folder, Plan(fields.text("command"), fields.mapping("settings"), units, place))
        except Unreadable as error:
            raise DataError(f"{path}: {error}") from None

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a job was begun in this folder."""
        return (folder / _PLAN_FILE).exists()

    def _check_same(self, plan: Plan) -> None:
        """Raises ConfigError where the plan that is here differs from `plan`."""
        there, here = self.plan.to_dict(), plan.to_dict()
        if there == here:
            return
        theirs, ours = there.pop("settings"), here.pop("settings")
        there.pop("units"), here.pop("units")
        names = dict.fromkeys([*there, *theirs, *here, *ours])
        theirs, ours = there | theirs, here | ours
        other = next((name for name in names if theirs.get(name, _MISSING) != ours.get(name, _MISSING)), None)
        if other is None:
            pairs = itertools.zip_longest(self.plan.units, plan.units, fillvalue="no further file")
            what = "it makes {} there and {} here".format(*next(pair for pair in pairs if pair[0] != pair[1]))
        else:
            what = f"{other} is {_short(theirs.get(other))} there and {_short(ours.get(other))} here"
        raise ConfigError(f"{self.folder} has another job: {what}; choose another output, or remove that folder")

    def path(self, name: str) -> Path:
        """Where a unit's file lies, or will lie."""
        return (self.folder / _PARTS if self.plan.place == INSIDE else self.folder.parent) / name

    def record(self, name: str) -> Record | None:
        """What was recorded when a unit was made; None where nothing was, or the record is damaged."""
        try:
            fields = Fields(read_json(self._record_path(name)), "the record")
            return Record(fields.integer("bytes", 0, _MOST_BYTES), fields.text("sha256"))
        except Unreadable:
            return None

    def made_at(self, name: str) -> float | None:
        """When a unit was recorded, in seconds since 1970; None where it was not."""
        with suppress(OSError):
            return self._record_path(name).stat().st_mtime
        return None

    def recorded(self) -> int:
        """How many units were recorded, without a look at their files."""
        with suppress(OSError):
            return sum(entry.name.endswith(".json") for entry in os.scandir(self.folder / _RECORDS))
        return 0

    def fault(self, name: str, *, deep: bool = True) -> str | None:
        """What is wrong with a unit's file: "missing", or what else in words; None where it is right.

        deep: compares its bytes with the hash that was recorded, and not their number alone.
        """
        path = self.path(name)
        try:
            size = path.stat().st_size  # before its record, which another process writes before the file
            record = self.record(name)
            if record is None:
                return "was not made by this job"
            if size != record.bytes:
                return f"has {size} bytes, and {record.bytes} were written"
            if deep and sha256(path) != record.sha256:
                return "holds other bytes than were written"
        except FileNotFoundError:
            return MISSING
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return None

    def to_make(self, names: Iterable[str], report: Callable[[str], object]) -> list[str]:
        """Those of the units that are still to make. What lies in their place and is wrong is moved into the folder
        set-aside of the job, and `report` is called with a line about each."""
        found = []
        for name in names:
            fault = self.fault(name)
            if fault is not None:
                found.append(name)
            if fault not in (None, MISSING):
                report(f"{self.path(name)} {fault}; it is moved to {self._set_aside(name)} and made again")
        return found

    def _set_aside(self, name: str) -> Path:
        folder = self.folder / _SET_ASIDE
        aside = folder / f"{name}-{secrets.token_hex(4)}"
        try:
            folder.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):  # another process has moved it
                os.replace(self.path(name), aside)
        except OSError as error:
            raise DataError(f"{self.path(name)}: cannot be moved to {aside}: {error.strerror or error}") from None
        return aside

    @contextmanager
    def making(self) -> Iterator[Path]:
        """Yields a new folder to make units in, which `adopt` takes from there. It is removed afterwards."""
        folder = self.folder / _MAKING / secrets.token_hex(8)
        try:
            folder.mkdir(parents=True)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, name: str, made: Path) -> None:
        """Records a unit and gives its file, which is whole, its name. Raises DataError where that fails."""
        if name not in self._known:
            raise ConfigError(f"{name!r} is no unit of {self.folder}")
        try:
            record = {"bytes": made.stat().st_size, "sha256": sha256(made)}
            files.write_text(self._record_path(name), json.dumps(record) + "\n")
            files.put_in_place(made, self.path(name))
        except OSError as error:
            raise DataError(f"{self.path(name)}: cannot be written: {error.strerror or error}") from None

    def unknown_files(self) -> list[str]:
        """Files among those of the units that have the names of none: same beginning and end, other number."""
        # One piece alone has no number: what its name ends in is its seed, and other seeds are other jobs.
        many = len(self.plan.units) > 1
        numbered = re.fullmatch(r"(.*?)[0-9]+(\.[A-Za-z0-9]+)", self.plan.units[0]) if many else None
        if numbered is None:
            return []
        pattern = re.compile(re.escape(numbered[1]) + "[0-9]+" + re.escape(numbered[2]))
        found = (entry.name for entry in os.scandir(self.path(self.plan.units[0]).parent))
        return sorted(name for name in found if pattern.fullmatch(name) and name not in self._known)

    def write_manifest(self) -> Path:
        """Writes manifest.json, the plan with the size and the hash of every unit, all of which must be right.

        It is the same however the work was shared. Raises DataError where a unit has no record.
        """
        rows = []
        for name in self.plan.units:
            record = self.record(name)
            if record is None:
                raise DataError(f"{self.path(name)}: was not made by this job")
            rows.append({"name": name, "bytes": record.bytes, "sha256": record.sha256})
        path = self.folder / _MANIFEST_FILE
        try:
            files.write_text(path, json.dumps(self.plan.to_dict() | {"units": rows}, indent=1) + "\n")
            self._remove_forgotten(_QUIET)
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
        return path

    def close(self) -> None:
        """Ends a job whose units lie in its folder and are needed no more: writes manifest.json, then removes them."""
        try:
            if not self.is_closed():
                self.write_manifest()
                files.write_text(self.folder / _CLOSED_FILE, "the units were put together and removed\n")
            shutil.rmtree(self.folder / _PARTS, ignore_errors=True)
            self._remove_forgotten(0)  # nobody needs what is made here any more
        except OSError as error:
            raise DataError(f"{self.folder}: the job cannot be ended: {error.strerror or error}") from None

    def is_closed(self) -> bool:
        """Whether the job was ended by `close`, so that its units are not there any more."""
        return (self.folder / _CLOSED_FILE).exists()

    def _record_path(self, name: str) -> Path:
        return self.folder / _RECORDS / f"{name}.json"

    def _remove_forgotten(self, seconds: float) -> None:
        """Removes what processes that were killed had begun: where nothing has changed for so many seconds.

        Each folder loses its name first. A process that lives and makes something there, which happens where folders
        cannot be held, meets an error then, and gives its name to nothing that is half removed.
        """
        now = time.time()
        making = self.folder / _MAKING
        for folder in making.iterdir() if making.is_dir() else ():
            with suppress(OSError):
                newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
                if now - newest >= seconds:
                    gone = folder.with_name(secrets.token_hex(8))
                    os.rename(folder, gone)
                    shutil.rmtree(gone, ignore_errors=True)


MISSING = "missing"
"""What `Ledger.fault` says of a unit that is not there."""


def sha256(path: Path) -> str:
    """The SHA-256 hash of a file's bytes, in hexadecimal digits. Raises OSError."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def job_folder(output: Path) -> Path:
    """The folder of the job that makes `output`: beside it, with the suffix .job in place of the file's own."""
    # The name of a folder may have a dot in it, as v1.2 has, and v1.3 is another one.
    return output.with_name((output.stem if output.suffix.lower() in _FILES else output.name) + SUFFIX)


def find_jobs(place: Path) -> Sequence[Path]:
    """The job folders that a path stands for: itself, those in it, or the one beside the output of that name.

    Raises DataError where there are none.
    """
    if (place / _PLAN_FILE).exists():
        return [place]
    inside = sorted(path.parent for path in place.glob(f"*{SUFFIX}/{_PLAN_FILE}"))
    named = place if place.name else place.absolute()  # "." has no name
    beside = [job_folder(named)] if named.name and (job_folder(named) / _PLAN_FILE).exists() else []
    if not (inside or beside):
        raise DataError(f"{place}: no job is there: neither {_PLAN_FILE}, nor a folder that ends in {SUFFIX}")
    return [*beside, *inside]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
