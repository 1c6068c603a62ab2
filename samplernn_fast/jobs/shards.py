"""`Shard`: the part of a job's units that one process makes. What flags do not say, the scheduler's variables do."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from samplernn_fast.errors import ConfigError
from samplernn_fast.ranges import Range

T = TypeVar("T")

MOST_SHARDS = 1_000_000
INDEX = Range(0, MOST_SHARDS - 1)
"""The range of `shard_index`."""
COUNT = Range(1, MOST_SHARDS)
"""The range of `num_shards`."""


@dataclass(frozen=True)
class _Source:
    """Where a scheduler says which of its processes this one is; a name that is empty is not said."""

    index: str
    count: str
    first: str = ""
    step: str = ""


_TORCHRUN = _Source("RANK", "WORLD_SIZE")
# SLURM_NTASKS would count the tasks of a batch script too, which runs once; SLURM_STEP_NUM_TASKS is srun's alone.
_SOURCES = (
    _Source("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"),
    _Source("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    _Source("JOB_COMPLETION_INDEX", ""),
    _Source("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"),
    _Source("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    _TORCHRUN,
)


@dataclass(frozen=True)
class Shard:
    """Part `index`, from 0, of `count`."""

    index: int
    count: int
    told_by: str = ""
    """The environment variable that said the index; empty where a flag did."""

    @classmethod
    def of(
        cls,
        shard_index: int | None,
        num_shards: int | None,
        environment: Mapping[str, str] | None = None,
        *,
        torchrun: bool = True,
    ) -> Self | None:
        """The shard that was asked for; what was not said is read from the variables of SLURM, Kubernetes (the index
        alone), AWS Batch, Open MPI or torchrun. None where nothing says that work is shared. torchrun: whether its
        variables count, which in a command that trains say something else.

        Raises ConfigError where an index is not below its count, where one of the two is said nowhere, and for a
        variable that is no number.
        """
        told = _told(os.environ if environment is None else environment, torchrun)
        if shard_index is None and num_shards is None:
            return None if told is None or told.count < 2 else cls(told.index, told.count, told.variable)
        variable = ""
        if shard_index is None:
            if num_shards == 1:
                shard_index = 0
            elif told is None:
                raise ConfigError(f"shard_index must say which of the {num_shards} shards this is, from 0")
            else:
                shard_index, variable = told.index, told.variable
        if variable and num_shards is not None and told is not None and told.count not in (0, num_shards):
            raise ConfigError(
                f"num_shards must be the {told.count} of {variable}, got {num_shards}; or say shard_index too"
            )
        if num_shards is None:
            if told is None or not told.count:
                raise ConfigError("num_shards must say how many shards there are, beside shard_index")
            num_shards = told.count
        if shard_index >= num_shards:
            where = f", as {variable} says" if variable else ""
            raise ConfigError(f"shard_index must be 0 to num_shards - 1, got {shard_index} of {num_shards}{where}")
        return cls(shard_index, num_shards, variable)

    def numbers(self, total: int) -> range:
        """Its part of the numbers below `total`: neighbours, and in all shards together each number once."""
        return range(total * self.index // self.count, total * (self.index + 1) // self.count)

    def share(self, units: Sequence[T]) -> Sequence[T]:
        """Its part of the units, as `numbers`."""
        mine = self.numbers(len(units))
        return units[mine.start : mine.stop]

    def __str__(self) -> str:
        return f"shard {self.index} of {self.count}" + (f", as {self.told_by} says" if self.told_by else "")


@dataclass(frozen=True)
class _Told:
    """What a scheduler's variables say. `count` is 0 where they do not say it."""

    index: int
    count: int
    variable: str


def _told(environment: Mapping[str, str], torchrun: bool) -> _Told | None:
    """What the first scheduler says that knows of several processes. Raises ConfigError for what is no number."""
    for source in _SOURCES if torchrun else _SOURCES[:-1]:
        index, count = _number(environment, source.index), _number(environment, source.count)
        if index is None or (source.count and count is None):
            continue
        first, step = _number(environment, source.first) or 0, _number(environment, source.step) or 1
        if count == 1:
            continue
        index = (index - first) // step
        if count is not None and index >= count:
            raise ConfigError(
                f"the environment variable {source.index} is {environment[source.index]}, but {source.count} is"
                f" {count}; say shard_index and num_shards"
            )
        return _Told(index, count or 0, source.index)
    return None


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """The whole number in a variable; None where it is not set, or empty."""
    text = environment.get(name, "").strip() if name else ""
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError(f"the environment variable {name} must be a whole number, 0 or more, got {text[:40]!r}")
    return int(text)
