"""Which files are audio, and what is passed over."""

from pathlib import Path

from sounds import fails

from samplernn_fast.audio import finding


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_audio_is_found_by_its_suffix_below_folders(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.wav", "a.FLAC", "deep/er/c.ogg", "deep/d.m4a", "e.txt", "._b.wav", ".cache/f.wav", "g.aiff", "h.x"
    )
    (tmp_path / "deep/loop").symlink_to(tmp_path)
    found = finding.find_audio([tmp_path])
    names = [file.relative_to(tmp_path).as_posix() for file in found]
    assert names == ["a.FLAC", "b.wav", "deep/d.m4a", "deep/er/c.ogg", "g.aiff"]
    assert finding.find_audio(str(tmp_path)) == found
    # A file that is named is taken whatever its suffix.
    named = finding.find_audio([tmp_path / "h.x", tmp_path / "b.wav", tmp_path])
    assert named == sorted([*found, tmp_path / "h.x"], key=Path.as_posix)
    assert finding.find_audio([]) == []
    fails(lambda: finding.find_audio([tmp_path, tmp_path / "gone"]), str(tmp_path / "gone"), "no such file or folder")


def test_what_is_passed_over_is_counted_and_cover_images_are_no_audio_where_they_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "cover.JPG", "back.jpg", "list.m3u", "README", "notes.odd", ".hidden.txt")
    below = finding.search(tmp_path)
    assert dict(below.passed_over) == {".jpg": 2, ".m3u": 1, "": 1, ".odd": 1}
    assert below.not_audio().startswith("2 .jpg, ") and "1 without suffix" in below.not_audio()
    by_glob = finding.search(sorted(tmp_path.glob("[!.]*")))
    assert by_glob.not_audio() == "2 .jpg, 1 .m3u"
    assert {file.name for file in by_glob.files} == {"a.wav", "README", "notes.odd"}


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_is_found(tmp_path: Path, monkeypatch) -> None:
    touch(tmp_path, "a.wav", "locked/b.wav", "z/c.wav")
    scandir = finding.os.scandir

    def refuse(folder: str) -> object:
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(finding.os, "scandir", refuse)
    found = finding.search(tmp_path)
    assert {file.name for file in found.files} == {"a.wav", "c.wav"}
    assert found.unlisted == [(tmp_path / "locked", "cannot be listed: Permission denied")]
    fails(lambda: finding.search(tmp_path / "locked"), str(tmp_path / "locked"), "cannot be listed: Permission denied")


def test_no_suffix_is_audio_and_no_audio() -> None:
    assert not finding.NO_AUDIO & (finding.READABLE | finding.NEEDS_FFMPEG)
