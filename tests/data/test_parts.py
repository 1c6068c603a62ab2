"""Parts of a shared `prepare`: which files they are made of, and what their files hold."""

import pytest
from recordings import RATE, write_noise

from samplernn_fast.data.decoding import Decoder, Scratch, decode_all
from samplernn_fast.data.shared import parts
from samplernn_fast.data.shared.parts import Source, divide, read_part, write_part
from samplernn_fast.errors import DataError


def test_parts_do_not_depend_on_the_number_of_processes(monkeypatch):
    monkeypatch.setattr(parts, "MOST_FILES", 3)
    monkeypatch.setattr(parts, "MOST_BYTES", 100)
    sizes = [10, 10, 10, 10, 95, 10, 300, 1, 1]
    found = divide([Source(str(n), size, 0) for n, size in enumerate(sizes)])
    assert [[source.bytes for source in part] for part in found] == [[10] * 3, [10], [95], [10], [300], [1, 1]]


@pytest.fixture
def part(tmp_path):
    """A part of two recordings, and of a file between them that is dropped."""
    folder = write_noise(tmp_path / "in", [300, 1, 200])
    (folder / "1.wav").write_bytes(b"x")
    paths = {name: folder / name for name in ("0.wav", "1.wav", "2.wav")}
    decoded = decode_all(Decoder(tmp_path, RATE, "mix", None), paths, 2, False)
    sources = [Source.at(*item) for item in paths.items()]
    write_part(tmp_path / "part", sources, decoded)
    return tmp_path / "part", sources, decoded


def test_a_part_holds_what_was_decoded(part):
    path, sources, (takes, dropped) = part
    found, (again, less) = read_part(path)
    assert found == sources and less == dropped and [name for name, _ in less] == ["1.wav"]
    assert [(one.name, one.peak, one.lost) for one in again] == [(one.name, one.peak, one.lost) for one in takes]
    with Scratch() as scratch:
        for one, two in zip(takes, again, strict=True):
            kept = scratch.read(two.scratch, two.start, two.stop)
            assert kept.tolist() == scratch.read(one.scratch, one.start, one.stop).tolist()


def test_a_damaged_description_is_an_error(part):
    path, whole = part[0], part[0].read_bytes()
    for damaged in (b"", whole[:-1], whole[4:], whole.replace(b'"peak"', b'"beak"'), whole.replace(b"[{", b"{[")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="no part of a data set"):
            read_part(path)
