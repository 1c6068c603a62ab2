"""Pickles of arrays: damaged at random, and those that once made NumPy or the unpickler do harm."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from fuzz_seeds import array_of, array_pickles, dtype_of, global_name
from fuzzing import fuzz, fuzz_cases, fuzz_each, write_case
from mutations import mutate

from samplernn_fast.errors import CheckpointError
from samplernn_fast.importing.formats.array_pickle import read_pickle

SEEDS = array_pickles()
DTYPES = ("O8", "M8[s]", "m8", "f4", "f8", "i8", "S4", "U4", "V8", "c16", "b1")
FLAGS = [*range(64), 127, 128, 255, -1]


def dtypes_with_flags() -> list[bytes]:
    """Every dtype with every flag, also with the metadata of a date and with subtypes and fields."""
    states = [f"(I3\nX\x01\0\0\0|NNNI-1\nI-1\nI{flag}\ntb".encode("latin1") for flag in FLAGS]
    states += [b"(I4\nX\x01\0\0\0<NNNI-1\nI-1\nI0\n(}(C\x01sI1\nI1\nI1\ntttb"]
    states += [b"(I3\nX\x01\0\0\0<(X\x02\0\0\0f4(I2\nttNNI-1\nI-1\nI0\ntb", b"Nb", b"(tb", b"(I3\ntb"]
    return [array_of(dtype_of(kind, state)) for kind in DTYPES for state in states]


def claims() -> list[bytes]:
    """Short pickles that claim much: lengths and memo numbers far behind the end, deep values, long numbers."""
    deep_key = b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s."
    return [
        *(b"\x80\x02Nr" + struct.pack("<I", number) + b"." for number in (2**27, 2**29, 2**32 - 1)),
        *(bytes([code]) + struct.pack("<Q", size) for code in (0x96, 0x8E, 0x8D, 0x95) for size in (2**40, 2**63)),
        *(bytes([code]) + struct.pack("<I", 2**31 - 1) + b"." for code in b"TBX\x8b"),
        b"\x80\x02" + b"p" + b"9" * 5000 + b"\n.",
        b"I" + b"9" * 5000 + b"\n.",
        b"L" + b"9" * 5000 + b"L\n.",
        b"\x8b" + struct.pack("<I", 100_000) + b"\x7f" * 100_000 + b".",
        b"(" * 100_000 + b".",
        b"]" + b"]a" * 100_000 + b".",
        deep_key,
        b"N" * 3_000_000,
        b"c" + b"x" * 10_000_000,
        global_name("numpy", "dtype") + b"(" + b"]" + b"(h\0h\0e" * 60 + b"tR.",
        b"]q\0" + b"".join(b"](h%ch%celq%c" % (n, n, n + 1) for n in range(60)) + b".",
        array_of(dtype_of("f4", b"")).replace(b"I2\n", b"I-2\n"),
        array_of(dtype_of("f4", b"")).replace(b"I2\n", b"I0\n"),
        array_of(dtype_of("f4", b"")).replace(b"I2\n", b"I4611686018427387904\nI4\n"),
        array_of(dtype_of("f4", b"")).replace(b"I2\n", b"I1\n" * 40),
    ]


def reader(tmp_path: Path):
    return lambda case: read_pickle(write_case(tmp_path / "a.pkl", case))


@fuzz_cases
def test_damaged_pickles_of_arrays(cases: int, tmp_path: Path) -> None:
    fuzz(reader(tmp_path), lambda source: mutate(source, source.choice(SEEDS), SEEDS), cases, valid=SEEDS)


def test_no_state_of_a_dtype_does_harm(tmp_path: Path) -> None:
    cases = dtypes_with_flags()
    assert len(cases) >= 11 * 68
    fuzz_each(reader(tmp_path), cases, valid=SEEDS)


def test_claims_beyond_the_file_take_no_memory_and_no_time(tmp_path: Path) -> None:
    fuzz_each(reader(tmp_path), claims(), valid=SEEDS, growth=250 << 20)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (array_of(dtype_of("O8", b"(I3\nX\x01\0\0\0|NNNI-1\nI-1\nI1\ntb")), "holds 'O8', and only numbers"),
        (array_of(dtype_of("f4", b"(I3\nX\x01\0\0\0|NNNI-1\nI-1\nI1\ntb")), "not that of plain numbers"),
        (b"\x80\x02Nr" + struct.pack("<I", 2**27) + b".", "number of its memo is too large"),
        (b"\x96" + struct.pack("<Q", 2**40), "a length in it reaches behind its end"),
        (b"I" + b"9" * 5000 + b"\n.", "a step INT of it is damaged"),
        (b"\x8a\x09" + b"\x7f" * 9 + b".", "more than 64 bits"),
        (b"\x80\x02})K\x01s.", "neither text nor a number"),
        (b"N0N.", "not a readable"),
    ],
)
def test_what_is_refused_is_said(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    if reason == "not a readable":
        assert read_pickle(tmp_path / "a.pkl") is None
        return
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_pickle(tmp_path / "a.pkl")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8", "<f2", "<i8", ">i2", "u1", "?"])
def test_arrays_come_back_bit_for_bit(kind: str, protocol: int, tmp_path: Path) -> None:
    array = (np.arange(24).reshape(2, 3, 4) % 2 * 1.5).astype(kind)
    given = {"c": array, "columns": np.asfortranarray(array), "one": array[0, 0, 1:2], "none": np.array(1.5, "f4")}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(given, protocol))
    found = read_pickle(tmp_path / "a.pkl")
    assert list(found) == list(given)
    for name, wanted in given.items():
        assert found[name].dtype == wanted.dtype and found[name].tobytes() == wanted.tobytes(), name
