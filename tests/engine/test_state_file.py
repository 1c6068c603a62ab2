"""`EngineState.save` and `load`: a state in a file, from which a stream goes on in another process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from engines import engine
from safetensors.numpy import load_file, save_file

from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.models.stored.header import KEY, metadata


def saved_state(path: Path, **settings):
    """An engine, its state after 50 samples, which is saved, and the next 60 levels."""
    made = engine()
    state = made.init_state(2, seed=2**64 - 1, temperature=(0.5, 1.25), top_k=9, top_p=0.75, **settings)
    made.run(state, 50)
    state.save(path)
    return made, state, made.run(state, 60)


def test_a_loaded_state_goes_on_with_the_same_levels(tmp_path):
    made, _, expected = saved_state(tmp_path / "state", prompt=np.full(7, 3))
    state = made.init_state(2)
    state.load(tmp_path / "state")
    assert np.array_equal(made.run(state, 60), expected)
    assert (state.t, state.prompt_length, state.seed, state.top_k, state.top_p) == (117, 7, 2**64 - 1, 9, 0.75)


def test_a_state_goes_on_in_another_process_without_torch(tmp_path):
    code = """
import sys
import samplernn_fast as srnn
stream = srnn.stream(num_samples=2, backend="cpu")
if sys.argv[1] == "save":
    stream.next_levels(300)
    stream.state.save("state")
else:
    stream.state.load("state")
print(stream.next_levels(200).tolist(), "torch" in sys.modules)
"""
    shown = [
        subprocess.run([sys.executable, "-c", code, word], cwd=tmp_path, capture_output=True, text=True)
        for word in ("save", "load")
    ]
    assert shown[0].returncode == 0, shown[0].stderr
    assert shown[0].stdout == shown[1].stdout and shown[0].stdout.endswith("False\n")


def test_a_curve_of_temperature_goes_along_and_a_function_does_not(tmp_path):
    made = engine()
    state = made.init_state(1, temperature="0:0.3,0.5:1.5")
    made.run(state, 20)
    state.save(tmp_path / "state")
    expected = made.run(state, 60)
    other = made.init_state(1, temperature="0:0.5,1:0.6")
    other.load(tmp_path / "state")
    assert str(other.temperature) == "0.0:0.3,0.5:1.5"
    assert np.array_equal(made.run(other, 60), expected)
    state.temperature = lambda seconds: 0.5
    state.save(tmp_path / "state")
    other.load(tmp_path / "state")
    assert str(other.temperature) == "0.0:0.3,0.5:1.5"  # its own stays


@pytest.mark.parametrize("path", [".", "", "/"])
def test_a_place_without_a_name_is_one_error(path):
    with pytest.raises(CheckpointError, match="cannot be written"):
        engine().init_state(1).save(path)


def test_saving_replaces_a_file_whole_or_not_at_all(tmp_path, monkeypatch):
    _, state, _ = saved_state(tmp_path / "state")
    before = (tmp_path / "state").read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("samplernn_fast.engine.state.save_file", fail)
    with pytest.raises(CheckpointError, match=r"state: cannot be written \(disk full\); what was there before is kept"):
        state.save(tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"RIFF of a recording", "model"], ids=str)
def test_saving_replaces_a_state_and_no_other_file_unless_told(tmp_path, content):
    from samplernn_fast.models.places import BUNDLED, DEMO

    path = tmp_path / "taken"
    path.write_bytes(BUNDLED[DEMO].read_bytes() if content == "model" else content)
    before, state = path.read_bytes(), engine().init_state(1)
    with pytest.raises(CheckpointError, match=r"taken exists and holds no state; .* overwrite=True"):
        state.save(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    state.save(path, overwrite=True)
    engine().run(state, 30)
    state.save(path)
    other = engine().init_state(1)
    other.load(path)
    assert other.t == 30


def damaged(path: Path, arrays=None, **info) -> Path:
    """The saved state with some arrays and numbers exchanged; None takes one away."""
    found = {name: array for name, array in (load_file(path) | (arrays or {})).items() if array is not None}
    from safetensors import safe_open

    with safe_open(path, "np") as content:
        header = json.loads(content.metadata()[KEY])
    numbers = {name: value for name, value in (header["info"] | info).items() if value is not None}
    save_file(found, path, metadata=metadata("state", {"info": numbers}))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrays": {"history": None}}, "history must be a plain array"),
        ({"arrays": {"hidden.0": None}}, "hidden must be a list of 2 arrays"),
        ({"arrays": {"hidden.1": np.zeros((1, 3, 32))}}, r"hidden\[1\] must have the shape"),
        ({"arrays": {"hidden.1": np.full((1, 2, 32), np.nan)}}, r"hidden\[1\] holds a value that is not finite"),
        ({"arrays": {"another": np.zeros(3)}}, "hidden must be a list of 2 arrays"),
        ({"t": -1}, "t of the state must"),
        ({"seed": None}, "has no seed"),
        ({"model_sha256": "0" * 64}, "it is of another model"),
        ({"streams": [1]}, "streams of the state must"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_damaged_file_is_one_error_and_changes_nothing(tmp_path, change, message):
    _, state, _ = saved_state(tmp_path / "state")
    before = json.dumps(state.state_dict(), default=np.ndarray.tolist)
    with pytest.raises(CheckpointError, match=f"state: engine state does not fit: .*{message}"):
        state.load(damaged(tmp_path / "state", **change))
    assert json.dumps(state.state_dict(), default=np.ndarray.tolist) == before


def test_no_changed_byte_is_taken_for_what_was_saved(tmp_path):
    _, state, _ = saved_state(tmp_path / "state")
    content = bytearray((tmp_path / "state").read_bytes())
    values = 8 + int.from_bytes(content[:8], "little")
    before = json.dumps(state.state_dict(), default=np.ndarray.tolist)
    for place in [*range(values, len(content), 97), content.index(b'\\"t\\": 50') + 8, len(content) - 8]:
        (tmp_path / "state").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CheckpointError, match="state: is damaged: it holds other values than were saved"):
            state.load(tmp_path / "state")
        assert json.dumps(state.state_dict(), default=np.ndarray.tolist) == before


def test_any_kind_of_path_and_whole_number_will_do(tmp_path):
    made = engine()
    state = made.init_state(1)
    made.run(state, np.int64(5))
    state.save(tmp_path / "state")
    (entry,) = os.scandir(tmp_path)
    state.load(entry)
    state.save(entry)


def test_what_is_no_path_is_one_error():
    state = engine().init_state(1)
    for call in (state.save, state.load):
        with pytest.raises(ConfigError, match="path must be text or a path, got None"):
            call(None)


@pytest.mark.parametrize("content", [b"", b"nothing", b"\xff" * 64])
def test_another_file_is_one_error(tmp_path, content):
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        engine().init_state(1).load(tmp_path / "state")
    with pytest.raises(CheckpointError, match="no such file"):
        engine().init_state(1).load(tmp_path / "nothing")


def test_a_model_is_not_a_state_and_a_state_not_a_model(tmp_path):
    from samplernn_fast.models.places import BUNDLED, DEMO
    from samplernn_fast.models.stored.arrays import read_model

    _, state, _ = saved_state(tmp_path / "state")
    with pytest.raises(CheckpointError, match="holds a model of samplernn_fast, not a state"):
        state.load(BUNDLED[DEMO])
    with pytest.raises(CheckpointError, match="holds a state of samplernn_fast, not a model"):
        read_model(tmp_path / "state")
