"""Where a run starts: from another model's weights, at another rate, and in which folder."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import run as command
from runs import assert_equal, assert_same_run, everything, files, tiny, trainer, weights

from samplernn_fast.audio import writing
from samplernn_fast.audio.synthetic import plucked_music
from samplernn_fast.data.folder import AudioData
from samplernn_fast.data.preparation import prepare
from samplernn_fast.errors import CheckpointError, ConfigError, DataError
from samplernn_fast.models import checkpoint
from samplernn_fast.models.config import OneTierConfig, SampleRNNConfig
from samplernn_fast.models.stored import arrays
from samplernn_fast.models.stored.arrays import describe
from samplernn_fast.stores.running import working_folder
from samplernn_fast.training import starting
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.run_log import read_log
from samplernn_fast.training.starting import alone_in
from samplernn_fast.training.trainer import train

SHAPE = {"dim": 12, "emb_size": 8, "q_levels": 32, "frame_sizes": (2, 4), "quantization": "mu-law", "gain": 3.5}


@pytest.fixture
def source(make_data, tmp_path) -> Path:
    """A model of another shape and gain than those of `data_folder` and `tiny`, whose run was removed."""
    data = make_data(tmp_path / "source", [0.3])
    config = tiny(data, tmp_path / "model", steps=3, model=SHAPE | {"gain": 0.0, "rnn": "lstm"})
    train(config)
    return shutil.move(config.out / checkpoint.MODEL_FILE, tmp_path / "source.safetensors")


def tuned(data: Path, out: Path, source: Path | str, *, steps: int, **settings: object) -> TrainConfig:
    """Settings of a tiny run that starts from a model."""
    return replace(tiny(data, out, steps=steps), model=TrainConfig(data, out).model, init_from=source, **settings)


def quieter(folder: Path, gain: float) -> Path:
    """A data folder of two recordings that were prepared with `gain`."""
    (folder / "audio").mkdir(parents=True)
    for number in range(2):
        writing.write(folder / "audio" / f"{number}.wav", plucked_music(0.4, seed=number), 8000)
    prepare([folder / "audio"], folder / "data", sample_rate=8000, split=(1, 0, 0), gain=gain)
    return folder / "data"


def test_a_run_starts_from_a_models_weights_settings_and_gain(source, tmp_path):
    data = quieter(tmp_path / "quiet", 0.25)
    known = checkpoint.load_model(source)
    assert known.config.gain != AudioData.open(data).gain == 0.25
    result = train(tuned(data, tmp_path / "run", source, steps=1, lr=1e-30))
    assert_equal(weights(tmp_path / "run"), known.state_dict())
    model = checkpoint.load_model(result.run)
    assert model.config == known.config and model.config.rnn == "lstm"
    last = everything(tmp_path / "run")
    assert {float(last[name]) for name in last if name.startswith("adam.step")} == {1.0}
    origin = describe(result.run)["info"]["initialized_from"]
    assert origin == {"file": str(source), "model_sha256": checkpoint.model_sha256(known)}


def test_the_audio_comes_at_the_models_loudness(source, tmp_path):
    data = quieter(tmp_path / "quiet", 0.25)
    config = tuned(data, tmp_path / "run", source, steps=1)
    gain = checkpoint.load_model(source).config.gain
    levels = next(trainer(config).batches).levels
    as_loud = quieter(tmp_path / "loud", gain)
    expected = next(trainer(replace(config, data=as_loud)).batches).levels
    assert (levels - expected).abs().max() <= 1  # 16 bits were rounded before the gain and after it


def test_a_run_goes_on_exactly_without_its_source(source, data_folder, tmp_path):
    whole = tuned(data_folder, tmp_path / "whole", source, steps=14)
    parts = replace(whole, out=tmp_path / "parts")
    train(whole)
    train(replace(parts, max_steps=7))  # where a validation is due anyway
    source.unlink()
    train(parts)
    assert_same_run(whole.out, parts.out)
    infos = [describe(run.out)["info"] for run in (whole, parts)]
    assert infos[0]["initialized_from"] == infos[1]["initialized_from"]


def test_a_run_from_another_source_is_another_run(source, data_folder, tmp_path):
    config = tuned(data_folder, tmp_path / "run", source, steps=2)
    train(config)
    before = files(config.out)
    with pytest.raises(ConfigError, match="init_from"):
        train(replace(config, init_from=None, model=checkpoint.load_model(source).config))
    with pytest.raises(ConfigError, match="init_from"):
        train(tuned(data_folder, config.out, shutil.copy(source, tmp_path / "copy.safetensors"), steps=3))
    assert files(config.out) == before


@pytest.mark.parametrize("change", [{"dim": 24}, {"q_levels": 64}, {"frame_sizes": (2, 8)}, {"rnn": "gru"}])
def test_settings_that_contradict_the_source_are_refused(change, source, data_folder, tmp_path):
    (name, value), known = next(iter(change.items())), checkpoint.load_model(source).config
    config = tuned(data_folder, tmp_path / "run", source, steps=1)
    assert train(replace(config, model=replace(known, sample_rate=0, gain=1.0))).steps == 1
    with pytest.raises(ConfigError, match=f"has {name} = .*this run says") as caught:
        train(replace(config, out=tmp_path / "other", model=replace(known, **change)))
    assert str(value).strip("()") in str(caught.value) and not (tmp_path / "other").exists()


def test_audio_at_another_rate_is_refused_with_the_command_to_type(source, make_data, tmp_path):
    (tmp_path / "audio").mkdir()
    writing.write(tmp_path / "audio" / "a.wav", plucked_music(0.5, 0, 11025), 11025)
    prepare([tmp_path / "audio"], tmp_path / "data", sample_rate=11025)
    with pytest.raises(DataError, match="prepare RECORDINGS --sample-rate 8000"):
        train(tuned(tmp_path / "data", tmp_path / "run", source, steps=1))


def test_the_natural_call_works(data_folder, tmp_path):
    config = TrainConfig(
        data=str(data_folder),
        out=str(tmp_path / "run"),
        model=SampleRNNConfig(dim=16, sample_rate=8000),
        max_steps=1,
        batch_size=2,
        seq_len=64,
    )
    assert config.data == data_folder and config.out == tmp_path / "run"
    assert train(config).steps == 1
    assert checkpoint.load_model(config.out).config.gain == AudioData.open(data_folder).gain != 1


def fill_with_audio(folder: Path) -> None:
    folder.mkdir()
    writing.write(folder / "song.wav", plucked_music(0.1, seed=0), 8000)


def fill_with_model(folder: Path) -> None:
    folder.mkdir()
    shutil.copy(checkpoint.model_path("demo"), folder / checkpoint.MODEL_FILE)
    (folder / "config.json").write_text(json.dumps({"imported": "theirs", "notes": [], "model": {}}))


def fill_with_data(folder: Path) -> None:
    quieter(folder.with_name("made"), 1.0).rename(folder)


def fill_with_a_table(folder: Path) -> None:
    folder.mkdir()
    (folder / "log.csv").write_text("day,hours\n1,2\n")


@pytest.mark.parametrize("init_from", [None, "demo"])
@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (fill_with_audio, r"holds something else than a run \(song.wav\)"),
        (fill_with_model, "holds a model .*--init-from .*theirs --data .* --out .*theirs-2"),
        (fill_with_data, "holds something else than a run"),
        (fill_with_a_table, "holds something else than a run"),
    ],
)
def test_a_folder_of_something_else_is_refused(fill, said, init_from, data_folder, tmp_path):
    fill(tmp_path / "theirs")
    before = files(tmp_path / "theirs")
    config = tuned(data_folder, tmp_path / "theirs", init_from, steps=1)
    with pytest.raises(ConfigError, match=said):
        train(config)
    assert files(tmp_path / "theirs") == before


def test_a_model_whose_checkpoint_was_removed_is_kept(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=12)
    train(config)
    (config.out / checkpoint.LAST_FILE).unlink()
    before = files(config.out)
    with pytest.raises(ConfigError, match=r"finished model .*--init-from .*run --data .*run-2"):
        train(config)
    assert files(config.out) == before


def test_models_to_choose_from_are_kept_where_all_else_was_removed(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=12)
    train(config)
    for name in (checkpoint.LAST_FILE, checkpoint.MODEL_FILE):
        (config.out / name).unlink()
    before = files(config.out / "models")
    with pytest.raises(ConfigError, match=r"finished model .*--init-from .*step-000012-\S+safetensors --data .*run-2"):
        train(replace(config, lr=1.0))
    assert files(config.out / "models") == before and len(before) == 2


def test_two_processes_do_not_train_in_one_folder(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=2)
    with alone_in(config.out, rank=0):
        with pytest.raises(ConfigError, match="run is being trained in by another process"):
            train(config)
        assert not files(config.out)
    assert train(config).steps == 2
    assert train(replace(config, max_steps=3)).steps == 3


def test_a_run_folder_that_cannot_be_made_is_named(data_folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/run: the run folder cannot be made: Not a directory"):
        train(tiny(data_folder, tmp_path / "file" / "run", steps=1))


def test_a_file_is_no_run_folder(data_folder, tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(ConfigError, match=r"out must be a folder, and .*run is none"):
        train(tiny(data_folder, tmp_path / "run", steps=1))


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(data_folder, tmp_path, monkeypatch):
    config = tiny(data_folder, tmp_path / "run", steps=6, eval_every=2, save_every=6)
    whole = replace(config, out=tmp_path / "whole")
    train(whole)
    run = trainer(config)
    with monkeypatch.context() as patched:
        patched.setattr(run, "_save", lambda log: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run.run([])
    assert (config.out / checkpoint.MODEL_FILE).is_file() and not (config.out / checkpoint.LAST_FILE).exists()
    with pytest.raises(ConfigError, match="lr"):
        train(replace(config, lr=1.0))
    train(config)
    assert_same_run(config.out, whole.out)
    for stopped in ("model.safetensors", "last.safetensors"):  # before any model there is nothing to lose
        (config.out / stopped).unlink()
    assert train(replace(config, lr=1e-3)).steps == 6


def test_a_run_whose_data_grew_names_the_way_on_and_keeps_its_gain(data_folder, tmp_path):
    config = tiny(data_folder, tmp_path / "run", steps=2)
    train(config)
    more = quieter(tmp_path / "more", 0.25)
    with pytest.raises(DataError, match="the data differs") as caught:
        train(replace(config, data=more, max_steps=4))
    args = str(caught.value).partition("samplernn-fast ")[2].split()
    assert command(*args, "--max-steps", 2, "--batch-size", 2, "--seq-len", 64) == 0
    made = checkpoint.load_model(tmp_path / "run-2").config
    assert made == checkpoint.load_model(config.out).config
    assert made.gain != AudioData.open(more).gain


def test_a_run_goes_on_at_another_rate_and_exactly(data_folder, tmp_path):
    run = tiny(data_folder, tmp_path / "run", steps=4, lr_schedule="cosine", log_every=1)
    with pytest.raises(ConfigError, match="change_lr is for a run that goes on"):
        train(replace(run, change_lr=1e-5))
    train(run)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for out, ends in ((whole, [12]), (parts, [7, 12])):
        shutil.copytree(run.out, out)
        for steps in ends:
            train(replace(run, out=out, max_steps=steps, change_lr=1e-5))
    assert_same_run(whole, parts)
    rates = [row["lr"] for row in read_log(whole / "log.csv") if row["train_bits"]]
    assert len(rates) == 12 and set(rates[4:]) == {"1e-05"}
    before = files(parts)
    with pytest.raises(ConfigError, match=r"trained on with change_lr = 1e-05"):
        train(replace(run, out=parts, max_steps=14))
    with pytest.raises(ConfigError, match="change_lr to go on at another rate"):
        train(replace(run, out=parts, max_steps=14, change_lr=1e-6, lr=1.0))
    assert files(parts) == before
    assert train(replace(run, out=parts, max_steps=14, change_lr=1e-6)).steps == 14


def test_the_command_starts_from_a_model(source, data_folder, tmp_path, capsys):
    settings = f"--data {data_folder} --max-steps 1 --batch-size 2".split()
    assert command("train", "--init-from", source, "--out", tmp_path / "a", "--seq-len", 62, *settings) == 2
    assert "multiple" in capsys.readouterr().err
    assert command("train", "--init-from", source, "--out", tmp_path / "a", *settings) == 0
    assert command("train", "laptop", f"--init_from={source}/", "--out", tmp_path / "b", *settings) == 0
    for name in "ab":
        assert checkpoint.load_model(tmp_path / name).config == checkpoint.load_model(source).config
    capsys.readouterr()
    assert command("train", "laptop", "--init-from", source, "--dim", 32, "--out", tmp_path / "c", *settings) == 2
    assert "has dim = 12, this run says 32" in capsys.readouterr().err
    assert command("train", "--init-from", "gone", "--out", tmp_path / "c", *settings) == 1
    assert "gone: no such run folder" in capsys.readouterr().err
    source.unlink()
    assert command("train", "--init-from", source, "--out", tmp_path / "a", *settings[:-3], 2, *settings[-2:]) == 0
    assert not (tmp_path / "c").exists()


def test_the_command_reads_the_weights_of_its_source_once(source, data_folder, tmp_path, monkeypatch):
    seen = []
    for module, name in ((checkpoint, "read"), (arrays, "read_file")):
        read = getattr(module, name)
        monkeypatch.setattr(module, name, lambda file, read=read: seen.append(file) or read(file))
    settings = f"--data {data_folder} --out {tmp_path / 'run'} --batch-size 2 --max-steps".split()
    assert command("train", "--init-from", source, *settings, 1) == 0
    assert seen.count(source) == 1
    seen.clear()
    assert command("train", "--init-from", source, *settings, 2) == 0
    assert seen.count(tmp_path / "run" / checkpoint.LAST_FILE) == 1 and source not in seen


def test_the_one_tier_baseline_can_be_a_start(data_folder, tmp_path):
    model = OneTierConfig(sample_rate=0, gain=0.0, dim=8)
    train(tiny(data_folder, tmp_path / "rnn", steps=1, model=model, sample_every=0))
    settings = f"--data {data_folder} --out {tmp_path / 'next'} --max-steps 1 --batch-size 2".split()
    assert command("train", "--init-from", tmp_path / "rnn", *settings) == 0
    assert checkpoint.load_model(tmp_path / "next").config == checkpoint.load_model(tmp_path / "rnn").config


def test_the_bundled_model_can_be_a_start(data_folder, tmp_path):
    config = tuned(data_folder, tmp_path / "run", "demo", steps=1, lr=1e-30)
    train(config)
    assert torch.equal(
        checkpoint.load_model(tmp_path / "run").mlp.embedding.weight,
        checkpoint.load_model(checkpoint.model_path("demo")).mlp.embedding.weight,
    )


def test_the_advice_for_a_run_at_an_address_names_an_address(tmp_path, monkeypatch):
    pytest.importorskip("fsspec", reason="needs fsspec, of the extra `store`")
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path / "cache"))
    out = working_folder("memory://bucket/run")
    out.mkdir(parents=True)
    advice = starting.command(TrainConfig(tmp_path / "data", out), init_from="demo")
    assert advice.endswith(" --out memory://bucket/run-2")
