"""Files that torch wrote: damaged at random, other kinds of tensors, archives and numbers that claim too much."""

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzz_seeds import STATE, archive, saved, tensor_pickle, torch_files, torch_pickle
from fuzzing import fuzz, fuzz_cases, fuzz_each, write_case
from mutations import mutate

from samplernn_fast.errors import CheckpointError
from samplernn_fast.importing.formats import torch_file
from samplernn_fast.importing.formats.pickles import LEGACY_START
from samplernn_fast.importing.formats.torch_file import names_in, read_torch_file

SEEDS, PICKLE = torch_files(), torch_pickle()
FOUR = {"data/0": bytes(16)}
SIZES = [
    "",
    "I4\n",
    "I2\nI2\n",
    "I-1\n",
    "I0\n",
    "I4611686018427387904\n",
    "I4\n" * 40,
    "]",
    "X\1\0\0\0x",
    "G" + "\0" * 8,
]
STRIDES = ["", "I1\n", "I2\nI1\n", "I0\n", "I-1\n", "I0\nI0\n", "I9223372036854775807\n", "N", "I1\n" * 40]


def absurd_tensors() -> list[bytes]:
    """Sizes, strides and offsets of all kinds over a storage of four numbers."""
    made = [archive(tensor_pickle(size, stride), **FOUR) for size in SIZES for stride in STRIDES]
    made += [archive(tensor_pickle("I2\n", "I1\n", offset), **FOUR) for offset in ("I3", "I-1", "N", "I" + "9" * 18)]
    made += [archive(tensor_pickle("I2\n", "I1\n", count=count), **FOUR) for count in ("I-1", "N", "I" + "9" * 18)]
    made += [archive(tensor_pickle("I2\n", "I1\n", name=name), **FOUR) for name in ("a\nb", "x" * 199, "\0", "%s{}")]
    return made


def bombs() -> list[bytes]:
    """Small files that ask for much: archives that unpack to more, long names and numbers, deep and repeated values."""
    zeros = bytes(64 << 20)
    packed = archive(PICKLE, zipfile.ZIP_DEFLATED, **{"data/0": zeros, "data/1": zeros})
    pickled = archive(b"\x80\x02" + zeros, zipfile.ZIP_DEFLATED)
    repeated = b"]q\0" + b"".join(b"](" + b"h%c" % n * 30 + b"eq%c" % (n + 1) for n in range(18))
    shared = b"\x80\x02}(X\x0a\0\0\0state_dict" + tensor_pickle("I4\n", "I1\n")[2:-1]
    many = archive(PICKLE, **{f"{number:0600d}": b"" for number in range(4_000)})
    alike = b"".join(b"X\2\0\0\0%02xh\0" % number for number in range(250))
    return [
        packed,
        pickled,
        many,
        archive(b"c" + b"x" * 5_000_000 + b"\ny\n."),
        archive(b"ctorch\n" + b"x" * 5_000_000 + b"\n."),
        archive(b"\x80\x02X\1\0\0\0aI" + b"9" * 5000 + b"\n."),
        archive(b"\x80\x02" + b"(" * 300_000),
        archive(b"\x80\x02" + repeated + b"."),
        archive(shared + b"X\x10\0\0\0hyper_parameters" + repeated + b"u.", **FOUR),
        archive(
            tensor_pickle("I4\n", "I1\n")[:-2].replace(b"}X\1\0\0\0a", b"") + b"q\0" + b"}(" + alike + b"u.", **FOUR
        ),
        LEGACY_START + b"\x80\x02M\xe9\x03.\x80\x02}.\x80\x02}.].",
        LEGACY_START + b"\x80\x02M\xe9\x03." + b"\x80\x02Nr" + struct.pack("<I", 2**29) + b".",
    ]


def reader(tmp_path: Path):
    def read(case: bytes) -> None:
        file = write_case(tmp_path / "a.pt", case)
        names_in(file)
        for tensor in read_torch_file(file)[0].values():
            tensor.double().sum()  # a view beyond its storage would read what is not its

    return read


@fuzz_cases
def test_damaged_torch_files(cases: int, tmp_path: Path) -> None:
    fuzz(reader(tmp_path), lambda source: mutate(source, source.choice(SEEDS), SEEDS), cases, valid=SEEDS)


