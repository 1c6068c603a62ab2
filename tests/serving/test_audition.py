"""The server of an audition and its command: clips, favourites, who may ask, and what is said of mistakes."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the extra `serve`")

from auditions import SHORT, AuditionServer, favourite, make_run, served_audition
from command_line import assert_one_line_error, run

from samplernn_fast.serving.audition.checkpoints import Checkpoints
from samplernn_fast.serving.audition.favourites import Favourites, commands, playlist
from samplernn_fast.serving.audition.grid import Grid

FLAGS = ("--temperatures", 0.5, 1, "--seeds", 2, "--seconds", 0.2)
"""`SHORT` as flags."""


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A run with two models that are kept, the second of which is the best."""
    return make_run(tmp_path / "album", "000100", "000200-4.123")


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[AuditionServer]:
    """A server of a run whose second model is broken."""
    run_folder = make_run(tmp_path_factory.mktemp("served") / "album", "000100", "000200-4.123")
    (run_folder / "models" / "step-000150.safetensors").write_bytes(b"broken" * 100)
    with served_audition(run_folder, *FLAGS) as opened:
        yield opened


# ---- the server


def test_the_page_learns_of_clips(server: AuditionServer) -> None:
    told = server.grid()
    assert told["temperatures"] == [0.5, 1] and told["seeds"] == 2 and len(told["clips"]) == 12
    assert [row["names"] for row in told["checkpoints"]] == [
        ["step 100"],
        ["step 150"],
        ["step 200", "model.safetensors"],
    ]
    assert "not a readable checkpoint" in told["checkpoints"][1]["problem"]
    statuses = server.ready(9, 1)
    assert all(status["state"] == "ready" and status["gain"] > 0 for status in statuses.values())
    status, content = server.clip(9)
    assert status == 200 and content == (Path(told["folder"]) / told["clips"][9]).read_bytes()
    assert server.ready(4)[4]["state"] == "failed" and server.clip(4)[0] == 404
    assert server.clip(12)[0] == 404
    for name in (
        "",
        "page.js",
        "grid.js",
        "clips.js",
        "news.js",
        "server.js",
        "page.css",
        "base.css",
        "icon.svg",
        "spectrum.js",
    ):
        assert server.ask(name)[0] == 200
    for name in ("player.js", "..%2Faccess.py", "nothing.html"):
        assert server.ask(name)[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        {"page": "a"},
        {"page": "a", "clips": [12], "now": None, "since": 0},
        {"page": "a", "clips": [0] * 1001, "now": None, "since": 0},
        {"page": "a", "clips": [0], "now": -1, "since": 0},
        {"page": "a", "clips": ["0"], "now": None, "since": 0},
        {"page": 1, "clips": [], "now": None, "since": 0},
    ],
)
def test_requests_that_make_no_sense_are_refused(server: AuditionServer, body: Any) -> None:
    if isinstance(body, dict):
        body = body | {"grid": server.name()}
    assert server.ask("api/wanted", body)[0] == 400
    assert server.ask("api/favourites", body)[0] == 400


def test_too_much_is_refused(server: AuditionServer) -> None:
    assert server.ask("api/wanted", b" " * 20_000)[0] == 413
    assert server.ask("api/export?as=zip")[0] == 400
    assert server.favour(4)[0] == 400  # a checkpoint that cannot be played


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Host": "evil.example:1"}, 421)],
)
def test_pages_of_others_are_refused(server: AuditionServer, headers: dict[str, str], status: int) -> None:
    for path in ("", "api/grid", "api/clips/0", "api/export?as=playlist"):
        assert server.ask(path, **headers)[0] == status
    assert server.ask("api/favourites", {"clip": 0, "favourite": True}, **headers)[0] == status
    assert server.ask("api/grid", sec_fetch_site="cross-site")[0] == 403


def test_beyond_this_machine_there_is_a_token(album: Path) -> None:
    with served_audition(album, *FLAGS, "--host", "0.0.0.0") as server:
        assert server.query.startswith("?token=") and len(server.query) > 20
        assert server.ask("")[0] == 200  # the page itself tells nothing
        for path in ("api/grid", "api/clips/0", "api/export"):
            assert server.ask(path)[0] == server.ask(f"{path}?token=no")[0] == 401
        assert server.ask("api/favourites", {"clip": 0, "favourite": True})[0] == 401
        assert server.ask("api/wanted?token=", {"page": "a"})[0] == 401
        assert server.ask("api/grid" + server.query, Host="music.example")[0] == 200


