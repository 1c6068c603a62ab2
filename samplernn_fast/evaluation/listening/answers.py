"""The listeners of a test and what they answered: two files of JSON lines that only grow.

A line is on the disk before anybody is told so, and a listener answers a trial once. So neither a crash nor a reload
loses an answer, and neither a second tab nor a repeated request doubles one.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samplernn_fast import files
from samplernn_fast.errors import DataError, SampleRNNError
from samplernn_fast.evaluation.listening.folder import MOST_TRIALS, ListeningTest
from samplernn_fast.evaluation.listening.plan import Pair, pairs_of
from samplernn_fast.untrusted import INDEX_BYTES, Fields, Unreadable, parse_json, read_bytes

LISTENERS_FILE = "listeners.jsonl"
ANSWERS_FILE = "answers.jsonl"
CHOICES = ("a", "b", "none")
"""What a listener may answer: the first clip, the second, or no preference."""
_LONGEST = 1e6  # seconds that an answer may take


class Refused(SampleRNNError):
    """An answer that cannot be taken: malformed, given already, or of nobody who takes part."""

    def __init__(self, message: str, already: bool = False) -> None:
        """already: whether this trial has an answer."""
        super().__init__(message)
        self.already = already


@dataclass(frozen=True)
class Answer:
    """One line of answers.jsonl."""

    listener: int
    """The listener's number, from 1 on."""
    trial: int
    """Which pair of the listener's it is, from 1 on."""
    a: str
    """The clip that was called A."""
    b: str
    """The clip that was called B."""
    choice: str
    """One of `CHOICES`."""
    seconds: float | None
    """How long the listener took, where that is known."""
    time: str
    """When the answer came, in UTC."""


@dataclass(frozen=True)
class Listener:
    """One line of listeners.jsonl."""

    number: int
    """The number of the listener; the first one has 1."""
    token: str
    """The secret by which the listener's browser is known again."""
    pairs: tuple[Pair, ...]
    """What the listener hears, trial by trial."""


@dataclass
class AnswerBook:
    """Everybody who takes part in a test, and all answers; `open_book` and `read_book` make one."""

    test: ListeningTest
    listeners: list[Listener] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    _answered: dict[int, set[int]] = field(default_factory=dict)
    _by_token: dict[str, Listener] = field(default_factory=dict)

    def listener(self, token: str) -> Listener:
        """Who has this token. Raises Refused where nobody has."""
        if token not in self._by_token:
            raise Refused("nobody who takes part in this test has this token")
        return self._by_token[token]

    def next_trial(self, listener: Listener) -> int | None:
        """The first trial that the listener has not answered, from 1 on; None where all are."""
        answered = self._answered.get(listener.number, set())
        return next((trial for trial in range(1, len(listener.pairs) + 1) if trial not in answered), None)

    def join(self, token: str | None = None) -> Listener:
        """A new listener, who is on the disk already. Raises DataError where that cannot be written.

        token: of `new_token`, where the listener's browser has one already; None draws one.
        """
        number = len(self.listeners) + 1
        listener = Listener(number, token or new_token(), tuple(pairs_of(self.test, number)))
        told = {"listener": number, "token": listener.token, "pairs": listener.pairs, "time": _now()}
        _append(self.test.folder / LISTENERS_FILE, told)
        self._add_listener(listener)
        return listener

    def answer(self, listener: Listener, trial: Any, choice: Any, seconds: Any = None) -> Answer:
        """Takes an answer, which is on the disk when this returns.

        Raises Refused for what is no answer to one of the listener's trials or a second one to the same trial, and
        DataError where it cannot be written; then it may be given again.
        """
        told = {"trial": trial, "choice": choice, "seconds": seconds}
        try:
            checked = _checked_answer(Fields(told, "the answer"), listener, _now())
        except Unreadable as error:
            raise Refused(str(error)) from None
        if checked.trial in self._answered.get(listener.number, set()):
            raise Refused(f"trial {checked.trial} has an answer already, which stays", already=True)
        _append(self.test.folder / ANSWERS_FILE, vars(checked))
        self._add_answer(checked)
        return checked

    def read(self) -> None:
        """Reads both files. Raises DataError for a line that is damaged; one that was cut short at the end is not."""
        # A server may add lines meanwhile. A listener is on the disk before any of that listener's answers, so the
        # listeners that are read after the answers include everybody who gave one.
        answers = list(_lines(self.test.folder / ANSWERS_FILE))
        for line in _lines(self.test.folder / LISTENERS_FILE):
            with _naming(line):
                self._add_listener(self._listener_in(line))
        for line in answers:
            with _naming(line):
                self._add_answer(self._answer_in(line))

    def _listener_in(self, line: "_Line") -> Listener:
        told = Fields(parse_json(line.text), "the line")
        number = told.integer("listener", len(self.listeners) + 1, len(self.listeners) + 1)
        pairs = told.value("pairs")
        if not isinstance(pairs, list) or not 1 <= len(pairs) <= MOST_TRIALS:
            raise Unreadable(f"pairs must be a list of 1 to {MOST_TRIALS}")
        for pair in pairs:
            named = isinstance(pair, list) and len(pair) == 2 and all(isinstance(clip, str) for clip in pair)
            if not named or not all(clip in self.test.clips for clip in pair):
                raise Unreadable("a pair must be two clips of this test")
        return Listener(number, told.text("token"), tuple(Pair(*pair) for pair in pairs))

    def _answer_in(self, line: "_Line") -> Answer:
        told = Fields(parse_json(line.text), "the line")
        listener = self.listeners[told.integer("listener", 1, len(self.listeners)) - 1]
        answer = _checked_answer(told, listener, told.text("time"))
        if (answer.a, answer.b) != (told.text("a"), told.text("b")):
            raise Unreadable("the clips are not those of the listener's trial")
        if answer.trial in self._answered.get(listener.number, set()):
            raise Unreadable(f"trial {answer.trial} of listener {listener.number} has two answers")
        return answer

    def _add_listener(self, listener: Listener) -> None:
        self.listeners.append(listener)
        self._by_token[listener.token] = listener

    def _add_answer(self, answer: Answer) -> None:
        self.answers.append(answer)
        self._answered.setdefault(answer.listener, set()).add(answer.trial)


