"""`prepare_share`: one process's share of a `prepare`, and `put_together`: the data folder of all shares.

The job's folder (`jobs.ledger`) lies beside the data folder and has the decoded parts until the data folder is there.
Whoever finds that all parts are there puts the data folder together, from the parts and the plan alone, by the same
code that `prepare` ends with, so it is the same byte for byte.
"""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from samplernn_fast import files, terminal
from samplernn_fast.data.decoding import Decoded, Take, decode_all
from samplernn_fast.data.manifest import manifest_sha256
from samplernn_fast.data.preparation import (
    PathLike,
    Sources,
    Unread,
    check_destination,
    decoder_of,
    find_sources,
    processors,
    versions,
    write_folder,
)
from samplernn_fast.data.report import PrepareReport
from samplernn_fast.data.settings import Settings
from samplernn_fast.data.shared.parts import Source, changed_file, divide, read_part, write_part
from samplernn_fast.data.splits import HELD_OUT, SplitRule
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.jobs.ledger import INSIDE, Ledger, Plan, job_folder
from samplernn_fast.jobs.shards import Shard
from samplernn_fast.jobs.status import check_complete, status_of
from samplernn_fast.untrusted import Fields, Unreadable, read_json

COMMAND = "prepare"
"""The command in the plan of such a job."""
_MADE_FILE = "made.json"


@dataclass(frozen=True)
class ShareReport:
    """What one process did; `str(report)` is its summary."""

    shard: Shard
    job: Path
    made: int
    """How many parts it made."""
    there: int
    """How many of its parts were there and right."""
    missing: int
    """How many parts of all shares are still to be made."""
    whole: PrepareReport | None
    """Where this process put the data folder together: the report of all recordings."""

    def summary(self) -> str:
        """A line of the share, and the summary of `PrepareReport` where the data folder was made."""
        parts = f"{self.shard}: {terminal.counted(self.made, 'part')} decoded, {self.there} were there"
        if self.missing:
            return f"{parts}, {self.missing} of all are missing; samplernn-fast jobs status {self.job}"
        if self.whole is None:
            return f"{parts}; all are there, and the data folder is made, or another process is making it"
        return f"{parts}\n{self.whole.summary()}"

    def __str__(self) -> str:
        return self.summary()


def prepare_share(
    shard: Shard,
    inputs: Sequence[PathLike],
    out: Path,
    settings: Settings,
    *,
    valid_files: Path | None = None,
    test_files: Path | None = None,
    progress: bool = False,
) -> ShareReport:
    """Decodes a shard's share of the files into the job's folder; the data folder is made once all shares are there.

    Every shard must be given the same inputs and settings, and see the same files. What was made before, by a process
    that was killed or by the same shard, is checked and kept. Arguments and errors are those of `prepare`; besides, it
    raises ConfigError where the job has other settings and DataError where a file was changed since the job began.
    """
    rule = SplitRule.from_settings(settings.split, settings.split_seed, valid_files, test_files)
    sources = find_sources(inputs)
    found = [Source.at(name, path) for name, path in sources.files.items()]
    held_out = rule.read_lists(list(sources.files))
    out = Path(os.path.realpath(out) if os.path.islink(out) else out)
    folder, parts = job_folder(out), divide(found)
    if not Ledger.exists(folder):
        check_destination(out, overwrite=False)
    plan = _for_plan(settings, rule, held_out, sources, found, out)
    ledger = _begin(folder, found, Plan(COMMAND, plan, _names(parts), INSIDE))
    if ledger.is_closed():
        _end(ledger, out)
        return ShareReport(shard, folder, 0, len(shard.share(parts)), 0, None)
    mine = dict(zip(shard.share(ledger.plan.units), shard.share(parts), strict=True))
    wanted = ledger.to_make(mine, terminal.say)
    with terminal.Bar(len(mine), "part", shown=progress, title="decode", start=len(mine) - len(wanted)) as bar:
        for name in wanted:
            _make(ledger, name, mine[name], sources, settings)
            bar.advance()
    missing = sum(ledger.fault(name, deep=False) is not None for name in ledger.plan.units)
    whole = None if missing or ledger.is_closed() else put_together(ledger, progress=progress)
    return ShareReport(shard, folder, len(wanted), len(mine) - len(wanted), missing, whole)


