"""The command line, mostly in this process: what each command prints, writes and refuses, and with which status."""

import dataclasses
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cases import make_model
from command_line import RATE, TINY, run, strict_json, subprocess_of, told
from exporters import deepsound_state, float32_model
from foreign_configs import DEEPSOUND
from words import HERTZ, write_words

import samplernn_fast as srnn
from samplernn_fast.audio import reading, synthetic, writing
from samplernn_fast.backends import diagnosis, registry
from samplernn_fast.commands import demo as demo_command
from samplernn_fast.commands import flags, main
from samplernn_fast.data.folder import AudioData
from samplernn_fast.experiments import plan
from samplernn_fast.models import checkpoint

SOURCE = Path(srnn.__file__).parents[1]

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def model(trained):
    """The run folder that the command line made."""
    return trained


def test_version_and_overview(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"samplernn-fast {srnn.__version__}\n"
    for args, status in ((["--help"], 0), (["-h"], 0), ([], 2)):
        assert run(*args) == status
        shown = capsys.readouterr()
        assert not (shown.err if args else shown.out)  # without a command it stands where errors do
        assert all(f"\n  {name} " in shown.out + shown.err for name in main.COMMANDS)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_overview_says_what_a_command_says_itself(name):
    assert flags.introduction(main.COMMANDS[name].load()).splitlines()[0] == main.COMMANDS[name].summary


def test_the_overview_loads_no_command():
    script = (
        "import sys; from samplernn_fast.commands.main import overview; overview();"
        " print([name for name in ('tyro', 'dataclasses', 'samplernn_fast.terminal') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, cwd=SOURCE)
    assert done.stdout == "[]\n", done.stderr


def test_module_and_program_are_the_same():
    done = subprocess_of("--version")
    assert (done.returncode, done.stdout.decode()) == (0, f"samplernn-fast {srnn.__version__}\n")


@pytest.mark.parametrize("name", main.COMMANDS)
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


def test_a_terminal_without_width_does_not_hold_up_the_help(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1")
    assert run("info", "--help") == 0
    assert "--json" in capsys.readouterr().out


def example_words(name, places):
    """The words of a command's example, with what it names replaced by what there is."""
    program, *words = main.COMMANDS[name].example.split()
    assert program == "samplernn-fast" and words[0] == name
    assert f"Example: {main.COMMANDS[name].example}" in places["help"]
    return [str(places.get(word, word)) for word in words]


FINISHING = {  # flags that make the work of an example small
    "train": [*TINY.split(), "--max-steps", "1"],
    "sparsify": ["--max-steps", "1", "--batch-size", "2"],
    "generate": ["--duration", "0.02"],
    "play": ["--duration", "0.02", "-o", "new.wav"],
    "radio": ["--duration", "0.02"],
    "fidelity": ["--epochs", "1"],
    "prepare": ["--sample-rate", "8000", "--split", "2", "1", "1"],
    "abtest": ["--count", "2", "--seconds", "0.5"],
    "serve": ["--port", "0"],
    "audition": ["--port", "0"],
    "reproduce": ["--minutes", "0.00001"],
    "search": ["--trials", "1", "--minutes", "0.00001", "--", *TINY.split()],
    "bench": ["--seconds", "0.001", "--rounds", "1", "--device", "cpu", "--threads", "1", "--no-plain"],
}


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_example_in_the_help_of_a_command_works(name, model, data_folder, tmp_path, capsys, monkeypatch):
    arguments = [name, "laptop", "--help"] if name == "train" else [name, "--help"]
    assert run(*arguments) == 0
    monkeypatch.setenv("COLUMNS", "200")
    places = {
        "run": tmp_path / "made" if name == "train" else model,
        "data": data_folder,
        "help": capsys.readouterr().out,
        "quick=runs/quick": f"quick={model}",
        "paper=runs/paper": f"paper={model}",
    }
    if name in ("prepare", "clips"):
        sounds = tmp_path / ("recordings" if name == "prepare" else "out")
        sounds.mkdir()
        for index in range(4):
            writing.write(sounds / f"{index}.wav", synthetic.plucked_music(0.3, index), RATE)
        places["data"] = tmp_path / "new-data"
    if name == "jobs":
        assert run("generate", model, "--duration", 0.02, "-o", tmp_path / "out", "--num-samples", 2, "--batch", 1) == 0
    if name == "fidelity":
        for word, pitch in HERTZ.items():
            write_words(tmp_path / "recordings" / word, 4, {"tone": pitch})
            write_words(tmp_path / "made" / word, 2, {"tone": pitch}, seed=1)
        places["data"] = tmp_path / "labelled"
        assert run("prepare", tmp_path / "recordings", "-o", places["data"], "--sample-rate", RATE) == 0
    if name == "import":
        config, prefix, _ = DEEPSOUND["odd"]
        torch.save(deepsound_state(float32_model(config), prefix), tmp_path / "checkpoint.pt")
    if name == "demo":
        monkeypatch.setattr(demo_command, "run_demo", lambda *args, **kwargs: ["made"])
    if name in ("serve", "audition"):
        uvicorn = pytest.importorskip("uvicorn", reason="needs the extra `serve`")
        monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    if name == "reproduce":
        monkeypatch.setattr(plan, "measure", lambda config: plan.Cost(1.0, None))
    words = example_words(name, places)
    monkeypatch.chdir(tmp_path)
    assert run(*words, *FINISHING.get(name, [])) == 0


def processor_seconds():
    """What the processes that this one started have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_quick(capsys):
    seconds = []
    for _ in range(3):
        began = processor_seconds()  # which other programs make no longer
        assert subprocess_of("--help").returncode == 0
        seconds.append(processor_seconds() - began)
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
    shown = capsys.readouterr()
    assert "paper-2tier" in shown.err and shown.out == ""


def test_prepare_names_what_it_cannot_read(tmp_path, capsys):
    (tmp_path / "in/deep").mkdir(parents=True)
    for index in range(4):
        writing.write(tmp_path / f"in/deep/{index}.wav", synthetic.plucked_music(0.3, index), RATE)
    (tmp_path / "in/broken.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "in/nan.wav", np.array([0, np.nan, 0], np.float32), RATE, subtype="FLOAT")
    assert run("prepare", tmp_path / "in", "-o", tmp_path / "data", "--sample-rate", RATE, "--split", 2, 1, 1) == 0
    shown = capsys.readouterr()
    assert "broken.wav" in shown.out and "nan.wav" in shown.out
    assert len(AudioData.open(tmp_path / "data").recordings("train")) == 2


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


@pytest.mark.parametrize("shards", [(), ("--num-shards", 1)], ids=str)
def test_evaluate_replaces_no_file_unless_told(model, data_folder, tmp_path, capsys, shards):
    out = tmp_path / "model.safetensors"
    out.write_bytes(b"learnt for days")
    words = ("evaluate", model, "--data", data_folder, "--out", out)
    assert run(*words, *shards) == 1
    shown = capsys.readouterr()
    advice = "and is no job's result" if shards else "choose another name, or replace it with --overwrite"
    assert "model.safetensors exists" in shown.err and advice in shown.err
    assert not shown.out and out.read_bytes() == b"learnt for days" and os.listdir(tmp_path) == [out.name]
    if shards:
        assert run(*words, *shards, "--overwrite") == 2
        assert "--overwrite makes no sense where work is shared" in capsys.readouterr().err
    else:
        assert run(*words, "--overwrite") == 0
        assert "nll_bits" in strict_json(out.read_text())


@pytest.mark.parametrize("odd", [{}, [1], "text", 7, {"file": 1, "model_sha256": [2]}, {"model_sha256": None}], ids=str)
def test_info_takes_what_a_file_says_of_itself_as_it_is(tmp_path, model, odd, capsys):
    info = dict.fromkeys(("initialized_from", "seconds", "step", "data", "imported", "train_bits"), odd)
    checkpoint.save_model(tmp_path / "odd.safetensors", srnn.load(model), info)
    assert run("info", tmp_path / "odd.safetensors") == 0
    assert "SHA-256" in capsys.readouterr().out


def test_info(model, capsys):
    assert run("info", model) == 0
    text = capsys.readouterr().out
    assert run("info", model, "--json") == 0
    shown = strict_json(capsys.readouterr().out)
    assert shown["config"]["frame_sizes"] == [2, 2, 4] and shown["config"]["sample_rate"] == RATE
    assert shown["parameters"] == sum(parameter.numel() for parameter in srnn.load(model).parameters())
    assert shown["model_sha256"] in text and f"{shown['parameters']:,}" in text
    assert re.search(r"^  frame_sizes +2, 2, 4$", text, re.M) and re.search(r"^  sample_rate +8000 Hz$", text, re.M)
    assert re.search(r"^validation +\d+\.\d+ bits per sample$", text, re.M)
    assert not re.search(r"None|True|False|\d\.\d{5}", text.split("\n", 1)[1])
    assert run("info", model / "last.safetensors", "--json") == 0
    last = strict_json(capsys.readouterr().out)
    assert last["parameters"] == shown["parameters"]


def test_doctor(capsys):
    assert run("doctor", "--json") == 0
    shown = strict_json(capsys.readouterr().out)
    assert shown["versions"]["samplernn_fast"] == srnn.__version__
    assert shown["summary"]["cpu"].startswith("the CPU trains and makes audio")
    assert shown["backends"]["reference on cpu"] == "runs"
    assert list(shown["numeric modes"]) == list(registry.BACKENDS)
    assert shown["numeric modes"]["cpu"] == "float32, bfloat16, int8, int4"
    extras = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {re.match(r"[\w-]+", line)[0] for line in (*extras["live"], *extras["serve"])}
    assert len(wanted) >= 8 and wanted <= set(shown["optional"])
    assert run("doctor") == 0
    text = capsys.readouterr().out
    assert text.startswith("The CPU trains and makes audio, by the backend")  # what is fine comes first
    assert "reference on cpu" in text and torch.__version__ in text


@pytest.mark.parametrize("card", [False, True])
def test_doctor_speaks_of_a_driver_only_where_there_is_a_card(card, monkeypatch, capsys):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.delenv("SAMPLERNN_FAST_LIBCUDA", raising=False)
    monkeypatch.setattr("samplernn_fast.backends.diagnosis._has_nvidia_card", lambda: card)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert run("doctor") == 0
    text = capsys.readouterr().out
    assert ("install torch for CUDA" in text) == card
    assert bool(re.search(r"libcuda|NVRTC +", text)) == card
    assert ("nothing is missing" in text) == (not card)


@pytest.mark.parametrize(
    ("system", "library", "expected"),
    [("Linux", "libportaudio.so.2", "0.5"), ("Linux", None, r"0.5, but PortAudio is not .*"), ("Darwin", None, "0.5")],
)
def test_doctor_says_that_portaudio_is_missing(system, library, expected, monkeypatch):
    monkeypatch.setattr(diagnosis, "_version", {"sounddevice": "0.5"}.get)
    monkeypatch.setattr(diagnosis.platform, "system", lambda: system)
    monkeypatch.setattr(diagnosis, "find_library", lambda name: library)
    optional = diagnosis.diagnose()["optional"]
    assert re.fullmatch(expected, optional["sounddevice"])
    assert optional["mido"] == "not installed; lets MIDI keyboards play, with python-rtmidi"


def test_doctor_says_what_the_native_part_uses(capsys):
    native = pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")
    assert run("doctor", "--json") == 0
    shown = strict_json(capsys.readouterr().out)["native"]
    assert shown["instruction sets"].split(", ") == native.available_isas()
    engine = srnn.Engine(srnn.load(), backend="cpu").backend.native
    assert shown["instruction set used"] == engine.isa
    assert shown["usable cores"] == native.usable_cores() <= os.cpu_count()
    assert engine.threads(streams=1000) == shown["usable cores"]


@pytest.mark.parametrize(
    ("found", "expected"),
    [(None, r".* is not built; install a C\+\+ compiler"), ("a file", ".* is built, but cannot be loaded: .*_C")],
)
def test_doctor_says_why_the_native_part_does_not_run(found, expected, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.delattr(srnn, "_C", raising=False)
        patch.setitem(sys.modules, "samplernn_fast._C", None)  # importing it now fails
        patch.setattr("importlib.util.find_spec", lambda name: found)
        assert run("doctor", "--json") == 0
    shown = strict_json(capsys.readouterr().out)["native"]
    assert list(shown) == ["samplernn_fast._C"] and re.match(expected, shown["samplernn_fast._C"])


def test_demo_prints_each_step(tmp_path, monkeypatch, capsys):
    short = {"_RECORDINGS": 3, "_RECORDING_SECONDS": 1.0, "_RESULT_SECONDS": 0.05, "_LEAST_STEPS": 1}
    for name, value in (short | {"_NOISE_MARGIN": -100.0}).items():
        monkeypatch.setattr(demo_command, name, value)
    assert run("demo", "-o", tmp_path / "d.wav", "--minutes", 0.0001) == 0
    assert "0.05 s of new audio" in capsys.readouterr().out
    assert reading.probe(tmp_path / "d.wav").seconds == pytest.approx(0.05)


def test_steps_take_the_place_of_a_presets_minutes(model, data_folder, tmp_path):
    settings = json.loads((model / "config.json").read_text())
    assert (settings["max_steps"], settings["max_minutes"]) == (3, None)
    args = f"train laptop --data {data_folder} --out {tmp_path / 'both'} --max-steps 1 --max-minutes=5 {TINY}"
    assert run(*args.split()) == 0
    settings = json.loads((tmp_path / "both" / "config.json").read_text())
    assert (settings["max_steps"], settings["max_minutes"]) == (1, 5.0)


def test_evaluate_warns_of_another_gain(model, data_folder, tmp_path, capsys):
    assert run("evaluate", model, "--data", data_folder) == 0
    assert told(capsys.readouterr().err) == ""
    loaded = srnn.load(model)
    louder = make_model(dataclasses.replace(loaded.config, gain=2 * loaded.config.gain), dtype=torch.float32)
    checkpoint.save_model(tmp_path / "louder.safetensors", louder)
    assert run("evaluate", tmp_path / "louder.safetensors", "--data", data_folder) == 0
    shown = capsys.readouterr()
    assert "test NLL" in shown.out and told(shown.err).count("\n") == 1
    assert "the audio is scaled by 2," in shown.err and "prepare with --gain" in shown.err


def test_evaluate_warns_of_a_split_of_silence(model, data_folder, tmp_path, capsys):
    silent = shutil.copytree(data_folder, tmp_path / "data")
    np.zeros_like(np.fromfile(silent / "audio.i16", "<i2")).tofile(silent / "audio.i16")
    assert run("evaluate", model, "--data", silent) == 0
    assert "warning: all of test is silence, or nearly so" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({}, {"GOMP_SPINCOUNT": "2000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
    ids=["unset", "spins", "policy"],
)
def test_commands_let_the_threads_of_torch_sleep(given, seen, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, given.get(name, ""))  # is put back at the end, whatever the command sets
        if name not in given:
            monkeypatch.delenv(name)
    assert run("info", "demo") == 0
    assert {name: os.environ[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if name in os.environ} == seen
