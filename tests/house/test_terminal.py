"""Progress and ctrl-C: what is shown to whom, and what a first and a second signal do."""

import os
import re
import select
import signal
import struct
import subprocess
import sys
import threading
import time

import pytest

from samplernn_fast import terminal
from samplernn_fast.commands import standard_streams

SHORT = """
import sys
from samplernn_fast import terminal

with terminal.Bar(3, "step") as bar, terminal.audio_bar(2.0) as audio:
    bar.advance()
    bar.move_to(2, "note")
    audio.advance(0.5)
terminal.Bar(3, "step", shown=False).say("line")
assert "tqdm" not in sys.modules
"""


def test_short_work_prints_nothing_and_loads_nothing():
    done = subprocess.run([sys.executable, "-c", SHORT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def watched(monkeypatch):
    """Standard error counts as a terminal."""
    monkeypatch.setattr(terminal, "is_watched", lambda: True)


def test_a_bar_shows_what_is_done(watched, capsys):
    with terminal.Bar(10, "step", start=4, title="walk") as bar:
        bar.advance(2)
        bar.move_to(10, "all of it")
        bar.say("a line of its own")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "walk" in shown.err and "4/10" in shown.err and "10/10" in shown.err and "all of it" in shown.err
    assert "a line of its own\n" in shown.err


def test_the_bar_of_audio_gives_the_speed_in_x_real_time(watched, capsys):
    with terminal.audio_bar(2.0) as bar:
        bar.advance(2.0)
    shown = capsys.readouterr().err
    assert re.search(r"2\.0/2\.0 s of audio, [\d.]+[kMG]? x real time, 00:00 left", shown), shown


def test_a_unit_stands_apart_from_its_number(watched, capsys):
    with terminal.Bar(1000, "sample", prefixes=True) as bar:
        time.sleep(0.01)
        bar.advance(1000)
    assert re.search(r"1\.00k/1\.00k .*[\d.]+k sample/s", capsys.readouterr().err)


ON_A_TERMINAL = """
import sys
from samplernn_fast import terminal

terminal._FIRST_WAIT = terminal._SECOND_WAIT = 0.02
with terminal.Bar(3, "step", title="walk") as bar:
    bar.advance()
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs terminals of Unix")
@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (24, 0), (0, 80), (24, 80)])
def test_a_terminal_without_a_size_gets_lines(rows, columns):
    import fcntl
    import pty
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command, shown = [sys.executable, "-c", ON_A_TERMINAL], b""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=slave, env=environment) as process:
        awaited = b"0/3" if rows and columns else b"walk: 1 of 3 steps"  # a bar moves at its end at the latest
        while awaited not in shown and select.select([master], [], [], 60)[0]:
            shown += os.read(master, 1 << 16)
        process.stdin.close()
    while select.select([master], [], [], 0)[0]:
        shown += os.read(master, 1 << 16)
    os.close(slave)
    os.close(master)
    assert process.returncode == 0 and (b"1/3" if rows and columns else b"walk: 1 of 3 steps") in shown


@pytest.fixture
def hasty(monkeypatch):
    """Lines come after hundredths of a second, not after seconds."""
    monkeypatch.setattr(terminal, "_FIRST_WAIT", 0.02)
    monkeypatch.setattr(terminal, "_SECOND_WAIT", 0.02)


def first_line(capsys, work):
    """The first line that appears on standard error while a bar is open that `work` has moved."""
    with work as bar:
        for _ in range(6000):
            time.sleep(0.01)
            if shown := capsys.readouterr().err:
                break
    assert shown.endswith("\n")
    return bar, shown.splitlines()[0]


def test_long_work_prints_lines_where_nobody_watches(hasty, capsys):
    bar = terminal.Bar(12, "file", title="decode", start=2)
    bar.move_to(5, "three are silent")
    line = first_line(capsys, bar)[1]
    assert re.fullmatch(r"decode: 5 of 12 files, [\d.]+k? files/s, \d+ s left, three are silent", line), line


def test_work_whose_first_step_is_long_says_that_it_runs(hasty, capsys):
    line = first_line(capsys, terminal.Bar(None, "step"))[1]
    assert re.fullmatch(r"0 steps, \d+ s so far", line), line


def test_the_line_of_audio_gives_the_speed_in_x_real_time(hasty, capsys):
    bar = terminal.audio_bar(60, title="generate")
    bar.advance(3)
    line = first_line(capsys, bar)[1]
    assert re.fullmatch(r"generate: 3\.0 of 60\.0 s of audio, [\d.]+k? x real time, \d+ s left", line), line


def test_lines_come_more_seldom_and_end_with_the_work(hasty, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "_LONGEST_WAIT", 0.02)
    lines, deadline = [], time.monotonic() + 60
    with terminal.Bar(None, "step") as bar:
        while len(lines) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
            lines += capsys.readouterr().err.splitlines()
    bar.close()
    assert len(lines) >= 3
    capsys.readouterr()  # one more may have come meanwhile
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_numbers_in_words():
    assert [terminal.duration(seconds) for seconds in (0.2, 59.4, 200, 7500)] == [
        "0 s",
        "59 s",
        "3 min 20 s",
        "2 h 5 min",
    ]


def test_audio_and_counts_in_words():
    assert [terminal.audio_length(seconds) for seconds in (8.23, 204, 7380)] == ["8.2 s", "3.4 min", "2.05 h"]
    assert [terminal.counted(n, "minute") for n in (0, 0.5, 1, 1.0, 2, 10**6)] == [
        "0 minutes",
        "0.5 minutes",
        "1 minute",
        "1 minute",
        "2 minutes",
        "1000000 minutes",
    ]


UNHEARD = """
import time
from samplernn_fast import terminal

terminal._FIRST_WAIT = terminal._SECOND_WAIT = 0.01
with terminal.Bar(3, "step") as bar:
    time.sleep(0.1)
    bar.say("line")
print("done")
"""


@pytest.mark.parametrize("how", ["closed", "full"])
def test_standard_error_that_takes_nothing_does_not_end_the_work(how):
    redirection = "2>&-" if how == "closed" else "2>/dev/full"
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, UNHEARD]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout == "done\n"


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
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):  # only ctrl-C counts
            os.kill(os.getpid(), number)
        assert caught == [signal.SIGTERM, signal.SIGTERM, signal.SIGINT]
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before


def test_more_patience_takes_more_than_one_ctrl_c_and_says_once_what_happens(capfd):
    with pytest.raises(KeyboardInterrupt), terminal.interrupts(patience=2, notice="stops soon") as caught:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        assert caught == [signal.SIGINT] * 2
        os.kill(os.getpid(), signal.SIGINT)
    assert capfd.readouterr().err == "\nstops soon\n"


def test_a_signal_that_was_ignored_at_the_start_stays_ignored():
    """Shells start background jobs so, and nohup."""
    ignored = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in ignored]
    try:
        with standard_streams.stopped_by_sigterm(), terminal.interrupts(signal.SIGTERM, patience=0) as caught:
            for number in ignored:
                os.kill(os.getpid(), number)
        assert caught == [] and [signal.getsignal(number) for number in ignored] == [signal.SIG_IGN] * 2
    finally:
        for number, handler in zip(ignored, before, strict=True):
            signal.signal(number, handler)


def test_another_thread_keeps_its_signals():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with terminal.interrupts() as caught:
            seen.append((signal.getsignal(signal.SIGINT), list(caught)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, [])]


def test_a_long_wait_says_why(hasty, capsys):
    with terminal.waiting("loading a mountain"):
        deadline = time.monotonic() + 60
        while not (shown := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert shown == "loading a mountain ...\n"


def test_a_short_wait_and_one_that_nobody_is_to_see_are_silent(hasty, monkeypatch, capsys):
    with terminal.waiting("hidden", shown=False):
        time.sleep(0.1)
    monkeypatch.setattr(terminal, "_FIRST_WAIT", 30.0)
    with terminal.waiting("short"):
        pass
    assert capsys.readouterr().err == "" and "short" not in [thread.name for thread in threading.enumerate()]


def test_a_line_of_waiting_never_comes_after_the_wait(hasty, monkeypatch):
    """Here printing takes long, and the block ends in the middle of it."""
    printing, printed = threading.Event(), []

    def say(line):
        printing.set()
        time.sleep(0.2)
        printed.append(line)

    monkeypatch.setattr(terminal, "say", say)
    with terminal.waiting("loading a mountain"):
        assert printing.wait(60)
    assert printed == ["loading a mountain ..."]


def test_a_note_shows_on_the_bar_at_once(watched, capsys):
    with terminal.Bar(10, "step") as bar:
        bar.move_to(0, "validating")
        assert "validating" in capsys.readouterr().err
