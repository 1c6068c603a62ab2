"""Ranges beside types: what is inside passes, what is outside is refused in one line that names the setting."""

import dataclasses
import math
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from samplernn_fast import ranges
from samplernn_fast.errors import ConfigError, SampleRNNError
from samplernn_fast.models.config import OneTierConfig, SampleRNNConfig
from samplernn_fast.ranges import Range
from samplernn_fast.training.config import TrainConfig


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


def test_arguments_of_a_call_are_checked() -> None:
    def command(
        num_threads: Annotated[int, Range(1, 256)], gain: Annotated[float | str, Range(0, 9, words=("auto",))]
    ) -> None:
        """Takes two arguments."""

    ranges.check_arguments(command, {"num_threads": 1, "gain": "auto"})
    with pytest.raises(ConfigError, match=r"^num_threads must be 1 to 256, got 257$"):
        ranges.check_arguments(command, {"num_threads": 257})
    with pytest.raises(ConfigError, match=r"^gain must be auto or 0 to 9, got 'loud'$"):
        ranges.check_arguments(command, {"gain": "loud"})


ABSURD = {
    "max_steps": (0, 2**63, 10**30),
    "max_minutes": (0, math.inf, 1e18),
    "batch_size": (0, 2**31, 2.5, "16", True, None),
    "seq_len": (0, 10**9),
    "lr": (0, -1, math.nan, math.inf),
    "warmup_steps": (-1, 2**40),
    "grad_clip": (0, 1e300, math.inf),
    "seed": (-1, 2**63),
    "log_every": (0, 2**70),
    "eval_every": (0, 2**70),
    "eval_seconds": (-1, math.inf, 1e18),
    "save_every": (0, 2**70),
    "sample_every": (-1, 2**70),
    "sample_seconds": (0, 1e18, math.nan),
    "num_threads": (-1, 100_000),
}
ABSURD_MODEL = {
    "sample_rate": (-1, 10**9),
    "gain": (-1.0, math.inf, math.nan),
    "q_levels": (1, 2**20),
    "dim": (0, 10**9),
    "n_rnn": (0, 10**9),
    "emb_size": (-1, 10**9),
    "mlp_hidden": (0, 10**9),
    "frame_sizes": ((2, 2**40), (0, 2)),
    "frame_gain": (0.0, math.inf, math.nan, 1e300),
}


@pytest.mark.parametrize("name", [*ABSURD, *ABSURD_MODEL])
def test_every_number_of_training_and_of_models_has_a_range(name: str) -> None:
    for value in (ABSURD | ABSURD_MODEL)[name]:
        with pytest.raises(ConfigError, match=f"^{name} must be"):
            TrainConfig(Path("d"), Path("o"), **{name: value}) if name in ABSURD else SampleRNNConfig(**{name: value})


def test_no_number_is_left_without_a_range() -> None:
    for kind in (TrainConfig, SampleRNNConfig, OneTierConfig):
        for field in dataclasses.fields(kind):
            numbers = {int, float} & {field.type, *typing.get_args(field.type)}
            assert not numbers or ranges.of_annotation(field.type), f"{kind.__name__}.{field.name}"


def test_a_message_is_short_enough_to_read_whatever_it_quotes() -> None:
    shown = str(SampleRNNError(f"run/model.safetensors: no system {'9' * 100_000}; train again"))
    assert len(shown) <= 1000 and shown.startswith("run/model") and shown.endswith("train again")


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    assert str(SampleRNNError("a\nb\udcff\x1b[1m\u2028 é")) == "a\\nb\\udcff\\x1b[1m\\u2028 é"
