"""Checkpoints that are damaged, foreign, contradictory or hostile: one line says what is wrong, and nothing is run."""

import json
import os
import pickle
import random

import numpy as np
import pytest
import torch
from exporters import deepsound_state, float32_model, prism_arrays, theano_arrays, write_bundle, write_theano
from foreign_configs import DEEPSOUND, prism_config, theano_config, torch_config

import samplernn_fast as srnn
from samplernn_fast.commands import main
from samplernn_fast.errors import CheckpointError, ConfigError, SampleRNNError
from samplernn_fast.importing.foreign import read_checkpoint
from samplernn_fast.models import checkpoint

SMALL = torch_config((2, 4), q=8, dim=4)
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


class TorchFile:
    """A small checkpoint of each project: its tensors by name, and how they are written."""

    name, tensor, missing = "ep1-it2", "model.sample_level_mlp.hidden.bias", "model.frame_level_rnns.1.rnn.bias_hh_l0"

    def __init__(self):
        self.tensors = deepsound_state(float32_model(SMALL))

    def write(self, folder):
        torch.save({name: torch.as_tensor(tensor) for name, tensor in self.tensors.items()}, folder / self.name)
        return folder / self.name


class S4File(TorchFile):
    name = "model.pt"

    def __init__(self):
        model = float32_model(torch_config((2, 4), dim=4, emb=3, quantization="linear-s4"))
        self.tensors = deepsound_state(model, h0_in_gru=True)


class PrismFile(TorchFile):
    name, tensor, missing = "c-1", f"sample_mlp/hidden1/bias{SUFFIX}", f"frame_rnn/upsample{SUFFIX}"

    def __init__(self):
        self.tensors = prism_arrays(float32_model(prism_config(2, 4, q=8, dim=4, n=2)))

    def write(self, folder):
        write_bundle(folder / self.name, {name: np.asarray(tensor) for name, tensor in self.tensors.items()})
        return folder / self.name


class TheanoFile(TorchFile):
    name, tensor, missing = "params.pkl", "SampleLevel.L2.b", "FrameLevel.GRU1.Step.Recurrent_Gates.g0"

    def __init__(self):
        self.tensors = theano_arrays(float32_model(theano_config(2, 4, q=9, dim=4)))

    def write(self, folder):
        write_theano(folder / self.name, {name: np.asarray(tensor) for name, tensor in self.tensors.items()})
        return folder / self.name


every_project = pytest.mark.parametrize("file", [TorchFile, S4File, PrismFile, TheanoFile])


def refusal(path, error=CheckpointError, **settings):
    """The one line that reading a checkpoint raises."""
    with pytest.raises(error) as caught:
        read_checkpoint(path, **({"quantization": "linear"} | settings))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


@every_project
def test_the_untouched_file_is_read(file, tmp_path):
    assert read_checkpoint(file().write(tmp_path), quantization="linear").parity.reference < 1e-9


@every_project
def test_missing_tensor(file, tmp_path):
    made = file()
    del made.tensors[made.missing]
    assert f"tensor {made.missing.removesuffix(SUFFIX)} is missing" in refusal(made.write(tmp_path))


@every_project
def test_any_missing_tensor(file, tmp_path):
    """Whichever it is, also one that decides the sizes."""
    whole = file().tensors
    for index, name in enumerate(
        name for name in whole if "OPTIMIZER" not in name and not name.startswith("optimizer")
    ):
        if "IndependentPreds" in name:  # takes no part
            continue
        made = file()
        del made.tensors[name]
        folder = tmp_path / str(index)
        folder.mkdir()
        refusal(made.write(folder))


@every_project
def test_extra_tensor(file, tmp_path):
    made = file()
    made.tensors[made.tensor.replace("bias", "scale").replace("L2.b", "L9.b")] = made.tensors[made.tensor]
    message = refusal(made.write(tmp_path))
    assert "do not belong to this model" in message and ("scale" in message or "L9" in message)


@every_project
def test_misshapen_tensor(file, tmp_path):
    made = file()
    made.tensors[made.tensor] = made.tensors[made.tensor][:-1]
    name = made.tensor.removesuffix(SUFFIX).removeprefix("model.")
    assert f"tensor {name} must be (4,), found (3,)" in refusal(made.write(tmp_path))


@every_project
def test_value_that_is_not_finite(file, tmp_path):
    made = file()
    made.tensors[made.tensor][1] = np.nan
    assert "not finite" in refusal(made.write(tmp_path))


