"""The pictures of a run: drawn where matplotlib is, and never in the way of training."""

import math
import sys

import numpy as np
import pytest
from command_line import run
from runs import assert_same_run, tiny
from sounds import tone

from samplernn_fast.commands import info as home
from samplernn_fast.training.pictures import album, curves
from samplernn_fast.training.pictures.album import Pictures
from samplernn_fast.training.pictures.curves import Curve, curves_of, sparkline, thinned
from samplernn_fast.training.run_log import read_log
from samplernn_fast.training.trainer import train

matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module", autouse=True)
def real_curves(quick_curves):
    """Here runs draw their curves, which other tests do without."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(album, "curves", curves)
        yield


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


def sounding(data_folder, out, **changes):
    settings = {"steps": 6, "log_every": 1, "save_every": 2, "sample_every": 3, "sample_seconds": 0.2}
    return tiny(data_folder, out, **settings | changes)


def pixels(path):
    from matplotlib import image

    return image.imread(path)


def test_a_run_draws_its_curve_and_its_sounds(data_folder, tmp_path):
    config = sounding(data_folder, tmp_path / "run")
    train(config)
    assert (config.out / "loss.png").read_bytes().startswith(PNG)
    names = sorted(path.name for path in (config.out / "samples").iterdir())
    assert names == ["step_0000003.png", "step_0000003.wav", "step_0000006.png", "step_0000006.wav"]
    assert pixels(config.out / "loss.png").std() > 0.05
    assert pixels(config.out / "samples" / "step_0000003.png").std() > 0.05


def test_a_curve_is_drawn_at_checkpoints_that_are_not_the_end(data_folder, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "draw", lambda found, path, title: drawn.append(len(found["train"].bits)))
    monkeypatch.setattr(album, "_MOST_SHARE", 1e9)
    train(sounding(data_folder, tmp_path / "run", sample_every=0))
    assert drawn == [2, 4, 6, 6]


def test_a_short_run_draws_its_curve_once_at_the_end(data_folder, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "draw", lambda found, path, title: drawn.append(len(found["train"].bits)))
    train(sounding(data_folder, tmp_path / "run", sample_every=0))
    assert drawn == [6]


def test_a_curve_takes_a_small_part_of_the_time(tmp_path, monkeypatch):
    now, drawn = [0.0], []
    monkeypatch.setattr(album.time, "monotonic", lambda: now[0])

    def draw(found, path, title):
        now[0] += 1.0
        drawn.append(round(now[0]))

    monkeypatch.setattr(curves, "draw", draw)
    pictures, read = Pictures(tmp_path, pytest.fail), lambda: {"train": Curve([1, 2], [3.0, 2.0])}
    for _ in range(300):
        now[0] += 1
        pictures.curve(read)
    assert 5 <= len(drawn) <= 7 and np.diff(drawn).min() >= 50
    pictures.curve(read, last=True)
    assert drawn[-1] == round(now[0])


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), MemoryError(), ValueError("a font")], ids=repr
)
@pytest.mark.parametrize("what", ["draw", "draw_spectrogram"])
def test_a_drawing_that_fails_does_not_end_a_run(what, error, data_folder, tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise error

    monkeypatch.setattr(curves if what == "draw" else album, what, fail)
    monkeypatch.setattr(album, "_MOST_SHARE", 1e9)  # at a checkpoint, because at the end of a run nothing is said
    config = sounding(data_folder, tmp_path / "run")
    assert train(config).steps == 6
    told = [line for line in capsys.readouterr().err.splitlines() if "picture" in line]
    assert len(told) == 1 and told[0].startswith("warning: no picture of the run can be drawn (")
    assert not list(config.out.rglob(".*.tmp"))


def test_without_matplotlib_nothing_is_drawn_or_said(data_folder, tmp_path, capsys, without_matplotlib):
    config = sounding(data_folder, tmp_path / "run")
    assert train(config).steps == 6
    assert "picture" not in capsys.readouterr().err
    assert not list(config.out.rglob("*.png"))


def test_pictures_change_nothing_of_a_run(data_folder, tmp_path, monkeypatch):
    one, other = sounding(data_folder, tmp_path / "one"), sounding(data_folder, tmp_path / "other")
    train(one)
    monkeypatch.setattr(Pictures, "curve", lambda *args: None)
    monkeypatch.setattr(Pictures, "spectrogram", lambda *args: None)
    train(other)
    assert_same_run(one.out, other.out)
    assert not list(other.out.rglob("*.png"))


def test_a_run_that_lost_all_but_its_picture_begins_anew(data_folder, tmp_path):
    config = sounding(data_folder, tmp_path / "run")
    train(config)
    for path in config.out.rglob("*.safetensors"):
        path.unlink()
    assert (config.out / "loss.png").is_file()
    assert train(config).steps == 6


def test_a_spectrogram_shows_where_a_tone_is(tmp_path):
    """The brightest row of the picture lies at the pitch: 3 kHz of 4 is three quarters up."""
    album.draw_spectrogram(tone(1.0, 8000, 3000.0), 8000, tmp_path / "high.png")
    album.draw_spectrogram(tone(1.0, 8000, 1000.0), 8000, tmp_path / "low.png")
    high, low = (pixels(tmp_path / f"{name}.png")[..., :3].sum(axis=2) for name in ("high", "low"))
    inside = slice(high.shape[1] // 5, high.shape[1] // 2)
    dark = high[:, inside] < 2.9  # the margins are white
    first, last = np.flatnonzero(dark.mean(axis=1) > 0.9)[[0, -1]]
    places = [
        1 - (int(np.argmax(one[first + 3 : last - 3, inside].mean(axis=1))) + 3) / (last - first) for one in (high, low)
    ]
    assert places == [pytest.approx(0.75, abs=0.03), pytest.approx(0.25, abs=0.03)]


def test_a_short_sound_has_a_spectrogram_too(tmp_path):
    album.draw_spectrogram(np.zeros(10, np.float32), 8000, tmp_path / "short.png")
    assert (tmp_path / "short.png").read_bytes().startswith(PNG)


ROWS = [
    {"step": str(step), "train_bits": repr(8 / step), "valid_bits": "nan" if step == 3 else "5.0" * (step % 2)}
    for step in range(1, 6)
]


def test_the_curves_are_those_of_the_log():
    found = curves_of(ROWS)
    assert found["train"].steps == [1, 2, 3, 4, 5] and found["train"].bits[1] == 4.0
    assert found["valid"].steps == [1, 5]  # what is not finite is no point


def test_many_points_become_their_means():
    few = thinned(Curve(list(range(100)), [float(step) for step in range(100)]), 4)
    assert few == Curve([24, 49, 74, 99], [12.0, 37.0, 62.0, 87.0])
    assert thinned(few, 10) is few


def test_a_sparkline_falls_with_the_bits():
    bits = [8 * math.exp(-step / 30) + 1 for step in range(200)]
    line = sparkline(Curve(list(range(200)), bits), 40)
    assert len(line) == 40 and line[0] == "█" and line[-1] == "▁"
    assert list(line) == sorted(line, reverse=True) and len(set(line)) >= 6
    assert sparkline(Curve([], [])) == "" and sparkline(Curve([1], [2.0])) == "▁"
    assert len(sparkline(Curve([1, 2], [2.0, 2.0]))) == 2


def test_info_shows_the_curve_as_text(data_folder, tmp_path, capsys, without_matplotlib):
    config = sounding(data_folder, tmp_path / "run", steps=9)
    train(config)
    capsys.readouterr()
    assert run("info", config.out) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("train bits", "valid bits"))]
    bits = curves_of(read_log(config.out / "log.csv"))["train"].bits
    assert lines[0] == f"{'train bits':20} {sparkline(Curve(list(range(9)), bits))} {bits[0]:.3f} to {bits[-1]:.3f}"
    assert len(lines) == 2


def test_info_draws_the_curve(data_folder, tmp_path, capsys):
    config = sounding(data_folder, tmp_path / "run")
    train(config)
    capsys.readouterr()
    assert run("info", config.out, "--plot", tmp_path / "curve.png", "--json") == 0
    assert capsys.readouterr().out.startswith("{")
    picture = pixels(tmp_path / "curve.png")
    assert picture.shape[:2] == (600, 960) and picture.std() > 0.02
    (tmp_path / "curve.png").write_bytes(b"a photograph")
    assert run("info", config.out, "--plot", tmp_path / "curve.png", "--json") == 1
    shown = capsys.readouterr()
    assert "curve.png exists; choose another name, or replace it with --overwrite" in shown.err and not shown.out
    assert (tmp_path / "curve.png").read_bytes() == b"a photograph"
    assert run("info", config.out, "--plot", tmp_path / "curve.png", "--overwrite") == 0
    assert (pixels(tmp_path / "curve.png") == picture).all()


def test_info_says_why_there_is_no_curve(data_folder, tmp_path, capsys):
    config = sounding(data_folder, tmp_path / "run", steps=2)
    train(config)
    capsys.readouterr()
    (tmp_path / "folder.png").mkdir()
    for args, status, words in (
        ((config.out, "--plot", tmp_path / "x.svg"), 2, "--plot must name a .png file"),
        ((config.out, "--plot", config.out / "log.csv"), 2, "--plot must name a .png file"),
        ((config.out, "--plot", tmp_path / "none" / "x.png"), 1, "cannot be written: No such file"),
        ((config.out, "--plot", tmp_path / "folder.png", "--overwrite"), 1, "folder.png: is a folder; name a file"),
        (("demo", "--plot", tmp_path / "x.png"), 1, "has no log.csv"),
    ):
        assert run("info", *args) == status
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error
    (config.out / "log.csv").write_text("step\nx\n")
    assert run("info", config.out) == 0
    assert "damaged: its first row must be" in capsys.readouterr().out


def test_info_needs_matplotlib_for_a_picture_only(data_folder, tmp_path, capsys, without_matplotlib):
    config = sounding(data_folder, tmp_path / "run", steps=2)
    train(config)
    capsys.readouterr()
    assert run("info", config.out, "--plot", tmp_path / "x.png") == 2
    assert "a picture needs matplotlib; pip install matplotlib (extra `plot`)" in capsys.readouterr().err
    assert home.info
