"""A warm Python (tests/support/warm_python.py) runs a command as a new interpreter does, which many tests rely on."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm_python as file
from warm_python import NUMBER, warm_python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the usual interpreter")
TOLD = """
import json, os, sys
loaded = [name for name in sys.modules if name.startswith("samplernn_fast.")]
print(json.dumps([sys.argv, os.getcwd(), sorted(os.environ.items()), sys.path, loaded, sys.stdin.read()]))
sys.exit({status})
"""


def told(python: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.defpath,
        "PWD": str(folder),
        "PYTHONPATH": f"{folder}/one:{folder}/two",
        "TOLD": "ä",
    }
    options = {"capture_output": True, "text": True, "input": "given"}
    return subprocess.run([python, *words], cwd=folder, env=environment, timeout=60, **options)


@pytest.mark.parametrize("status", ["0", "7", "'a message'", "1 / 0"])
def test_it_has_what_an_interpreter_has(status, tmp_path):
    text = TOLD.format(status=status)
    for name in ("script.py", "module.py"):
        (tmp_path / name).write_text(text)
    for words in (["-c", text, "a", "-m"], ["script.py", "b"], ["-m", "module", "-c"], ["-u", "script.py"]):
        usual, warm = (told(python, tmp_path, *words) for python in (sys.executable, warm_python()))
        assert warm.returncode == usual.returncode
        assert warm.stdout == usual.stdout and '"given"' in warm.stdout
        assert warm.stderr.splitlines()[-1:] == usual.stderr.splitlines()[-1:]


@pytest.mark.parametrize("text", ["os.getcwd()", "print(1)", "import atexit; atexit.register(print, 1)"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_it_knows_no_more_and_a_full_disk_is_told(text, unbuffered):
    statuses = []
    for python in (sys.executable, warm_python()):
        with open("/dev/full", "w") as full:
            options = {
                "stdout": full,
                "stderr": subprocess.DEVNULL,
                "env": os.environ | {"PYTHONUNBUFFERED": unbuffered},
            }
            statuses.append(subprocess.run([python, "-c", text], timeout=60, **options).returncode)
    assert statuses[0] == statuses[1] and (unbuffered or statuses[0])


WAITS = """
import atexit, signal, sys, time
atexit.register(print, "at the end")
try:
    print("waits", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("heard")
    raise
"""


def waiting(**options) -> subprocess.Popen[str]:
    process = subprocess.Popen([warm_python(), "-c", WAITS], stdout=subprocess.PIPE, text=True, **options)
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    return process


def test_it_hears_signals_and_ends_by_them():
    process = waiting(stderr=subprocess.DEVNULL)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "heard\nat the end\n" and process.returncode == -signal.SIGINT
    process = waiting()
    process.terminate()
    assert process.communicate(timeout=60)[0] == "" and process.returncode == -signal.SIGTERM


def test_a_signal_that_comes_before_the_number_of_the_process_is_handed_on(tmp_path):
    address, sleeper = str(tmp_path / "socket"), subprocess.Popen(["sleep", "100"])
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        client = subprocess.Popen([sys.executable, "-IS", file.__file__, address, "-c", ""])
        with listening.accept()[0] as keeper:
            client.send_signal(signal.SIGINT)
            time.sleep(0.2)
            keeper.sendall(NUMBER.pack(sleeper.pid))
            assert sleeper.wait(60) == -signal.SIGINT
            keeper.sendall(NUMBER.pack(signal.SIGINT))  # the status of a process that it ended
            assert client.wait(60) == -signal.SIGINT


def test_when_it_is_killed_nothing_of_it_lives_on():
    process, began = waiting(), time.monotonic()
    process.kill()
    # The forked process holds the other end of this pipe until it is gone.
    assert process.communicate(timeout=60)[0] == "" and process.returncode == -signal.SIGKILL
    assert time.monotonic() - began < 30
