"""What the command line refuses: one line, the right status, and nothing is lost."""

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cases import make_model
from command_line import ALL_IN_ONE, RATE, assert_one_line_error, make, run, subprocess_of

import samplernn_fast as srnn
from samplernn_fast.audio import synthetic, writing
from samplernn_fast.commands.flags import spell
from samplernn_fast.models import checkpoint

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def model(trained):
    """The run folder that the command line made."""
    return trained


ABSURD = {  # status 2: the flag, or the argument that it stands for, and numbers that cannot be meant
    "generate {model} --num-threads": ("0", "257", "100000", "1e6", "9" * 5000),
    "generate {model} --duration": ("0", "-1", "nan", "inf", "1e18", "1e400"),
    "generate {model} --num-samples": ("0", "9223372036854775808"),
    "generate {model} --top-k": ("0", "65537"),
    "generate {model} --top-p": ("0", "1.5", "nan"),
    "generate {model} --seed": ("-1", "18446744073709551616"),
    "evaluate {model} --data {data} --batch-size": ("0", "-1", "1000000000", "9223372036854775808"),
    "prepare {taken} -o new-data --sample-rate": ("0", "-8000", "1000000000"),
    "prepare {taken} -o new-data --chunk-seconds": ("0", "nan", "inf"),
    "prepare {taken} -o new-data --workers": ("0", "100000"),
    "train laptop --data {data} --out new-run --num-threads": ("-1", "100000"),
    "train laptop --data {data} --out new-run --max-steps": ("0", "9223372036854775808"),
    "train laptop --data {data} --out new-run --batch-size": ("0", "9223372036854775808"),
    "train laptop --data {data} --out new-run --seq-len": ("0", "1000000000"),
    "train laptop --data {data} --out new-run --grad-clip": ("0", "1e300", "inf"),
    "train laptop --data {data} --out new-run --eval-seconds": ("-1", "inf", "1e18"),
    "train laptop --data {data} --out new-run --sample-seconds": ("0", "1e18"),
    "train laptop --data {data} --out new-run --frame-gain": ("0", "inf", "nan", "1e300"),
    "train laptop --data {data} --out new-run --dim": ("0", "1000000000"),
    "bench --threads": ("0", "100000"),
    "bench --seconds": ("0", "inf", "1e18"),
    "bench --rounds": ("0", "1000000000"),
    "demo --minutes": ("0", "inf", "1e18"),
}


