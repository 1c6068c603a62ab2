"""Values of other types than public functions and classes take: one line that names the argument."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import samplernn_fast as srnn
from samplernn_fast.errors import ConfigError


def test_a_value_of_another_type_is_one_line_in_python_too():
    with pytest.raises(ConfigError, match=r"^train takes a TrainConfig, .*, got 'data'$"):
        srnn.train("data")
    with pytest.raises(ConfigError, match=r"^duration must be .*, got \[1\]$"):
        srnn.generate(duration=[1])


OF_ANOTHER_TYPE = {
    "save(None)": (lambda given: given.audio.save(None), "path must be text or a path, got None"),
    "save(['x.wav'])": (lambda given: given.audio.save(["x.wav"]), "path must be text or a path, got ['x.wav']"),
    "save(overwrite='yes')": (
        lambda given: given.audio.save("x.wav", overwrite="yes"),
        "overwrite must be True or False, got 'yes'",
    ),
    "prepare(5)": (lambda given: srnn.prepare(5, "o"), "inputs must be text or a path or several, each text or a path"),
    "prepare([5])": (lambda given: srnn.prepare([5], "o"), "inputs must be text or a path or several"),
    "prepare(out=None)": (lambda given: srnn.prepare("music", None), "out must be text or a path, got None"),
    "prepare(split=5)": (lambda given: srnn.prepare("music", "o", split=5), "split must be several, each a number"),
    "prepare(cut='no')": (lambda given: srnn.prepare("music", "o", cut="no"), "cut must be True or False, got 'no'"),
    "generate(should_stop=5)": (lambda given: srnn.generate(should_stop=5), "should_stop must be a function or None"),
    "generate(device=None)": (lambda given: srnn.generate(device=None), "device must be auto, cpu"),
    "evaluate(data=5)": (lambda given: srnn.evaluate("demo", 5), "data must be a AudioData or text or a path, got 5"),
    "evaluate(batch_size='a')": (
        lambda given: srnn.evaluate("demo", given.data, batch_size="a"),
        "batch_size must be 1 to 1000000, got 'a'",
    ),
    "import_checkpoint(None)": (lambda given: srnn.import_checkpoint(None), "path must be text or a path, got None"),
    "import_checkpoint(config=5)": (lambda given: srnn.import_checkpoint("x", config=5), "config must be text or"),
    "TrainConfig(data=5)": (lambda given: srnn.TrainConfig(data=5, out="o"), "data must be a path, got 5"),
    "TrainConfig(out=None)": (lambda given: srnn.TrainConfig(data="d", out=None), "out must be a path, got None"),
    "TrainConfig(model=5)": (
        lambda given: srnn.TrainConfig(data="d", out="o", model=5),
        "model must be a AudioConfig, got 5",
    ),
    "TrainConfig(precision='x')": (
        lambda given: srnn.TrainConfig(data="d", out="o", precision="x"),
        "precision must be fp32 or bf16, got 'x'",
    ),
    "TrainConfig(compile='x')": (
        lambda given: srnn.TrainConfig(data="d", out="o", compile="x"),
        "compile must be True or False, got 'x'",
    ),
    "init_state('a')": (
        lambda given: given.engine.init_state("a"),
        "num_streams must be 1 to 4294967296, got 'a'",
    ),
    "run(None)": (lambda given: given.engine.run(None, 5), "run: state must be an EngineState"),
    "score('a')": (lambda given: given.engine.score("a"), "score: levels must be integers, got 'a'"),
    "SampleRNN(None)": (lambda given: srnn.SampleRNN(None), "a model takes a config, such as SampleRNNConfig()"),
    "SampleRNN(seed='a')": (
        lambda given: srnn.SampleRNN(srnn.SampleRNNConfig(dim=8), seed="a"),
        "seed must be 0 to",
    ),
    "SampleRNNConfig(frame_sizes=5)": (
        lambda given: srnn.SampleRNNConfig(frame_sizes=5),
        "frame_sizes must be whole numbers, got 5",
    ),
}


@pytest.mark.parametrize("name", OF_ANOTHER_TYPE)
def test_a_value_of_another_type_names_the_argument(name, engine, data_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, message = OF_ANOTHER_TYPE[name]
    audio = srnn.Audio(np.zeros((1, 8), np.float32), np.zeros((1, 8), np.int64), 8000)
    with pytest.raises(ConfigError) as caught:
        call(SimpleNamespace(audio=audio, engine=engine, data=data_folder))
    assert str(caught.value).startswith(message) and not list(tmp_path.iterdir())


def test_numbers_of_numpy_and_paths_are_of_the_right_type(data_folder, engine):
    assert engine.init_state(np.int64(2), seed=np.uint8(3)).num_streams == 2
    result = srnn.evaluate(Path("demo"), data_folder, batch_size=np.int32(2), max_seconds=np.float32(0.1))
    assert result.n_samples > 0
