"""The clips of an audition are those of `generate`, and nothing that was chosen is lost."""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="needs the extra `serve`")

from auditions import RATE, SHORT, favourite, make_checkpoint, make_run, until
from command_line import run

from samplernn_fast.audio import reading, writing
from samplernn_fast.errors import AudioError, CheckpointError, ConfigError, DataError
from samplernn_fast.serving.audition import clips as clips_module
from samplernn_fast.serving.audition.checkpoints import Checkpoints
from samplernn_fast.serving.audition.clips import CEILING_DB, LOUDNESS_DB, Maker, loudness_gain
from samplernn_fast.serving.audition.favourites import Favourites, commands, playlist
from samplernn_fast.serving.audition.grid import Grid, Making, default_folder


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A run with two models that are kept, the second of which is the best."""
    return make_run(tmp_path / "album", "000100", "000200-4.123")


@pytest.fixture
def maker(album: Path, tmp_path: Path) -> Iterator[Maker]:
    """The maker of the run's clips, which has begun."""
    made = Maker(Grid(Checkpoints([str(album)]).rows, SHORT), tmp_path)
    made.start()
    yield made
    made.close()


# ---- rows and cells


def test_a_run_is_a_row_for_each_model_that_it_keeps(album: Path) -> None:
    grid = Grid(Checkpoints([str(album)]).rows, SHORT)
    assert [(row.names, row.bits, row.label) for row in grid.checkpoints] == [
        (("step 100",), None, "album-step100"),
        (("step 200", "model.safetensors"), 4.123, "album-step200"),
    ]
    cells = [(cell.row, cell.temperature, cell.seed) for cell in grid.cells]
    assert cells == [(row, temperature, seed) for row in (0, 1) for temperature in (0.5, 1.0) for seed in (0, 1)]
    assert len(grid.numbers) == 8 and grid.cells[1].clip.endswith("-t0.5-seed1-0.2s.wav")


def test_files_and_bundled_models_are_rows_too(album: Path) -> None:
    file = album / "models" / "step-000100.safetensors"
    rows = Checkpoints([str(file), "demo", str(file)]).rows
    assert [(row.names, row.model) for row in rows] == [((file.name,), str(file)), (("demo",), "demo")]
    assert default_folder(str(file)) == default_folder(str(album)) == album.parent / "auditions"
    assert default_folder("demo") == Path("auditions")


