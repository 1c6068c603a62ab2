"""Takes a listening test to other programs, and their results back.

Listeners who are exported are listeners of the test like all others, so the pairs of systems stay balanced. What comes
back is checked like every answer: a trial that has an answer keeps it, and results of other tests are refused.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samplernn_fast import files
from samplernn_fast.errors import DataError
from samplernn_fast.evaluation.listening.answers import AnswerBook, Refused
from samplernn_fast.evaluation.listening.formats import FORMATS, Result
from samplernn_fast.untrusted import Unreadable


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    taken: int
    """Answers that are kept now."""
    repeated: int
    """Answers to trials that had one already, which stays."""


def export(book: AnswerBook, program: str, listeners: int, folder: Path) -> list[Path]:
    """Adds listeners to a test, and writes a folder with their configs and the clips for a program of `FORMATS`.

    Returns the configs. Raises DataError where the folder exists or cannot be written.
    """
    if folder.exists():
        raise DataError(f"{folder} exists; name another folder")
    form, test, written = FORMATS[program], book.test, list[Path]()
    try:
        with files.replacing_folder(folder) as partial:
            clips = partial / form.clip_folder(test)
            clips.mkdir(parents=True)
            for clip in test.clips:
                shutil.copyfile(test.clip_path(clip), clips / f"{clip}.wav")
            for _ in range(listeners):
                name, text = form.config(test, book.join())
                (partial / name).parent.mkdir(exist_ok=True)
                (partial / name).write_text(text, encoding="utf-8")
                written.append(folder / name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return written


def bring_in(book: AnswerBook, program: str, paths: Sequence[Path]) -> Imported:
    """Adds the answers in files of results, or in all such files of folders, to a test.

    All files are read before anything is kept. Raises DataError, which names the file, for one that cannot be read, is
    damaged, or has answers to trials that nobody has.
    """
    form = FORMATS[program]
    results = list[Result]()
    for path in _files(paths, form.suffix):
        try:
            found = form.results(path, book.test)
            for result in found:
                _check(book, result)
        except Unreadable as error:
            raise DataError(f"{path}: {error}; nothing was imported") from None
        results += found
    taken = 0
    for result in results:
        try:
            book.answer(book.listeners[result.listener - 1], result.trial, result.choice, result.seconds)
            taken += 1
        except Refused as error:
            if not error.already:
                raise
    return Imported(taken, len(results) - taken)


def _files(paths: Sequence[Path], suffix: str) -> list[Path]:
    """The files that are named, and those with this suffix in folders that are. Raises DataError for none."""
    found = []
    for path in paths:
        found += sorted(path.rglob(f"*{suffix}")) if path.is_dir() else [path]
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: no {suffix} file is there")
    return found


def _check(book: AnswerBook, result: Result) -> None:
    """Raises Unreadable for an answer to a trial that nobody in the test has."""
    if not 1 <= result.listener <= len(book.listeners):
        raise Unreadable(f"this test has no listener {result.listener}")
    trials = len(book.listeners[result.listener - 1].pairs)
    if not 1 <= result.trial <= trials:
        raise Unreadable(f"listener {result.listener} has the trials 1 to {trials}, and none {result.trial}")
