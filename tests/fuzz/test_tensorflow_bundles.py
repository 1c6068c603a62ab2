"""TensorFlow's index and data files: damaged at random, and indices that claim more than there is."""

import struct
from pathlib import Path

import pytest
from exporters import _append, _bytes, _number, _varint
from fuzz_seeds import DATA, bundle
from fuzzing import fuzz, fuzz_cases, fuzz_each, write_case
from mutations import mutate

from samplernn_fast.errors import CheckpointError
from samplernn_fast.importing.formats.tf_bundle import MAGIC, read_bundle


def reader(folder: Path):
    data = bundle()[1]

    def read(index: bytes) -> None:
        write_case(folder / "c.index", index)
        if not (folder / f"c{DATA}").exists():
            write_case(folder / f"c{DATA}", data)
        for array in read_bundle(folder / "c", lambda name: True).values():
            array.sum()

    return read


def entry(shape: list[int], offset: int, size: int, dtype: int = 1, shard: int = 0) -> bytes:
    sizes = b"".join(_bytes(2, _number(1, one)) for one in shape)
    return _number(1, dtype) + _bytes(2, sizes) + _number(3, shard) + _number(4, offset) + _number(5, size)


def index_of(entries: list[tuple[bytes, bytes]], handles: list[bytes] | None = None) -> bytes:
    """An index of one block of these entries; handles: what the table of blocks says instead."""
    table = bytearray()
    handle = _append(table, entries)
    meta = _append(table, [])
    blocks = _append(table, [(b"z%06d" % place, one) for place, one in enumerate(handles or [handle])])
    return bytes(table) + (meta + blocks).ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def growing_keys() -> bytes:
    """Entries of a few bytes, each of which repeats the whole key before it and adds to it."""
    block = bytearray()
    for number in range(60_000):
        block += _varint(number * 8) + _varint(8) + _varint(0) + b"12345678"
    table = block + struct.pack("<II", 0, 1) + b"\0crc."
    handle = _varint(0) + _varint(len(block) + 8)
    blocks = _append(table, [(b"z", handle)])
    return bytes(table) + (blocks + blocks).ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def claims() -> list[bytes]:
    huge = 1 << 62
    many = [(b"name%06d" % number, entry([24], 0, 96)) for number in range(3000)]
    block = _varint(0) + _varint(len(_append(bytearray(), many)))
    return [
        index_of([(b"a", entry([huge], 0, huge * 4))]),
        index_of([(b"a", entry([1], huge, 4))]),
        index_of([(b"a", entry([0, huge, huge], 0, 0))]),
        index_of([(b"a", entry([1] * 100, 0, 4))]),
        index_of([(b"a", entry([], 0, 4))]),
        index_of([(b"a", entry([2**63 + 5], 0, 4))]),
        index_of([(b"a", entry([1], 0, 4, shard=huge))]),
        index_of([(b"a", entry([1], 0, 4, dtype=huge))]),
        index_of([(b"a\nb", entry([1], 0, 4))]),
        index_of([(b"a" * 390, entry([1], 0, 5))]),
        index_of([(b"\xff\xfe", entry([1], 0, 4))]),
        index_of(many),
        index_of(many, [block] * 3000),
        index_of([(b"", _number(1, huge)), (b"a", entry([1], 0, 4))]),
        index_of([(b"", _bytes(1, b"9" * 5000)), (b"a", entry([1], 0, 4))]),
        growing_keys(),
    ]


@fuzz_cases
def test_damaged_indices(cases: int, tmp_path: Path) -> None:
    index, _ = bundle()
    fuzz(reader(tmp_path), lambda source: mutate(source, index), cases, valid=[index])


def test_claims_of_an_index(tmp_path: Path) -> None:
    index, _ = bundle()
    fuzz_each(reader(tmp_path), claims(), valid=[index], growth=100 << 20)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (index_of([(b"a", entry([1 << 40], 0, 1 << 42))]), "truncated: tensor a needs"),
        (index_of([(b"a", entry([0], 0, 0))]), "cannot have 0 bytes"),
        (index_of([(b"a", entry([1], 0, 4)), (b"b", entry([72], 0, 288))]), "which other tensors have"),
        (index_of([(b"a", entry([1] * 9, 0, 4))]), "9 dimensions"),
        (growing_keys(), "more than 400 bytes"),
        (index_of([(b"a", entry([1], 0, 4))], [_varint(0) + _varint(20)] * 2), "overlap"),
    ],
)
def test_what_is_refused_is_said(index: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=reason) as caught:
        reader(tmp_path)(index)
    assert len(str(caught.value)) < 500