def test_what_cannot_be_read_is_a_row_that_says_so(album: Path) -> None:
    whole = (album / "models" / "step-000100.safetensors").read_bytes()
    (album / "models" / "step-000300.safetensors").write_bytes(whole[: len(whole) // 2])
    (album / "models" / "step-best.safetensors").write_bytes(b"")
    rows = Checkpoints([str(album)]).rows
    assert [bool(row.problem) for row in rows] == [False, False, True, True]
    assert "step-000300.safetensors: not a readable checkpoint" in rows[2].problem
    for name in ("step-000100.safetensors", "step-000200-4.123.safetensors"):
        (album / "models" / name).write_bytes(b"x")
    (album / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        Checkpoints([str(album)])
    with pytest.raises(CheckpointError, match="no such run folder"):
        Checkpoints([str(album / "nowhere")])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperatures": ()}, "temperatures must be one or several"),
        ({"temperatures": (-1.0,)}, "temperature must be 0 or between"),
        ({"seeds": 0}, "seeds must be 1 to 100"),
        ({"seconds": 61.0}, "seconds must be 0.1 to 60"),
        ({"seeds": 100, "temperatures": tuple(range(1, 22))}, "are 2100 clips, and a page shows 2000"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Grid(Checkpoints(["demo"]).rows, Making(**settings))
    assert Making((1.0, 0.5, 1.0)).temperatures == (1.0, 0.5)


# ---- making


def test_clips_are_the_files_that_generate_makes(album: Path, maker: Maker, tmp_path: Path) -> None:
    maker.want("page", range(8))
    until(lambda: all(status.state == "ready" for status in maker.changes(-1)[1].values()))
    for cell in maker.grid.cells:
        model = maker.grid.checkpoints[cell.row].model
        flags = ("--seed", cell.seed, "--temperature", cell.temperature, "--duration", 0.2, "--overwrite")
        assert run("generate", model, *flags, "-o", tmp_path / "own.wav") == 0
        assert (tmp_path / cell.clip).read_bytes() == (tmp_path / "own.wav").read_bytes()


def test_what_somebody_waits_for_comes_first_and_nothing_is_made_for_nobody(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[int]] = []
    monkeypatch.setattr(Maker, "_serve", lambda self, group: made.append([number for _, number in group]))
    maker = Maker(Grid(Checkpoints([str(album)]).rows, SHORT), tmp_path)

    def next_numbers() -> list[int]:
        return [maker.grid.numbers[clip] for clip in maker._next()]

    assert next_numbers() == []
    maker.want("one", [6, 7, 1])
    assert next_numbers() == [6, 7, 4, 5]  # and what else the same model has
    maker.want("two", [2], now=3)
    assert next_numbers() == [3]
    maker.want("two", [])
    monkeypatch.setattr(clips_module, "PRESENT_SECONDS", 0.0)
    assert next_numbers() == []
    monkeypatch.setattr(clips_module, "PRESENT_SECONDS", 60.0)
    maker.want("one", [])
    maker.start()
    until(lambda: sum(map(len, made)) == 8)
    maker.close()
    assert sorted(itertools.chain(*made)) == list(range(8))


def test_two_engines_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_folder = make_run(tmp_path / "run", "000100", "000200", "000300")
    loaded: list[str] = []
    engine = Making.engine
    monkeypatch.setattr(Making, "engine", lambda self, model: loaded.append(model.name) or engine(self, model))
    maker = Maker(Grid(Checkpoints([str(run_folder)]).rows, Making((1.0,), 1, 0.1)), tmp_path)
    for row in (0, 1, 0, 2, 0, 1):
        maker._engine(maker.grid, row)
        assert len(maker._engines) <= 2
    assert [name[8:11] for name in loaded] == ["100", "200", "300", "200"]


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "other rate", "text"])
def test_a_clip_that_is_not_whole_is_made_again(album: Path, tmp_path: Path, maker: Maker, damage: str) -> None:
    maker.want("page", [], now=0)
    until(lambda: maker.status(0).state == "ready")
    file = tmp_path / maker.grid.cells[0].clip
    whole = file.read_bytes()
    samples, _ = reading.read(file)
    if damage == "longer":
        writing.write(file, np.append(samples, 0), RATE, overwrite=True)
    elif damage == "other rate":
        writing.write(file, samples, RATE // 2, overwrite=True)
    else:
        file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"this is no clip" * 99}[damage])
    again = Maker(maker.grid, tmp_path)
    again.start()
    again.want("page", [], now=0)
    until(lambda: again.status(0).state == "ready")
    again.close()
    assert file.read_bytes() == whole


def test_clips_are_found_without_their_model(album: Path, tmp_path: Path, maker: Maker) -> None:
    maker.want("page", range(8))
    until(lambda: all(status.state == "ready" for status in maker.changes(-1)[1].values()))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.wav")}
    grid = maker.grid
    shutil.rmtree(album)
    again = Maker(grid, tmp_path)
    again.start()
    again.want("page", [])
    until(lambda: all(status.state == "ready" for status in again.changes(-1)[1].values()))
    again.close()
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.wav")} == before and len(before) == 8


def test_a_model_that_is_replaced_or_gone_fails_alone_and_can_come_back(album: Path, tmp_path: Path) -> None:
    maker = Maker(Grid(Checkpoints([str(album)]).rows, SHORT), tmp_path)
    first, second = (row.file for row in maker.grid.checkpoints)
    kept = first.read_bytes()
    make_checkpoint(first, seed=99)
    os.rename(second, tmp_path / "away")
    maker.start()
    maker.want("page", [0, 4])
    until(lambda: all(status.state == "failed" for status in maker.changes(-1)[1].values()))
    assert "holds another model since the audition read it" in maker.status(0).problem
    assert "no such" in maker.status(4).problem
    first.write_bytes(kept)
    maker.want("page", [], now=0)
    until(lambda: maker.status(0).state == "ready")
    assert maker.status(4).state == "failed"
    maker.close()


def test_a_disk_that_takes_nothing_is_said(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *args: Any, **settings: Any) -> None:
        raise AudioError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(clips_module.writing, "write", full)
    maker = Maker(Grid(Checkpoints([str(album)]).rows, SHORT), tmp_path)
    maker.start()
    maker.want("page", [], now=0)
    until(lambda: maker.status(0).state == "failed")
    maker.close()
    assert "No space left" in maker.status(0).problem


def test_loudness_is_that_of_the_sound_and_not_of_its_pauses() -> None:
    tone = np.sin(np.arange(RATE) * 0.3).astype(np.float32)
    for amplitude in (0.01, 0.1, 1.0):
        gain = loudness_gain(amplitude * tone, RATE)
        assert 20 * np.log10(gain * amplitude * np.sqrt(0.5)) == pytest.approx(LOUDNESS_DB, abs=0.2)
    paused = np.concatenate((0.1 * tone, np.zeros(3 * RATE, np.float32)))
    assert loudness_gain(paused, RATE) == pytest.approx(loudness_gain(0.1 * tone, RATE), rel=0.05)
    peaks = np.zeros(RATE, np.float32)
    peaks[::700] = 0.5
    assert 20 * np.log10(0.5 * loudness_gain(peaks, RATE)) == pytest.approx(CEILING_DB)
    assert loudness_gain(np.zeros(100, np.float32), RATE) == 1
    assert loudness_gain(1e-6 * tone, RATE) == pytest.approx(10**1.5)
    assert loudness_gain(0.01 * tone + 0.05, RATE) == pytest.approx(loudness_gain(0.01 * tone, RATE), rel=0.05)


# ---- favourites


def test_favourites_stay_in_their_order(album: Path, tmp_path: Path) -> None:
    grid = Grid(Checkpoints([str(album)]).rows, SHORT)
    kept = Favourites(tmp_path)
    for number in (5, 2, 7, 2):
        kept.add(favourite(grid, number))
    kept.remove(grid.cells[7].clip)
    kept.remove("nothing")
    assert list(Favourites(tmp_path)) == [favourite(grid, 5), favourite(grid, 2)]
    assert grid.cells[5].clip in kept and grid.cells[7].clip not in kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2, "favourites": []}',
        '{"version": 1, "favourites": {}}',
        '{"version": 1, "favourites": [{}]}',
        '{"version": 1, "favourites": [null]}',
    ],
)
def test_favourites_that_cannot_be_read_are_left(text: str, tmp_path: Path) -> None:
    (tmp_path / "favourites.json").write_text(text)
    with pytest.raises(DataError, match=r"favourites\.json: .*move it away"):
        Favourites(tmp_path)
    assert (tmp_path / "favourites.json").read_text() == text


