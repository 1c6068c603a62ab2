"""Figure 2: what its rows show."""

from dataclasses import replace

import numpy as np
import pytest
from systems import SYSTEM_CASES

from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.experiments.waveforms import Row, column
from samplernn_fast.models import checkpoint
from samplernn_fast.models.registry import build_model

RATE = 8000


@pytest.fixture
def model(tmp_path):
    """The file of an untrained model at 8 kHz."""
    file = tmp_path / "model.safetensors"
    checkpoint.save_model(file, build_model(replace(SYSTEM_CASES["rnn"], sample_rate=RATE)))
    return file


def test_rows_are_two_seconds_of_data_and_of_each_model(make_data, model, tmp_path):
    data = make_data(tmp_path / "music", (0.3, 0.3, 2.5), valid=(1,), test=(2,))
    found = column(data, [("RNN", model)], seed=0, temperature=1.0)
    assert [row.title for row in found.rows] == ["data", "RNN"] and found.sample_rate == RATE
    assert [row.samples.shape for row in found.rows] == [(2 * RATE,)] * 2
    again = column(data, [], seed=1, temperature=1.0)
    assert not np.array_equal(again.rows[0].samples, found.rows[0].samples)


def test_short_recordings_are_refused(data_folder):
    with pytest.raises(DataError, match="no recording of the test split has 2 s"):
        column(data_folder, [], seed=0, temperature=1.0)


def test_a_model_of_another_rate_is_refused(make_data, tmp_path):
    file = tmp_path / "model.safetensors"
    checkpoint.save_model(file, build_model(replace(SYSTEM_CASES["rnn"], sample_rate=4000)))
    data = make_data(tmp_path / "music", (0.3, 0.3, 2.5), valid=(1,), test=(2,))
    with pytest.raises(ConfigError, match="is for 4000 Hz"):
        column(data, [("RNN", file)], seed=0, temperature=1.0)


def test_the_closer_look_is_the_loudest_tenth_of_a_second():
    samples = np.zeros(2 * RATE, np.float32)
    samples[9000:9800] = 0.5
    near = Row("x", samples).closer(RATE)
    assert near.shape == (800,) and np.count_nonzero(near) >= 600
