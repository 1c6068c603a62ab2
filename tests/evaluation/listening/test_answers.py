"""Answers are kept at once, once, and from nobody else."""

import errno
import json
import os
from pathlib import Path

import pytest
from listening import make_test

from samplernn_fast.errors import DataError
from samplernn_fast.evaluation.listening import answers
from samplernn_fast.evaluation.listening.answers import AnswerBook, Refused, open_book, read_book
from samplernn_fast.evaluation.listening.folder import ListeningTest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ListeningTest:
    return make_test(tmp_path_factory.mktemp("listening"), trials=5)


@pytest.fixture
def test(made: ListeningTest) -> ListeningTest:
    """A test without listeners."""
    for name in ("listeners.jsonl", "answers.jsonl"):
        (made.folder / name).unlink(missing_ok=True)
    return made


def lines(test: ListeningTest, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (test.folder / name).read_text().splitlines()]


def test_an_answer_is_one_line_on_the_disk(test: ListeningTest, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_size))
    with open_book(test) as book:
        listener = book.join()
        pair = listener.pairs[0]
        book.answer(listener, 1, "none", 3.5)
        (line,) = lines(test, "answers.jsonl")
        assert line.pop("time")
        assert line == {"listener": 1, "trial": 1, "a": pair.a, "b": pair.b, "choice": "none", "seconds": 3.5}
        assert (test.folder / "answers.jsonl").stat().st_size in synced  # before it is confirmed
        assert book.next_trial(listener) == 2


def test_everything_is_there_again_after_a_crash(test: ListeningTest) -> None:
    with open_book(test) as book:
        listeners = [book.join() for _ in range(3)]
        for trial, choice in enumerate(("a", "b", "none", "a", "b"), 1):
            book.answer(listeners[1], trial, choice)
        book.answer(listeners[0], 1, "b")
    with open_book(test) as again:
        assert again.listeners == listeners and again.answers == book.answers
        assert [again.next_trial(one) for one in listeners] == [2, None, 1]
        assert again.listener(listeners[2].token) == listeners[2]


def test_a_trial_is_answered_once(test: ListeningTest) -> None:
    with open_book(test) as book:
        listener = book.join()
        book.answer(listener, 1, "a")
        for choice in ("a", "b"):
            with pytest.raises(Refused, match="has an answer already") as caught:
                book.answer(listener, 1, choice)
            assert caught.value.already
    assert [line["choice"] for line in lines(test, "answers.jsonl")] == ["a"]


@pytest.mark.parametrize(
    ("trial", "choice", "seconds"),
    [
        (0, "a", None),
        (6, "a", None),
        (1.0, "a", None),
        ("1", "a", None),
        (True, "a", None),
        (None, "a", None),
        (1, "A", None),
        (1, "c", None),
        (1, "", None),
        (1, None, None),
        (1, ["a"], None),
        (1, "a", -1),
        (1, "a", "soon"),
        (1, "a", float("nan")),
        (1, "a", 1e9),
    ],
)
def test_what_is_no_answer_is_refused(test: ListeningTest, trial: object, choice: object, seconds: object) -> None:
    with open_book(test) as book:
        listener = book.join()
        with pytest.raises(Refused) as caught:
            book.answer(listener, trial, choice, seconds)
        assert not caught.value.already and book.next_trial(listener) == 1
    assert not (test.folder / "answers.jsonl").exists()


def test_a_stranger_is_refused(test: ListeningTest) -> None:
    with open_book(test) as book:
        book.join()
        for token in ("", "x", "1", "None"):
            with pytest.raises(Refused, match="nobody"):
                book.listener(token)


def test_a_line_that_a_crash_cut_is_removed_and_can_be_given_again(test: ListeningTest) -> None:
    with open_book(test) as book:
        listener = book.join()
        book.answer(listener, 1, "a")
    path = test.folder / "answers.jsonl"
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut].replace(b'"trial": 1', b'"trial": 2'))
        if path.read_bytes().endswith(b"\n"):
            continue
        assert len(read_book(test).answers) == 1  # reading changes nothing
        with open_book(test) as book:
            assert book.next_trial(book.listeners[0]) == 2
        assert path.read_bytes() == whole