BAD_USAGE = {  # status 2
    "command": ("sing", "there is no command 'sing'; the commands are prepare, train"),
    "preset": ("train huge", "one of laptop, .*got 'huge'"),
    "flag": ("generate {model} --bogus 1", "--bogus"),
    "flag of train": ("train laptop --data d --out o --bogus 1", "--bogus"),
    "two models": ("info {model} {model}", "nothing takes .*; see samplernn-fast info --help"),
    "missing flag": ("evaluate {model}", "--data"),
    "missing flags of train": ("train laptop", "--data .*--out"),
    "not a number": ("generate {model} --seed one", "--seed"),
    "choice": ("train laptop --data d --out o --rnn vanilla", "--rnn must be one of gru, lstm, got 'vanilla'"),
    "frame sizes": ("train laptop --data d --out o --frame-sizes 2 3", "must divide the next"),
    "batch size": ("train laptop --data d --out o --batch-size 0", "--batch-size must be 1 to 1000000, got 0"),
    "temperature": ("generate {model} --temperature -1", "temperature must be 0 or between"),
    "temperature nan": ("generate {model} --temperature nan", "temperature must be 0 or between"),
    "temperature word": ("generate {model} --temperature hot", "a number, or a curve .*got 'hot'"),
    "temperature curve": ("generate {model} --temperature 0:1,2", "a number, or a curve .*got '0:1,2'"),
    "temperature in curve": ("generate {model} --temperature 0:1,2:-1", "temperature must be 0 or between"),
    "temperatures": ("generate {model} --num-samples 3 --temperature 1 2", "one number or 3, one per piece, got 2"),
    "seed below": ("generate {model} --seed -1", "seed must be a whole number from 0"),
    "seed above": ("generate {model} --seed 18446744073709551616", "seed must be a whole number from 0"),
    "top k": ("generate {model} --top-k 0", "--top-k must be"),
    "top p": ("generate {model} --top-p 1.5", "--top-p must be"),
    "duration": ("generate {model} --duration 0", "duration must be above 0"),
    "pieces": ("generate {model} --num-samples 0", "--num-samples must be 1 to 100000"),
    "shard index": ("generate {model} --num-shards 2 --shard-index 2", "--shard-index must be 0 to"),
    "no shards": ("generate {model} --num-shards 0", "--num-shards must be 1 to"),
    "device": ("generate {model} --device abacus", "device must be auto, cpu, cuda"),
    "dtype": ("generate {model} --backend reference --dtype int3", "dtype must be auto, fastest or one of"),
    "backend": ("generate {model} --backend quantum", "--backend must be one of auto, .*stepping, got 'quantum'"),
    "a mode of nothing": ("generate {model} --dtype flaot32", "--dtype must be .*got 'flaot32'; did you mean float32"),
    "two pieces on standard output": ("generate {model} -o - --num-samples 2", "--output - writes one piece, got 2"),
    "too many likeliest": ("generate {model} --top-k 9999", "--top-k must be 1 to 64 levels, got 9999"),
    "two outputs": ("generate {model} --json -o -", "--json and --output -"),
    "output suffix": ("generate {model} -o out.xyz", r"out\.xyz: .*\.wav"),
    "demo suffix": ("demo -o d.txt", r"--output must be a file of \.wav .*got d\.txt"),
    "run is a file": ("train laptop --data {data} --out {taken}", r"--out must be a folder, and .*taken\.wav is none"),
    "minutes": ("demo --minutes 0", "--minutes must be above 0"),
    "data over a file": ("prepare {taken} -o {text} --overwrite", "is not a folder"),
    "data over audio": ("prepare {taken} -o {songs} --overwrite", r"songs holds more than a data set \(a\.wav\)"),
    "run over audio": ("train laptop --data {data} --out {songs}", r"songs holds something else than a run \(a\.wav\)"),
    "import over audio": (
        "import {foreign} -o {songs} --overwrite",
        r"songs holds something else than a model \(a\.wav",
    ),
    "import to a file": ("import {foreign} -o {text}", r"--output must be a folder, and .*text\.wav is none"),
    "never": ("train laptop --data {data} --out {model} --resume never", "folder, or leave out --resume never"),
    "only a model": (
        "train laptop --data {data} --out new-run --resume {other_rate}",
        "--resume needs a run's last.safetensors, and .*other_rate.safetensors holds only a model",
    ),
    "split": ("evaluate {model} --data {data} --split dev", "--split must be one of train, valid, test, got 'dev'"),
}


FAILURES = {  # status 1
    "output exists": (
        "generate {model} -o {taken}",
        r"taken\.wav exists; choose another name, or replace it with --overwrite",
    ),
    "one of several outputs exists": ("generate {model} -o {many} --num-samples 3", r"many-01\.wav exists"),
    "output folder": ("generate {model} -o {text}/out.wav", r"text\.wav: the folder cannot be made: "),
    "missing model": ("generate missing", "missing: no such run folder"),
    "truncated model": ("generate {half}", "half.safetensors: not a readable checkpoint, truncated"),
    "other version": ("generate {future}", r"future\.safetensors: format version 99"),
    "not ours": ("generate {foreign}", "not one of samplernn_fast"),
    "folder without model": ("generate {data}", "a folder without model.safetensors"),
    "missing prompt": ("generate {model} --prompt gone.wav", r"gone\.wav: cannot be read"),
    "unreadable prompt": ("generate {model} --prompt {text}", r"text\.wav: damaged, or not audio"),
    "prompt with nan": ("generate {model} --prompt {nan}", r"nan\.wav: NaN or infinite sample"),
    "no audio": ("prepare {empty} -o new-data", "empty"),
    "missing audio": ("prepare gone -o new-data", "gone: no such file or folder"),
    "data exists": ("prepare {taken} -o {data}", "data exists; choose another name, or replace it with --overwrite"),
    "no data": ("evaluate {model} --data {empty}", "no data folder"),
    "other rate": ("evaluate {other_rate} --data {data}", "the audio is at 8000 Hz, the model is for 11025 Hz"),
    "train without data": ("train laptop --data gone --out new-run", "gone: no such folder"),
    "info": ("info missing", "missing: no such run folder"),
}


