"""The progress bar and ctrl-C: what is shown to whom, and what a first and a second signal do."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from samplernn_fast import terminal

HIDDEN = """
import sys
from samplernn_fast import terminal

with terminal.Bar(3, "step") as bar, terminal.audio_bar(2.0, shown=False) as audio:
    bar.advance()
    bar.move_to(2, "note")
    bar.say("line")
    audio.advance(0.5)
assert "tqdm" not in sys.modules
"""


def test_a_bar_that_nobody_watches_prints_nothing_and_loads_nothing():
    done = subprocess.run([sys.executable, "-c", HIDDEN], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_bar_shows_what_is_done(capsys):
    with terminal.Bar(10, "step", shown=True, start=4, title="walk") as bar:
        bar.advance(2)
        bar.move_to(10, "all of it")
        bar.say("a line of its own")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "walk" in shown.err and "4/10" in shown.err and "10/10" in shown.err and "all of it" in shown.err
    assert "a line of its own\n" in shown.err


def test_the_bar_of_audio_gives_the_speed_in_x_real_time(capsys):
    with terminal.audio_bar(2.0, shown=True) as bar:
        bar.advance(2.0)
    shown = capsys.readouterr().err
    assert "2.0/2.0 s of audio" in shown and "x real time" in shown


def test_a_first_ctrl_c_is_collected_and_a_second_one_interrupts():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminal.interrupts() as caught:
        os.kill(os.getpid(), signal.SIGINT)
        assert caught == [signal.SIGINT]
        os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_other_signals_are_collected_where_they_are_named():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminal.interrupts(signal.SIGTERM) as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert caught == [signal.SIGTERM, signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_thread_keeps_its_signals():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with terminal.interrupts() as caught:
            seen.append((signal.getsignal(signal.SIGINT), list(caught)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, [])]
