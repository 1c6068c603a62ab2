"""`examples/ray_generate.py`: by a stand-in for Ray that runs tasks at once, and where Ray is installed by Ray."""

import importlib.util
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_generate.py"
WORDS = ("generate", "demo", "-o", "out/", "--num-samples", "12", "--duration")
pytestmark = pytest.mark.usefixtures("elsewhere")


class RayError(Exception):
    """As Ray's, whose text has several lines."""


class Stand:
    """A Ray whose tasks die once before they are tried again, if they may be."""

    exceptions = SimpleNamespace(RayError=RayError)

    def init(self, address):
        self.address = address

    def shutdown(self):
        self.address = None

    def remote(self, num_cpus, num_gpus, max_retries):
        def call(task, folder):
            return (lambda: function(task, folder)) if max_retries else None

        def of(given):
            nonlocal function
            function = given
            return SimpleNamespace(remote=call)

        function = None
        return of

    def wait(self, references):
        return references[:1], references[1:]

    def get(self, reference):
        if reference is None:
            raise RayError("The worker died.\nIts log says more.")
        return reference()


def example(monkeypatch, *words):
    """The exit status of the example, in this process."""
    monkeypatch.setitem(sys.modules, "ray", Stand())
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    return stop.value.code


def sounds(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.wav")}


def assert_made_as_by_one_process(duration):
    assert run(*WORDS[:3], "one/", *WORDS[4:], duration) == 0
    assert sounds("out") == sounds("one") and len(sounds("one")) == 12


def test_the_shards_make_everything(monkeypatch, capsys):
    assert example(monkeypatch, "--shards", 3, "--", *WORDS, 0.05) == 0
    shown = capsys.readouterr().out
    assert "shard 2: done; 0 left" in shown and "12 units of generate are there and right" in shown
    assert_made_as_by_one_process(0.05)


def test_what_fails_is_told(monkeypatch, capsys):
    assert example(monkeypatch, "--shards", 2, "--", *WORDS, 0.05, "--temperature", "hot") == 1
    assert "shard 0: --temperature " in capsys.readouterr().out
    assert example(monkeypatch, "--shards", 2, "--retries", 0, "--", *WORDS, 0.05) == 1
    assert "shard 1: The worker died.; 0 left" in capsys.readouterr().out
    assert example(monkeypatch, "--", "generat", "demo") == 2
    assert "did you mean generate?" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray (pip install ray)")
def test_a_worker_of_ray_that_is_killed_is_replaced():
    command = [sys.executable, str(EXAMPLE), "--shards", "4", "--", *WORDS, "4", "--batch", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as team:
        while len(sounds("out")) < 2:
            time.sleep(0.1)
            assert team.poll() is None
        os.kill(workers_below(team.pid)[0], signal.SIGKILL)
        printed = team.communicate(timeout=200)[0]
    assert team.returncode == 0 and "the task will be retried" in printed, printed
    assert_made_as_by_one_process("4")


def workers_below(process):
    """Processes that work on a shard and descend from this one."""
    parents, workers = {}, []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if (place / "cmdline").read_bytes().startswith(b"ray::work"):
                workers.append(int(place.name))
        except OSError:
            continue

    def descends(one):
        return one == process or (one in parents and descends(parents[one]))

    return [one for one in workers if descends(one)]
