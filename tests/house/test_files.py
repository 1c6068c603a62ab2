"""Files that appear whole or not at all."""

import os

import pytest

from samplernn_fast.files import replacing


def test_a_file_is_replaced_when_the_block_ends(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_block_keeps_what_was_there(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(type(error)), replacing(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass
    assert os.listdir(tmp_path) == []
