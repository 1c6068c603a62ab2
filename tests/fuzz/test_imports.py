"""A whole import of damaged checkpoints of every project, and paths that are no checkpoint."""

import itertools
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exporters import deepsound_state, float32_model, prism_arrays, theano_arrays, write_bundle, write_theano
from foreign_configs import prism_config, theano_config, torch_config
from fuzzing import fuzz, fuzz_cases, fuzz_each, write_case
from mutations import mutate

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.importing.foreign import read_checkpoint
from samplernn_fast.importing.formats.tf_bundle import read_bundle

QUANTIZATION = "linear"


def checkpoints(folder: Path) -> dict[str, Path]:
    """A small checkpoint of each project, each in a folder of its own; for PRiSM the index."""
    places = {name: folder / name / "model.pt" for name in ("deepsound", "s4", "theano", "prism")}
    for place in places.values():
        place.parent.mkdir()
    torch.save(deepsound_state(float32_model(torch_config((2, 4), q=8, dim=4))), places["deepsound"])
    s4 = float32_model(torch_config((2, 4), dim=4, emb=3, quantization="linear-s4"))
    torch.save(
        {"state_dict": deepsound_state(s4, h0_in_gru=True), "hyper_parameters": {"model": {"n_rnn": 1}}}, places["s4"]
    )
    write_theano(places["theano"], theano_arrays(float32_model(theano_config(2, 4, q=9, dim=4))))
    (places["theano"].parent / "args.pkl").write_bytes(pickle.dumps(["two_tier.py", "--dim=4"], 0))
    write_bundle(folder / "prism" / "c-1", prism_arrays(float32_model(prism_config(2, 4, q=8, dim=4, n=2))))
    places["prism"] = folder / "prism" / "c-1.index"
    (folder / "prism" / "config.json").write_text(json.dumps({"q_type": "linear", "dim": 4}))
    (folder / "s4" / "config.yaml").write_text("model: {d_hidden: 4}\n")
    return places


@pytest.mark.parametrize("project", ["deepsound", "s4", "theano", "prism"])
@fuzz_cases
def test_damaged_checkpoints(project: str, cases: int, tmp_path: Path) -> None:
    """Also of what lies beside them. An import takes 20 ms and more, so there are fewer cases than of one reader."""
    place = checkpoints(tmp_path)[project]
    wholes = {file: file.read_bytes() for file in sorted(place.parent.iterdir())}

    def make(source: Any) -> dict[Path, bytes]:
        file = source.choice(list(wholes))
        return {file: mutate(source, wholes[file])}

    def target(case: dict[Path, bytes]) -> None:
        for file, content in (wholes | case).items():
            write_case(file, content)
        read_checkpoint(place, quantization=QUANTIZATION)

    fuzz(target, make, cases // 20, valid=[{}])


def renamed(tensors: dict[str, Any], change: tuple[str, str]) -> dict[str, Any]:
    return {name.replace(*change): tensor for name, tensor in tensors.items()}


def names_and_shapes() -> list[dict[str, Any]]:
    """State dicts whose names and shapes ask for much or make no sense."""
    state = deepsound_state(float32_model(torch_config((2, 4), q=8, dim=4)))
    changes = [("frame_level_rnns.1", f"frame_level_rnns.{number}") for number in ("9" * 150, "999", "1000", "-1")]
    changes += [("l0", "l" + "9" * 100), ("model.", "m\n"), ("model.", "x" * 150), ("bias", "b\0s"), ("weight", "")]
    made = [renamed(state, change) for change in changes]
    bias = "model.frame_level_rnns.1.upsampling.bias"
    for shape in ((4, 1 << 17), (1, 1 << 18), (0, 4), (4,), (4, 2, 2)):
        made.append(state | {bias: torch.zeros(shape)})
    return made


def test_names_and_shapes_that_make_no_sense(tmp_path: Path) -> None:
    def target(case: tuple[dict[str, Any], str]) -> None:
        torch.save(case[0], tmp_path / "model.pt")
        read_checkpoint(tmp_path / "model.pt", case[1], quantization=QUANTIZATION)

    fuzz_each(target, list(itertools.product(names_and_shapes(), ("auto", "deepsound", "s4"))))


def wide_model(frame: int) -> dict[str, np.ndarray]:
    """PRiSM's arrays of a model of one unit whose top frame has `frame` samples, so its file is small."""
    arrays = prism_arrays(float32_model(prism_config(1, 2, q=600, dim=1)))
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    arrays[f"big_frame_rnn/inputs/kernel{suffix}"] = np.zeros((frame, 1), "f4")
    arrays[f"big_frame_rnn/upsample{suffix}"] = np.zeros((frame, 1, 1), "f4")
    return arrays


def test_a_frame_that_no_check_could_run_over_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "c", wide_model(60_000))

    def target(case: int) -> None:
        read_checkpoint(tmp_path / "c", quantization="linear")

    fuzz_each(target, [0])
    with pytest.raises(CheckpointError, match="top frame has 60000 samples of 600 levels"):
        target(0)


