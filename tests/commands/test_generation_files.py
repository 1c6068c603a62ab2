"""Where `samplernn-fast generate` writes: names, folders, standard output, and what a signal or a full disk leaves."""

import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch
from command_line import ALL_IN_ONE, RATE, assert_one_line_error, line_with, make, run
from file_limit import file_limit

import samplernn_fast as srnn
from samplernn_fast.audio import reading, writing
from samplernn_fast.engine.pace import Pace

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def model(trained):
    """The run folder that the command line made."""
    return trained


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_same_command_twice_takes_the_next_free_name(model, tmp_path, capsys):
    for _ in range(3):
        assert make(model, "--seed", 5) == 0
    shown = capsys.readouterr().out
    assert names(tmp_path) == ["tune-seed5-2.wav", "tune-seed5-3.wav", "tune-seed5.wav"]
    assert all(name in shown for name in names(tmp_path))
    assert make(model, "--seed", 5, "--num-samples", 2) == 0
    assert names(tmp_path)[:2] == ["tune-seed5-00.wav", "tune-seed5-01.wav"]
    assert make(model, "--seed", 5, "--num-samples", 2) == 0
    assert {"tune-seed5-2-00.wav", "tune-seed5-2-01.wav"} <= set(names(tmp_path))
    assert make(model, "--seed", 5, "--overwrite") == 0
    assert len(names(tmp_path)) == 7