def new_token() -> str:
    """A secret by which a listener's browser is known again."""
    return secrets.token_urlsafe(16)


def read_book(test: ListeningTest) -> AnswerBook:
    """The answers that a test has, to be counted. Raises DataError for a damaged line."""
    book = AnswerBook(test)
    book.read()
    return book


@contextmanager
def open_book(test: ListeningTest) -> Iterator[AnswerBook]:
    """The answers of a test, to be added to. Nobody else can add to them meanwhile.

    Raises DataError where another process does, and for a damaged line. A last line without its end, which a crash
    left, is removed: nobody was told that it is kept.
    """
    refusal = DataError(f"{test.folder}: another process collects answers here; end it first")
    with files.held(test.folder, refusal=refusal):
        for name in (LISTENERS_FILE, ANSWERS_FILE):
            _remove_torn_line(test.folder / name)
        yield read_book(test)


def _checked_answer(told: Fields, listener: Listener, when: str) -> Answer:
    """The answer that a mapping tells. Raises Unreadable."""
    trial = told.integer("trial", 1, len(listener.pairs))
    choice = told.text("choice")
    if choice not in CHOICES:
        raise Unreadable(f"choice must be one of {', '.join(CHOICES)}, got {told.shown('choice')}")
    pair = listener.pairs[trial - 1]
    return Answer(listener.number, trial, pair.a, pair.b, choice, told.number_or_none("seconds", 0, _LONGEST), when)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _append(path: Path, told: dict[str, Any]) -> None:
    """Adds a line and waits until the disk has it. What is written of it is taken back where that fails."""
    data = (json.dumps(told) + "\n").encode()
    try:
        with open(path, "ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(data) != len(data):
                    raise OSError("the disk is full")
                os.fsync(file.fileno())
                if before == 0:
                    _keep_name(path)
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise DataError(f"{path}: the line cannot be written: {error.strerror or error}") from None


def _keep_name(path: Path) -> None:
    """Waits until the disk has the name of a new file, too."""
    number = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@dataclass(frozen=True)
class _Line:
    path: Path
    number: int
    text: str


def _lines(path: Path) -> Iterator[_Line]:
    """The whole lines of a file; none where there is no file."""
    if not path.exists():
        return
    try:
        content = read_bytes(path, INDEX_BYTES)
    except Unreadable as error:
        raise DataError(f"{path}: {error}") from None
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        yield _Line(path, number, line.decode("utf-8", "replace"))


@contextmanager
def _naming(line: _Line) -> Iterator[None]:
    """Turns an Unreadable inside the block into a DataError that names the line."""
    try:
        yield
    except Unreadable as error:
        raise DataError(f"{line.path}, line {line.number}: {error}") from None


def _remove_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with open(path, "rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