@fuzz_cases
def test_damaged_pickles_in_whole_archives(cases: int, tmp_path: Path) -> None:
    """A checksum of the archive hides most damage; here it is right."""
    storages = {"data/0": bytes(48), "data/1": bytes(16)}
    fuzz(
        reader(tmp_path),
        lambda source: archive(mutate(source, PICKLE), **storages),
        cases,
        valid=[archive(PICKLE, **storages)],
    )


def test_absurd_tensors(tmp_path: Path) -> None:
    fuzz_each(reader(tmp_path), absurd_tensors(), valid=SEEDS)


def test_bombs(tmp_path: Path) -> None:
    fuzz_each(reader(tmp_path), bombs(), valid=SEEDS, growth=100 << 20)


OTHER_KINDS: dict[str, Callable[[], torch.Tensor]] = {
    "meta": lambda: torch.empty(3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "rows": lambda: torch.eye(3).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8),
    "float8": lambda: torch.ones(2).to(torch.float8_e4m3fn),
    "complex": lambda: torch.ones(2, dtype=torch.complex64),
    "uint16": lambda: torch.ones(2, dtype=torch.uint16),
    "negated": lambda: torch._neg_view(torch.ones(2)),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", list(OTHER_KINDS))
def test_other_kinds_of_tensors_are_named(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(saved({"a": torch.ones(2), "b": OTHER_KINDS[kind]()}))
    with pytest.raises(CheckpointError, match=r"tensor b is .*only plain tensors") as caught:
        read_torch_file(tmp_path / "a.pt")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (archive(PICKLE, zipfile.ZIP_DEFLATED, **{"data/0": bytes(48)}), "is compressed or encrypted"),
        (archive(tensor_pickle("I4\n", "I1\n"), **{"data/0": bytes(15)}), "more values than the file"),
        (archive(tensor_pickle("I9\n", "I0\n"), **FOUR), "more values than the file"),
        (archive(tensor_pickle("I4\n", "I-1\n"), **FOUR), "no number"),
        (archive(tensor_pickle("I4\n", "I1\n")), "has no entry archive/data/0"),
        (archive(tensor_pickle("I4\n", "I1\n", name="x" * 201), **FOUR), "at most 200 characters"),
        (archive(b"cos\nsystem\n."), "refused: it asks for os.system"),
        (archive(b"ctorch.hub\nload\n."), "refused: it asks for torch.hub.load"),
        (archive(PICKLE, **{"constants.pkl": b""}), "TorchScript"),
        (archive(PICKLE, byteorder=b"big"), "big-endian"),
        (archive(PICKLE) + b"PK\x05\x06" + bytes(18), "without one data.pkl"),
    ],
)
def test_what_is_refused_is_said(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_torch_file(tmp_path / "a.pt")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split(), ids=str)
def test_tensors_come_back_bit_for_bit(dtype: str, zipped: bool, tmp_path: Path) -> None:
    base = (torch.arange(60) % 3).to(getattr(torch, dtype))
    given = {
        "whole": base.clone().reshape(3, 4, 5),
        "part": base[7:21].reshape(2, 7).t(),
        "rest": base[40:],
        "repeated": base[:1].expand(1),
        "one": base[5],
        "parameter": torch.nn.Parameter(base.clone(), requires_grad=False),
    }
    (tmp_path / "a.pt").write_bytes(saved(given, zipped))
    found, _ = read_torch_file(tmp_path / "a.pt")
    assert list(found) == list(given) == names_in(tmp_path / "a.pt")
    for name, wanted in given.items():
        assert found[name].dtype == wanted.dtype and torch.equal(found[name], wanted), name


def test_only_the_tensors_of_the_model_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"state_dict": STATE, "optimizer_states": [{"state": {0: {"moment": torch.zeros(9, 9)}}}]}
    (tmp_path / "a.ckpt").write_bytes(saved(content))
    asked = []
    whole = torch_file._Archive.read
    monkeypatch.setattr(torch_file._Archive, "read", lambda self, record: asked.append(record) or whole(self, record))
    assert names_in(tmp_path / "a.ckpt") == list(STATE) and asked == []
    read_torch_file(tmp_path / "a.ckpt")
    assert len(asked) == 2


def test_settings_that_are_repeated_without_end_are_refused(tmp_path: Path) -> None:
    values: Any = [1]
    for _ in range(18):
        values = [values] * 9
    content = saved({"state_dict": STATE, "hyper_parameters": values}, pickle_module=pickle)
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match="more than 100000 values"):
        read_torch_file(tmp_path / "a.ckpt")
