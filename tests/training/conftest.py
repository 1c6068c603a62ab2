"""A small dense run, from which sparse ones start."""

from pathlib import Path

import pytest
from runs import DENSE, tiny

from samplernn_fast.training.trainer import train


@pytest.fixture(scope="session")
def dense_run(data_folder, tmp_path_factory) -> Path:
    """The folder of a run of the model `DENSE`, for reading only."""
    run = tmp_path_factory.mktemp("dense") / "run"
    train(tiny(data_folder, run, steps=12, model=DENSE))
    return run
