"""The command line, mostly in this process: what each command prints, writes and refuses, and with which status."""

import dataclasses
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch
from cases import make_model

import samplernn_fast as srnn
from samplernn_fast import audio, checkpoint, cli, demo
from samplernn_fast.data import AudioData

TINY = "--dim 16 --emb-size 8 --frame-sizes 2 2 4 --q-levels 64 --batch-size 4 --seq-len 64 --device cpu"
RATE = 8000


def run(*args):
    """The exit status of one command in this process."""
    try:
        cli.main([str(arg) for arg in args])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def subprocess_of(*args, **options):
    command = [sys.executable, "-m", "samplernn_fast", *map(str, args)]
    return subprocess.run(command, capture_output=True, timeout=120, **options)


def assert_one_line_error(capsys):
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("samplernn-fast: ") and shown.err.endswith("\n")
    assert shown.err.count("\n") == 1, shown.err
    return shown.err


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test in a folder of its own, and ctrl-C as it was before."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def model(data_folder, tmp_path_factory):
    """The run folder of three steps of training, made by the command line itself."""
    out = tmp_path_factory.mktemp("cli") / "tune"
    args = f"train laptop --data {data_folder} --out {out} --max-steps 3 {TINY}"
    assert run(*args.split()) == 0
    return out


def make(model, *args, duration=0.02):
    return run("generate", model, "--duration", duration, *args)


def test_version_and_overview(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"samplernn-fast {srnn.__version__}\n"
    for args, status in ((["--help"], 0), (["-h"], 0), ([], 2)):
        assert run(*args) == status
        shown = capsys.readouterr().out
        assert all(f"\n  {name} " in shown for name in cli.COMMANDS)


def test_module_and_program_are_the_same():
    done = subprocess_of("--version")
    assert (done.returncode, done.stdout.decode()) == (0, f"samplernn-fast {srnn.__version__}\n")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(name, capsys):
    assert run(name, "--help") == 0
    shown = capsys.readouterr()
    assert shown.err == "" and f"usage: samplernn-fast {name}" in shown.out
    expected = {"train": "laptop", "doctor": "--json"}.get(name, "--")
    assert expected in shown.out


def test_the_help_of_a_preset_names_every_setting(capsys):
    assert run("train", "paper-3tier", "--help") == 0
    shown = capsys.readouterr().out
    fields = [field.name for kind in (srnn.TrainConfig, srnn.SampleRNNConfig) for field in dataclasses.fields(kind)]
    missing = [name for name in fields if name != "model" and f"--{name.replace('_', '-')}" not in shown]
    assert missing == []
    assert "section 3" in shown


def test_help_is_quick(capsys):
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        assert subprocess_of("--help").returncode == 0
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds)
    with capsys.disabled():
        print(f"\nsamplernn-fast --help: {median:.2f} s")
    assert median < 1.5  # 0.2 s on an idle machine


def test_train_says_what_it_did_and_goes_on(data_folder, tmp_path, capsys):
    command = f"train laptop --data {data_folder} --out {tmp_path / 'run'} {TINY} --max-steps"
    assert run(*command.split(), 2) == 0
    shown = capsys.readouterr().out
    assert "2 steps" in shown and "stopped by max_steps" in shown and "test NLL" in shown
    assert run(*command.split(), 3) == 0
    assert "3 steps" in capsys.readouterr().out
    assert (tmp_path / "run/model.safetensors").is_file() and (tmp_path / "run/log.csv").is_file()


def test_train_without_a_preset_lists_them(capsys):
    assert run("train") == 2
    assert "paper-2tier" in capsys.readouterr().out


