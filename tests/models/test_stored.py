"""Models as NumPy arrays: what is read without torch is what torch reads, and what is damaged is refused by name."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import CASES, PACKED_CASES, make_model
from safetensors.torch import save_file
from systems import SYSTEM_CASES
from torch import Tensor

from samplernn_fast.errors import CheckpointError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.registry import build_model
from samplernn_fast.models.stored.arrays import describe, read_model
from samplernn_fast.models.stored.header import metadata
from samplernn_fast.models.stored.parameters import parameters
from samplernn_fast.reference.folding import fold

every_case = pytest.mark.parametrize("name", PACKED_CASES)
TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SMALL = "prism-skips"  # it has initial states that are not learnt

# Run where torch cannot be imported: reads models, and keeps their arrays and their hashes.
_READER = """
import json, sys
sys.modules["torch"] = None
import numpy as np
from samplernn_fast.models.stored.arrays import read_model
hashes = {}
for path in sys.argv[1:]:
    model = read_model(path)
    np.savez(path + ".npz", **model.arrays)
    hashes[path] = model.sha256
print(json.dumps(hashes))
"""


def write(path: Path, config: AudioConfig, tensors: dict[str, Tensor]) -> Path:
    """A file of a model, as `checkpoint.save_model` writes one, with any tensors in any types."""
    header = metadata("model", {"config": config.to_dict(), "info": {}})
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=header)
    return path


@every_case
def test_the_arrays_of_a_config_are_those_of_its_torch_model(name):
    config = PACKED_CASES[name]
    found = {name: tuple(tensor.shape) for name, tensor in build_model(config).state_dict().items()}
    assert parameters(config) == found


@every_case
def test_a_model_is_read_as_torch_has_it(name, tmp_path):
    model = make_model(PACKED_CASES[name], dtype=torch.float32)
    checkpoint.save_model(tmp_path / "model.safetensors", model)
    found, given = read_model(tmp_path / "model.safetensors"), checkpoint.arrays_of(model)
    assert found.config == given.config == model.config
    assert found.sha256 == given.sha256 == checkpoint.model_sha256(model)
    assert found.arrays.keys() == given.arrays.keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert found.arrays[key].dtype == given.arrays[key].dtype == np.float32
        assert np.array_equal(found.arrays[key], tensor.numpy()) and np.array_equal(given.arrays[key], tensor.numpy())


def test_models_in_any_type_of_weights_are_read_without_torch(tmp_path):
    wanted = {}
    for name in (SMALL, "paper-3tier", "rnn-lstm"):
        tensors = make_model(PACKED_CASES[name]).state_dict()
        for dtype in TYPES:
            kept = {key: tensor.to(dtype) for key, tensor in tensors.items()}
            file = write(tmp_path / f"{name}-{dtype}.safetensors", PACKED_CASES[name], kept)
            wanted[str(file)] = {key: tensor.float().numpy() for key, tensor in kept.items()}
    command = [sys.executable, "-c", _READER, *wanted]
    hashes = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(set(hashes.values())) == len(hashes) - 3  # float64 is rounded to float32, so these two are one model
    for file, arrays in wanted.items():
        model, found = checkpoint.load_model(file), np.load(file + ".npz")
        assert hashes[file] == checkpoint.model_sha256(model) == read_model(file).sha256
        assert set(found) == arrays.keys() == model.state_dict().keys()
        for key, array in arrays.items():
            assert found[key].dtype == np.float32 and found[key].shape == array.shape
            assert np.array_equal(found[key], array), key
            assert np.array_equal(found[key], model.state_dict()[key].numpy()), key


def test_numbers_at_the_edges_of_bfloat16_are_read(tmp_path):
    """Subnormal numbers, the largest, and both zeros."""
    config, tensors = CASES[SMALL], make_model(CASES[SMALL], dtype=torch.bfloat16).state_dict()
    edges = torch.tensor([0x0000, 0x8000, 0x0001, 0x807F, 0x0080, 0x7F7F, 0xFF7F, 0x3F80], dtype=torch.int32)
    row = edges.to(torch.int16).view(torch.bfloat16).repeat(8)
    tensors["mlp.output.bias"] = row
    found = read_model(write(tmp_path / "model.safetensors", config, tensors)).arrays["mlp.output.bias"]
    assert found.tobytes() == row.float().numpy().tobytes()


@pytest.mark.parametrize("name", SYSTEM_CASES)
def test_the_size_of_a_model_is_what_it_learns(name, tmp_path):
    model = build_model(SYSTEM_CASES[name])
    checkpoint.save_model(tmp_path / "model.safetensors", model)
    assert describe(tmp_path / "model.safetensors")["parameters"] == sum(one.numel() for one in model.parameters())


@pytest.mark.parametrize("name", [SMALL, "rnn-prism-skips"])
def test_initial_states_that_are_not_learnt_are_not_counted(name, tmp_path):
    model = make_model(PACKED_CASES[name], dtype=torch.float32)
    learnt = sum(parameter.numel() for parameter in model.parameters())
    constant = sum(tensor.numel() for key, tensor in model.state_dict().items() if key.endswith("h0"))
    assert constant > 0 and learnt + constant == sum(tensor.numel() for tensor in model.state_dict().values())
    checkpoint.save_model(tmp_path / "model.safetensors", model, {"step": 2})
    described = describe(tmp_path / "model.safetensors")
    assert described["parameters"] == learnt == checkpoint.arrays_of(model).size
    assert described["info"] == {"step": 2} and described["model_sha256"] == checkpoint.model_sha256(model)


DAMAGES = {
    "missing": (lambda tensor: None, "is missing"),
    "one row more": (lambda tensor: torch.cat((tensor, tensor[:1])), "must be .*, found "),
    "flat": (lambda tensor: tensor[None], "must be .*, found "),
    "NaN": (lambda tensor: torch.full_like(tensor, math.nan), "holds a value that is not finite"),
    "one infinite": (lambda tensor: tensor.index_fill(0, torch.tensor([0]), -math.inf), "holds a value that is not"),
    "infinite in float32": (lambda tensor: tensor.double().fill_(1e300), "holds a value that is not finite"),
    "NaN in bfloat16": (lambda tensor: tensor.bfloat16().fill_(math.nan), "holds a value that is not finite"),
    "whole numbers": (lambda tensor: tensor.int(), "must hold weights, found I32"),
    "bytes": (lambda tensor: tensor.to(torch.uint8), "must hold weights, found U8"),
    "8 bits": (lambda tensor: tensor.to(torch.float8_e4m3fn), "must hold weights, found F8_E4M3"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_array_is_named_in_one_line(damage, tmp_path):
    config = CASES[SMALL]
    tensors, (change, message) = make_model(config, dtype=torch.float32).state_dict(), DAMAGES[damage]
    for name in tensors:
        changed = change(tensors[name])
        others = {key: tensor for key, tensor in tensors.items() if key != name}
        file = write(tmp_path / "model.safetensors", config, others if changed is None else others | {name: changed})
        for reader in (read_model, describe, checkpoint.load_model):
            with pytest.raises(CheckpointError, match=rf"model\.safetensors: tensor {name} {message}") as raised:
                reader(file)
            assert "\n" not in str(raised.value)


@pytest.mark.parametrize("extra", ["spare.weight", "mlp.output.bias.", "tiers.0.rnn.layers.0.b_hhh"])
def test_arrays_that_a_model_has_not_are_named(extra, tmp_path):
    config = CASES[SMALL]
    tensors = make_model(config, dtype=torch.float32).state_dict() | {extra: torch.ones(2)}
    file = write(tmp_path / "model.safetensors", config, tensors)
    for reader in (read_model, describe, checkpoint.load_model):
        with pytest.raises(CheckpointError, match=f"does not belong to this model: {extra}$"):
            reader(file)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_packed_weights_do_not_share_memory_with_the_model(name, dtype):
    model = make_model(PACKED_CASES[name], dtype=dtype)
    arrays = checkpoint.arrays_of(model)
    packed = fold(arrays)
    parts = [part for both in packed.sums.values() for part in both]
    held = [*packed.arrays.values(), *parts]
    before = [array.copy() for array in held]
    assert not any(np.shares_memory(one, array) for one in held for array in arrays.arrays.values())
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.mul_(-3).add_(1)
    assert all(np.array_equal(one, old) for one, old in zip(held, before, strict=True))
    assert not np.array_equal(fold(checkpoint.arrays_of(model))["mlp.output"], packed["mlp.output"])
