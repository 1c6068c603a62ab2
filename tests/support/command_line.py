"""Commands run in this process or in one of their own."""

import json
import subprocess
import sys

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


def assert_one_line_error(capsys):
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("samplernn-fast: ") and shown.err.endswith("\n")
    assert shown.err.count("\n") == 1, shown.err
    return shown.err


def make(model, *args, duration=0.02):
    return run("generate", model, "--duration", duration, *args)


def strict_json(text):
    """One JSON object; NaN and Infinity, which only Python reads, are refused."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
