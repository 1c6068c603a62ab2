"""Any words behind any command: one line and status 0, 1 or 2, whatever they are. The commands' work is left out."""

import contextlib
import functools
import inspect
import io
import sys

import pytest
from fuzzing import fuzz, fuzz_cases, fuzz_each

from samplernn_fast.commands import complaints, flags, main
from samplernn_fast.commands.experiments import command as experiments
from samplernn_fast.commands.listening import command as listening
from samplernn_fast.commands.live import audition
from samplernn_fast.data.folder import AudioData
from samplernn_fast.errors import SampleRNNError
from samplernn_fast.training import starting, trainer
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.presets import PRESETS

VALUES = [
    *("0", "1", "2", "-1", "-0", "0.5", "1e3", "1_000", "0x10", "+7", "\u0663"),
    *("9223372036854775807", "9223372036854775808", "18446744073709551616", "1" + "0" * 400, "9" * 5000),
    *("1e18", "1e300", "1e400", "-1e300", "1e-320", "nan", "-nan", "inf", "-inf", "Infinity"),
    *("", " ", "-", "--", "---", "=", "None", "True", "False", "true", "auto", "cpu", "cuda:99", "abacus"),
    *("a\nb", "a\tb", "\x1b[1m", "a\udcffb", "\u2028", "\u266b" * 50, "x" * 4000, "/dev/zero", "../..", "~nobody/x"),
    *("gru", "mu-law", "float32", "fastest", "test", "0:1,2:3", "0:nan", "1:", ":", "{x}", "%s", "'", '"', "(1, 2)"),
]


@pytest.fixture
def without_work(monkeypatch):
    """The commands with their flags and ranges, and nothing behind them."""

    def nothing(*args, **kwargs):
        raise SampleRNNError("nothing was done")

    for name, command in main.COMMANDS.items():
        if name != "train" and not command.parts:
            function = command.load()
            monkeypatch.setattr(sys.modules[function.__module__], command.function, functools.wraps(function)(nothing))
    for parts in (listening.PARTS, experiments.EXPERIMENTS, audition.PARTS):
        for name, part in parts.items():
            monkeypatch.setitem(parts, name, part._replace(function=functools.wraps(part.function)(nothing)))
    monkeypatch.setattr(trainer, "train", nothing)
    monkeypatch.setattr(starting, "check_early", lambda config: None)
    monkeypatch.setattr(AudioData, "open", nothing)  # the first work of search, behind its flags
    # Every mistake makes the help once more, which takes as long as all else; the flags in it are always the same.
    known, flags_in_help = {}, flags._flags_in_help

    def flags_once(read):
        prog = read.keywords["prog"]
        known[prog] = known.get(prog) or flags_in_help(read)
        return known[prog]

    monkeypatch.setattr(flags, "_flags_in_help", flags_once)


def flags_of(name):
    """The flags of a command in every spelling, and some that it does not have."""
    if name == "train":
        config = PRESETS["laptop"][1]
        names = [*complaints.settings_of(TrainConfig, config)]
    else:
        functions = main.COMMANDS[name].load_flags()
        names = [one for function in functions for one in inspect.signature(function).parameters]
    spelled = ["--" + one.replace("_", "-") for one in names]
    return [*spelled, *("--" + one for one in names), "-o", "--help", "-h", "-x", "--no-json", "--bogus", "--dim"]


FLAGS = {name: flags_of(name) for name in main.COMMANDS}


def command_line(random):
    """A command, now and then misspelt, with a few flags and values."""
    name = random.choice(list(main.COMMANDS))
    if name == "train" and random.random() < 0.7:
        name = random.choice(list(main.COMMANDS))
    words = [name if random.random() < 0.98 else random.choice(VALUES)]
    if name == "train" and random.random() < 0.9:
        words += [random.choice(list(PRESETS)), "--data", "d", "--out", "o"]
    elif name == "abtest" and random.random() < 0.9:
        words += [random.choice(list(listening.PARTS)), "test"]
    elif name == "audition" and random.random() < 0.5:
        words += ["export", "model", "--as", "commands"]
    elif name == "search" and random.random() < 0.9:
        words += [random.choice(list(PRESETS)), "--data", "d", "--out", "o", "--range", "lr=1:2", "--steps", "1"]
    elif name == "reproduce" and random.random() < 0.9:
        words += [random.choice(list(experiments.EXPERIMENTS)), "--data", "d", "--out", "o"]
    elif random.random() < 0.9:
        words += ["model", "-o", "out.wav"] if name in ("prepare", "import", "generate", "demo") else ["model"]
    for _ in range(random.choice((1, 1, 1, 2, 3, 5))):
        flag = random.choice(FLAGS[name])
        value = random.choice(VALUES)
        words += random.choice(([flag], [value], [flag, value], [flag, value], [flag, value], [f"{flag}={value}"]))
    return words


def answer(words):
    """Runs a command line. AssertionError where its end is not one that a command may have."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status, message = main.run_command(words)
    assert status in (0, 1, 2), (status, message)
    assert message.isprintable() and len(message) < 400, message
    assert bool(message) == bool(status), (status, message)
    # The model to start from is looked for before the work, because its settings are the flags' defaults.
    found_out = ("nothing was done", "no such run folder or .safetensors file")
    assert status != 1 or any(text in message for text in found_out), message
    for riddle in ("TrainConfig", "Error parsing", "literal", "instantiated", "<class", "Traceback"):
        assert riddle not in message, message


@fuzz_cases
def test_random_flags(cases, without_work):
    fuzz(answer, command_line, cases, valid=[["info", "model", "--help"]], seconds=20)


def test_every_value_for_every_flag_of_generate(without_work):
    lines = [["generate", "model", flag, value] for flag in FLAGS["generate"][::3] for value in VALUES[::7]]
    fuzz_each(answer, lines, seconds=20)
