"""The streams and signals that a command meets: closed, full, or read by nobody, and the exit status after each."""

import os
import signal
import subprocess
import sys
import time

import pytest

RUN = [sys.executable, "-m", "samplernn_fast"]

WAITING = """
import signal, sys, time
from samplernn_fast.commands import info as home
from samplernn_fast.commands import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to ctrl-C

def info(model: str = "", /) -> None:
    "Waits."
    print("waiting", flush=True)
    {wait}

home.info = info
main.main(["info"])
"""


def shell(line: str) -> subprocess.CompletedProcess:
    """Runs a shell line in which $run stands for the program."""
    environment = os.environ | {"run": " ".join(RUN)}
    return subprocess.run(line, shell=True, capture_output=True, timeout=60, env=environment, executable="/bin/bash")


@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        ("$run --help 2>&-", 0, ""),
        ("$run 2>&-", 2, ""),
        ("$run info 2>&- gone >&-", 1, ""),
        ("$run bogus 2>/dev/full", 2, ""),
        ("$run info gone <&- 2>&1 >&- | cat >&2; exit ${PIPESTATUS[0]}", 1, "samplernn-fast: gone: no such run folder"),
        ("$run --help >&-", 1, "samplernn-fast: standard output: Bad file descriptor"),
        ("$run --version >/dev/full", 1, "output: No space left on device"),
        ("set -o pipefail; $run --help | true", 0, ""),
        ("$run info $'a\\xffb\\nc'", 1, r"samplernn-fast: a\udcffb\nc: no such run folder"),
    ],
)
def test_a_stream_that_cannot_be_used_ends_in_one_line_at_most(line, status, error):
    done = shell(line)
    shown = done.stderr.decode()
    # A pipe that nobody reads may be closed before or after the text went into it.
    assert done.returncode in ((0, 1) if "| true" in line else (status,)), shown
    assert error in shown and shown.count("\n") == bool(error)


def test_a_file_opened_later_never_takes_the_place_of_a_closed_stream(tmp_path):
    script = (
        "import os; from samplernn_fast.commands import standard_streams\n"
        "standard_streams.open_all()\n"
        "opened = os.open('new', os.O_WRONLY | os.O_CREAT); assert opened > 2, opened"
    )
    done = shell(f"cd {tmp_path} && exec {sys.executable} -c '{script.replace(chr(39), chr(34))}' <&- >&- 2>&-")
    assert done.returncode == 0


def test_any_name_can_be_printed(tmp_path):
    script = "from samplernn_fast.commands import standard_streams as s; s.open_all(); print('a\\udcff\\u266b')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stdout) == (0, b"a\\udcff\\u266b\n")


@pytest.mark.parametrize(
    ("number", "status", "message"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_has_its_status_in_every_command(number, status, message):
    script = WAITING.format(wait="time.sleep(60)")
    started = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert started.stdout.readline() == "waiting\n"
    time.sleep(0.05)
    started.send_signal(number)
    _, error = started.communicate(timeout=30)
    assert (started.returncode, error) == (status, f"samplernn-fast: {message}\n")


def test_interrupted_work_says_what_is_kept():
    raised = "from samplernn_fast.errors import Interrupted; raise Interrupted('kept 3 seconds', {})"
    for number in (signal.SIGINT, signal.SIGTERM):
        script = WAITING.format(wait=raised.format(int(number)))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (128 + number, "samplernn-fast: kept 3 seconds\n")
