"""Files of listening tests that somebody else may have written, in every kind of damage: a test, its answers, and the
results of other programs."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from fuzzing import fuzz, fuzz_cases, write_case
from listening import make_test
from mutations import mutate

from samplernn_fast.evaluation.listening.answers import open_book, read_book
from samplernn_fast.evaluation.listening.exchange import bring_in
from samplernn_fast.evaluation.listening.folder import ListeningTest

FILES = ("test.json", "listeners.jsonl", "answers.jsonl")


@pytest.fixture
def answered(tmp_path: Path) -> ListeningTest:
    """A test of two listeners with an answer each."""
    test = make_test(tmp_path, clips=1, trials=3)
    with open_book(test) as book:
        for choice in ("a", "none"):
            book.answer(book.join(), 1, choice, 2.5)
    return test


def results(test: ListeningTest, program: str) -> bytes:
    """A file of results of the first listener's second trial."""
    if program == "webmushra":
        header = "session_test_id,trial_id,choice_answer,choice_time\n"
        return f'{header}abtest-{test.key}-1,"trial-2",correct,1500\n'.encode()
    values = "".join(f'<audioelement ref="t{test.key}-1-2-{side}"><value>0</value></audioelement>' for side in "ab")
    return f'<waetresult><page ref="t{test.key}-1-2" state="complete">{values}</page></waetresult>'.encode()


@fuzz_cases
def test_a_folder(cases: int, answered: ListeningTest, tmp_path: Path) -> None:
    folder = shutil.copytree(answered.folder, tmp_path / "damaged")
    whole = {name: (folder / name).read_bytes() for name in FILES}

    def make(source: random.Random) -> dict[str, bytes]:
        name = source.choice(FILES)
        return whole | {name: mutate(source, whole[name])}

    def target(case: dict[str, bytes]) -> Any:
        for name, content in case.items():
            write_case(folder / name, content)
        return read_book(ListeningTest.open(folder))

    fuzz(target, make, cases, valid=[whole])


@fuzz_cases
def test_results_of_other_programs(cases: int, answered: ListeningTest, tmp_path: Path) -> None:
    kept, path = (answered.folder / "answers.jsonl").read_bytes(), tmp_path / "results"
    whole = [(program, results(answered, program)) for program in ("waet", "webmushra")]

    def make(source: random.Random) -> tuple[str, bytes]:
        program, content = source.choice(whole)
        return program, mutate(source, content)

    def target(case: tuple[str, bytes]) -> None:
        write_case(path, case[1])
        (answered.folder / "answers.jsonl").write_bytes(kept)
        bring_in(read_book(answered), case[0], [path])

    fuzz(target, make, cases, valid=whole)