@pytest.fixture
def places(model, data_folder, tmp_path):
    """What the commands above name in braces."""
    whole = (model / "model.safetensors").read_bytes()
    places = {name: tmp_path / name for name in ("taken.wav", "text.wav", "nan.wav", "many.wav", "empty")}
    places |= {name: tmp_path / f"{name}.safetensors" for name in ("half", "future", "foreign", "other_rate")}
    writing.write(places["taken.wav"], synthetic.plucked_music(0.1, 0), RATE)
    places["text.wav"].write_text("not audio")
    soundfile.write(places["nan.wav"], np.array([0, np.nan], np.float32), RATE, subtype="FLOAT")
    (tmp_path / "many-01.wav").touch()
    places["songs"] = tmp_path / "songs"
    places["songs"].mkdir()
    (places["songs"] / "a.wav").touch()
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


def test_settings_are_spelled_as_flags():
    names = {"overwrite", "cut", "device", "batch_size"}
    said = (
        'batch_size 3 and overwrite=True, cut=False or device="cuda:1", but not in out/cut=False or "device" of device'
    )
    spelled = "--batch-size 3 and --overwrite, --no-cut or --device cuda:1, but not in out/cut=False or"
    assert spell(said, names) == f'{spelled} "device" of device'


@pytest.mark.parametrize(
    ("said", "spelled"),
    [
        (
            "data holds something else; out must be a new folder",
            "data holds something else; --out must be a new folder",
        ),
        ("data: no such folder", "data: no such folder"),
        ("data exists; choose another name", "data exists; choose another name"),
        ("device cuda:1 was asked for", "--device cuda:1 was asked for"),
        ("resume needs a run", "--resume needs a run"),
    ],
)
def test_a_folder_that_is_called_as_a_setting_is_not_spelled_as_a_flag(said, spelled):
    assert spell(said, {"data", "out", "device", "resume"}) == spelled


def test_only_commands_speak_of_flags():
    """A message of the package names arguments as Python has them; a whole command in parentheses may have flags."""
    package = Path(srnn.__file__).parent
    files = [path for path in package.rglob("*.py") if "commands" not in path.relative_to(package).parts]
    raised = [(path, node) for path in files for node in ast.walk(ast.parse(path.read_text())) if is_raise(node)]
    assert len(raised) > 100
    for path, node in raised:
        texts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        said = re.sub(r"\(samplernn-fast [^)]*\)", "", "".join(texts))
        assert not re.search(r"(?<![\w-])--?[a-z]{2}", said), f"{path}, line {node.lineno}"


def is_raise(node):
    return isinstance(node, ast.Raise) and node.exc is not None


@pytest.mark.parametrize("line", ABSURD)
def test_absurd_numbers_are_refused_by_their_flag(line, places, tmp_path, capsys):
    words = [word.format(**places) for word in line.split()]
    before = sorted(tmp_path.rglob("*"))
    for number in ABSURD[line]:
        capsys.readouterr()
        assert run(*words, number) == 2
        error = assert_one_line_error(capsys)
        assert error.startswith(f"samplernn-fast: {words[-1]} must be "), error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("number", [0, 257, 100_000, 2.5, "4", True])
def test_threads_are_bounded_in_python_too(backend, number, model):
    with pytest.raises(srnn.ConfigError, match=r"^num_threads must be "):
        srnn.Engine(srnn.load(model), backend=backend, num_threads=number)


def test_overwrite_replaces(places, capsys):
    before = places["taken"].read_bytes()
    assert make(places["model"], "-o", places["taken"], "--overwrite") == 0
    assert places["taken"].read_bytes() != before


def allocate(*_):
    torch.empty(1 << 60, dtype=torch.uint8, device="cpu")


def allocate_on_a_gpu(*_):
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")


@pytest.mark.parametrize("run_out", [allocate, allocate_on_a_gpu, lambda *_: np.empty(1 << 60, np.uint8)])
def test_too_little_memory_is_one_line(model, run_out, monkeypatch, capsys):
    monkeypatch.setattr("samplernn_fast.engine.engine.Engine.run", run_out)
    capsys.readouterr()
    assert make(model, "-o", "new.wav") == 1
    assert "not enough memory; use a smaller" in assert_one_line_error(capsys)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])  # where boxes can be drawn, and where they cannot
