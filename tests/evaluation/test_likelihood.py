"""Evaluation: bits per sample of whole recordings, by whatever path and in whatever batches they are read."""

import json
from dataclasses import replace

import pytest
import torch
from cases import make_model

from samplernn_fast.audio import writing
from samplernn_fast.audio.quantize import for_config
from samplernn_fast.audio.synthetic import plucked_music
from samplernn_fast.backends.registry import BACKENDS
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.preparation import prepare
from samplernn_fast.errors import BackendUnavailable, CheckpointError, ConfigError, DataError
from samplernn_fast.evaluation import likelihood, scoring
from samplernn_fast.evaluation.likelihood import evaluate
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.sample_rnn import SampleRNN

RATE = 8000
# Longer than one step of evaluation (4096 samples), and lengths that are no multiple of a frame.
SECONDS = (0.1, 1.2, 0.0377, 0.7, 0.61)
MODELS = {
    "gru": {"frame_sizes": (2, 2, 8)},
    "reset-before": {"frame_sizes": (4, 16), "reset_after": False, "quantization": "mu-law"},
    "lstm": {"frame_sizes": (4, 8), "rnn": "lstm", "n_rnn": 2, "skip": "full"},
}


@pytest.fixture(scope="module")
def data(make_data, tmp_path_factory) -> AudioData:
    """One recording to train on, one to validate, three to test."""
    return AudioData.open(make_data(tmp_path_factory.mktemp("evaluation"), SECONDS, valid=(4,), test=(1, 2, 3)))


def config_of(data: AudioData, **fields: object) -> SampleRNNConfig:
    return SampleRNNConfig.from_dict(
        {"dim": 16, "emb_size": 8, "q_levels": 64, "sample_rate": RATE, "gain": data.gain} | fields
    )


def directly(model: torch.nn.Module, data: AudioData, split: str) -> dict[str, tuple[float, int]]:
    """Bits and samples of each recording, read in one piece."""
    config, found = model.config, {}
    for recording in data.recordings(split):
        levels = torch.from_numpy(for_config(config).encode(data.samples(recording) / 32768.0)).long()
        silence = torch.full((config.lookback,), config.q_zero)
        with torch.no_grad():
            found[recording.path] = model.nll_bits(torch.cat((silence, levels))[None]).item(), len(levels)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_mean_over_every_sample_of_every_recording(name, data):
    model = make_model(config_of(data, **MODELS[name]))
    expected = directly(model, data, "test")
    result = evaluate(model, data, "test")
    assert {file.path: file.n_samples for file in result.per_file} == {"1.wav": 9600, "2.wav": 301, "3.wav": 5600}
    for file in result.per_file:
        assert (file.nll_bits, file.n_samples) == (pytest.approx(expected[file.path][0], rel=1e-9), file.n_samples)
    samples = sum(count for _, count in expected.values())
    mean = sum(bits * count for bits, count in expected.values()) / samples
    assert result.n_samples == samples and result.nll_bits == pytest.approx(mean, rel=1e-9)
    # Neither a plain mean over recordings nor one recording's number would do.
    assert abs(mean - sum(bits for bits, _ in expected.values()) / 3) > 1e-6


def test_it_does_not_depend_on_the_batch(data):
    model = make_model(config_of(data), dtype=torch.float32)
    results = [evaluate(model, data, "test", batch_size=batch_size) for batch_size in (1, 2, 3, 32)]
    for other in results[1:]:
        assert other.nll_bits == pytest.approx(results[0].nll_bits, abs=1e-5)
        assert [file.path for file in other.per_file] == [file.path for file in results[0].per_file]
        for left, right in zip(other.per_file, results[0].per_file, strict=True):
            assert left.n_samples == right.n_samples and left.nll_bits == pytest.approx(right.nll_bits, abs=1e-5)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("name", MODELS)
def test_backends_agree_with_the_training_forward(name, backend, data):
    model = make_model(config_of(data, **MODELS[name]), dtype=torch.float32)
    try:
        result = evaluate(model, data, "test", backend=backend, batch_size=2)
    except BackendUnavailable as reason:
        pytest.skip(str(reason))
    expected = evaluate(model, data, "test", backend="forward")
    assert result.nll_bits == pytest.approx(expected.nll_bits, abs=1e-4)
    for left, right in zip(result.per_file, expected.per_file, strict=True):
        assert (left.path, left.n_samples) == (right.path, right.n_samples)
        assert left.nll_bits == pytest.approx(right.nll_bits, abs=1e-4)


def test_a_float64_model_keeps_its_precision(data):
    model = make_model(config_of(data))
    assert next(model.parameters()).dtype == torch.float64
    assert evaluate(model, data, "test") == evaluate(model, data, "test", backend="forward")


def test_splits_paths_and_json(data, tmp_path):
    model = make_model(config_of(data), dtype=torch.float32)
    checkpoint.save_model(tmp_path / "run" / checkpoint.MODEL_FILE, model)
    for split, names in (("train", ["0.wav"]), ("valid", ["4.wav"]), ("test", ["1.wav", "2.wav", "3.wav"])):
        result = evaluate(tmp_path / "run", data.folder, split)
        assert result == evaluate(model, data, split)
        assert [file.path for file in result.per_file] == names
    values = json.loads(json.dumps(result.to_dict()))
    assert (values["nll_bits"], values["n_samples"]) == (result.nll_bits, result.n_samples)
    assert values["per_file"][1] == {"path": "2.wav", "nll_bits": result.per_file[1].nll_bits, "n_samples": 301}


