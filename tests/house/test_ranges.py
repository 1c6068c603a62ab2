"""Ranges beside types: what is inside passes, what is outside is refused in one line that names the setting."""

import math
from dataclasses import dataclass
from typing import Annotated

import pytest

from samplernn_fast import ranges
from samplernn_fast.errors import ConfigError, SampleRNNError
from samplernn_fast.ranges import Range


@dataclass(frozen=True)
class _Settings:
    count: Annotated[int, Range(1, 64)] = 1
    share: Annotated[float | None, Range(0, 1, above=True)] = None
    sizes: Annotated[tuple[int, ...], Range(2, 9, unit="samples")] = (2, 9)
    free: float = 0.0

    def __post_init__(self) -> None:
        ranges.check_fields(self)


def test_values_inside_pass() -> None:
    _Settings(count=64, share=1.0, sizes=(2, 3), free=math.inf)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": 0}, "count must be 1 to 64, got 0"),
        ({"count": 10**400}, "count must be 1 to 64, got a number of 401 digits"),
        ({"share": 0.0}, "share must be above 0 and at most 1, got 0.0"),
        ({"share": math.nan}, "share must be above 0 and at most 1, got nan"),
        ({"share": math.inf}, "share must be above 0 and at most 1, got inf"),
        ({"sizes": (2, 10)}, "sizes must be 2 to 9 samples, got 10"),
    ],
)
def test_a_value_outside_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _Settings(**fields)
    assert str(refused.value) == message


def test_arguments_of_a_call_are_checked_under_the_flags_names() -> None:
    def command(num_threads: Annotated[int, Range(1, 256)], name: str) -> None:
        """Takes two arguments."""

    ranges.check_arguments(command, {"num_threads": 1, "name": "x"}, str)
    with pytest.raises(ConfigError, match=r"^--num-threads must be 1 to 256, got 257$"):
        ranges.check_arguments(command, {"num_threads": 257}, lambda name: "--" + name.replace("_", "-"))


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    assert str(SampleRNNError("a\nb\udcff\x1b[1m\u2028 é")) == "a\\nb\\udcff\\x1b[1m\\u2028 é"
