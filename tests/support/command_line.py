"""Commands run in this process or in one of their own."""

import json
import re
import subprocess
import sys
import threading

from samplernn_fast import terminal

TINY = "--dim 16 --emb-size 8 --frame-sizes 2 2 4 --q-levels 64 --batch-size 4 --seq-len 64 --device cpu"


RATE = 8000

ALL_IN_ONE = """
import sys
from samplernn_fast.commands import main

for line in sys.argv[1:]:
    try:
        main.main(line.split())
    except SystemExit as stop:
        assert stop.code in (1, 2), line
    assert "torch" not in sys.modules, line
"""
"""Runs each of its arguments as a command, which must be refused without torch."""


def run(*args):
    """The exit status of one command in this process."""
    from samplernn_fast.commands import main

    try:
        main.main([str(arg) for arg in args])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def subprocess_of(*args, **options):
    command = [sys.executable, "-m", "samplernn_fast", *map(str, args)]
    return subprocess.run(command, capture_output=True, timeout=120, **options)


SLOW = r"[a-z][\w ,]* \.\.\.|([\w ]+: )?[\d.]+[kMG]?( of [\d.]+[kMG]?)? [a-z ]+, .*(so far|left|/s|real time)\b.*"
"""Lines of waiting and of progress: they come after two seconds, so a slow machine shows them and a quick one does
not."""


def told(error):
    """What a command says on standard error, without the lines that come only where the machine is slow."""
    return "".join(line for line in error.splitlines(keepends=True) if not re.fullmatch(SLOW, line.rstrip("\n")))


def line_with(monkeypatch, part):
    """An event that is set as soon as this process has printed a line with this part on standard error: work that is
    quick can wait for it, where a test is about such a line."""
    printed, say = threading.Event(), terminal.say

    def say_and_tell(line):
        say(line)
        if part in line:
            printed.set()

    monkeypatch.setattr(terminal, "say", say_and_tell)
    return printed


def assert_one_line_error(capsys):
    shown = capsys.readouterr()
    assert shown.out == ""
    error = told(shown.err)
    assert error.startswith("samplernn-fast: ") and error.endswith("\n")
    assert error.count("\n") == 1, shown.err
    return error


def make(model, *args, duration=0.02):
    return run("generate", model, "--duration", duration, *args)


def strict_json(text):
    """One JSON object; NaN and Infinity, which only Python reads, are refused."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