def test_prepare_names_what_it_cannot_read(tmp_path, capsys):
    (tmp_path / "in/deep").mkdir(parents=True)
    for index in range(4):
        audio.write(tmp_path / f"in/deep/{index}.wav", demo.plucked_music(0.3, index), RATE)
    (tmp_path / "in/broken.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "in/nan.wav", np.array([0, np.nan, 0], np.float32), RATE, subtype="FLOAT")
    assert run("prepare", tmp_path / "in", "-o", tmp_path / "data", "--sample-rate", RATE, "--split", 2, 1, 1) == 0
    shown = capsys.readouterr()
    assert "broken.wav" in shown.out and "nan.wav" in shown.out
    assert len(AudioData.open(tmp_path / "data").recordings("train")) == 2


def test_generate_writes_a_file_and_says_how_fast(model, tmp_path, capsys):
    assert make(model) == 0
    shown = capsys.readouterr()
    path, summary = shown.out.splitlines()
    assert path == "out.wav" and "1 x 0.02 s" in summary and "x real time (RTF " in summary and "backend" in summary
    assert shown.err == ""  # no terminal, no progress bar
    samples, rate = audio.read(tmp_path / "out.wav")
    assert (len(samples), rate) == (160, RATE)
    assert np.array_equal(samples, np.round(srnn.generate(model, duration=0.02).samples[0] * 32768) / 32768)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_generate_writes_every_format(model, tmp_path, suffix):
    assert make(model, "-o", tmp_path / f"x{suffix}", duration=0.2) == 0
    assert audio.probe(tmp_path / f"x{suffix}").sample_rate == RATE


def test_generate_into_a_folder(model, tmp_path, capsys):
    assert make(model, "--output", tmp_path / "new", "--seed", 7) == 0
    assert make(model, "--output", tmp_path / "new", "--seed", 8, "--num-samples", 2) == 0
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["tune-seed7.wav", "tune-seed8-0.wav", "tune-seed8-1.wav"]


@pytest.mark.parametrize(
    ("seconds", "pieces"),
    [("--dur", "--num_seqs"), ("--dur", "--num-seqs"), ("--n_secs", "--n_seqs"), ("--n-secs", "--n-seqs")],
)
def test_generate_takes_other_projects_flags(model, capsys, seconds, pieces):
    assert run("generate", model, seconds, 0.02, pieces, 2, "--json") == 0
    assert [audio.probe(file).frames for file in json.loads(capsys.readouterr().out)["files"]] == [160, 160]


def test_generate_to_standard_output_is_a_wav_and_nothing_else(model, tmp_path, capsysbinary):
    assert make(model, "-o", "-") == 0
    shown = capsysbinary.readouterr()
    assert shown.err == b"" and list(tmp_path.iterdir()) == []
    samples, rate = soundfile.read(io.BytesIO(shown.out))
    assert rate == RATE and samples.shape == (160,)
    assert make(model) == 0
    assert np.array_equal(samples, soundfile.read("out.wav")[0])
    capsysbinary.readouterr()
    assert make(model, "-o", "-", "--num-samples", 3) == 0
    assert soundfile.read(io.BytesIO(capsysbinary.readouterr().out))[0].shape == (160, 3)


def test_generate_json_is_one_object(model, capsys):
    assert make(model, "--json", "--num-samples", 2, "--seed", 5) == 0
    made = strict_json(capsys.readouterr().out)
    assert made["files"] == ["out-0.wav", "out-1.wav"]
    assert made["seed"] == 5 and made["streams"] == [0, 1] and made["x_real_time"] > 0
    assert made["model_sha256"] == checkpoint.describe(model)["model_sha256"]


def strict_json(text):
    """One JSON object; NaN and Infinity, which only Python reads, are refused."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def levels_of(path, model):
    return srnn.quantize.for_config(srnn.load(model).config).encode(audio.read(path)[0])


def test_temperatures_of_several_pieces_and_curves(model, capsys):
    exact = ("--backend", "reference", "--dtype", "float64")
    assert make(model, "--num-samples", 2, "--temperature", 0.5, 1.5, "-o", "pair.wav", *exact) == 0
    for index, heat in enumerate((0.5, 1.5)):
        alone = srnn.generate(
            model, duration=0.02, temperature=heat, first_stream=index, backend="reference", dtype="float64"
        )
        assert np.array_equal(levels_of(f"pair-{index}.wav", model), alone.tokens[0])
    assert make(model, "--temperature", "0:0.5,0.01:0", "-o", "curve.wav") == 0
    curve = srnn.generate(model, duration=0.02, temperature=lambda t: max(0.0, 0.5 - 50 * t) if t < 0.00998 else 0.0)
    assert np.array_equal(levels_of("curve.wav", model), curve.tokens[0])


def test_shards_make_the_files_of_one_process(model, tmp_path, capsys):
    args = ("--num-samples", 5, "--seed", 3, "--backend", "reference", "--dtype", "float64")
    args += ("--temperature", 0.6, 0.7, 0.8, 0.9, 1.0)
    (tmp_path / "all").mkdir()
    (tmp_path / "shards").mkdir()
    assert make(model, *args, "-o", "all/x.wav") == 0
    for index in range(3):
        assert make(model, *args, "-o", "shards/x.wav", "--num-shards", 3, "--shard-index", index) == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    assert sorted(made) == [f"x-{index}.wav" for index in range(5)]
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "all").iterdir()}
    assert len(set(made.values())) == 5


def test_a_shard_without_pieces_does_nothing(model, tmp_path, capsys):
    assert make(model, "--num-shards", 2, "--shard-index", 0) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert make(model, "--num-shards", 2, "--shard-index", 1) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


def test_a_prompt_from_a_file(model, capsys):
    audio.write("prompt.wav", demo.plucked_music(0.1, 0), RATE)
    assert make(model, "--prompt", "prompt.wav") == 0
    assert np.array_equal(
        levels_of("out.wav", model), srnn.generate(model, duration=0.02, prompt="prompt.wav").tokens[0]
    )
    assert make(model, "-o", "free.wav") == 0
    assert not np.array_equal(levels_of("free.wav", model), levels_of("out.wav", model))


def test_evaluate(model, data_folder, capsys):
    assert run("evaluate", model, "--data", data_folder) == 0
    assert "test NLL" in capsys.readouterr().out
    assert run("evaluate", model, "--data", data_folder, "--json") == 0
    shown = strict_json(capsys.readouterr().out)
    assert set(shown) == {"nll_bits", "n_samples", "per_file"} and len(shown["per_file"]) == 3
    assert 0 < shown["nll_bits"] < 20
    assert run("evaluate", model, "--data", data_folder, "--per-file", "--backend", "reference") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line, file in zip(lines, shown["per_file"], strict=False):
        bits, count, name = line.split()
        assert (int(count), name) == (file["n_samples"], file["path"])
        assert float(bits) == pytest.approx(file["nll_bits"], abs=2e-4)


def test_info(model, capsys):
    assert run("info", model) == 0
    text = capsys.readouterr().out
    assert run("info", model, "--json") == 0
    shown = strict_json(capsys.readouterr().out)
    assert shown["config"]["frame_sizes"] == [2, 2, 4] and shown["config"]["sample_rate"] == RATE
    assert shown["parameters"] == sum(parameter.numel() for parameter in srnn.load(model).parameters())
    assert shown["model_sha256"] in text and "frame_sizes" in text and str(shown["parameters"]) in text
    assert run("info", model / "last.safetensors", "--json") == 0
    last = strict_json(capsys.readouterr().out)
    assert last["parameters"] == shown["parameters"]


def test_doctor(capsys):
    assert run("doctor", "--json") == 0
    shown = strict_json(capsys.readouterr().out)
    assert shown["versions"]["samplernn"] == srnn.__version__
    assert shown["backends"]["reference on cpu"].startswith("runs")
    assert run("doctor") == 0
    text = capsys.readouterr().out
    assert "reference on cpu" in text and torch.__version__ in text


def test_demo_prints_each_step(tmp_path, monkeypatch, capsys):
    for name, value in {"_RECORDINGS": 3, "_RECORDING_SECONDS": 1.0, "_RESULT_SECONDS": 0.05}.items():
        monkeypatch.setattr(demo, name, value)
    assert run("demo", "-o", tmp_path / "d.wav", "--minutes", 0.0001) == 0
    assert "0.05 s of new audio" in capsys.readouterr().out
    assert audio.probe(tmp_path / "d.wav").seconds == pytest.approx(0.05)


BAD_USAGE = {  # status 2
    "command": ("sing", "there is no command 'sing'; the commands are prepare, train"),
    "preset": ("train huge", "one of laptop, .*got 'huge'"),
    "flag": ("generate {model} --bogus 1", "--bogus"),
    "flag of train": ("train laptop --data d --out o --bogus 1", "--bogus"),
    "two models": ("info {model} {model}", "Unrecognized"),
    "missing flag": ("evaluate {model}", "--data"),
    "missing flags of train": ("train laptop", "--data .*--out"),
    "not a number": ("generate {model} --seed one", "--seed"),
    "choice": ("train laptop --data d --out o --rnn vanilla", "vanilla.*gru"),
    "frame sizes": ("train laptop --data d --out o --frame-sizes 2 3", "must divide the next"),
    "batch size": ("train laptop --data d --out o --batch-size 0", "batch_size must be at least 1"),
    "temperature": ("generate {model} --temperature -1", "temperature must be 0 or between"),
    "temperature nan": ("generate {model} --temperature nan", "temperature must be 0 or between"),
    "temperature word": ("generate {model} --temperature hot", "numbers, or a curve .*got hot"),
    "temperature curve": ("generate {model} --temperature 0:1,2", "numbers, or a curve .*got 0:1,2"),
    "temperature in curve": ("generate {model} --temperature 0:1,2:-1", "temperature must be 0 or between"),
    "temperatures": ("generate {model} --num-samples 3 --temperature 1 2", "one number or 3, one per piece, got 2"),
    "seed below": ("generate {model} --seed -1", "seed must be a whole number from 0"),
    "seed above": ("generate {model} --seed 18446744073709551616", "seed must be a whole number from 0"),
    "top k": ("generate {model} --top-k 0", "top_k must be"),
    "top p": ("generate {model} --top-p 1.5", "top_p must be"),
    "duration": ("generate {model} --duration 0", "duration must be above 0"),
    "pieces": ("generate {model} --num-samples 0", "--num-samples must be at least 1"),
    "shard index": ("generate {model} --num-shards 2 --shard-index 2", "--shard-index must be 0 to"),
    "no shards": ("generate {model} --num-shards 0", "--shard-index must be 0 to"),
    "device": ("generate {model} --device abacus", "device must be auto, cpu, cuda"),
    "dtype": ("generate {model} --backend reference --dtype int3", "dtype must be auto or one of"),
    "two outputs": ("generate {model} --json -o -", "--json and --output -"),
    "minutes": ("demo --minutes 0", "minutes must be positive"),
    "split": ("evaluate {model} --data {data} --split dev", "dev.*train"),
}
FAILURES = {  # status 1
    "output exists": ("generate {model} -o {taken}", r"taken\.wav exists; choose another --output"),
    "one of several outputs exists": ("generate {model} -o {many} --num-samples 3", r"many-1\.wav exists"),
    "output suffix": ("generate {model} -o out.xyz", r"out\.xyz: .*\.wav"),
    "output folder": ("generate {model} -o nowhere/out.wav", "there is no folder nowhere"),
    "missing model": ("generate missing", "missing: no such run folder"),
    "truncated model": ("generate {half}", "half.safetensors: not a readable checkpoint, truncated"),
    "other version": ("generate {future}", r"future\.safetensors: format version 99"),
    "not ours": ("generate {foreign}", "not one of samplernn_fast"),
    "folder without model": ("generate {data}", "a folder without model.safetensors"),
    "missing prompt": ("generate {model} --prompt gone.wav", r"gone\.wav: cannot be read"),
    "unreadable prompt": ("generate {model} --prompt {text}", r"text\.wav: damaged, or not audio"),
    "prompt with nan": ("generate {model} --prompt {nan}", r"nan\.wav: NaN or infinite sample"),
    "backend": ("generate {model} --backend quantum", "there is no backend 'quantum'; .*reference"),
    "no audio": ("prepare {empty} -o new-data", "empty"),
    "missing audio": ("prepare gone -o new-data", "gone: no such file or folder"),
    "data exists": ("prepare {taken} -o {data}", "data"),
    "no data": ("evaluate {model} --data {empty}", "no data folder"),
    "other rate": ("evaluate {other_rate} --data {data}", "the audio is at 8000 Hz, the model is for 11025 Hz"),
    "train without data": ("train laptop --data gone --out new-run", "gone: no such folder"),
    "train at another rate": ("train laptop --data {data} --out new-run --sample-rate 11025", "8000 Hz"),
    "info": ("info missing", "missing: no such run folder"),
    "demo suffix": ("demo -o d.txt", r"d\.txt: "),
}


@pytest.fixture
def places(model, data_folder, tmp_path):
    """What the commands above name in braces."""
    whole = (model / "model.safetensors").read_bytes()
    places = {name: tmp_path / name for name in ("taken.wav", "text.wav", "nan.wav", "many.wav", "empty")}
    places |= {name: tmp_path / f"{name}.safetensors" for name in ("half", "future", "foreign", "other_rate")}
    audio.write(places["taken.wav"], demo.plucked_music(0.1, 0), RATE)
    places["text.wav"].write_text("not audio")
    soundfile.write(places["nan.wav"], np.array([0, np.nan], np.float32), RATE, subtype="FLOAT")
    (tmp_path / "many-1.wav").touch()
    places["empty"].mkdir()
    places["half"].write_bytes(whole[: len(whole) // 2])
    config = dataclasses.replace(srnn.load(model).config, sample_rate=11025)
    other = make_model(config, dtype=torch.float32)
    checkpoint.save_model(places["other_rate"], other)
    save_file(places["future"], {"samplernn_fast": json.dumps({"kind": "model", "format_version": 99})})
    save_file(places["foreign"], {"format": "pt"})
    return {name.removesuffix(".wav"): path for name, path in places.items()} | {"model": model, "data": data_folder}


def save_file(path, metadata):
    from safetensors.torch import save_file as save

    save({"x": torch.zeros(1)}, path, metadata=metadata)


@pytest.mark.parametrize("case", [*BAD_USAGE, *FAILURES])
def test_bad_input_is_one_line_and_nothing_is_lost(case, places, tmp_path, capsys):
    line, message = BAD_USAGE.get(case) or FAILURES[case]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    status = run(*(word.format(**places) for word in line.split()))
    error = assert_one_line_error(capsys)
    assert status == (2 if case in BAD_USAGE else 1)
    assert re.search(message, error), error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_overwrite_replaces(places, capsys):
    before = places["taken"].read_bytes()
    assert make(places["model"], "-o", places["taken"], "--overwrite") == 0
    assert places["taken"].read_bytes() != before


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])  # where boxes can be drawn, and where they cannot
def test_a_mistake_is_one_line_in_a_fresh_process(encoding):
    env = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "40"}
    done = subprocess_of("generate", "missing", "--seed", "one", env=env)
    assert done.returncode == 2 and done.stdout == b""
    assert done.stderr.decode() == (
        "samplernn-fast: Error parsing --seed: invalid literal for int() with base 10: 'one';"
        " see samplernn-fast generate --help\n"
    )


INTERRUPTED = """
import sys
from samplernn_fast import api, cli

make = api.Stream.next_levels

def make_and_tell(self, n):
    levels = make(self, n)
    print("block", file=sys.stderr, flush=True)
    return levels

api.Stream.next_levels = make_and_tell
cli.main(sys.argv[1:])
"""


def test_ctrl_c_keeps_what_is_done(model, tmp_path):
    args = ["generate", str(model), "--duration", "80000", "--seed", "4", "-o", "kept.wav"]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(2):
        assert process.stderr.readline() == "block\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    messages = [line for line in err.splitlines() if line != "block"]
    assert process.returncode == 1, err
    samples, _ = audio.read(tmp_path / "kept.wav")
    seconds = len(samples) / RATE
    assert messages == [f"samplernn-fast: interrupted: kept the first {seconds:.2f} seconds"]
    assert seconds >= 0.5 and out.startswith("kept.wav\n")
    assert np.array_equal(
        levels_of(tmp_path / "kept.wav", model)[:4000], srnn.generate(model, duration=0.5, seed=4).tokens[0]
    )
