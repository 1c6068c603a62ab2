"""Files and folders that appear whole or not at all."""

import os
import re

import pytest

from samplernn_fast.errors import AudioError, DataError
from samplernn_fast.files import check_free, remove_leftovers, replacing, replacing_folder, write_bytes, write_text


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


def test_an_error_names_the_file_that_was_meant(tmp_path):
    (tmp_path / "folder").mkdir()
    for path, kind in ((tmp_path / "none" / "a.txt", FileNotFoundError), (tmp_path / "folder", IsADirectoryError)):
        with pytest.raises(kind) as raised:
            write_text(path, "new")
        assert raised.value.filename == str(path) and ".tmp" not in str(raised.value)


def test_a_name_is_free_where_nothing_has_it_or_a_file_that_may_go(tmp_path):
    file, link, folder = tmp_path / "a.txt", tmp_path / "link", tmp_path / "folder"
    check_free(file, DataError)
    check_free(tmp_path / ("long" * 100), DataError)  # whoever writes it says what is wrong
    file.write_text("old"), link.symlink_to("nowhere"), folder.mkdir()
    for taken in (file, link):  # a link that leads nowhere is somebody's, too
        with pytest.raises(AudioError, match=f"{taken.name} exists; choose another name, or replace it"):
            check_free(taken, AudioError)
        check_free(taken, AudioError, overwrite=True)
    for overwrite in (False, True):
        with pytest.raises(DataError, match="folder: is a folder; name a file"):
            check_free(folder, DataError, overwrite=overwrite)
    for name, shown in (("a\0b", r"a\x00b"), ("a\ud800b", r"a\ud800b")):
        with pytest.raises(DataError, match=re.escape(f"{shown}: cannot be the name of a file (")):
            check_free(tmp_path / name, DataError)


def test_text_and_bytes_are_written_whole(tmp_path):
    write_text(tmp_path / "a.txt", "\u266a\n")
    write_bytes(tmp_path / "b.bin", memoryview(b"\0\xff"))
    assert (tmp_path / "a.txt").read_bytes() == "\u266a\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\0\xff"
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.bin"]


def test_leftovers_are_the_temporary_files_and_nothing_else(tmp_path):
    names = []
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        names.append(temporary.name)
    for name in (names[0], ".tmpgYjNFT", "kept.tmp", ".hidden"):
        (tmp_path / name).write_text("left")
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a.txt", "kept.tmp"]


@pytest.mark.parametrize("existing", [False, True])
def test_a_folder_is_replaced_when_the_block_ends(tmp_path, existing):
    target = tmp_path / "deep" / "folder"
    if existing:
        target.mkdir(parents=True)
        (target / "old.txt").write_text("old")
    with replacing_folder(target) as partial:
        (partial / "new.txt").write_text("new")
        assert target.exists() == existing
    assert os.listdir(target) == ["new.txt"] and os.listdir(target.parent) == ["folder"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failed_block_keeps_the_folder(tmp_path, existing, error):
    target = tmp_path / "folder"
    if existing:
        target.mkdir()
        (target / "old.txt").write_text("old")
    with pytest.raises(type(error)), replacing_folder(target) as partial:
        (partial / "half.txt").write_text("half")
        raise error
    assert os.listdir(tmp_path) == (["folder"] if existing else [])
    assert not existing or os.listdir(target) == ["old.txt"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_be_renamed(tmp_path, monkeypatch):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old.txt").write_text("old")
    rename = os.rename

    def refuse_the_new_one(source, destination):
        if ".partial-" in source.name:
            raise OSError(28, "No space left on device")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", refuse_the_new_one)
    with pytest.raises(OSError), replacing_folder(target):
        pass
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(target) == ["old.txt"]
