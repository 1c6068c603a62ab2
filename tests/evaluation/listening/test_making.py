"""The folder of a test: clips of one loudness, that never clip, under names that say nothing."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile
from listening import RATE, make_test
from sounds import noise, tone

from samplernn_fast.audio import writing
from samplernn_fast.audio.synthetic import plucked_music
from samplernn_fast.errors import AudioError, CheckpointError, ConfigError, DataError
from samplernn_fast.evaluation.listening.folder import ListeningTest
from samplernn_fast.evaluation.listening.making import Settings, is_noise, make, noise_clips
from samplernn_fast.evaluation.listening.sources import Named, named_systems

SMALL = Settings(count=2, seconds=0.5, trials=4)


def folder_of(path: Path, **sounds: np.ndarray) -> Named:
    """A system whose clips are these sounds."""
    path.mkdir()
    for name, sound in sounds.items():
        soundfile.write(path / f"{name}.wav", sound, RATE, subtype="FLOAT")
    return Named(path.name, str(path))


def measured(test: ListeningTest) -> list[float]:
    clips = [soundfile.read(test.clip_path(name)) for name in test.clips]
    return [pyloudnorm.Meter(rate).integrated_loudness(samples) for samples, rate in clips]


def test_all_clips_have_the_loudness_that_is_stated(tmp_path: Path) -> None:
    music = folder_of(tmp_path / "music", one=plucked_music(1.0, 1, RATE), two=0.05 * plucked_music(1.0, 2, RATE))
    tones = folder_of(tmp_path / "tones", one=tone(0.8, RATE, level=0.9), two=tone(0.8, RATE, level=0.01))
    test = make([music, tones], tmp_path / "test", Settings(2, 1.0, 4))
    assert test.lufs == -23
    assert measured(test) == pytest.approx([-23] * 4, abs=0.05)


def test_where_a_clip_would_pass_the_ceiling_all_are_lowered_by_one_factor(tmp_path: Path) -> None:
    peaky = 0.001 * noise(0.5, RATE)
    peaky[1000] = 0.9
    test = make(
        [folder_of(tmp_path / "a", one=peaky), folder_of(tmp_path / "b", one=tone(0.5, RATE))],
        tmp_path / "test",
        Settings(1, 0.5, 4),
    )
    assert test.lufs < -24
    assert measured(test) == pytest.approx([test.lufs] * 2, abs=0.05)
    peaks = [np.abs(soundfile.read(test.clip_path(name))[0]).max() for name in test.clips]
    assert max(peaks) == pytest.approx(10 ** (-1 / 20), abs=1e-3)


@pytest.mark.parametrize(
    ("sound", "words"),
    [(tone(0.399, RATE), "lasts 399 ms; the loudness of a clip is defined from 400 ms"), (np.zeros(4000), "is silent")],
)
def test_a_clip_without_loudness_is_left_out_and_counted(sound: np.ndarray, words: str, tmp_path: Path) -> None:
    other = folder_of(tmp_path / "a", one=tone(0.5, RATE))
    many = {f"bad{number}": sound for number in range(30)}  # more than a model would be asked for
    test = make([other, folder_of(tmp_path / "b", good=tone(0.5, RATE), **many)], tmp_path / "test", SMALL)
    (clip,) = test.clips_of("b")
    assert "good.wav" in test.clips[clip].source
    assert [system.no_loudness for system in test.systems] == [0, 30]
    assert ListeningTest.open(test.folder).systems == test.systems
    with pytest.raises(ConfigError, match=f"c: no clip is left; 1 are too short or silent .*{words}") as caught:
        make([other, folder_of(tmp_path / "c", bad=sound)], tmp_path / "none", SMALL)
    assert "bad.wav" in str(caught.value) and not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["title", "question"])
def test_a_text_that_would_be_cut_is_refused(name: str) -> None:
    Settings(**{name: "x" * 200})
    with pytest.raises(ConfigError, match=f"{name} must have at most 200 characters, got 201"):
        Settings(**{name: "x" * 201})


def test_the_shortest_clip_has_400_ms(tmp_path: Path) -> None:
    systems = [folder_of(tmp_path / name, one=tone(0.4, RATE)) for name in "ab"]
    assert measured(make(systems, tmp_path / "test", SMALL)) == pytest.approx([-23] * 2, abs=0.05)


def test_nothing_that_a_listener_sees_names_a_system(tmp_path: Path) -> None:
    test = make_test(tmp_path)
    names = [path.name for path in (test.folder / "clips").iterdir()]
    assert sorted(names) == sorted(f"{clip}.wav" for clip in test.clips) and len(names) == 12
    of_systems = [test.clips[name.removesuffix(".wav")].system for name in sorted(names)]
    assert of_systems != sorted(of_systems)  # 12 names in random order: by chance once in 5,000
    for name in names:
        content = (test.folder / "clips" / name).read_bytes()
        assert not any(word.encode() in content for word in ("low", "middle", "high", "samplernn"))


def test_long_recordings_are_cut_into_different_pieces_without_clicks(tmp_path: Path) -> None:
    long = folder_of(tmp_path / "long", one=tone(3.2, RATE, 300), two=tone(0.9, RATE, 300))
    test = make([long, folder_of(tmp_path / "b", one=tone(0.5, RATE))], tmp_path / "test", Settings(20, 0.5, 4))
    sources = [clip.source for clip in test.clips.values() if clip.system == "long"]
    assert len(set(sources)) == len(sources) == 7
    for name in test.clips_of("long"):
        samples, _ = soundfile.read(test.clip_path(name))
        assert len(samples) == 4000 and abs(samples[-1]) < 1e-3 and abs(samples[0]) < 1e-3


def test_a_model_makes_its_clips_by_the_seed(run_folder: Path, tmp_path: Path) -> None:
    systems = [Named("model", str(run_folder)), folder_of(tmp_path / "b", one=tone(0.5, RATE))]
    made = [make(systems, tmp_path / name, SMALL) for name in ("one", "two")]
    clips = [
        {test.clips[clip].source: soundfile.read(test.clip_path(clip))[0] for clip in test.clips_of("model")}
        for test in made
    ]
    assert len(clips[0]) == 2 and clips[0].keys() == clips[1].keys()
    assert all(np.array_equal(clips[0][source], clips[1][source]) for source in clips[0])


def test_noise_is_left_out_only_where_that_is_asked_for(tmp_path: Path) -> None:
    sounds = {f"noise{number}": noise(0.5, RATE) * (1 + number) for number in range(3)}
    mixed = folder_of(tmp_path / "mixed", **sounds, music=plucked_music(0.5, 1, RATE))
    other = folder_of(tmp_path / "other", one=tone(0.5, RATE))
    test = make([mixed, other], tmp_path / "all", Settings(4, 0.5, 4))
    assert len(noise_clips(test)) == 3 and [system.noise for system in test.systems] == [0, 0]
    test = make([mixed, other], tmp_path / "music", Settings(4, 0.5, 4, drop_noise=True))
    assert not noise_clips(test) and [system.noise for system in test.systems] == [3, 0]
    only = folder_of(tmp_path / "only", **sounds)
    with pytest.raises(ConfigError, match="only: all of its 3 clips are noise"):
        make([only, other], tmp_path / "none", Settings(4, 0.5, 4, drop_noise=True))


def test_music_and_tones_are_no_noise() -> None:
    assert is_noise(noise(1, RATE), RATE)
    assert not is_noise(plucked_music(1.0, 0, RATE), RATE) and not is_noise(np.zeros(RATE), RATE)


def test_a_test_is_read_as_it_was_written_and_damage_is_refused(tmp_path: Path) -> None:
    test = make_test(tmp_path)
    assert ListeningTest.open(test.folder) == test
    path = test.folder / "test.json"
    told = json.loads(path.read_text())
    for name, value in {
        "format": "data",
        "version": 2,
        "systems": told["systems"][:1],
        "trials": 0,
        "clips": {"../../x": {"system": "low", "source": ""}},
        "key": None,
    }.items():
        path.write_text(json.dumps(told | {name: value}))
        with pytest.raises(DataError, match=r"test\.json: "):
            ListeningTest.open(test.folder)
    path.write_text(json.dumps(told))
    test.clip_path(next(iter(test.clips))).unlink()
    with pytest.raises(DataError, match="the clip is missing"):
        ListeningTest.open(test.folder)


def test_systems_are_named_or_refused() -> None:
    assert [one.name for one in named_systems(("big=runs/a", "runs/small.safetensors"))] == ["big", "small"]
    for words, message in {
        ("a=x",): "compares 2 to 20 systems, got 1",
        ("a=x", "a=y"): "two systems are called 'a'",
        ("a=x", "b="): "b= names no folder",
        ("a=x", "=y"): "1 to 40 characters",
    }.items():
        with pytest.raises(ConfigError, match=message):
            named_systems(words)


def test_what_is_missing_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    there = folder_of(tmp_path / "a", one=tone(0.5, RATE))
    with pytest.raises(AudioError, match="nowhere: no such folder"):
        make([there, Named("b", "nowhere")], tmp_path / "test", SMALL)
    with pytest.raises(CheckpointError, match="no such run folder"):
        make([there, Named("b", "nothing.safetensors")], tmp_path / "test", SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="holds no audio files"):
        make([there, Named("b", str(tmp_path / "empty"))], tmp_path / "test", SMALL)
    with pytest.raises(DataError, match="never written over"):
        make([there, there], tmp_path / "a", SMALL)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systems = [folder_of(tmp_path / name, one=tone(0.5, RATE)) for name in "ab"]

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write", full)
    with pytest.raises(DataError, match="test: cannot be written: No space left"):
        make(systems, tmp_path / "test", SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_counting_answers_needs_no_scipy() -> None:
    names = ("answers", "folder", "plan", "statistics", "tally")
    code = f"import sys\nfor name in {names}: __import__('samplernn_fast.evaluation.listening.' + name)\n"
    code += "assert not {'scipy', 'torch', 'soundfile', 'pyloudnorm', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