def odd_paths(folder: Path) -> list[Path]:
    """Pipes, devices, folders of pipes, loops, long names, names that no checkpoint has."""
    os.mkfifo(folder / "pipe")
    for name in ("of_pipes", "of_index", "of_pointer", "empty"):
        (folder / name).mkdir()
    os.mkfifo(folder / "of_pipes" / "model.pt")
    os.mkfifo(folder / "of_index" / "c-1.index")
    os.mkfifo(folder / "of_pointer" / "checkpoint")
    (folder / "of_pointer" / "c-1.index").write_bytes(b"x")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "zero.pt").symlink_to("/dev/zero")
    (folder / "new\nline.pt").write_bytes(b"PK\x03\x04")
    with open(folder / "sparse.pkl", "wb") as sparse:
        sparse.write(b"(")
        sparse.truncate(1 << 40)
    paths = [folder / name for name in ("pipe", "of_pipes", "of_index", "of_index/c-1", "of_pointer", "empty", "loop")]
    paths += [folder / name for name in ("zero.pt", "new\nline.pt", "sparse.pkl", "x" * 300, "x" * 252, "\udcff", "")]
    return [*paths, Path("/dev/zero"), Path("/dev/stdin"), Path("/"), Path("."), Path(".."), Path("a\0b")]


def test_odd_paths(tmp_path: Path) -> None:
    def target(case: Path) -> None:
        for project in ("auto", "deepsound", "prism", "s4", "theano"):
            with pytest.raises((CheckpointError, ConfigError)) as caught:
                read_checkpoint(case, project)
            assert str(caught.value).isprintable()

    fuzz_each(target, odd_paths(tmp_path))


@pytest.mark.parametrize("project", ["deepsound", "theano", "prism"])
def test_a_file_larger_than_any_model_is_refused_by_its_size(project: str, tmp_path: Path) -> None:
    """It begins as a checkpoint and goes on with zeros that take no room on the disk."""
    place = checkpoints(tmp_path)[project]
    large = tmp_path / "prism" / "c-1.data-00000-of-00001" if project == "prism" else place
    os.truncate(large, 1 << 33)

    def target(case: int) -> None:
        read_checkpoint(place, project, quantization=QUANTIZATION)

    fuzz_each(target, [0], growth=60 << 20)
    with pytest.raises(CheckpointError, match="has 8589934592 bytes, and at most 2147483648 are read"):
        target(0)


@pytest.mark.parametrize("name", ["config.json", "c.config.json"])
def test_settings_that_are_no_file_are_said_at_once(name: str, tmp_path: Path) -> None:
    write_bundle(tmp_path / "c", prism_arrays(float32_model(prism_config(2, 4, q=8, dim=4))))
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match="settings cannot be read: is a pipe or a device"):
        read_checkpoint(tmp_path / "c")
    with pytest.raises(ConfigError, match="is a pipe or a device"):
        read_checkpoint(tmp_path / "c", config="/dev/zero")


def test_the_fixture_bundle_is_whole(tmp_path: Path) -> None:
    arrays = prism_arrays(float32_model(prism_config(2, 4, q=8, dim=4)))
    write_bundle(tmp_path / "c", arrays, shards=3)
    found = read_bundle(tmp_path / "c", lambda name: True)
    assert all(np.array_equal(found[name], array) for name, array in arrays.items()) and set(found) == set(arrays)
