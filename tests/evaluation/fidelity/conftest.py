"""A data folder of three words that are tones, and a classifier of them."""

import pytest
from recordings import RATE
from words import write_words

from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.preparation import prepare
from samplernn_fast.evaluation.fidelity.labels import read_pattern
from samplernn_fast.evaluation.fidelity.training import train_classifier


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    """A prepared folder of 3 x 40 words, a tenth of them valid and a fifth test."""
    root = tmp_path_factory.mktemp("words")
    write_words(root / "recordings", 40)
    prepare(root / "recordings", root / "data", sample_rate=RATE, pad_seconds=0.25, gain=1, split=(70, 10, 20))
    return AudioData.open(root / "data")


@pytest.fixture(scope="session")
def labels():
    return read_pattern(r"([a-z]+)_")


@pytest.fixture(scope="session")
def classifier(words, labels):
    return train_classifier(words, labels, epochs=16)