@every_project
def test_truncated_file(file, tmp_path):
    path = file().write(tmp_path)
    path = path if path.is_file() else tmp_path / f"{path.name}.index"
    whole = path.read_bytes()
    for length in (0, 1, 7, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refusal(path)


@every_project
def test_wrong_format_by_name(file, tmp_path):
    path = file().write(tmp_path)
    own = {TorchFile: "deepsound", S4File: "s4", PrismFile: "prism", TheanoFile: "theano"}[file]
    for format in {"deepsound", "prism", "s4", "theano"} - {own}:
        refusal(path, format=format)


@every_project
def test_no_damage_gets_past_the_errors(file, tmp_path):
    """Bytes changed at random: either the file still makes sense, or one of our errors says why not."""
    path = file().write(tmp_path)
    path = path if path.is_file() else tmp_path / f"{path.name}.index"
    whole, rng, outcomes = path.read_bytes(), random.Random(1), set()
    for _ in range(80):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 4, 40))):
            damaged[rng.randrange(min(len(damaged), 3000))] = rng.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            read_checkpoint(path, quantization="linear")
            outcomes.add("read")
        except SampleRNNError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
    assert "refused" in outcomes


def hostile(marker):
    """Objects whose pickles run code that would write `marker`."""

    class Call:
        def __init__(self, function, *arguments):
            self.call = function, arguments

        def __reduce__(self):
            return self.call

    return [
        Call(os.system, f"touch {marker}"),
        Call(eval, f"open({str(marker)!r}, 'w')"),
        Call(open, str(marker), "w"),
        Call(np.load, str(marker)),
    ]


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("which", range(4))
def test_pickles_that_run_code_are_refused(which, protocol, tmp_path):
    marker = tmp_path / "ran"
    arrays = theano_arrays(float32_model(theano_config(2, q=9, dim=4)))
    arrays["SampleLevel.L3.b"] = hostile(marker)[which]
    (tmp_path / "params.pkl").write_bytes(pickle.dumps(arrays, protocol))
    assert "refused: it asks for" in refusal(tmp_path / "params.pkl")
    torch.save(deepsound_state(float32_model(SMALL)) | {"x": hostile(marker)[which]}, tmp_path / "ep1-it2")
    assert "refused: it asks for" in refusal(tmp_path / "ep1-it2")
    torch.save({"x": hostile(marker)[which]}, tmp_path / "old", _use_new_zipfile_serialization=False)
    assert "refused: it asks for" in refusal(tmp_path / "old")
    assert not marker.exists()


def test_a_hostile_command_line_beside_it(tmp_path):
    path = TheanoFile().write(tmp_path)
    (tmp_path / "args.pkl").write_bytes(pickle.dumps(hostile(tmp_path / "ran")[0]))
    assert "args.pkl: refused" in refusal(path)
    assert not (tmp_path / "ran").exists()


def test_pickles_of_other_things(tmp_path):
    for content in ([1, 2], {"a": 1}, {"a": np.array(["text"])}, np.zeros(3), {"FrameLevel.h0": np.zeros(3, object)}):
        (tmp_path / "params.pkl").write_bytes(pickle.dumps(content))
        refusal(tmp_path / "params.pkl")
    for content in ([1, 2], {"a": 1}, {}, torch.zeros(3), {"state_dict": {"a": 1}}):
        torch.save(content, tmp_path / "model.pt")
        refusal(tmp_path / "model.pt")


def test_another_projects_tensors(tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "model.pt")
    assert "no tensor is called frame_level_rnns" in refusal(tmp_path / "model.pt")
    (tmp_path / "one_tier.pkl").write_bytes(pickle.dumps({"L1.W0": np.zeros((2, 2), "f4")}, 2))
    assert "no tensor is called FrameLevel" in refusal(tmp_path / "one_tier.pkl")


