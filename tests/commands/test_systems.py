"""The paper's other systems by the command line: what one of them cannot do is said in one line, before any work."""

import json
from dataclasses import replace

import numpy as np
import pytest
from command_line import assert_one_line_error, run, told
from systems import SYSTEM_CASES

from samplernn_fast.audio import writing
from samplernn_fast.data.folder import AudioData
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.registry import build_model

RATE = 8000


@pytest.fixture
def saved(tmp_path):
    """saved(name, gain): the file of an untrained model of a case."""

    def save(name, gain=1.0):
        config = replace(SYSTEM_CASES[name], sample_rate=RATE, gain=gain)
        if config.mixture:
            config = replace(config, std=0.1)
        file = tmp_path / f"{name}.safetensors"
        checkpoint.save_model(file, build_model(config))
        return file

    return save


def refused(capsys, status, *words):
    """The one line in which a command is refused."""
    assert run(*words) == status
    return assert_one_line_error(capsys)


@pytest.mark.parametrize("flag", [("--top-k", "5"), ("--top-p", "0.9")])
@pytest.mark.parametrize("name", ["samplernn-gmm", "rnn-gmm"])
def test_a_mixture_has_no_likeliest_levels(name, flag, saved, tmp_path, capsys):
    out = tmp_path / "out.wav"
    message = refused(capsys, 2, "generate", saved(name), "--duration", "0.01", *flag, "-o", out)
    assert flag[0] in message and "mixture" in message and not out.exists()


@pytest.mark.parametrize("flags", [("--quantization", "mu-law"), ("--q-levels", "256")])
@pytest.mark.parametrize("preset", ["samplernn-gmm", "rnn-gmm"])
def test_a_mixture_has_16_bit_samples(preset, flags, data_folder, tmp_path, capsys):
    out = tmp_path / "run"
    message = refused(capsys, 2, "train", preset, "--data", data_folder, "--out", out, *flags, "--max-steps", "1")
    assert "predicts 16-bit samples, so leave out" in message and not out.exists()


SOURCES = {
    "rnn": SYSTEM_CASES["rnn"],
    "embedding": SampleRNNConfig(dim=8, emb_size=8, frame_sizes=(2, 4)),
    "onehot": SampleRNNConfig(dim=8, emb_size=0, frame_sizes=(2, 4), quantization="a-law"),
    "lstm": SampleRNNConfig(dim=8, emb_size=8, frame_sizes=(2, 4), rnn="lstm"),
}


@pytest.mark.parametrize(
    ("preset", "source", "said"),
    [
        ("wavenet", "rnn", "system = wavenet, and that of {} has rnn"),
        ("no-embedding-onehot", "embedding", "--emb-size = 0, and that of {} has 8"),
        ("paper-2tier", "onehot", "--emb-size = 256, and that of {} has 0"),
        ("dadabots", "embedding", "rnn = lstm, and that of {} has gru"),
        ("authors-3tier", "lstm", "--reset-after = False, and that of {} has True"),
    ],
)
def test_a_preset_of_another_network_is_refused(preset, source, said, data_folder, tmp_path, capsys):
    """A run that starts from a model keeps its architecture, so a preset that means another one is a mistake."""
    out, file = tmp_path / "run", tmp_path / "source.safetensors"
    checkpoint.save_model(file, build_model(replace(SOURCES[source], sample_rate=RATE)))
    words = ("train", preset, "--init-from", file, "--data", data_folder, "--out", out, "--max-steps", "1")
    message = refused(capsys, 2, *words)
    assert f"the preset {preset} trains a model of {said.format(file)}" in message
    assert not out.exists()


def test_a_preset_may_train_on_a_model_of_other_sizes(data_folder, tmp_path):
    out, file = tmp_path / "run", tmp_path / "source.safetensors"
    config = replace(SOURCES["lstm"], sample_rate=RATE)  # linear, where laptop is mu-law
    checkpoint.save_model(file, build_model(config))
    words = ("train", "laptop", "--init-from", file, "--data", data_folder, "--out", out, "--max-steps", "1")
    assert run(*words, "--batch-size", "2", "--seq-len", "64") == 0
    assert checkpoint.load_model(out).config == replace(config, gain=1.0)


def test_a_prompt_that_a_multi_softmax_would_not_hear(saved, tmp_path, capsys):
    prompt, out = tmp_path / "prompt.wav", tmp_path / "out.wav"
    writing.write(prompt, np.zeros(3, np.float32), RATE)
    words = ("generate", saved("multi-softmax"), "--duration", "0.01", "--prompt", prompt, "-o", out)
    assert "--prompt must have at least 4 samples" in refused(capsys, 2, *words)
    assert not out.exists()


@pytest.mark.parametrize("name", [name for name, config in SYSTEM_CASES.items() if not config.packed])
def test_a_backend_with_kernels_says_that_it_cannot_play_it(name, saved, tmp_path, capsys):
    out = tmp_path / "out.wav"
    for backend in ("cpu", "reference"):
        message = refused(capsys, 1, "generate", saved(name), "--backend", backend, "-o", out)
        assert f"the {backend} backend cannot" in message and SYSTEM_CASES[name].system in message
    assert not out.exists()


@pytest.mark.parametrize("name", ["multi-softmax", "rnn", "rnn-gmm"])
def test_bench_says_which_systems_it_times(name, saved, capsys):
    assert run("bench", saved(name)) == 2
    message = told(capsys.readouterr().err)
    assert message.count("\n") == 1 and f"the model's system is {SYSTEM_CASES[name].system}" in message


def test_a_mixture_is_scored_in_bits_and_in_nats(saved, data_folder, capsys):
    model = saved("rnn-gmm", AudioData.open(data_folder).gain)
    assert run("evaluate", model, "--data", data_folder, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["nll_bits"] < 20 and -5 < result["nll_nats"] < 20
    assert all("nll_nats" in row for row in result["per_file"])
    assert run("evaluate", model, "--data", data_folder) == 0
    assert "nats" in capsys.readouterr().out
    assert "densit" in refused(capsys, 2, "evaluate", model, "--data", data_folder, "--backend", "stepping")


def test_levels_are_scored_in_bits_alone(saved, data_folder, capsys):
    assert run("evaluate", saved("rnn", AudioData.open(data_folder).gain), "--data", data_folder, "--json") == 0
    assert "nll_nats" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", [name for name, config in SYSTEM_CASES.items() if not config.packed])
def test_a_mode_that_its_only_backend_has_not_is_refused_in_few_words(name, saved, tmp_path, capsys):
    message = refused(capsys, 1, "generate", saved(name), "--dtype", "int8", "-o", tmp_path / "out.wav")
    assert message == (
        f"samplernn-fast: only the stepping backend plays {SYSTEM_CASES[name].system}, and it has no dtype int8, only"
        " float32, float64\n"
    )
