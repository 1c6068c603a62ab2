"""`samplernn-fast play` in a pseudo terminal: its keys, and the terminal's settings on every way out."""

import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from command_line import assert_one_line_error, run, strict_json, subprocess_of
from pseudo_terminal import Terminal

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def model(trained):
    return trained


@pytest.fixture
def terminal():
    """terminal(*args): `play` in a terminal; what still runs is killed at the end."""
    opened = []

    def start(*args, **options):
        opened.append(Terminal(*args, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="finds processes by /proc")
def test_what_runs_in_the_background_of_a_terminal_ends_with_it():
    shell = Terminal(program=["/bin/sh", "-i"])
    try:
        shell.press('sleep 600 &\necho job=$!"en""d" >&2\n')  # so that its echo is not taken for it
        number = int(re.search(r"job=(\d+)end", shell.until("end"))[1])
        assert is_running(number)
    finally:
        shell.close()
    deadline = time.monotonic() + 60
    while is_running(number):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(number):
    """Whether a process runs; one that ended may still be listed where nobody asks for its status."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def endless(model):
    """Flags of a sound that nobody needs to read: it has its pace, and a pipe holds seconds of it."""
    return (model, "-o", "-", "--format", "s16", "--pace", "--seed", 1)


def until_heard(play, shown):
    """Waits until the terminal shows something and then more sound than it did at first, so a block has that change."""
    text = play.until(shown).rpartition(shown)[2]
    while len(set(re.findall(r"([\d.]+) s  ", text))) < 2:
        text += play.until(" s  ")


def test_keys_move_what_they_say_and_give_the_terminal_back(model, terminal, tmp_path):
    play = terminal(*endless(model))
    play.until("? shows the keys")
    play.until("temperature 1 ")
    assert play.taken()
    for keys, shown in (
        ("\x1b[A", "temperature 1.05 "), ("\x1b[B\x1bOB", "temperature 0.95 "), ("\x1b[D", "top-k 51 "),
        ("\x1b[C", "top-k off "), ("[[", "top-p 0.9 "), ("]", "top-p 0.95 "), ("--", "volume 0.9 "),
        ("+", "volume 0.95 "), (" ", "PAUSED"), ("f", "PAUSED  FROZEN"), (" ", "volume 0.95  FROZEN"),
        ("f", "volume 0.95  seed 1 "),
        ("?", "s  save the settings and the score"), ("é\x1b[5~r", "seed 1 "),
    ):  # fmt: skip
        play.press(keys)
        until_heard(play, shown)
    play.press("n")
    while "seed 1 " in play.until("seed "):
        pass
    until_heard(play, "seed ")
    play.press("s")
    play.until("saved tune-seed1.json")
    play.press("q")
    play.until("played")
    status, output = play.end()
    assert status == 0 and play.settings() == play.before
    saved = strict_json((tmp_path / "tune-seed1.json").read_text())
    moved = {name for change in saved["changes"] for name in change}
    assert moved == {"at", "temperature", "top_k", "top_p", "volume", "paused", "frozen", "reset", "seed"}
    assert "Traceback" not in play.shown.decode()
    (seed,) = [change["seed"] for change in saved["changes"] if "seed" in change]
    assert seed != 1 and f"--seed {seed} --temperature 0.95 --top-p 0.95 --duration" in saved["commands"]["generate"]
    # The same score makes the same samples, in a file's large blocks too.
    again = subprocess_of("play", model, "--score", "tune-seed1.json", "-o", "-", "--format", "s16", "--block", 1024)
    assert len(again.stdout) == 2 * saved["samples"] and output.startswith(again.stdout)
    assert run("play", model, "--score", "tune-seed1.json", "-o", "again.wav") == 0
    assert (tmp_path / "again.wav").read_bytes().endswith(again.stdout)


def test_a_score_of_another_model_is_refused(model, terminal, tmp_path, capsys):
    play = terminal(*endless(model))
    play.until("temperature 1 ")
    play.press("sq")
    play.until("played")
    assert play.end()[0] == 0
    assert run("play", "demo", "--score", "tune-seed1.json", "-o", "x.wav") == 2
    assert "the score was played on another model" in assert_one_line_error(capsys)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)]
)
def test_a_signal_gives_the_terminal_back(model, terminal, number, status):
    play = terminal(*endless(model))
    play.until("temperature 1 ")
    assert play.taken()
    play.process.send_signal(number)
    play.until("; --seed 1 plays it once more")
    assert play.end()[0] == status and play.settings() == play.before


def test_ctrl_c_is_a_key_of_the_terminal(model, terminal):
    play = terminal(*endless(model))
    play.until("temperature 1 ")
    play.press("[")
    until_heard(play, "top-p 0.95 ")
    play.press("\x03")
    play.until("; its changes are not kept, which the key s does")
    assert play.end()[0] == 130 and play.settings() == play.before


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_again(model, terminal):
    shell = terminal(program=["/bin/sh", "-i"])
    shell.press('PS1="rea""dy> "\n')  # so that its echo is not taken for it
    shell.until("ready> ")
    before = shell.settings()
    words = [sys.executable, "-m", "samplernn_fast", "play", *endless(model)]
    shell.press(shlex.join(map(str, words)) + " > /dev/null\n")
    shell.until("temperature 1 ")
    for number in range(2):
        assert shell.taken()
        shell.press("\x1a")
        shell.until("ready> ")
        assert shell.settings() == before
        if number:  # in the background it plays on, and touches nothing
            shell.press("bg\n")
            shell.until("ready> ")
            time.sleep(0.3)
            shell.press("jobs >&2\n")
            # A line that was about to be drawn when the job was stopped may still come, and no other one.
            assert shell.until("Running").count("temperature") <= 1
            assert shell.settings() == before
        shell.press("fg\n")
        shell.until("temperature 1 ")
        shell.press("[]")  # is heard again
        shell.until("top-p 0.95 ")
    shell.press("q")
    shell.until("ready> ")
    assert shell.settings() == before
    shell.press("exit\n")
    assert shell.process.wait(30) == 0


CRASH = """
import sys
from samplernn_fast.commands import main
from samplernn_fast.serving.playing.instrument import Instrument

make, blocks = Instrument.make, []

def crash(self, n):
    blocks.append(n)
    if len(blocks) > 20:
        raise ZeroDivisionError("as no test expects")
    return make(self, n)

Instrument.make = crash
main.main(["play", *sys.argv[1:]])
"""


def test_a_crash_gives_the_terminal_back(model, terminal):
    play = terminal(*endless(model), code=CRASH)
    play.until("ZeroDivisionError: as no test expects")
    assert play.end()[0] == 1 and play.settings() == play.before