@pytest.mark.parametrize(
    ("name", "value"),
    [("clip", "../../secret.wav"), ("clip", "a\n.wav"), ("model", "x\nrm -rf"), ("seed", -1), ("temperature", "hot")],
)
def test_favourites_of_somebody_else_are_read_with_care(name: str, value: Any, album: Path, tmp_path: Path) -> None:
    Favourites(tmp_path).add(favourite(Grid(Checkpoints([str(album)]).rows, SHORT), 0))
    file = tmp_path / "favourites.json"
    told = json.loads(file.read_text())
    told["favourites"][0][name] = value
    file.write_text(json.dumps(told))
    with pytest.raises(DataError, match="move it away"):
        Favourites(tmp_path)


def test_a_favourite_that_cannot_be_written_is_none(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid(Checkpoints([str(album)]).rows, SHORT)
    kept = Favourites(tmp_path)
    kept.add(favourite(grid, 0))

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("samplernn_fast.files.write_text", full)
    with pytest.raises(DataError, match="No space left"):
        kept.add(favourite(grid, 1))
    with pytest.raises(DataError, match="No space left"):
        kept.remove(grid.cells[0].clip)
    assert list(kept) == [favourite(grid, 0)] == list(Favourites(tmp_path))


def test_commands_are_one_a_line_and_quoted(tmp_path: Path) -> None:
    odd = make_run(tmp_path / "it's $HOME; -o", "000100")
    grid = Grid(Checkpoints([str(odd)]).rows, Making((0.9,), 1, 0.2, dtype="float32"))
    text = commands([favourite(grid, 0)])
    (words,) = [shlex.split(line) for line in text.splitlines()]
    model = odd / "models" / "step-000100.safetensors"
    assert words[:3] == ["samplernn-fast", "generate", str(model)]
    assert words[3:-1] == "--seed 0 --temperature 0.9 --duration 60 --dtype float32 -o".split()
    assert re.fullmatch(r"it's \$HOME; -o-step100-[0-9a-f]{8}-seed0-t0\.9\.wav", words[-1])
    script = f"samplernn-fast() {{ printf '%s\\n' \"$@\"; }}\n{text}"
    told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == words[1:]


def test_a_playlist_has_every_clip(album: Path, tmp_path: Path) -> None:
    grid = Grid(Checkpoints([str(album)]).rows, SHORT)
    first, second = favourite(grid, 5), favourite(grid, 2)
    assert playlist([first, second], tmp_path).splitlines() == [
        "#EXTM3U",
        "#EXTINF:1,album-step200, temperature 0.5, seed 1",
        str(tmp_path / first.clip),
        "#EXTINF:1,album-step100, temperature 1, seed 0",
        str(tmp_path / second.clip),
    ]
    assert "file:///odd%0A/" in playlist([first], Path("/odd\n"))


def test_an_exported_command_makes_the_clip_and_goes_on(album: Path, tmp_path: Path, maker: Maker) -> None:
    maker.want("page", [], now=5)
    until(lambda: maker.status(5).state == "ready")
    words = shlex.split(commands([favourite(maker.grid, 5)]))
    words[words.index("--duration") + 1] = "0.4"
    words[-1] = str(tmp_path / "longer.wav")
    assert run(*words[1:]) == 0
    longer, _ = reading.read(tmp_path / "longer.wav")
    clip, _ = reading.read(tmp_path / maker.grid.cells[5].clip)
    assert len(longer) == 2 * len(clip) and np.array_equal(longer[: len(clip)], clip)


# ---- shares


def share(album: Path, folder: Path, *flags: object) -> int:
    return run("audition", album, "--temperatures", 0.5, 1, "--seeds", 2, "--seconds", 0.2, "-o", folder, *flags)


def test_shares_make_the_clips_that_the_page_would_make(album: Path, maker: Maker, tmp_path: Path, capsys: Any) -> None:
    maker.want("page", range(len(maker.grid.cells)))
    until(lambda: all(maker.status(number).state == "ready" for number in range(8)))
    whole = {cell.clip: (tmp_path / cell.clip).read_bytes() for cell in maker.grid.cells}
    for index in range(3):
        assert share(album, tmp_path / "shared", "--num-shards", 3, "--shard-index", index) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "shared").glob("*.wav")} == whole
    assert "8 of 8 units" in _printed(capsys, run("jobs", "status", tmp_path / "shared"))

    gone, broken = sorted(whole)[:2]
    (tmp_path / "shared" / gone).unlink()
    os.truncate(tmp_path / "shared" / broken, 200)
    assert "2 made, 6 were there" in _printed(capsys, share(album, tmp_path / "shared", "--num-shards", 1))
    assert {path.name: path.read_bytes() for path in (tmp_path / "shared").glob("*.wav")} == whole
    assert "0 made, 8 were there" in _printed(capsys, share(album, tmp_path, "--num-shards", 1))  # those of the page


def _printed(capsys: Any, status: int) -> str:
    assert status == 0
    return str(capsys.readouterr().out)