def _names(parts: Sequence[object]) -> tuple[str, ...]:
    digits = max(5, len(str(len(parts))))
    return tuple(f"part-{number:0{digits}}.f32" for number in range(len(parts)))


def _begin(folder: Path, found: Sequence[Source], plan: Plan) -> Ledger:
    """The job's ledger. Raises DataError, which names a file, where the files differ from those it began with."""
    there = Ledger.open(folder) if Ledger.exists(folder) else None
    if there and there.plan.command == COMMAND and there.plan.settings.get("files") != plan.settings["files"]:
        raise DataError(
            f"{folder} began with other audio files: {_difference(there, found)}; remove that folder to begin again"
        )
    if there and there.plan.command == COMMAND and "passed_over" in there.plan.settings:
        # It decides a line of the report alone, and what the job itself writes beside the recordings adds to it.
        plan = replace(plan, settings={**plan.settings, "passed_over": there.plan.settings["passed_over"]})
    return Ledger.begin(folder, plan)


def _difference(ledger: Ledger, found: Sequence[Source]) -> str:
    """What differs first, as far as the parts that are made tell it."""
    here, known = {source.name: source for source in found}, dict[str, Source]()
    for name in ledger.plan.units:
        with suppress(DataError):
            known |= {source.name: source for source in read_part(ledger.path(name))[0]}
    changed = changed_file(known, {name: here[name] for name in known.keys() & here.keys()})
    return changed or f"their number, sizes or times are not those of these {len(found)} files"


def _make(ledger: Ledger, name: str, part: Sequence[Source], sources: Sources, settings: Settings) -> None:
    """Decodes one part. Raises DataError where a file was changed since this process found it."""
    paths = {source.name: sources.files[source.name] for source in part}
    try:
        with ledger.making() as folder:
            decoded = decode_all(decoder_of(settings, folder), paths, settings.workers or processors(), False)
            changed = changed_file(_by_name(part), _by_name(Source.at(*item) for item in paths.items()))
            if changed:
                raise DataError(f"{changed} while it was decoded; start again when nobody writes to it")
            write_part(folder / name, part, decoded)
            ledger.adopt(name, folder / name)
    except OSError as error:
        raise DataError(f"{ledger.folder}: decoding failed: {error}") from error


def _by_name(sources: Any) -> dict[str, Source]:
    return {source.name: source for source in sources}


def put_together(ledger: Ledger, *, progress: bool = False) -> PrepareReport | None:
    """Makes the data folder of a job whose parts are all there, checks them first, and removes them then.

    None where it was made before, or another process is making it. Raises what `prepare` does, and DataError where a
    part is missing or wrong.
    """
    started = time.monotonic()
    settings, rule, held_out, unread, out, of_files = _from_plan(ledger)
    if ledger.is_closed():
        _end(ledger, out)
        return None
    try:
        with files.held(ledger.path(ledger.plan.units[0]).parent):
            if _is_made(ledger, out):
                ledger.close()
                return None
            check_destination(out, overwrite=False)
            with terminal.Bar(len(ledger.plan.units), "part", shown=progress, title="check") as bar:
                check_complete(status_of(ledger, each=bar.advance))
            decoded = _decoded(ledger, of_files)

            def remember(partial: Path) -> None:
                made = f'{{"manifest_sha256": "{manifest_sha256(partial)}"}}\n'
                files.write_text(ledger.folder / _MADE_FILE, made)

            # What a killed process leaves of the folder lies in the job's, which `close` empties.
            with ledger.making() as place:
                report = write_folder(
                    out,
                    settings,
                    rule,
                    held_out,
                    unread,
                    lambda partial: decoded,
                    started=started,
                    progress=progress,
                    last=remember,
                    within=place,
                )
            ledger.close()
    except BlockingIOError:
        return None
    except DataError:
        # Where folders cannot be held, another process may have been quicker, and have removed the parts.
        if _is_made(ledger, out):
            return None
        raise
    return report


