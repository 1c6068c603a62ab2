"""Small valid files of every foreign format, from which fuzz tests and the guided search of `make fuzz` begin."""

import io
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exporters import python2_pickle, write_bundle

ARRAYS = {"FrameLevel.h0": np.arange(6, dtype="f4").reshape(2, 3), "b": np.array(7, "f8")}
STATE = {"a.weight": torch.arange(12.0).reshape(3, 4).t(), "a.bias": torch.ones(2, dtype=torch.float64)}
TENSORFLOW = {f"layer_{number}/kernel": np.arange(6, dtype="f4").reshape(2, 3) + number for number in range(12)}
DATA = ".data-00000-of-00001"
"""How the name of a bundle's only data file ends."""


def array_pickles() -> list[bytes]:
    """Pickles of arrays and of a command line, as Python 2 and every protocol of Python 3 write them."""
    seeds = [python2_pickle({"FrameLevel.h0": ARRAYS["FrameLevel.h0"]})]
    seeds += [pickle.dumps(ARRAYS, protocol) for protocol in range(6)]
    words = ["two_tier.py", "--dim=16", 3, 0.5, None, np.float32(2)]
    return seeds + [pickle.dumps(words, protocol) for protocol in (0, 2, 4)]


def saved(content: Any, zipped: bool = True, **options: Any) -> bytes:
    """What torch.save writes, as a zip archive or as before torch 1.6."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped, **options)
    return file.getvalue()


def torch_files() -> list[bytes]:
    """A state dict in both formats, and one with settings beside it."""
    beside = {"state_dict": STATE, "hyper_parameters": {"lr": 0.1, "sizes": [1, 2]}, "epoch": 3}
    return [saved(STATE), saved(STATE, zipped=False), saved(beside)]


def torch_pickle(content: Any = STATE) -> bytes:
    """The pickle inside a file of torch."""
    return zipfile.ZipFile(io.BytesIO(saved(content))).read("archive/data.pkl")


def archive(data: bytes, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    """An archive as torch writes it, with this pickle and these storages."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as written:
        for name, content in {"data.pkl": data, **entries}.items():
            written.writestr(f"archive/{name}", content)
    return file.getvalue()


def global_name(module: str, name: str) -> bytes:
    """The step of a pickle that asks for a name."""
    return f"c{module}\n{name}\n".encode()


def dtype_of(kind: str, state: bytes) -> bytes:
    """Steps that make a dtype of a kind, whose state is set to what a pickle says."""
    return (
        global_name("numpy", "dtype") + b"(X" + struct.pack("<I", len(kind)) + kind.encode() + b"I00\nI01\ntR" + state
    )


def array_of(dtype: bytes) -> bytes:
    """A pickle of one array of two elements."""
    made = global_name("numpy.core.multiarray", "_reconstruct")
    made += b"(" + global_name("numpy", "ndarray") + b"(I0\ntC\x01btR"
    return b"\x80\x03" + made + b"(I1\n(I2\nt" + dtype + b"I00\nC\x10" + bytes([255] * 16) + b"tb."


def tensor_pickle(size: str, stride: str, offset: str = "I0", count: str = "I4", name: str = "a") -> bytes:
    """A state dict of one tensor of float32 over the storage 0; sizes and strides are steps of a pickle."""
    storage = f"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpu{count}\ntQ"
    made = (
        f"ctorch._utils\n_rebuild_tensor_v2\n({storage}{offset}\n({size}t({stride}tI00\nccollections\nOrderedDict\n)RtR"
    )
    whole = "\x80\x02}X" + struct.pack("<I", len(name)).decode("latin1") + name + made + "s."
    return whole.encode("latin1")


def bundle() -> tuple[bytes, bytes]:
    """Index and data of a TensorFlow checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "c", TENSORFLOW)
        return (Path(folder) / "c.index").read_bytes(), (Path(folder) / f"c{DATA}").read_bytes()
