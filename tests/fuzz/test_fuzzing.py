"""The frame of the fuzz tests itself: every kind of harm is found, named and does not end the run."""

import ctypes
import mmap
import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from fuzzing import Failure, Numbered, fuzz, fuzz_each, run_cases
from mutations import mutate, mutate_value, odd_value

from samplernn_fast.errors import CheckpointError


def number(source: random.Random) -> int:
    return source.randrange(1_000_000)


def only_once(harm: Callable[[], object]) -> list[Failure]:
    """What is reported where the fourth of nine cases does harm."""
    fourth = number(Numbered(3))
    return run_cases(lambda case: harm() if case == fourth else None, number, 9, seconds=0.4, growth=20 << 20)


def crash() -> None:
    ctypes.string_at(0)


def too_little_memory() -> None:
    try:
        bytearray(1 << 40)
    except MemoryError:
        raise CheckpointError("the file is damaged") from None


kept: list[Any] = []


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (crash, "SIGSEGV"),
        (lambda: os.abort(), "SIGABRT"),
        (lambda: time.sleep(60), "more than 0.4 seconds"),
        (lambda: sum(number for number in range(20_000_000)), "more than 0.4 seconds"),
        (lambda: kept.append(b"x" * (2 << 30)), "MemoryError"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: os._exit(3), "status 3"),
        (too_little_memory, "too little memory"),
    ],
    ids=["crash", "abort", "hang", "work", "growth", "exception", "exit", "hidden"],
)
def test_harm_is_reported_once_with_its_case(harm: Callable[[], object], reason: str) -> None:
    found = only_once(harm)
    assert [failure.number for failure in found] == [3] and reason in found[0].reason


def test_growth_within_the_address_space_is_reported() -> None:
    reserved = mmap.mmap(-1, 50 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # counts once it is touched

    def touch() -> None:
        for at in range(0, len(reserved), 4096):
            reserved[at] = 1

    found = only_once(touch)
    assert [failure.number for failure in found] == [3] and "grew by" in found[0].reason


def test_errors_of_ours_are_no_failures_but_their_messages_must_be_lines() -> None:
    def refuse(case: int) -> None:
        raise CheckpointError(f"bad number {case}\n")  # an error of ours escapes the line break

    assert run_cases(refuse, number, 20) == []

    def say_nothing(case: int) -> None:
        raise CheckpointError("")

    assert "no line" in run_cases(say_nothing, number, 1)[0].reason


def test_known_cases_are_run_in_order() -> None:
    def refuse(case: str) -> None:
        if case == "bad":
            raise KeyError(case)

    fuzz_each(refuse, ["good", "fine"])
    with pytest.raises(AssertionError, match="case 2: KeyError"):
        fuzz_each(refuse, ["good", "fine", "bad", "good"])


def test_valid_cases_must_be_taken() -> None:
    def refuse(case: int) -> None:
        raise CheckpointError("no")

    assert [failure.number for failure in run_cases(refuse, number, 0, valid=[7])] == []
    found = run_cases(refuse, number, 1, valid=[7])
    assert [failure.number for failure in found] == [-1]
    with pytest.raises(AssertionError, match="case -1: CheckpointError"):
        fuzz(refuse, number, 1, valid=[7])


def test_a_run_ends_after_a_few_failures() -> None:
    assert len(run_cases(lambda case: crash(), number, 1000)) == 10
    assert len(run_cases(lambda case: 1 / 0, number, 1000)) == 10


def test_mutations_differ_and_are_the_same_for_a_seed() -> None:
    content = b'{"rate": 16000, "law": "mu-law"}' * 4
    made = [mutate(random.Random(seed), content, [b"other"]) for seed in range(300)]
    assert made == [mutate(random.Random(seed), content, [b"other"]) for seed in range(300)]
    assert len(set(made)) > 270
    assert len({len(one) for one in made}) > 20


def test_values_are_changed_in_copies() -> None:
    value = {"a": [1, {"b": 2}], "c": "text"}
    made = [mutate_value(random.Random(seed), value) for seed in range(200)]
    assert value == {"a": [1, {"b": 2}], "c": "text"}
    assert sum(one != value for one in made) > 180
    kinds = {type(odd_value(random.Random(seed))) for seed in range(200)}
    assert kinds >= {int, float, str, list, dict, bool, type(None)}