def test_the_same_take_under_a_new_name_is_said(model, capsys):
    said = "the same settings and seed make the same as before, in tune-seed0{}.wav; try --seed random"
    for pieces, name in ((1, ""), (2, "-00")):
        for again in (False, True):
            assert make(model, "--num-samples", pieces) == 0
            assert (said.format(name) in capsys.readouterr().out) == again
    assert make(model, "--num-samples", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["tune-seed0-3.wav"]
    with open("tune-seed7.wav", "w"):
        pass  # what else bears the name is no earlier take
    assert make(model, "--seed", 7) == 0
    assert "as before" not in capsys.readouterr().out


def test_names_say_what_differs(model, tmp_path, capsys):
    for heat in (0.5, 1.0, 1.5, 1.5):
        assert make(model, "-o", "takes/", "--temperature", heat) == 0
    found = ["tune-seed0-t0.5.wav", "tune-seed0-t1.5-2.wav", "tune-seed0-t1.5.wav", "tune-seed0.wav"]
    assert names(tmp_path / "takes") == found
    cold, hot = (soundfile.read(tmp_path / "takes" / name)[0] for name in (found[0], found[2]))
    assert not np.array_equal(cold, hot)
    assert make(model, "--temperature", "0:1.25,3:0.75", "--top-k", 50, "--top-p", 0.95) == 0
    assert make(model, "--temperature", 0.25, 0.75, "--num-samples", 2, "--num-shards", 2, "--shard-index", 1) == 0
    here = sorted(path.name for path in tmp_path.glob("*.wav"))
    assert here == ["tune-seed0-t0.25-0.75-01.wav", "tune-seed0-t0.75-1.25-k50-p0.95.wav"]


def test_a_data_folder_gets_no_audio_and_a_run_folder_may(model, data_folder, tmp_path, capsys):
    shutil.copytree(data_folder, tmp_path / "data")
    before = names(tmp_path / "data")
    for output in ("data/", "data/x.wav"):
        assert make(model, "-o", output) == 2
        assert "--output must not be in a data folder, and data is one" in assert_one_line_error(capsys)
    assert names(tmp_path / "data") == before
    shutil.copytree(model, tmp_path / "run")
    assert make("run", "-o", "run/") == 0
    assert (tmp_path / "run" / "run-seed0.wav").is_file()


@pytest.mark.parametrize("output", ["t0.9/", "t0.9", "new", "deep/er/t1.wav/"])
def test_what_counts_as_a_folder(model, tmp_path, capsys, output):
    assert make(model, "-o", output) == 0
    assert names(tmp_path) == [f"{output.rstrip('/')}/tune-seed0.wav"]


def test_folders_of_a_file_are_made(model, tmp_path, capsys):
    assert make(model, "-o", "dir/sub/x.flac") == 0
    assert names(tmp_path) == ["dir/sub/x.flac"]


def test_takes_are_padded_to_sort_by_number(model, tmp_path, capsys):
    assert make(model, "-o", "x.wav", "--num-samples", 101, "--num-shards", 50, "--shard-index", 49, duration=1e-3) == 0
    assert [name for name in names(tmp_path) if "/" not in name] == ["x-098.wav", "x-099.wav", "x-100.wav"]


def test_a_share_is_not_made_twice_under_other_names(model, tmp_path, capsys):
    args = ("-o", "all/", "--num-samples", 4, "--num-shards", 2)
    for made in ("2 made, 0 were there", "0 made, 2 were there"):
        assert make(model, *args, "--shard-index", 1) == 0
        assert made in capsys.readouterr().out
    assert make(model, *args, "--shard-index", 0) == 0
    found = [name for name in names(tmp_path) if ".job" not in name]
    assert found == [f"all/tune-seed0-{index:02d}.wav" for index in range(4)]


def test_a_random_seed_is_told_and_makes_the_same_again(model, tmp_path, capsys):
    for _ in range(2):
        assert make(model, "--seed", "random") == 0
    first, second = (name.removesuffix(".wav").removeprefix("tune-seed") for name in names(tmp_path))
    assert first != second and f"seed {first}" in capsys.readouterr().out
    made = srnn.generate(model, duration=0.02, seed=int(first))
    assert np.array_equal(reading.read(f"tune-seed{first}.wav")[0], np.round(made.samples[0] * 32768) / 32768)


def test_the_bytes_are_those_that_python_saves(model, tmp_path, capsys):
    for suffix in (".wav", ".flac", ".mp3"):
        assert make(model, "-o", f"a{suffix}", "--seed", 3, "--num-samples", 2, duration=0.7) == 0
        paths = srnn.generate(model, seed=3, num_samples=2, duration=0.7).save(f"b{suffix}")
        for index, path in enumerate(paths):
            assert path.read_bytes() == (tmp_path / f"a-{index:02d}{suffix}").read_bytes()


REFUSED_BEFORE_TORCH = {
    "file exists": "generate demo -o taken.wav",
    "suffix": "generate demo -o x.xyz",
    "temperature": "generate demo --temperature 0:1,5:-1",
    "seed": "generate demo --seed -1",
    "top k": "generate demo --top-k 0",
    "duration": "generate demo --duration 0",
    "missing model": "generate missing",
    "missing prompt": "generate demo --prompt gone.wav",
    "threads of another backend": "generate demo --backend reference --num-threads 2",
    "two pieces on standard output": "generate demo -o - --num-samples 2",
}


def test_refusals_come_before_torch_is_loaded(tmp_path):
    (tmp_path / "taken.wav").touch()
    command = [sys.executable, "-c", ALL_IN_ONE, *REFUSED_BEFORE_TORCH.values()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(REFUSED_BEFORE_TORCH)


def start(*args, **options):
    command = [sys.executable, "-m", "samplernn_fast", "generate", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_standard_output_streams_and_ends_quietly_when_nobody_listens(model):
    process = start(model, "-o", "-", "--duration", 3600)
    began = time.monotonic()
    first = process.stdout.read(4000)
    assert time.monotonic() - began < 60  # an hour of audio takes much longer
    process.stdout.close()
    assert process.wait(60) in (0, 1)
    assert not re.search(rb"samplernn-fast:|Traceback|Error", process.stderr.read())
    assert first[:4] == b"RIFF"
    samples = np.frombuffer(first[first.index(b"data") + 8 :], "<i2")
    made = srnn.generate(model, duration=0.5).samples[0, : len(samples)]
    assert len(samples) > 1000 and np.array_equal(samples, np.round(made * 32768))


def test_a_whole_stream_is_the_file(model, capsysbinary):
    assert make(model, "-o", "-", duration=0.3) == 0
    streamed = capsysbinary.readouterr().out
    assert make(model, "-o", "x.wav", duration=0.3) == 0
    with open("x.wav", "rb") as file:
        assert streamed == file.read()


def test_a_terminal_is_not_sent_a_wav(model, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert make(model, "-o", "-") == 2
    assert "standard output is a terminal" in capsys.readouterr().err


def test_sigterm_keeps_what_is_made(model, tmp_path):
    process = start(model, "--duration", 80000, "--num-samples", 2, "-o", "kept.flac", text=True)
    for _ in range(600):
        time.sleep(0.1)
        if sum(path.stat().st_size for path in tmp_path.glob(".*.tmp")) > 20_000:
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert names(tmp_path) == ["kept-00.flac", "kept-01.flac"]
    lengths = [reading.probe(tmp_path / name).frames for name in names(tmp_path)]
    assert lengths[0] == lengths[1] > 4000
    assert f"interrupted: kept the first {lengths[0] / RATE:.2f} seconds" in err.splitlines()[-1]
    assert out.splitlines()[:2] == names(tmp_path)
    kept = soundfile.read(tmp_path / "kept-01.flac", frames=4000)[0]
    assert np.array_equal(kept, np.round(srnn.generate(model, duration=0.5, first_stream=1).samples[0] * 32768) / 32768)


def test_a_second_ctrl_c_leaves_nothing(model, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("samplernn_fast.audio.takes.Takes.write", interrupt)
    assert make(model, "-o", "x.wav") == 130
    assert names(tmp_path) == []


def test_a_file_that_another_program_makes_while_the_last_is_ended_is_kept(model, tmp_path, monkeypatch):
    end = writing.Writer.end

    def end_late(self):
        end(self)
        (tmp_path / "x.wav").write_bytes(b"theirs")

    monkeypatch.setattr(writing.Writer, "end", end_late)
    assert make(model, "-o", "x.wav") == 0
    assert names(tmp_path) == ["x-2.wav", "x.wav"]
    assert (tmp_path / "x.wav").read_bytes() == b"theirs"


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_disk_that_fails_in_the_middle_of_a_write_leaves_nothing(model, tmp_path, monkeypatch, capsys, suffix):
    """Where the system can keep no room on a disk, a write finds out."""
    monkeypatch.delattr(writing.os, "posix_fallocate", raising=False)
    with file_limit(8192):
        assert make(model, "-o", f"x{suffix}", "--num-samples", 2, duration=3) == 1
    error = assert_one_line_error(capsys)
    assert error == f"samplernn-fast: x-00{suffix}: cannot be written: File too large\n"
    assert names(tmp_path) == []


def test_a_folder_that_disappears_is_one_line(model, tmp_path, monkeypatch, capsys):
    ends = srnn.Engine.run

    def run_and_remove(self, state, n):
        for path in (tmp_path / "out").glob(".*"):
            path.unlink()
        if (tmp_path / "out").exists():
            os.rmdir(tmp_path / "out")
        return ends(self, state, n)

    monkeypatch.setattr(srnn.Engine, "run", run_and_remove)
    assert make(model, "-o", "out/x.wav") == 1
    assert "x.wav: cannot be written: No such file or directory" in assert_one_line_error(capsys)


def test_a_name_that_is_taken_meanwhile_is_not_replaced(model, tmp_path, monkeypatch, capsys):
    ends = srnn.Engine.run

    def run_and_take(self, state, n):
        (tmp_path / "x.wav").write_bytes(b"mine")
        return ends(self, state, n)

    monkeypatch.setattr(srnn.Engine, "run", run_and_take)
    assert make(model, "-o", "x.wav") == 0
    assert (tmp_path / "x.wav").read_bytes() == b"mine" and capsys.readouterr().out.startswith("x-2.wav\n")


def test_memory_does_not_grow_with_the_length(model, tmp_path, monkeypatch, capsys):
    """An hour of two streams, whose levels alone are 461 MB, by a model that is as quick as a test needs."""
    resident = []

    def quick(self, state, n):
        with open("/proc/self/statm") as file:
            resident.append(int(file.read().split()[1]) * resource.getpagesize() / 1e6)
        state.t += n
        return torch.arange(state.t - n, state.t).remainder(64).expand(state.num_streams, n)

    monkeypatch.setattr(srnn.Engine, "run", quick)
    monkeypatch.setattr(Pace, "samples", lambda self, streams: 1 << 16)
    assert make(model, "-o", "long.wav", "--num-samples", 2, duration=3600) == 0
    assert [reading.probe(path).frames for path in tmp_path.glob("*.wav")] == [3600 * RATE] * 2
    assert len(resident) > 400 and max(resident) - resident[2] < 40


def test_progress_is_told_where_nobody_watches(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("samplernn_fast.terminal._FIRST_WAIT", 0.01)
    printed, run_engine = line_with(monkeypatch, "s of audio"), srnn.Engine.run

    def run_slowly(self, state, n):
        levels = run_engine(self, state, n)
        assert state.t < 4 * RATE or printed.wait(60)
        return levels

    monkeypatch.setattr(srnn.Engine, "run", run_slowly)
    assert run("generate", model, "--duration", 5, "-o", "x.wav") == 0
    shown = capsys.readouterr()
    assert "s of audio" in shown.err and "generate: " in shown.err and "x.wav" in shown.out
    assert soundfile.read(io.BytesIO((tmp_path / "x.wav").read_bytes()))[0].shape == (5 * RATE,)


def test_a_long_load_says_why_one_waits(model, monkeypatch, capsys):
    load, printed = srnn.engine.engine.read_model, line_with(monkeypatch, "loading the model")

    def slow(path):
        assert printed.wait(60)
        return load(path)

    monkeypatch.setattr("samplernn_fast.engine.engine.read_model", slow)
    monkeypatch.setattr("samplernn_fast.terminal._FIRST_WAIT", 0.05)
    assert make(model, "-o", "x.wav") == 0
    assert "loading the model" in capsys.readouterr().err
