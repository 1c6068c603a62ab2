"""`Shard`: which part is whose, by flags and by the variables of schedulers."""

import pytest

from samplernn_fast.errors import ConfigError
from samplernn_fast.jobs.shards import Shard

ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}


def place(index=None, count=None, **environment):
    shard = Shard.of(index, count, environment)
    return None if shard is None else (shard.index, shard.count, shard.told_by)


@pytest.mark.parametrize("total", [0, 1, 5, 64, 1001])
@pytest.mark.parametrize("count", [1, 3, 7, 64])
def test_every_unit_has_one_shard(total, count):
    units = list(range(total))
    shares = [Shard(index, count).share(units) for index in range(count)]
    assert [unit for share in shares for unit in share] == units
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_flags_go_before_variables():
    assert place(2, 5) == (2, 5, "")
    assert place(2, 5, RANK="0", WORLD_SIZE="2") == (2, 5, "")
    assert place(None, 1, RANK="1", WORLD_SIZE="2") == (0, 1, "")
    assert place(3, None, RANK="0", WORLD_SIZE="8") == (3, 8, "")


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        (ARRAY | {"SLURM_ARRAY_TASK_STEP": "2"}, (3, 4, "SLURM_ARRAY_TASK_ID")),
        (ARRAY | {"SLURM_ARRAY_TASK_ID": "4"}, (3, 4, "SLURM_ARRAY_TASK_ID")),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_NTASKS": "9"}, (2, 3, "SLURM_PROCID")),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "9"}, None),  # a batch script, which runs once
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "1", "AWS_BATCH_JOB_ARRAY_SIZE": "2"}, (1, 2, "AWS_BATCH_JOB_ARRAY_INDEX")),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (1, 2, "OMPI_COMM_WORLD_RANK")),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (1, 2, "RANK")),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "", "WORLD_SIZE": " "}, None),
        ({"RANK": "1"}, None),
        ({"JOB_COMPLETION_INDEX": "1"}, None),  # Kubernetes does not say of how many
    ],
)
def test_what_schedulers_say(environment, found):
    assert place(**environment) == found


def test_a_command_that_trains_does_not_read_what_torchrun_says():
    assert Shard.of(None, None, {"RANK": "1", "WORLD_SIZE": "2"}, torchrun=False) is None
    assert Shard.of(None, None, ARRAY | {"SLURM_ARRAY_TASK_ID": "4"}, torchrun=False) is not None


def test_an_index_may_come_from_a_variable_that_knows_no_count():
    assert place(None, 6, JOB_COMPLETION_INDEX="5") == (5, 6, "JOB_COMPLETION_INDEX")
    assert "as JOB_COMPLETION_INDEX says" in str(Shard.of(None, 6, {"JOB_COMPLETION_INDEX": "5"}))


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ((2, 2), {}, "shard_index must be 0 to num_shards - 1, got 2 of 2"),
        ((None, 4), {}, "shard_index must say which of the 4 shards this is"),
        ((1, None), {}, "num_shards must say how many shards there are"),
        ((1, None), {"JOB_COMPLETION_INDEX": "1"}, "num_shards must say how many"),
        ((None, 2), {"JOB_COMPLETION_INDEX": "2"}, "got 2 of 2, as JOB_COMPLETION_INDEX says"),
        ((None, 8), {"RANK": "1", "WORLD_SIZE": "2"}, "num_shards must be the 2 of RANK, got 8"),
        ((None, None), {"RANK": "two", "WORLD_SIZE": "2"}, "RANK must be a whole number, 0 or more, got 'two'"),
        ((None, None), ARRAY | {"SLURM_ARRAY_TASK_ID": "9"}, "SLURM_ARRAY_TASK_ID is 9, but SLURM_ARRAY_TASK_COUNT"),
    ],
)
def test_what_is_refused(arguments, environment, message):
    with pytest.raises(ConfigError, match=message):
        Shard.of(*arguments, environment)