def test_files_that_are_no_checkpoint(tmp_path):
    assert "no such checkpoint" in refusal(tmp_path / "absent")
    (tmp_path / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    assert "HDF5" in refusal(tmp_path / "weights.h5")
    (tmp_path / "song.wav").write_bytes(b"RIFF" + bytes(50))
    assert "no checkpoint of deepsound, prism, s4, theano" in refusal(tmp_path / "song.wav")
    checkpoint.save_model(tmp_path / "model.safetensors", float32_model(SMALL))
    assert "is a model of samplernn_fast already" in refusal(tmp_path / "model.safetensors")


def test_folders(tmp_path):
    assert "must hold one checkpoint, found none" in refusal(tmp_path)
    model = float32_model(DEEPSOUND["odd"][0])
    for name in ("ep1-it2", "best-ep1-it1"):
        torch.save(deepsound_state(model), tmp_path / name)
    assert "found best-ep1-it1, ep1-it2; name the file" in refusal(tmp_path)


def test_folder_of_two_tensorflow_checkpoints(tmp_path):
    for step in (1, 2):
        write_bundle(tmp_path / f"model.ckpt-{step}", prism_arrays(float32_model(prism_config(2, 4, q=8, dim=4), step)))
    assert "found model.ckpt-1, model.ckpt-2" in refusal(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/logdir/model.ckpt-2"\n')
    found = read_checkpoint(tmp_path, quantization="linear").model
    kept = read_checkpoint(tmp_path / "model.ckpt-2", quantization="linear").model
    assert all(torch.equal(a, b) for a, b in zip(found.state_dict().values(), kept.state_dict().values(), strict=True))


def test_tensorflow_data_files(tmp_path):
    path = PrismFile().write(tmp_path)
    data = tmp_path / f"{path.name}.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[:-300])
    assert "truncated: tensor sample_mlp/" in refusal(path)
    data.unlink()
    assert "data-00000-of-00001: cannot be read" in refusal(path)


def test_frame_sizes_that_do_not_divide(tmp_path):
    made = PrismFile()
    name = f"big_frame_rnn/inputs/kernel{SUFFIX}"
    made.tensors[name] = np.zeros((5, 4), "f4")
    assert "2 and 5 do not divide" in refusal(made.write(tmp_path))


def test_settings_that_are_missing_are_asked_for(tmp_path):
    made = S4File()
    message = refusal(made.write(tmp_path), ConfigError, quantization=None)
    assert "the checkpoint holds no quantization: give mu-law or linear as quantization" in message
    model = float32_model(prism_config(2, 4, dim=4))
    write_bundle(tmp_path / "c", prism_arrays(model))
    assert "give mu-law or linear as quantization" in refusal(tmp_path / "c", ConfigError, quantization=None)


def test_settings_that_cannot_be(tmp_path):
    path = TorchFile().write(tmp_path)
    message = refusal(path, ConfigError, quantization="mu-law")
    assert "quantization of this deepsound checkpoint must be linear, got 'mu-law'" in message
    assert "sample_rate must be 1 to 768000 Hz" in refusal(path, ConfigError, sample_rate=-1)
    assert "format must be auto, deepsound" in refusal(path, ConfigError, format="wavenet")
    (tmp_path / "bad.json").write_text("{")
    assert "is not JSON" in refusal(path, ConfigError, config=tmp_path / "bad.json")
    (tmp_path / "list.yaml").write_text("- 1")
    assert "must be names with values" in refusal(path, ConfigError, config=tmp_path / "list.yaml")
    assert "settings cannot be read" in refusal(path, ConfigError, config=tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("file", "settings", "words"),
    [
        (TorchFile, {"frame_sizes": [2, 4]}, "frame_sizes = [2, 4], but the tensors are of [2, 2]"),
        (S4File, {"model": {"d_hidden": 5}}, "model.d_hidden = 5, but the tensors are of 4"),
        (PrismFile, {"dim": 1024}, "dim = 1024, but the tensors are of 4"),
        (TheanoFile, {"rnn_type": "LSTM"}, "rnn_type = 'lstm', but the tensors are of 'gru'"),
    ],
)
def test_settings_of_another_model(file, settings, words, tmp_path):
    path = file().write(tmp_path)
    assert words in refusal(path, config=settings)
    (tmp_path / "config.json").write_text(json.dumps(settings | {"q_type": "linear"}))
    if file in (S4File, PrismFile):
        assert f"config.json says {words}" in refusal(path)


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "hostile", "absent"])
def test_the_command_fails_with_status_1_and_one_line(damage, tmp_path, capsys):
    path = tmp_path / "ep1-it2"
    state = deepsound_state(float32_model(SMALL))
    if damage == "missing":
        state.pop("model.sample_level_mlp.output.bias")
    torch.save(hostile(tmp_path / "ran")[0] if damage == "hostile" else state, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:999])
    if damage == "foreign":
        path.write_bytes(b"RIFF")
    if damage == "absent":
        path.unlink()
    with pytest.raises(SystemExit) as stop:
        main.main(["import", str(path), "-o", str(tmp_path / "run")])
    shown = capsys.readouterr()
    assert stop.value.code == 1 and shown.out == ""
    assert shown.err.startswith("samplernn-fast: ") and shown.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_bad_import_keeps_what_was_there(tmp_path):
    run = tmp_path / "run"
    checkpoint.save_model(run / checkpoint.MODEL_FILE, float32_model(SMALL))
    before = (run / checkpoint.MODEL_FILE).read_bytes()
    (tmp_path / "ep1-it2").write_bytes(b"PK\x03\x04")
    with pytest.raises(SystemExit):
        main.main(["import", str(tmp_path / "ep1-it2"), "-o", str(run), "--overwrite"])
    assert (run / checkpoint.MODEL_FILE).read_bytes() == before
    assert srnn.load(run).config == SMALL