def test_a_damaged_line_is_named(test: ListeningTest) -> None:
    with open_book(test) as book:
        listener = book.join()
        book.answer(listener, 1, "a")
        book.answer(listener, 2, "b")
    path = test.folder / "answers.jsonl"
    one, other = path.read_bytes().splitlines(keepends=True)
    clips = [name for name in test.clips if name not in listener.pairs[1]]
    for bad in (
        b"{}\n",
        b"nonsense\n",
        b"\xff\n",
        b"\n",
        one,
        other.replace(b'"listener": 1', b'"listener": 2'),
        other.replace(b'"b"', b'"d"'),
        other.replace(listener.pairs[1].a.encode(), clips[0].encode()),
    ):
        path.write_bytes(one + bad)
        with pytest.raises(DataError, match=r"answers\.jsonl, line 2: "):
            read_book(test)


def test_only_one_process_collects_answers(test: ListeningTest) -> None:
    with open_book(test):
        with pytest.raises(DataError, match="another process collects answers"):
            with open_book(test):
                pass
    with open_book(test) as book:
        assert isinstance(book, AnswerBook)


def test_an_answer_that_cannot_be_written_may_be_given_again(
    test: ListeningTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_book(test) as book:
        listener = book.join()
        book.answer(listener, 1, "a")
        before = (test.folder / "answers.jsonl").read_bytes()
        with monkeypatch.context() as broken:

            def full(number: int) -> None:
                raise OSError(28, "No space left on device")

            broken.setattr(os, "fsync", full)
            with pytest.raises(DataError, match="cannot be written: No space left"):
                book.answer(listener, 2, "b")
        assert (test.folder / "answers.jsonl").read_bytes() == before
        assert book.next_trial(listener) == 2
        book.answer(listener, 2, "b")
    assert [line["trial"] for line in lines(test, "answers.jsonl")] == [1, 2]


def test_a_line_whose_name_is_not_kept_is_taken_back(test: ListeningTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder cannot be opened while the first line is written: too many files are open."""
    opened = os.open

    def failing(path: object, flags: int, *rest: int, **named: int) -> int:
        if path == test.folder:
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path, flags, *rest, **named)  # type: ignore[arg-type]

    with open_book(test) as book:
        with monkeypatch.context() as broken:
            broken.setattr(os, "open", failing)
            with pytest.raises(DataError, match="Too many open files"):
                book.join()
        listener = book.join()
        with monkeypatch.context() as broken:
            broken.setattr(os, "open", failing)
            with pytest.raises(DataError, match="Too many open files"):
                book.answer(listener, 1, "a")
        synced = []
        with monkeypatch.context() as watched:
            keep_name = answers._keep_name
            watched.setattr(answers, "_keep_name", lambda path: (synced.append(path.name), keep_name(path)))
            book.answer(listener, 1, "b")
        assert synced == ["answers.jsonl"]  # the file was there, but nobody had waited for its name
    assert [line["listener"] for line in lines(test, "listeners.jsonl")] == [1]
    assert [one.choice for one in read_book(test).answers] == ["b"]


def test_a_book_is_read_while_others_join_and_answer(test: ListeningTest, monkeypatch: pytest.MonkeyPatch) -> None:
    read = answers.read_bytes
    with open_book(test) as book:
        book.answer(book.join(), 1, "a")

        def slow(path: Path, most: int) -> bytes:
            content = read(path, most)
            book.answer(book.join(), 1, "b")  # between the two files
            return content

        monkeypatch.setattr(answers, "read_bytes", slow)
        found = read_book(test)
    assert [one.choice for one in found.answers] == ["a"] and len(found.listeners) == 2
