"""Our own files: the container, our header in it, and model settings that do not belong to the tensors."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import make_model
from fuzzing import fuzz, fuzz_cases, fuzz_each, write_case
from mutations import mutate, mutate_value

from samplernn_fast.errors import CheckpointError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import OneTierConfig, SampleRNNConfig
from samplernn_fast.models.registry import build_model
from samplernn_fast.models.stored.arrays import describe

CONFIG = SampleRNNConfig(dim=4, emb_size=3, q_levels=8, frame_sizes=(2, 2, 4))


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and what follows it."""
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def joined(header: Any, rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def with_ours(content: bytes, ours: Any) -> bytes:
    """The file with another header of ours, which stands as JSON in the container's header."""
    header, rest = split(content)
    header["__metadata__"] = {"samplernn_fast": ours if isinstance(ours, str) else json.dumps(ours)}
    return joined(header, rest)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A model and a training checkpoint."""
    folder, model = tmp_path_factory.mktemp("files"), make_model(CONFIG, dtype=torch.float32)
    checkpoint.save_model(folder / "model", model, {"step": 3})
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    checkpoint.save_training(folder / "last", tensors | {"optimizer.0": torch.ones(3)}, CONFIG, {"step": 3})
    return [(folder / name).read_bytes() for name in ("model", "last")]


def reader(tmp_path: Path):
    def read(case: bytes) -> None:
        describe(write_case(tmp_path / "model.safetensors", case))

    return read


@fuzz_cases
def test_damaged_files(cases: int, files: list[bytes], tmp_path: Path) -> None:
    def make(source: Any) -> bytes:
        content = source.choice(files)
        if source.random() < 0.3:
            return mutate(source, content, files)
        header, rest = split(content)
        if source.random() < 0.4:
            return joined(mutate_value(source, header), rest)
        ours = json.loads(header["__metadata__"]["samplernn_fast"])
        if source.random() < 0.5:
            ours["config"] = mutate_value(source, ours["config"])
        return with_ours(content, mutate_value(source, ours))

    fuzz(reader(tmp_path), make, cases, valid=files)


def large_settings() -> list[dict[str, Any]]:
    """Settings of networks that take gigabytes, of which the file has nothing."""
    return [
        {"dim": 16384},
        {"dim": 16384, "n_rnn": 64},
        {"q_levels": 65536, "emb_size": 16384},
        {"frame_sizes": [65536, 65536, 65536], "q_levels": 65536, "emb_size": 0},
        {"frame_sizes": [1] * 200_000},
        {"dim": 3000, "mlp_hidden": 64, "frame_sizes": [1, 65536]},
    ]


def test_settings_of_a_large_network_take_no_memory(files: list[bytes], tmp_path: Path) -> None:
    ours = json.loads(split(files[0])[0]["__metadata__"]["samplernn_fast"])
    cases = [with_ours(files[0], ours | {"config": ours["config"] | other}) for other in large_settings()]
    fuzz_each(reader(tmp_path), cases, valid=files, growth=60 << 20)
    for case in cases:
        write_case(tmp_path / "a.safetensors", case)
        with pytest.raises(CheckpointError, match="settings"):
            checkpoint.load_model(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config": [1]}, "model settings must be names with values, got list"),
        ({"config": None}, "model settings must be names"),
        ({"made_by": 3}, "made_by of the header must be text, got 3"),
        ({"info": "x"}, "info of the header must be names"),
        ({"format_version": {}}, "this program reads 1"),
        ({"kind": ["model"]}, "not one of samplernn_fast"),
    ],
)
def test_a_header_of_wrong_types_is_named(change: dict[str, Any], reason: str, files: list[bytes], tmp_path: Path):
    ours = json.loads(split(files[0])[0]["__metadata__"]["samplernn_fast"])
    write_case(tmp_path / "a.safetensors", with_ours(files[0], ours | change))
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.load_model(tmp_path / "a.safetensors")


def test_headers_that_are_deep_or_long_are_refused(files: list[bytes], tmp_path: Path) -> None:
    deep, wide = "[" * 90 + "]" * 90, "[" + "[]," * 4_000_000 + "[]]"
    long = json.dumps({"kind": "model", "config": {}, "x": "y" * (1 << 24)})
    cases = ((deep, "more than 64"), (wide, "not one of"), (long, "not one of samplernn_fast"), ("{", "not JSON"))
    fuzz_each(reader(tmp_path), [with_ours(files[0], ours) for ours, _ in cases], valid=files, growth=150 << 20)
    for ours, reason in cases:
        write_case(tmp_path / "a.safetensors", with_ours(files[0], ours))
        with pytest.raises(CheckpointError, match=reason):
            checkpoint.load_model(tmp_path / "a.safetensors")


def test_a_list_of_many_tensors_is_refused(files: list[bytes], tmp_path: Path) -> None:
    header, rest = split(files[0])
    names = {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(20_001)}
    long = struct.pack("<Q", 1 << 26) + b"{" + b" " * (1 << 26)
    for case, reason in ((joined(header | names, rest), "it lists 200"), (long, "list of tensors would have 67108864")):
        fuzz_each(reader(tmp_path), [case], valid=files, growth=60 << 20)
        write_case(tmp_path / "a.safetensors", case)
        with pytest.raises(CheckpointError, match=reason):
            checkpoint.load_model(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "complex64", "uint16", "bool", "int8"])
def test_weights_of_other_types_are_refused(dtype: str, tmp_path: Path) -> None:
    model = make_model(CONFIG, dtype=torch.float32)
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=f"must be torch.float32, found torch.{dtype}"):
        checkpoint.fill(model, tensors, tmp_path)


def test_a_number_that_float32_does_not_hold_is_not_finite(tmp_path: Path) -> None:
    model = make_model(CONFIG, dtype=torch.float32)
    tensors = {name: tensor.double() for name, tensor in model.state_dict().items()}
    checkpoint.fill(model, tensors, tmp_path)
    tensors["mlp.output.bias"][3] = 1e300
    with pytest.raises(CheckpointError, match=r"output\.bias holds a value that is not finite"):
        checkpoint.fill(model, tensors, tmp_path)


def test_what_is_no_regular_file_is_said_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in ((tmp_path / "pipe", "is a pipe or a device"), (Path("/dev/zero"), "is a pipe or a device")):
        with pytest.raises(CheckpointError, match=reason):
            checkpoint.load_model(path)
    with pytest.raises(CheckpointError, match="is a folder"):
        checkpoint.read(tmp_path)
    with pytest.raises(CheckpointError, match="no such"):
        checkpoint.load_model(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        SampleRNNConfig(dim=5, n_rnn=3, rnn="lstm", emb_size=0, q_levels=9, frame_sizes=(3, 9), skip="full"),
        SampleRNNConfig(dim=3, n_rnn=2, frame_sizes=(1, 1, 1, 8), mlp_hidden=1, weight_norm="none", q_levels=2),
        SampleRNNConfig(dim=6, n_rnn=2, skip="prism", upsample_bias=False, top_input_linear=True, frame_sizes=(4, 8)),
        OneTierConfig(dim=4, n_rnn=2, emb_size=3, q_levels=8),
    ],
)
def test_no_model_has_fewer_values_than_its_settings_say(config: Any) -> None:
    present = sum(tensor.numel() for tensor in build_model(config, seed=None).state_dict().values())
    assert 0.3 * present < config.least_values <= present