def test_a_mistake_is_one_line_in_a_fresh_process(encoding):
    env = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "40"}
    done = subprocess_of("generate", "missing", "--seed", "one", env=env)
    assert done.returncode == 2 and done.stdout == b""
    assert done.stderr.decode() == (
        "samplernn-fast: --seed must be a whole number or random, got 'one'; see samplernn-fast generate --help\n"
    )


REFUSED_BEFORE_TORCH = [
    "",
    "generat demo",
    "generate demo --num-threads 100000",
    "generate demo --backend quantum",
    "generate demo --dtype float3",
    "generate demo --dtype int8 --backend reference",
    "generate demo --device abacus",
    "generate demo -o model.safetensors/sub/x.wav",
    "evaluate demo --data d --backend quantum",
    "evaluate demo --data d --device cuda:x",
    "bench --device abacus",
    "train laptop --data d --out o --device abacus",
    "info missing",
    "evaluate missing --data d",
    "evaluate demo --data missing",
    "evaluate demo --data d --split dev",
    "bench missing",
    "bench --rounds 0",
    "train",
    "train latop",
    "train laptop --data d --out o --lr 0",
    "train --init-from gone --data d --out o",
    "import missing -o .",
    "import missing -o there",
    "import d.wav -o there",
    "import d.wav -o there --config missing.json",
    "import missing -o there --quantization foo",
    "import missing -o there --sample-rate 0",
    "generate demo --backend reference --num-threads 2",
    "train laptop --data d --out o",
    "train --init-from demo --data d --out o",
    "train laptop --data {data} --out d.wav",
    "train laptop --data {data} --out {data}",
    "train laptop --data {data} --out o --seq-len 100",
    "train rnn-gmm --data {data} --out o --mean 0.1",
    "evaluate demo --data {data} --split valid",
    "prepare missing -o d",
    "demo -o d.txt",
    "demo --seed -1",
]


def test_refusals_come_before_torch_is_loaded(make_data, tmp_path):
    (tmp_path / "model.safetensors").touch()  # so that the folder is in the way of import
    (tmp_path / "d.wav").write_bytes(b"RIFF")
    data = make_data(tmp_path / "made", [0.3])  # all of it to train on
    lines = [line.format(data=data) for line in REFUSED_BEFORE_TORCH]
    command = [sys.executable, "-c", ALL_IN_ONE, *lines]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("train laptop --learning-rate 1e-3", "--lr"),
        ("train rnn --hidden-size=32", "--dim"),
        ("generate --seconds 3", "--duration"),
        ("train laptop --max-step 3", "--max-steps"),
        ("play --topk 3", "--top-k"),
        ("train laptop --dmi 3", "--dim"),
        ("generate --se 3", "--seed"),
        ("serve --listeners 3", "--max-listeners"),
    ],
)
def test_a_flag_of_other_programs_is_told_by_its_name_here(line, flag, capsys):
    assert run(*line.split()) == 2
    assert f"; did you mean {flag}? See " in assert_one_line_error(capsys)


@pytest.mark.parametrize("line", ["radio --bogus", "play --stereo", "radio --quiet", "play --cpu", "play --force"])
def test_a_flag_that_is_like_none_is_taken_for_none(line, capsys):
    assert run(*line.split()) == 2
    assert f"there is no flag {line.split()[1]}; see " in assert_one_line_error(capsys)


@pytest.mark.parametrize("flag", ["--mean", "--std=0.5", "--gain", "--sample_rate"])
def test_what_comes_from_the_data_cannot_be_set(flag, data_folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("train", "rnn-gmm", "--data", data_folder, "--out", out, flag, "0.5", "--max-steps", 1) == 2
    assert f"{flag.partition('=')[0]} cannot be set: train takes it from the data" in assert_one_line_error(capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--quantization foo", "--quantization must be one of (linear, mu-law|mu-law, linear), got 'foo'"),
        ("--sample-rate 0", "--sample-rate must be 1 to 768000 Hz, got 0"),
        ("--config missing.json", "missing.json: settings cannot be read"),
    ],
)
def test_import_checks_its_flags_before_the_file(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("import", "missing", "-o", "there", *flags.split()) == 2
    assert re.search(message, assert_one_line_error(capsys))
