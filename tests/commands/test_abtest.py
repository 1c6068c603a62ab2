"""The command abtest: its parts, what they print, and what they refuse."""

import json
import re
from pathlib import Path

import pytest
from command_line import assert_one_line_error, run, strict_json, subprocess_of
from listening import RATE, make_test
from sounds import noise, tone

from samplernn_fast.audio import writing
from samplernn_fast.commands.listening.command import PARTS
from samplernn_fast.commands.standard_streams import Terminated
from samplernn_fast.evaluation.listening.answers import open_book
from samplernn_fast.evaluation.listening.folder import ListeningTest

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> ListeningTest:
    """A test with two listeners, one of whom has not finished."""
    test = make_test(tmp_path_factory.mktemp("listening"), trials=6)
    with open_book(test) as book:
        for trials in (6, 2):
            listener = book.join()
            for trial in range(1, trials + 1):
                book.answer(listener, trial, "a")
    return test


@pytest.mark.parametrize("part", PARTS)
def test_every_part_explains_itself(part, capsys):
    assert run("abtest", part, "--help") == 0
    shown = capsys.readouterr().out
    assert f"usage: samplernn-fast abtest {part}" in shown and f"Example: {PARTS[part].example}" in shown
    assert run("abtest", "--help") == 0
    assert f"  {part} " in capsys.readouterr().out


def test_make_says_what_it_made(answered, capsys):
    sources = [f"{name}={answered.folder.parent / name}" for name in ("low", "high")]
    assert run("abtest", "make", *sources, "-o", "made", "--seconds", 0.5, "--count", 3, "--trials", 4) == 0
    shown = capsys.readouterr().out
    assert "made: 3 clips of low, 3 clips of high" in shown
    assert "loudness -23.0 LUFS (ITU-R BS.1770); 4 pairs a listener" in shown
    assert run("abtest", "make", *sources, "-o", "more", "--seconds", 0.5, "--loudness", -30, "--json") == 0
    told = strict_json(capsys.readouterr().out)
    assert told["clips"] == {"low": 4, "high": 4} and told["lufs"] == -30 == ListeningTest.open(Path("more")).lufs


def test_make_says_that_all_are_lowered(answered, capsys):
    peaky = 0.001 * noise(0.5, RATE)
    peaky[1000] = 0.9
    Path("peaky").mkdir()
    writing.write(Path("peaky/one.wav"), peaky, RATE)
    sources = ["peaky", f"low={answered.folder.parent / 'low'}"]
    assert run("abtest", "make", *sources, "-o", "made", "--seconds", 0.5) == 0
    lufs = ListeningTest.open(Path("made")).lufs
    assert lufs < -24
    assert f"loudness {lufs:.1f} LUFS (ITU-R BS.1770), not -23, so that no clip passes" in capsys.readouterr().out


def test_make_says_what_has_no_loudness(answered, capsys):
    Path("spoken").mkdir()
    for number, seconds in enumerate((0.2, 0.3, 0.45)):
        writing.write(Path(f"spoken/{number}.wav"), tone(seconds, RATE), RATE)
    sources = ["spoken", f"low={answered.folder.parent / 'low'}"]
    assert run("abtest", "make", *sources, "-o", "made") == 0
    shown = capsys.readouterr().out
    assert "1 clips of spoken" in shown and "left out as silent or shorter than 400 ms: 2 of spoken\n" in shown
    assert run("abtest", "make", *sources, "-o", "again", "--json") == 0
    assert strict_json(capsys.readouterr().out)["no_loudness"] == {"spoken": 2, "low": 0}


def test_tally_prints_and_writes(answered, capsys):
    assert run("abtest", "tally", answered.folder, "-o", "out") == 0
    shown = capsys.readouterr().out
    assert "8 answers of 2 listeners, 1 of whom answered every pair" in shown
    assert Path("out/tally.md").read_text() == shown
    assert Path("out/tally.png").stat().st_size > 1000
    assert run("abtest", "tally", answered.folder, "--json", "--drop-noise") == 0
    told = strict_json(capsys.readouterr().out)
    assert told["noise_clips"] == 0 and told["answers"] == 8
    del told["noise_clips"]
    written = json.loads(Path("out/tally.json").read_text())
    assert written.pop("noise_clips") is None and written == told


@pytest.mark.parametrize("program", ["waet", "webmushra"])
def test_export_and_import_say_what_they_did(program, tmp_path, capsys):
    test = make_test(tmp_path, trials=2)
    assert run("abtest", "export", test.folder, "--program", program, "--listeners", 2, "-o", "exported") == 0
    shown = capsys.readouterr().out
    assert "exported: configs of listeners 1 to 2" in shown and "the first is " in shown
    Path("results").mkdir()
    assert run("abtest", "import", test.folder, "results", "--program", program) == 1
    assert "file is there" in assert_one_line_error(capsys)
    key = test.key
    if program == "webmushra":
        rows = "session_test_id,trial_id,choice_answer\n" + f"abtest-{key}-1,trial-1,undecided\n"
        Path("results/paired_comparison.csv").write_text(rows)
    else:
        values = "".join(f'<audioelement ref="t{key}-1-1-{side}"><value>0</value></audioelement>' for side in "ab")
        page = f'<page ref="t{key}-1-1" state="complete">{values}</page>'
        Path("results/save.xml").write_text(f"<waetresult>{page}</waetresult>")
    assert run("abtest", "import", test.folder, "results", "--program", program) == 0
    assert "1 new answers; 0 were to trials" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("abtest sing", 2, "the first word must be one of make, serve, tally"),
        ("abtest mak", 2, "did you mean make"),
        ("abtest make a b", 2, "--output"),
        ("abtest make a -o new", 2, "compares 2 to 20 systems, got 1"),
        ("abtest make a b -o new --count 0", 2, "--count must be 1 to 1000 clips"),
        ("abtest make a b -o new --seconds 0.1", 2, "--seconds must be 0.4 to 60 seconds"),
        ("abtest make a b -o new --trials 0", 2, "--trials must be"),
        ("abtest make a b -o new --loudness 3", 2, "--loudness must be -60 to -5 LUFS"),
        ("abtest make a b -o new", 1, "a: no such folder of audio files"),
        ("abtest serve nowhere", 1, "nowhere: no such folder; make it with abtest make"),
        ("abtest serve . --port 65536", 2, "--port must be 0 to 65535"),
        ("abtest serve .", 1, "test.json: .*is it a folder that abtest make made"),
        ("abtest tally .", 1, "test.json"),
        ("abtest export . -o new --program mushra", 2, "--program must be one of waet, webmushra"),
        ("abtest export . -o new --program waet", 1, "test.json"),
        ("abtest import . --program waet", 2, "no results are named"),
        ("abtest serve", 2, "must be given|TEST"),
    ],
)
def test_what_is_refused(words, status, message, capsys):
    assert run(*words.split()) == status
    error = assert_one_line_error(capsys)
    assert re.search(message, error), error
    assert not Path("new").exists()


def test_refusals_need_no_torch(tmp_path):
    done = subprocess_of("abtest", "tally", "nowhere", cwd=tmp_path)
    assert done.returncode == 1 and b"no such folder" in done.stderr


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_a_server_that_is_ended_says_what_is_kept(stop, status, answered, capsys, monkeypatch):
    server = pytest.importorskip("samplernn_fast.serving.listening")

    def ended(*args):
        raise stop

    monkeypatch.setattr(server, "run", ended)
    assert run("abtest", "serve", answered.folder, "--port", "0") == status
    assert "answers of 2 listeners are in" in capsys.readouterr().err
