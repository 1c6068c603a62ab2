"""The `radio` command: killed, replayed, sent through a pipe, and refused."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from command_line import RATE, assert_one_line_error, line_with, run, subprocess_of, told
from safetensors import safe_open

from samplernn_fast import terminal
from samplernn_fast.commands.live.radio import seconds_of
from samplernn_fast.errors import ConfigError
from samplernn_fast.serving.radio import outlets

pytestmark = pytest.mark.usefixtures("elsewhere")

FLAGS = ("--change", "10", "--file-minutes", "0.2", "--state-seconds", "2", "--seed", "5", "--device", "cpu")
SECONDS = 30


@pytest.fixture
def model(trained):
    """The run folder that the command line made."""
    return trained


def radio(*args, **options):
    return subprocess.Popen([sys.executable, "-m", "samplernn_fast", "radio", *map(str, args)], **options)


def states(folder):
    log = folder / "radio.jsonl"
    return (
        [json.loads(line)["at"] for line in log.read_text().splitlines() if '"state"' in line] if log.exists() else []
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.*")}


def kill_behind(process, folder, position):
    """kill -9 as soon as a state behind a sample is saved."""
    wait_until(process, lambda: max(states(folder), default=0) >= position)
    process.kill()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_a_radio_that_was_killed_three_times_makes_the_same_files(model, tmp_path):
    killed = tmp_path / "killed"
    for _ in range(3):
        kill_behind(radio(model, "-o", killed, *FLAGS), killed, max(states(killed), default=0) + 3 * RATE)
    # How far a radio comes before it is killed depends on the machine, so the length is chosen behind that.
    seconds = max(SECONDS, max(states(killed)) // RATE + 6)
    for folder in (killed, tmp_path / "whole"):
        assert run("radio", model, "-o", folder, "--duration", seconds, *FLAGS) == 0
    assert contents(killed) == contents(tmp_path / "whole")
    files = (f"radio-{number:05d}.flac" for number in range(math.ceil(seconds / 12)))  # of 0.2 minutes
    assert set(contents(killed)) == {"radio.jsonl", *files}


@pytest.mark.parametrize(("start", "first"), [("0", 0), ("00:07.5", 7.5), ("00:00:21", 21)])
def test_a_replay_makes_the_same_samples(model, capsys, start, first):
    assert run("radio", model, "-o", "live", "--duration", SECONDS, *FLAGS) == 0
    played = np.concatenate([soundfile.read(f"live/radio-{n:05d}.flac", dtype="int16")[0] for n in range(3)])
    capsys.readouterr()
    assert run("radio", "--replay", "live/radio.jsonl", "--from", start, "--duration", "6", "-o", "again.wav") == 0
    assert capsys.readouterr().out == "again.wav\n"
    again, rate = soundfile.read("again.wav", dtype="int16")
    at = round(first * RATE)
    assert rate == RATE and np.array_equal(again, played[at : at + 6 * RATE])
    assert np.abs(again).max() > 100
    assert run("radio", "--replay", "live", "-o", "again.wav") == 1
    assert "again.wav exists" in assert_one_line_error(capsys)


def test_a_replay_needs_the_model_that_was_played(model, capsys):
    assert run("radio", model, "-o", "live", "--duration", "3", *FLAGS) == 0
    log = Path("live", "radio.jsonl")
    text = log.read_text()
    log.write_text(re.sub(r'"sha256": "[0-9a-f]+"', '"sha256": "0"', text))
    capsys.readouterr()
    assert run("radio", "--replay", log, "-o", "again.wav") == 1
    assert "is not the model that was played" in assert_one_line_error(capsys)


@pytest.mark.parametrize("kind", ["wav", "s16", "f32"])
def test_standard_output_gets_the_sound(model, kind):
    done = subprocess_of("radio", model, "-o", "-", "--format", kind, "--duration", "2.5", *FLAGS)
    assert done.returncode == 0 and re.fullmatch(
        rf"the radio begins: {model.name} to standard output, as fast as it can; (SIGTERM|ctrl-C) stops it\n",
        told(done.stderr.decode()),
    )
    assert run("radio", model, "-o", "live", "--duration", "2.5", *FLAGS) == 0
    wanted, _ = soundfile.read("live/radio-00000.flac", dtype="int16")
    if kind == "f32":
        found = np.floor(np.frombuffer(done.stdout, "<f4") * 32768 + 0.5)
    else:
        found = np.frombuffer(done.stdout[-2 * len(wanted) :], "<i2")
    assert len(wanted) == 2.5 * RATE and np.array_equal(found, wanted)
    assert done.stdout.startswith(b"RIFF") == (kind == "wav")


def test_a_reader_that_goes_away_ends_the_radio_quietly(model):
    process = radio(model, "-o", "-", *FLAGS, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert len(process.stdout.read(10_000)) == 10_000
    process.stdout.close()
    assert process.wait(60) == 1
    assert told(process.stderr.read().decode()).count("\n") == 1  # which says that it begins


def grown(folder):
    """The samples that lie in no file yet, or in one for which no state was saved."""
    return sum(path.stat().st_size // 2 for path in (folder / "states").glob("growing-*.s16"))


def wait_until(process, condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)


RARE = ("--change", "10", "--file-minutes", "0.2", "--state-seconds", "3600", "--seed", "5", "--device", "cpu")


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_radio_that_is_stopped_goes_on_there_before_its_first_state(model, tmp_path, capsys):
    folder = tmp_path / "stopped"
    made = [0]
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = radio(model, "-o", folder, *RARE, stderr=subprocess.PIPE, text=True)
        wait_until(process, lambda: grown(folder) > made[-1] + 4 * RATE)
        process.send_signal(number)
        error = process.communicate(timeout=60)[1]
        made.append(grown(folder))
        assert process.returncode == status and states(folder) == []
        with safe_open(folder / "states" / "stopped.safetensors", "np") as state:
            kept = json.loads(state.metadata()["samplernn_fast"])["info"]["radio"]["position"]
        assert made[-1] - RATE <= kept <= made[-1]
        said = re.search(r"\nsamplernn-fast: stopped after .* of sound; the same command goes on from there, in (.*);"
                         r" with --duration (\d+) it makes a file of what is in none yet\n$", error)  # fmt: skip
        assert said[1] == str(folder) and int(said[2]) == math.ceil(made[-1] / RATE)
    end = int(said[2]) + 2
    for name in (folder, tmp_path / "whole"):
        assert run("radio", model, "-o", name, "--duration", end, *RARE) == 0
    assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo terminal")
def test_in_a_terminal_it_says_where_it_goes_on_and_how_far_it_is(model, tmp_path):
    from pseudo_terminal import Terminal

    words = [sys.executable, "-m", "samplernn_fast", "radio", model, "-o", tmp_path / "live", *RARE]
    for begins in ("begins", r"goes on after \d+ s of sound"):
        shown = Terminal(program=[str(word) for word in words])
        try:
            said = shown.until("; ctrl-C stops it and keeps its place")
            assert re.search(rf"the radio {begins}: {model.name} to .*live, as fast as it can;", said)
            shown.until(f" x real time, {model.name} with seed ")
            wait_until(shown.process, lambda: grown(tmp_path / "live") > 2 * RATE)
            shown.press("\x03")
            shown.until("it makes a file of what is in none yet")
            assert shown.end()[0] == 130
        finally:
            shown.close()


NOTICING = """
import functools, sys
from samplernn_fast import terminal
from samplernn_fast.commands import main