def _decoded(ledger: Ledger, of_files: str) -> Decoded:
    """What all parts hold. Raises DataError where they are not of the files that the job began with."""
    digest, takes, dropped = hashlib.sha256(), list[Take](), list[tuple[str, str]]()
    for name in ledger.plan.units:
        sources, (more, less) = read_part(ledger.path(name))
        takes += more
        dropped += less
        digest.update(_lines(sources))
    if digest.hexdigest() != of_files:
        raise DataError(f"{ledger.folder}: its parts are not of the files that it began with; remove it to begin again")
    return takes, dropped


def _end(ledger: Ledger, out: Path) -> None:
    """Ends a closed job, whose parts a process may have begun to remove. Raises DataError where its result is gone."""
    ledger.close()
    if not _is_made(ledger, out):
        raise DataError(
            f"{ledger.folder}: its data folder {out} was made, and is gone or another now; remove the job's folder to"
            " begin again"
        )


def _is_made(ledger: Ledger, out: Path) -> bool:
    """Whether the data folder is there that this job made."""
    try:
        made = Fields(read_json(ledger.folder / _MADE_FILE), "what was made").text("manifest_sha256")
        return manifest_sha256(out) == made
    except (OSError, Unreadable):
        return False


def _lines(sources: Sequence[Source]) -> bytes:
    """What tells files from changed ones, to be hashed."""
    lines = (f"{source.name}\n{source.bytes} {source.changed}\n" for source in sources)
    return "".join(lines).encode(errors="surrogateescape")


def _for_plan(
    settings: Settings,
    rule: SplitRule,
    held_out: Mapping[str, str],
    sources: Sources,
    found: Sequence[Source],
    out: Path,
) -> dict[str, Any]:
    """All that decides the data folder, for the plan. How many files are decoded at once does not."""
    values = {name: value for name, value in asdict(settings).items() if name != "workers"}
    return values | {
        "out": out.name,
        "versions": versions(),
        "lists": {split: path.name for split, path in rule.lists.items()},
        "held_out": dict(held_out),
        "files": {"number": len(found), "sha256": hashlib.sha256(_lines(found)).hexdigest()},
        "unlisted": [list(pair) for pair in sources.unread.folders],
        "passed_over": sources.unread.passed_over,
    }


def _from_plan(ledger: Ledger) -> tuple[Settings, SplitRule, dict[str, str], Unread, Path, str]:
    """What `_for_plan` kept. Raises DataError where it is damaged, or of another version."""
    try:
        fields = Fields(ledger.plan.settings, "the plan")
        names = [name for name in asdict(Settings()) if name != "workers"]
        values = {name: fields.value(name) for name in names}
        settings = Settings(**values | {"split": tuple(values["split"])})
        if fields.mapping("versions") != versions():
            raise ConfigError(f"it was begun by {fields.mapping('versions')}, and this is {versions()}")
        rule = SplitRule.from_settings(settings.split, settings.split_seed, None, None)
        rule = replace(rule, lists={split: Path(str(name)) for split, name in fields.mapping("lists").items()})
        held_out = {str(name): str(split) for name, split in fields.mapping("held_out").items()}
        if not {*rule.lists, *held_out.values()} <= set(HELD_OUT):
            raise ConfigError("its lists are of unknown splits")
        folders = tuple((str(name), str(reason)) for name, reason in fields.value("unlisted"))
        out = ledger.folder.parent / Path(fields.text("out")).name
        unread, of_files = Unread(folders, fields.text("passed_over")), fields.fields("files").text("sha256")
        return settings, rule, held_out, unread, out, of_files
    except (ConfigError, ValueError, TypeError) as error:
        raise DataError(f"{ledger.folder}: its plan cannot be followed: {error}; remove it to begin again") from None
