"""bench/clip_detectors.py: a row for each detector, faults that are found, and a record."""

import json
import subprocess
from pathlib import Path

from warm_python import warm_python

from samplernn_fast.audio import writing
from samplernn_fast.audio.synthetic import plucked_music

ROOT = Path(__file__).resolve().parents[2]


def test_faults_are_planted_in_long_clips_and_found(tmp_path):
    """Two recordings of seven seconds: each is a long clip and a rest of a second."""
    for seed in (1, 2):
        writing.write(tmp_path / f"{seed}.wav", plucked_music(7.0, seed, 16000), 16000)
    program = [warm_python(), str(ROOT / "bench" / "clip_detectors.py"), str(tmp_path), "--seconds", "6"]
    done = subprocess.run([*program, "--json", str(tmp_path / "record.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = json.loads((tmp_path / "record.json").read_text())
    assert [row["detector"] for row in record["rows"]] == "silence clipping offset loop noise clicks".split()
    for row in record["rows"]:
        assert (row["clips"], row["long_clips"], row["false_alarms"]) == (4, 2, 0)
        assert row["planted"] == row["hits"] == 2 and row["hit_rate"] == 1


def test_a_folder_without_audio_is_refused(tmp_path):
    program = [warm_python(), str(ROOT / "bench" / "clip_detectors.py"), str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 1 and "holds no audio" in done.stderr and "Traceback" not in done.stderr