def test_favourites_survive_a_kill(album: Path, tmp_path: Path) -> None:
    server = AuditionServer(album, *FLAGS)
    assert "8 clips in" in server.line
    for number in (6, 1, 3):
        assert server.favour(number) == (200, {"favourite": True, "favourites": server.favour(number)[1]["favourites"]})
    server.favour(1, False)
    server.kill()
    folder = tmp_path / "auditions"
    (folder / ".0123456789abcdef.tmp").write_bytes(b"RIFF half a clip")
    with served_audition(album, *FLAGS) as again:
        assert not list(folder.glob(".*.tmp"))
        status, text = again.ask("api/export?as=playlist")
        listed = [line for line in text.decode().splitlines() if not line.startswith("#")]
        assert status == 200 and listed == [str(folder / again.grid()["clips"][number]) for number in (6, 3)]
        assert again.ready(3)[3]["favourite"] and not again.ready(1)[1]["favourite"]


def test_a_folder_has_one_audition_and_it_says_at_its_end_what_is_kept(album: Path) -> None:
    server = AuditionServer(album, *FLAGS)
    server.favour(0)
    with pytest.raises(AssertionError, match="another audition works in this folder"):
        AuditionServer(album, *FLAGS)
    status, errors = server.stop(signal.SIGTERM)
    assert status == 143 and "1 favourite and the clips are in" in errors


# ---- the command


def test_export_writes_what_the_page_does(album: Path, tmp_path: Path, capsys: Any) -> None:
    grid, folder = Grid(Checkpoints([str(album)]).rows, SHORT), tmp_path / "auditions"
    folder.mkdir()
    chosen = [favourite(grid, 5), favourite(grid, 2)]
    for one in chosen:
        Favourites(folder).add(one)
    for place in (album, folder):
        assert run("audition", "export", place, "--as", "commands") == 0
        assert capsys.readouterr().out == commands(chosen)
    assert run("audition", "export", folder, "--as", "playlist", "-o", tmp_path / "list.m3u8") == 0
    assert "2 favourites" in capsys.readouterr().out
    assert (tmp_path / "list.m3u8").read_text() == playlist(chosen, folder)
    assert run("audition", "export", folder, "--as", "commands", "-o", tmp_path / "list.m3u8") == 1
    assert "list.m3u8 exists; choose another name, or replace it with --overwrite" in assert_one_line_error(capsys)
    assert (tmp_path / "list.m3u8").read_text() == playlist(chosen, folder)
    assert run("audition", "export", folder, "--as", "commands", "-o", tmp_path / "list.m3u8", "--overwrite") == 0
    assert (tmp_path / "list.m3u8").read_text() == commands(chosen)
    capsys.readouterr()
    grid.checkpoints[0].file.unlink()
    assert run("audition", "export", album, "--as", "commands") == 0
    assert "1 model of these are not there any more" in capsys.readouterr().err
    for one in chosen:
        Favourites(folder).remove(one.clip)
    assert run("audition", "export", album, "--as", "commands", "-o", tmp_path / "none.sh") == 1
    assert "no favourites are in" in assert_one_line_error(capsys) and not (tmp_path / "none.sh").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("nowhere", 1, "nowhere: no such run folder"),
        ("dmeo", 1, "file; did you mean demo?"),
        (". ", 1, "a folder without model.safetensors"),
        ("demo --seeds 0", 2, "--seeds must be 1 to 100"),
        ("demo --temperatures 0.9 -1", 2, "temperature must be 0 or between"),
        ("demo --seconds 0", 2, "--seconds must be"),
        ("demo --port 65536", 2, "--port must be"),
        ("demo --dtype float7", 2, "dtype"),
        ("demo --device cuda:99", 1, "--device cuda:99 was asked for"),
        ("export demo --as zip", 2, "--as"),
        ("export demo", 2, "--as"),
        ("export nowhere --as commands", 1, "nowhere: no such run folder"),
        ("export . --as playlist", 1, "no favourites are in"),
    ],
)
def test_mistakes_are_said_in_one_line(
    words: str, status: int, said: str, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("audition", *words.split()) == status
    assert said in assert_one_line_error(capsys)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").touch()
    assert run("audition", "demo", "-o", tmp_path / "file") == 1
    assert "the folder cannot be made" in assert_one_line_error(capsys)


def test_a_missing_package_is_said() -> None:
    script = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from samplernn_fast.commands.main import main; main(['audition', 'demo'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "samplernn-fast: an audition needs uvicorn; pip install starlette uvicorn (extra `serve`)\n"
