"""`generate --keep-best` and `--sort-out`, and the command `clips`."""

import json
import signal

import numpy as np
import pytest
from command_line import RATE, assert_one_line_error, make, run, strict_json

from samplernn_fast.audio import reading, writing
from samplernn_fast.audio.synthetic import plucked_music
from samplernn_fast.evaluation.clips import detectors
from samplernn_fast.evaluation.clips.measures import Meter

pytestmark = pytest.mark.usefixtures("elsewhere")


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def silent_streams(monkeypatch):
    """Measures every second stream as one that has fallen silent, and the others as faultless, which those of a model
    that has learnt nothing are not.
    """
    measures, calls = Meter.measures, []

    def measured(self):
        calls.append(self)
        found = measures(self)
        silence = found.seconds if len(calls) % 2 == 0 else 0.0
        harmless = {"clicks": 0, "noise": 0.0, "clipped": 0.0, "offset": 0.0, "loop": 0.0}
        return type(found)(**vars(found) | harmless | {"silence": silence})

    monkeypatch.setattr(Meter, "measures", measured)


def test_the_best_are_kept_under_their_own_numbers(trained, tmp_path, capsys, silent_streams):
    assert make(trained, "--num-samples", 4, "--keep-best", 2, "-o", "x.wav", duration=0.2) == 0
    assert names(tmp_path) == ["x-00.wav", "x-02.wav"]  # the others are silent
    shown = capsys.readouterr().out
    assert "removed x-01.wav  silence: silent for 0.2 s on end" in shown and "kept 2 of 4, best first" in shown
    kept = reading.read("x-02.wav")[0]
    assert make(trained, "--num-samples", 4, "-o", "all.wav", duration=0.2) == 0
    assert np.array_equal(kept, reading.read("all-02.wav")[0])


def test_as_many_are_kept_as_were_asked_for_and_their_faults_are_told(trained, tmp_path, capsys, silent_streams):
    assert make(trained, "--num-samples", 4, "--keep-best", 3, "-o", "x.wav", duration=0.2) == 0
    assert len(names(tmp_path)) == 3
    assert "kept in spite of its faults: x-0" in capsys.readouterr().out


def test_an_album_has_its_rejects_in_a_folder_with_the_reasons(trained, tmp_path, capsys, silent_streams):
    settings = ("--num-samples", 4, "--sort-out", "-o", "out/", "--json")
    assert make(trained, *settings, "--keep-best", 1, duration=0.2) == 0
    told = strict_json(capsys.readouterr().out)
    assert len(told["files"]) == 1 and [clip["kept"] for clip in told["clips"]] == [True, False, False, False]
    assert sum("silence" in clip["faults"] for clip in told["clips"]) == 2
    assert all(2 < clip["bits"] < 12 for clip in told["clips"])
    assert sorted(clip["stream"] for clip in told["clips"]) == [0, 1, 2, 3]
    rejected = [name for name in names(tmp_path / "out") if name.startswith("rejected/")]
    assert len(rejected) == 4 and "rejected/reasons.csv" in rejected
    reasons = (tmp_path / "out" / "rejected" / "reasons.csv").read_text()
    assert reasons.count("silence: silent for 0.2 s on end") == 2 and reasons.count("not among the 1 best") == 1
    assert [clip["file"] for clip in told["clips"] if clip["kept"]] == told["files"]
    assert make(trained, *settings, duration=0.2) == 0  # again: nothing is written over
    assert len(names(tmp_path / "out")) == 9


def test_bits_are_those_that_evaluate_measures(trained, tmp_path, capsys):
    assert make(trained, "--num-samples", 2, "--sort-out", "-o", "out/", "--json", duration=0.3) == 0
    told = {clip["file"]: clip["bits"] for clip in strict_json(capsys.readouterr().out)["clips"]}
    assert run("clips", "out", "--model", trained, "--json") == 0
    read = {file["file"]: file["bits"] for file in strict_json(capsys.readouterr().out)["files"]}
    assert sorted(read.values()) == pytest.approx(sorted(told.values()), abs=1e-4)


def test_an_interruption_keeps_every_piece(trained, tmp_path, capsys, monkeypatch):
    add, calls = Meter.add, []

    def interrupted(self, samples):
        add(self, samples)
        calls.append(self)
        if len(calls) == 5:  # in the middle of the second slice
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Meter, "add", interrupted)
    assert make(trained, "--num-samples", 3, "--keep-best", 1, "-o", "x.wav", duration=600) == 130
    assert names(tmp_path) == ["x-00.wav", "x-01.wav", "x-02.wav"]


REFUSED = {
    "--keep-best 3": "--keep-best must be at most --num-samples, 2, got 3",
    "--keep-best 0": "--keep-best must be 1 to 100000, got 0",
    "--sort-out --num-shards 2": "so they need --num-shards 1",
    "--sort-out -o -": "choose between files",
    "--like data": "--like needs --keep-best or --sort-out",
    "--rank-by band": "--rank-by needs --keep-best or --sort-out",
    "--sort-out --like nowhere": "nowhere: no such folder",
    "--sort-out --duration 0.05": "--duration must be at least 0.1 seconds",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_made(trained, tmp_path, capsys, flags):
    assert make(trained, "--num-samples", 2, *flags.split(), duration=0.2) in (1, 2)
    assert REFUSED[flags] in assert_one_line_error(capsys)
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_the_folder_is_refused(trained, tmp_path, capsys):
    (tmp_path / "rejected").write_text("mine")
    assert make(trained, "--sort-out", "-o", "x.wav", duration=0.2) == 1
    assert "something else has its name" in assert_one_line_error(capsys)
    assert names(tmp_path) == ["rejected"]


def test_clips_tells_a_line_a_file_and_the_medians(tmp_path, capsys):
    writing.write("good.wav", plucked_music(4.0, 1, RATE), RATE)
    writing.write("bad.flac", np.zeros(4 * RATE, np.float32), RATE)
    assert run("clips", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["seconds", "active", "silence"] and len(lines) == 5
    assert lines[1].endswith("bad.flac  silence: silent for 4.0 s on end") and lines[2].endswith("good.wav")
    assert "median of 2" in lines[3] and lines[4] == "1 of 2 files have a fault: 1 silence"
    assert run("clips", "good.wav", "bad.flac", "--json") == 0
    told = strict_json(capsys.readouterr().out)
    assert told["faults"] == {"silence": 1} and told["files"][0]["flatness"] is None
    assert told["medians"]["seconds"] == 4 and set(told["files"][0]["faults"]) <= set(detectors.DETECTORS)


def test_a_file_that_cannot_be_measured_costs_the_others_nothing(tmp_path, capsys):
    writing.write("good.wav", plucked_music(1.0, 1, RATE), RATE)
    writing.write("short.wav", np.zeros(50, np.float32), RATE)
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    assert run("clips", ".", "--json") == 1
    shown = capsys.readouterr()
    assert [file["file"] for file in json.loads(shown.out)["files"]] == ["good.wav"]
    assert "left out broken.wav" in shown.err and "left out short.wav" in shown.err
    assert shown.err.endswith("2 of 3 files could not be measured\n") and "Traceback" not in shown.err


def test_clips_refuses_what_is_not_there(tmp_path, capsys):
    assert run("clips", "nowhere") == 1
    assert "nowhere: no such file or folder" in assert_one_line_error(capsys)
    assert run("clips", ".") == 1
    assert "holds no audio" in assert_one_line_error(capsys)