def test_max_seconds_stops_early_and_progress_counts(data):
    model, read = make_model(config_of(data), dtype=torch.float32), []
    whole = evaluate(model, data, "test", progress=read.append)
    assert sum(read) == whole.n_samples and len(read) > 1
    read.clear()
    part = evaluate(model, data, "test", max_seconds=0.3, progress=read.append)
    assert 0.3 * RATE <= part.n_samples == sum(read) < whole.n_samples
    # What was read is scored as before; the number is of that part alone.
    alone = evaluate(model, data, "test", batch_size=1, max_seconds=0.3)
    assert [file.path for file in alone.per_file] == ["1.wav"] and alone.n_samples == 4096
    silence = torch.full((model.config.lookback,), model.config.q_zero)
    longest = next(recording for recording in data.recordings("test") if recording.path == "1.wav")
    levels = torch.from_numpy(for_config(model.config).encode(data.samples(longest)[:4096] / 32768.0)).long()
    with torch.no_grad():
        assert alone.nll_bits == pytest.approx(model.nll_bits(torch.cat((silence, levels))[None]).item(), abs=1e-5)


def test_the_model_is_left_as_it_was(data):
    model = make_model(config_of(data), dtype=torch.float32)
    before = checkpoint.model_sha256(model)
    evaluate(model, data, "valid")
    assert checkpoint.model_sha256(model) == before
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


def test_what_does_not_fit_is_refused(data, make_data, tmp_path):
    model = make_model(config_of(data), dtype=torch.float32)
    other_rate = make_model(config_of(data, sample_rate=16000), dtype=torch.float32)
    with pytest.raises(DataError, match="8000 Hz, the model is for 16000 Hz"):
        evaluate(other_rate, data)
    with pytest.raises(DataError, match="the test split is empty"):
        evaluate(model, make_data(tmp_path, [0.1]))
    with pytest.raises(DataError, match="no such folder"):
        evaluate(model, tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no such"):
        evaluate(tmp_path / "nothing", data)
    with pytest.raises(ConfigError, match="split must be one of"):
        evaluate(model, data, "held-out")
    for batch_size in (0, -1):
        with pytest.raises(ConfigError, match="batch_size"):
            evaluate(model, data, batch_size=batch_size)
    with pytest.raises(ConfigError, match=r"backend must be one of .*got 'abacus'"):
        evaluate(model, data, backend="abacus")
    with pytest.raises(ConfigError, match="name a backend to score in int8"):
        evaluate(model, data, backend="forward", dtype="int8")


def test_data_of_another_gain_is_heard_as_the_model_knows_it(tmp_path):
    (tmp_path / "in").mkdir()
    writing.write(tmp_path / "in" / "a.wav", plucked_music(0.5, seed=1), 8000)
    folders = {gain: tmp_path / str(gain) for gain in ("auto", 1.0)}
    for gain, folder in folders.items():
        prepare([tmp_path / "in"], folder, sample_rate=8000, split=(1, 0, 0), gain=gain)
    loud = AudioData.open(folders["auto"])
    assert loud.gain > 1.5
    model = SampleRNN(SampleRNNConfig(dim=16, q_levels=64, sample_rate=8000, gain=loud.gain))
    with torch.no_grad():  # a model that minds how loud a sample is
        model.mlp.output.bias.copy_(-0.05 * (torch.arange(64) - 40.0) ** 2)
    own, other = (evaluate(model, folder, "train").nll_bits for folder in folders.values())
    quiet = SampleRNN(replace(model.config, gain=1.0))
    quiet.load_state_dict(model.state_dict())
    assert other == pytest.approx(own, abs=0.02)
    assert abs(evaluate(quiet, folders[1.0], "train").nll_bits - own) > 0.1


@pytest.mark.parametrize("backend", ["cpu", "forward"])
def test_it_asks_often_whether_to_stop_and_measures_the_same(backend, data, monkeypatch):
    model, asked = make_model(config_of(data)), []
    whole = evaluate(model, data, "test", backend=backend)

    def stop_at(call: int) -> bool:
        asked.append(call)
        return len(asked) == call

    monkeypatch.setattr(scoring, "_MAX_PRODUCTS", 300 * sum(p.numel() for p in model.parameters()))
    pieces = evaluate(model, data, "test", backend=backend, should_stop=lambda: stop_at(-1))
    assert len(asked) >= whole.n_samples / 300
    if backend == "cpu":  # our kernels make the same bits for any cut in time
        assert pieces == whole
    assert pieces.nll_bits == pytest.approx(whole.nll_bits, rel=1e-6)
    asked.clear()
    with pytest.raises(likelihood.Stopped):
        evaluate(model, data, "test", backend=backend, should_stop=lambda: stop_at(5))
    assert len(asked) == 5