terminal.interrupts = functools.partial(terminal.interrupts, notice="noted")
main.main(["radio", *sys.argv[1:]])
"""
"""A radio that says when it has noted a signal. Two that come before would count as one."""


def sleeps(process):
    """Whether a process waits for something else than a processor, where the system tells."""
    stat = Path(f"/proc/{process.pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "S"


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_again_ends_a_radio_that_waits_for_its_reader(model, tmp_path):
    log, mark = tmp_path / "log", tmp_path / "log" / "states" / "heard"
    words = (model, "-o", "-", "--format", "s16", "--log", log, *RARE)
    process = subprocess.Popen(
        [sys.executable, "-c", NOTICING, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False
    )
    heard = [-1, 0]

    def stands():
        time.sleep(0.5)
        heard.append(int.from_bytes(mark.read_bytes(), "little") if mark.exists() else 0)
        return heard[-1] == heard[-2] > 0 and sleeps(process)

    wait_until(process, stands)
    process.send_signal(signal.SIGINT)
    while process.stderr.readline() != b"noted\n":
        assert process.poll() is None
    time.sleep(0.2)
    assert process.poll() is None  # it may be read yet
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    first = process.stdout.read()
    process.stdout.close()
    process.stderr.close()
    end = len(first) / 2 / RATE + 2
    again = subprocess_of("radio", model, "-o", "-", "--format", "s16", "--log", log, "--duration", end, *RARE).stdout
    whole = subprocess_of("radio", model, "-o", "-", "--format", "s16", "--duration", end, *RARE).stdout
    twice = len(first) + len(again) - len(whole)
    assert whole.startswith(first) and whole.endswith(again) and 0 <= twice <= 2 * RATE // 4


def test_a_radio_without_a_log_says_that_it_begins_anew(model):
    process = radio(model, "-o", "-", *RARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False)
    process.stdout.read(44)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 143
    assert re.fullmatch(
        r"the radio begins: .*\n"
        r"samplernn-fast: stopped after .* of sound; .* begins anew, and goes on where --log .*\n",
        told(error),
    )


def test_without_a_terminal_it_says_how_far_it_is(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "_FIRST_WAIT", 0.05)
    monkeypatch.setattr(terminal, "_SECOND_WAIT", 0.1)
    printed, write = line_with(monkeypatch, " s of audio, "), outlets.FolderOutlet.write

    def write_slowly(self, samples):
        written = write(self, samples)
        assert printed.wait(60)
        return written

    monkeypatch.setattr(outlets.FolderOutlet, "write", write_slowly)
    for duration, begins in (("20", "begins"), ("30", r"goes on after \d+ s of sound")):
        printed.clear()
        assert run("radio", model, "-o", "live", "--duration", duration, *FLAGS) == 0
        first, *others = capsys.readouterr().err.splitlines()
        assert re.fullmatch(
            rf"the radio {begins}: {model.name} to live, .* SIGTERM stops it and keeps its place", first
        )
        assert others
        for line in others:
            assert re.fullmatch(rf"[\d.]+ of {duration}\.0 s of audio, .*, {model.name} with seed \d+", line), line


def test_at_the_end_it_names_what_it_made(model, capsys):
    for duration, named in (
        ("3", "live/radio-00000.flac\n"),
        ("20", "live: 2 files, radio-00000.flac to radio-00001.flac\n"),
    ):
        assert run("radio", model, "-o", "live", "--duration", duration, *FLAGS) == 0
        assert capsys.readouterr().out == named


def test_a_log_of_endless_sound_stays_short(monkeypatch):
    """A line comes after every ten minutes at last, so that a month has few thousands."""
    waits = []

    class Ended:
        def wait(self, seconds):
            waits.append(seconds)
            return len(waits) > 40

        def set(self):
            pass

    monkeypatch.setattr(terminal, "threading", SimpleNamespace(Event=Ended, Thread=threading.Thread))
    monkeypatch.setattr(terminal, "say", lambda line: None)
    terminal.audio_bar(None).close()
    assert waits[0] <= 2 and sum(waits[:12]) < 3600 and waits[-1] == 600
    waits.clear()
    terminal.audio_bar(600.0).close()
    assert waits[-1] == 30


@pytest.mark.parametrize(("flags", "named"), [(["-o"], "--output"), (["-o", "-", "--log"], "--log")])
def test_two_radios_do_not_play_into_one_folder(flags, named, model, tmp_path, capsys):
    folder = tmp_path / "busy"
    process = radio(model, "-o", folder, "--real-time", *FLAGS)
    try:
        wait_until(process, lambda: states(folder))
        assert run("radio", model, *flags, folder, "--duration", "1", *FLAGS) == 1
        assert f"another radio plays into this folder; name another by {named}" in assert_one_line_error(capsys)
    finally:
        process.kill()
        process.wait()


REFUSED = {
    "no place": ("radio {model}", "--output must be named"),
    "a file": ("radio {model} -o x.flac", "--output must be a folder, or -"),
    "a pipe's format": ("radio {model} -o out --format s16", "--format must be one of flac, ogg in a folder, got s16"),
    "a file's format": ("radio {model} -o - --format flac", "--format must be one of wav, s16, f32 on standard output"),
    "two logs": ("radio {model} -o out --log other", "--log must be left out"),
    "bounds": ("radio {model} -o out --temperature 1.1 0.9", "the lower bound and the upper one, got 1.1 0.9"),
    "one bound": ("radio {model} -o out --temperature 1.1", "--temperature"),
    "nucleus": ("radio {model} -o out --top-p 0.5 1.5", "--top-p must be above 0 and at most 1"),
    "change": ("radio {model} -o out --change 1", "--change must be 10 to 86400 seconds"),
    "loudness": ("radio {model} -o out --loudness 0", "--loudness must be -60 to -10 LUFS"),
    "one name": ("radio {model} {model} -o out", "would both be called"),
    "time": ("radio --replay out -o x.wav --from noon", "--from must be seconds, or hours, minutes and seconds"),
    "data folder": ("radio {model} -o {data}", "must not be in a data folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_made(case, model, data_folder, capsys):
    line, message = REFUSED[case]
    before = sorted(os.listdir())
    assert run(*line.format(model=model, data=data_folder).split()) == 2
    assert message in assert_one_line_error(capsys)
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("radio none -o out", "no such run folder"),
        ("radio --replay none -o x.wav", "none"),
        ("radio --replay {model} -o x.wav", "log of a radio"),
        ("radio {model} -o taken", "something else has its name"),
    ],
)
def test_what_is_missing_is_told(line, message, model, capsys):
    with open("taken", "w"):
        pass
    assert run(*line.format(model=model).split()) == 1
    assert message in assert_one_line_error(capsys)
    assert os.listdir() == ["taken"]


def test_another_radio_in_the_folder_is_left_alone(model, capsys):
    assert run("radio", model, "-o", "live", "--duration", "3", *FLAGS) == 0
    live = Path("live")
    before = contents(live)
    capsys.readouterr()
    assert len(before) == 2
    assert run("radio", model, "-o", "live", "--duration", "3", *FLAGS, "--temperature", "0.5", "0.6") == 2
    assert "live holds another radio: temperature was [0.9, 1.05], and is [0.5, 0.6] now" in assert_one_line_error(
        capsys
    )
    assert contents(live) == before


def test_a_folder_of_something_else_is_left_alone(model, capsys):
    Path("album").mkdir()
    Path("album", "song.wav").write_text("mine")
    assert run("radio", model, "-o", "album", "--duration", "1", *FLAGS) == 2
    assert "album holds something else than a radio (song.wav)" in assert_one_line_error(capsys)
    assert os.listdir("album") == ["song.wav"]


def test_a_radio_goes_on_beside_files_that_came_later(model):
    assert run("radio", model, "-o", "live", "--duration", "1", *FLAGS) == 0
    Path("live", "cover.jpg").write_text("mine")
    assert run("radio", model, "-o", "live", "--duration", "2", *FLAGS) == 0


def test_times_are_read_as_people_write_them():
    assert [seconds_of(text) for text in ("90", "1.5", "02:03", "01:23:00")] == [90, 1.5, 123, 4980]
    for text in ("", "-1", "1:2:3:4", "1h", "nan", ":5", "1e3"):
        with pytest.raises(ConfigError):
            seconds_of(text)
