"""Checkpoints: what goes in comes out, whatever is damaged or foreign is refused by name, and no code is run."""

import json
import math
import os
import pickle
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import CASES, make_model, random_levels
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from samplernn_fast import files
from samplernn_fast.errors import CheckpointError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.stored.arrays import describe

SMALL = SampleRNNConfig(frame_sizes=(2, 2, 4), dim=12, emb_size=8, q_levels=16, quantization="mu-law", sample_rate=8000)
WEIGHT = "mlp.output.bias"
Edit = Callable[[dict[str, Tensor], dict], object]


@pytest.fixture
def file(tmp_path) -> Path:
    """A good model.safetensors in a folder of its own."""
    path = tmp_path / "run" / checkpoint.MODEL_FILE
    checkpoint.save_model(path, make_model(SMALL, dtype=torch.float32), {"step": 7})
    return path


def edit(file: Path, change: Edit) -> None:
    """Rewrite a checkpoint after `change(tensors, header)`."""
    with safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
        header = json.loads(opened.metadata()["samplernn_fast"])
    change(tensors, header)
    save_file(tensors, file, metadata={"samplernn_fast": json.dumps(header)})


def refusal(path: Path) -> str:
    """The message of the CheckpointError that loading gives: one line, with the file's name."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_model(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message, message
    return message


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("name", CASES)
def test_a_model_comes_back_as_it_was(name, tmp_path):
    model = make_model(CASES[name], dtype=torch.float32)
    checkpoint.save_model(tmp_path / "a.safetensors", model)
    back = checkpoint.load_model(tmp_path / "a.safetensors")
    assert back.config == model.config and same(back.state_dict(), model.state_dict())
    assert checkpoint.model_sha256(back) == checkpoint.model_sha256(model)
    levels = random_levels(model.config, 2, 3 * model.config.lookback)
    with torch.no_grad():
        assert torch.equal(back(levels)[0], model(levels)[0])


def test_what_describes_a_model(file, tmp_path):
    described = describe(file.parent)
    model = checkpoint.load_model(file)
    assert described["file"] == str(file) and described["info"] == {"step": 7}
    assert SampleRNNConfig.from_dict(described["config"]) == SMALL
    assert described["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    checkpoint.save_model(tmp_path / "copy.safetensors", model, {"step": 8})
    assert describe(tmp_path / "copy.safetensors")["model_sha256"] == described["model_sha256"]
    with torch.no_grad():
        model.mlp.output.bias[3] += 1e-6
    assert checkpoint.model_sha256(model) != described["model_sha256"]


def test_run_folder_single_file_and_training_checkpoint(file):
    best, last = checkpoint.load_model(file), make_model(SMALL, seed=5, dtype=torch.float32)
    tensors = {f"model.{name}": tensor for name, tensor in last.state_dict().items()} | {"sums": torch.ones(2)}
    last_file = file.with_name(checkpoint.LAST_FILE)
    checkpoint.save_training(last_file, tensors, SMALL, {"step": 3})
    # The best model is what a run folder stands for.
    for path in (file, str(file), file.parent, str(file.parent)):
        assert same(checkpoint.load_model(path).state_dict(), best.state_dict())
    assert same(checkpoint.load_model(last_file).state_dict(), last.state_dict())
    read, header = checkpoint.read(last_file)
    assert same(read, tensors) and header["progress"] == {"step": 3}
    file.unlink()
    assert same(checkpoint.load_model(file.parent).state_dict(), last.state_dict())


def test_weights_stored_in_half_precision_load(file):
    before = checkpoint.load_model(file).state_dict()
    edit(file, lambda tensors, header: tensors.update({name: t.half() for name, t in tensors.items()}))
    after = checkpoint.load_model(file).state_dict()
    assert same(after, {name: tensor.half().float() for name, tensor in before.items()})
    assert not same(after, before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, h: t.pop(WEIGHT), (WEIGHT, "missing")),
        (lambda t, h: t.update({"spare.weight": torch.ones(2)}), ("spare.weight", "does not belong")),
        (lambda t, h: t.update({WEIGHT: torch.ones(3, 16)}), (WEIGHT, "(16,)", "(3, 16)")),
        (lambda t, h: t[WEIGHT].__setitem__(5, math.nan), (WEIGHT, "not finite")),
        (lambda t, h: t[WEIGHT].__setitem__(5, -math.inf), (WEIGHT, "not finite")),
        (lambda t, h: t.update({WEIGHT: torch.ones(16, dtype=torch.int32)}), (WEIGHT, "must hold weights", "I32")),
        (lambda t, h: h.update(format_version=2), ("format version 2", "reads 1")),
        (lambda t, h: h.pop("format_version"), ("format version None",)),
        (lambda t, h: h.update(kind="optimizer"), ("not one of samplernn_fast",)),
        (lambda t, h: h.pop("config"), ("settings",)),
        (lambda t, h: h["config"].update(rnn="transformer"), ("rnn", "transformer")),
        (lambda t, h: h["config"].update(heads=4), ("heads",)),
        (lambda t, h: h["config"].update(dim="12"), ("dim", "'12'")),
        (lambda t, h: h["config"].update(frame_sizes=[2, 3, 4]), ("frame_sizes",)),
        (lambda t, h: h["config"].update(quantization="float"), ("quantization", "float")),
        (lambda t, h: h.update(config=[1, 2]), ("settings",)),
    ],
)
def test_contents_that_do_not_fit_are_named(change, words, file):
    edit(file, change)
    message = refusal(file)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("share", [0, 1e-4, 0.01, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_refused(share, file):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert "truncated" in refusal(file)


def test_random_bytes_are_refused(file):
    for seed in range(20):
        file.write_bytes(random.Random(seed).randbytes(2000))
        assert "not a readable checkpoint" in refusal(file)


def test_a_foreign_safetensors_file_is_refused(file):
    for metadata in (None, {"format": "pt"}, {"samplernn_fast": "[1]"}, {"samplernn_fast": "not json"}):
        save_file({"weight": torch.ones(3)}, file, metadata=metadata)
        refusal(file)


def test_any_damage_to_the_header_is_a_checkpoint_error(file):
    """One byte of the header changed: the model loads, or a CheckpointError says why not; nothing else comes out."""
    whole = file.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for seed in range(400):
        rng = random.Random(seed)
        damaged = bytearray(whole)
        damaged[rng.randrange(end)] = rng.randrange(256)
        file.write_bytes(damaged)
        try:
            checkpoint.load_model(file)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error) and str(file) in str(error), error
    assert refused > 200


class Trap:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("write", [lambda trap, path: path.write_bytes(pickle.dumps(trap)), torch.save])
def test_a_pickle_is_refused_and_not_run(write, file, tmp_path):
    write(Trap(tmp_path / "sprung"), file)
    for path in (file, file.parent):
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            checkpoint.load_model(path)
    assert not (tmp_path / "sprung").exists()


def test_what_is_not_there_is_said(tmp_path):
    assert "no such" in refusal(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "a folder without model.safetensors" in refusal(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoint.read(tmp_path / "nothing")


def test_a_failed_write_keeps_what_was_there(file, monkeypatch):
    def full(tensors: dict, path: Path, metadata: dict) -> None:
        Path(path).write_bytes(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    before = file.read_bytes()
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left") as caught:
        checkpoint.save_model(file, make_model(SMALL, seed=9))
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    assert file.read_bytes() == before and os.listdir(file.parent) == [file.name]


def test_a_folder_that_cannot_be_made_is_a_checkpoint_error(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save_model(tmp_path / "taken" / "run" / "a.safetensors", make_model(SMALL))
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.write_text(tmp_path / "taken" / "config.json", "{}")
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_new_file_replaces_the_old_one_whole(file, monkeypatch):
    """A reader that opens the file while it is replaced sees the old model or the new one, never half of one."""
    old, new = checkpoint.load_model(file), make_model(SMALL, seed=9, dtype=torch.float32)
    seen = []

    def spy(source: Path, target: Path) -> None:
        seen.append(checkpoint.load_model(file).state_dict())
        os.rename(source, target)

    monkeypatch.setattr(files.os, "replace", spy)
    checkpoint.save_model(file, new)
    assert len(seen) == 1 and same(seen[0], old.state_dict())
    assert same(checkpoint.load_model(file).state_dict(), new.state_dict())
    assert os.listdir(file.parent) == [file.name]


def test_a_model_file_has_the_permissions_of_other_files(tmp_path):
    model = make_model(CASES["paper-3tier"])
    before = os.umask(0o027)
    try:
        checkpoint.save_model(tmp_path / "model.safetensors", model)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode) == 0o640
