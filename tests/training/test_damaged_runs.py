"""A run folder that is damaged: one line names the file, and nothing in the folder changes."""

from dataclasses import replace

import pytest
import torch
from runs import files, tiny, trainer
from safetensors.torch import save_file

from samplernn_fast.errors import CheckpointError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.places import LOG_FILE
from samplernn_fast.training.trainer import train


def test_a_damaged_checkpoint_is_named_and_left(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=3)
    train(config)
    last = config.out / checkpoint.LAST_FILE
    whole, (tensors, header) = last.read_bytes(), checkpoint.read(last)
    moment, state = "adam.exp_avg.mlp.output.bias", "state.1"
    for change, word in (
        ({moment: None}, moment),
        ({moment: torch.full((64,), torch.nan)}, moment),
        ({state: tensors[state][:, :3].clone()}, state),
        ({"sums": torch.zeros(3, dtype=torch.float64)}, "sums"),
        ({"model.mlp.output.bias": None}, "mlp.output.bias"),
    ):
        changed = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
        checkpoint.save_training(last, changed, SampleRNNConfig.from_dict(header["config"]), header["progress"])
        before = files(config.out)
        with pytest.raises(CheckpointError, match=word):
            train(replace(config, max_steps=5))
        assert files(config.out) == before
    for content in (whole[: len(whole) // 2], b"", b"\0" * 100):
        last.write_bytes(content)
        with pytest.raises(CheckpointError, match=checkpoint.LAST_FILE):
            train(replace(config, max_steps=5))
        assert last.read_bytes() == content
    save_file({"weight": torch.ones(2)}, last)
    with pytest.raises(CheckpointError, match="not one of samplernn_fast"):
        train(replace(config, max_steps=5))
    last.write_bytes(whole)
    assert train(replace(config, max_steps=5)).steps == 5


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"], ids=["too long", "zero byte"])
def test_a_name_that_no_file_can_have_is_only_text(name, data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=3)
    train(config)
    last = config.out / checkpoint.LAST_FILE
    tensors, header = checkpoint.read(last)
    header["progress"]["training"]["resume"] = name
    checkpoint.save_training(last, tensors, SampleRNNConfig.from_dict(header["config"]), header["progress"])
    assert train(replace(config, max_steps=4)).steps == 4


def test_a_damaged_log_is_named_and_left(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=6)
    train(config)
    log = config.out / LOG_FILE
    whole = log.read_bytes()
    rows = whole.split(b"\n")
    for damaged in (
        whole.replace(b"\n4,", b"\nfour,"),
        whole.replace(b"\n4,", "\n²,".encode()),
        whole.replace(b"\n4,", b"\n" + b"9" * 5000 + b","),
        whole.replace(b"\n4,0", b"\n4"),
        whole.replace(b"\n4,", b"\n4,5,"),
        whole.replace(b"\n4,", b'\n"4,'),
        whole.replace(b"\n4,", b"\n\0,"),
        whole.replace(b"\n4,", b"\n\xff,"),
        whole.replace(b"valid_bits", b"bits"),
        b"\n".join(rows[1:]),
        b"\0" * 100 + b"\n",
    ):
        log.write_bytes(damaged)
        before = files(config.out)
        with pytest.raises(CheckpointError, match=f"{LOG_FILE}: damaged") as caught:
            train(replace(config, max_steps=8))
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 and files(config.out) == before
    log.write_bytes(whole[:-5])  # a killed process can leave half a row
    assert train(replace(config, max_steps=8)).steps == 8


def test_damaged_training_states_are_named_and_left(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=3)
    train(config)
    last = config.out / checkpoint.LAST_FILE
    tensors, header = checkpoint.read(last)
    model, progress = SampleRNNConfig.from_dict(header["config"]), header["progress"]
    without = [{key: value for key, value in progress.items() if key != gone} for gone in progress]
    later = ("pending", "processes")  # version 0.1.0 wrote neither
    damaged = [values for values in without if all(name in values for name in later)]
    damaged += [progress | {"batches": value} for value in (None, [], {}, progress["batches"] | {"turns": [0]})]
    damaged += [progress | {"training": value} for value in (None, [], {}, progress["training"] | {"model": 3})]
    damaged += [progress | {"step": value} for value in (0, -1, 2.5, "3", None, True, 2**60)]
    damaged += [progress | {"best_bits": value} for value in (-1, "4", [], True)]
    damaged += [progress | {"seconds": value} for value in (-1, None, "1")]
    damaged += [progress | {"pending": value} for value in (None, "validation", ["lunch"], [[]], 3)]
    damaged += [progress | {"processes": value} for value in (None, 0, "1", 2.5)]
    damaged += [progress | {"training": progress["training"] | {"accumulate": value}} for value in (None, 0, "1")]
    cases = [(tensors, values) for values in damaged]
    for name in ("rng.torch", "sums", "state.0", "adam.step.mlp.output.bias", "model.mlp.output.bias"):
        tensor = tensors[name]
        for other in (tensor.float().long(), tensor.double().half(), tensor[..., None].repeat_interleave(2, -1)):
            cases.append((tensors | {name: other}, progress))
    for change in (
        {"adam.step.mlp.output.bias": torch.tensor(-3.0)},
        {"adam.exp_avg_sq.mlp.output.bias": -torch.ones(64)},
        {"rng.torch": torch.full_like(tensors["rng.torch"], 255)},
    ):
        cases.append((tensors | change, progress))
    for changed, values in cases:
        checkpoint.save_training(last, changed, model, values)
        before = files(config.out)
        with pytest.raises(CheckpointError, match=checkpoint.LAST_FILE) as caught:
            trainer(replace(config, max_steps=5))
        assert "\n" not in str(caught.value) and files(config.out) == before, values
    checkpoint.save_training(last, tensors, model, progress)
    assert train(replace(config, max_steps=5)).steps == 5
