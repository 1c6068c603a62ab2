"""Tests for other programs, and results that come back from them, in the files that those programs write."""

import csv
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from listening import make_test

from samplernn_fast.errors import DataError
from samplernn_fast.evaluation.listening.answers import AnswerBook, open_book, read_book
from samplernn_fast.evaluation.listening.exchange import Imported, bring_in, export
from samplernn_fast.evaluation.listening.folder import ListeningTest

TRIALS = 5
CHOICES = ("a", "b", "none", "b", "a")
HEADER = ["session_test_id", "trial_id", *(f"choice_{name}" for name in "reference non_reference answer".split())]
HEADER += ["choice_time", "choice_comment"]
WORDS = {"a": "correct", "b": "incorrect", "none": "undecided", None: "unknown"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ListeningTest:
    return make_test(tmp_path_factory.mktemp("listening"), trials=TRIALS)


@pytest.fixture
def test(made: ListeningTest) -> ListeningTest:
    """A test without listeners."""
    for name in ("listeners.jsonl", "answers.jsonl"):
        (made.folder / name).unlink(missing_ok=True)
    return made


def saved_by_waet(path: Path, config: Path, choices: tuple[str | None, ...]) -> Path:
    """What the Web Audio Evaluation Tool saves of a session: the config, and a page with values for each of its."""
    root = ElementTree.Element("waetresult", key="abc", state="complete")
    project = ElementTree.parse(config).getroot()
    root.append(project)
    for page, choice in zip(project.findall("page"), choices, strict=True):
        state = "empty" if choice is None else "complete"
        result = ElementTree.SubElement(root, "page", ref=page.get("id", ""), state=state)
        metric = ElementTree.SubElement(result, "metric")
        ElementTree.SubElement(metric, "metricresult", id="testTime").text = "7.25"
        for element in page.findall("audioelement"):
            told = ElementTree.SubElement(result, "audioelement", ref=element.get("id", ""))
            chosen = element.get("id", "").endswith(f"-{choice}")
            ElementTree.SubElement(told, "value").text = str(int(chosen))
    ElementTree.ElementTree(root).write(path)
    return path


def saved_by_webmushra(path: Path, config: Path, choices: tuple[str | None, ...]) -> Path:
    """What webMUSHRA's service writes of a session."""
    told = yaml.safe_load(config.read_text())
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        for page, choice in zip(told["pages"], choices, strict=False):
            rows.writerow([told["testId"], page["id"], "reference", "other", WORDS[choice], 7250, ""])
    return path


SAVED: dict[str, Callable[..., Path]] = {"waet": saved_by_waet, "webmushra": saved_by_webmushra}
NAMES = {"waet": "saves/save-abc.xml", "webmushra": "results/x/paired_comparison.csv"}


@pytest.fixture(params=["waet", "webmushra"])
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def session(
    book: AnswerBook, program: str, folder: Path, choices: tuple[str | None, ...] = CHOICES
) -> tuple[list[Path], Path]:
    """Two listeners who are exported, and the results of the second one."""
    configs = export(book, program, 2, folder / "exported")
    path = folder / NAMES[program]
    path.parent.mkdir(parents=True)
    return configs, SAVED[program](path, configs[1], choices)


def test_what_comes_back_is_what_was_answered(test: ListeningTest, program: str, tmp_path: Path) -> None:
    with open_book(test) as book:
        _, path = session(book, program, tmp_path)
        assert bring_in(book, program, [path.parent]) == Imported(5, 0)
        assert bring_in(book, program, [path]) == Imported(0, 5)
    book = read_book(test)
    assert [(one.listener, one.trial, one.choice) for one in book.answers] == [
        (2, trial, choice) for trial, choice in enumerate(CHOICES, 1)
    ]
    assert all(one.seconds == 7.25 for one in book.answers)
    pairs = book.listeners[1].pairs
    assert [(one.a, one.b) for one in book.answers] == [tuple(pair) for pair in pairs]


def test_a_session_that_went_on_adds_what_is_new(test: ListeningTest, program: str, tmp_path: Path) -> None:
    with open_book(test) as book:
        configs, path = session(book, program, tmp_path, ("a", "b", None, None, None))
        assert bring_in(book, program, [path]) == Imported(2, 0)
        SAVED[program](path, configs[1], ("b", "b", "none", "a", "a"))
        assert bring_in(book, program, [path]) == Imported(3, 2)
    assert [one.choice for one in read_book(test).answers] == ["a", "b", "none", "a", "a"]


def test_an_exported_folder_has_everything(test: ListeningTest, program: str, tmp_path: Path) -> None:
    with open_book(test) as book:
        book.join()
        configs, _ = session(book, program, tmp_path)
        listeners = book.listeners
    assert len(listeners) == 3 and len({path.name for path in configs}) == 2
    for listener, config in zip(listeners[1:], configs, strict=True):
        text = config.read_text()
        assert not any(name in text for name in ("low", "middle", "high"))
        if program == "waet":
            root = ElementTree.fromstring(text.encode())
            pages = root.findall("page")
            heard = [
                [page.get("hostURL", "") + one.get("url", "") for one in page.iter("audioelement")] for page in pages
            ]
        else:
            told = yaml.safe_load(text)["pages"]
            heard = [[page["reference"], *page["stimuli"].values()] for page in told if "stimuli" in page]
        clips = [[Path(url).stem for url in urls] for urls in heard]
        assert clips == [list(pair) for pair in listener.pairs]
        for url, clip in ((url, Path(url).stem) for urls in heard for url in urls):
            assert (tmp_path / "exported" / url).read_bytes() == test.clip_path(clip).read_bytes()
    with open_book(test) as book, pytest.raises(DataError, match="exists"):
        export(book, program, 1, tmp_path / "exported")


def test_a_config_of_waet_follows_its_schema(test: ListeningTest, tmp_path: Path) -> None:
    with open_book(test) as book:
        configs, _ = session(book, "waet", tmp_path)
    root = ElementTree.parse(configs[0]).getroot()
    assert [child.tag for child in root] == ["setup"] + ["page"] * TRIALS
    setup, page = root[0], root[1]
    assert setup.get("interface") == "AB" and [child.tag for child in setup] == ["exitText", "metric", "interface"]
    assert [child.tag for child in page] == ["title", "interface", "audioelement", "audioelement"]
    names = [one.get("id", "") for one in root.iter() if one.get("id")]
    assert len(set(names)) == len(names) == 3 * TRIALS and all(name[0].isalpha() for name in names)
    assert "neither if you have no preference" in page.findtext("interface/title", "")


def test_a_config_of_webmushra_is_unforced_and_ends(test: ListeningTest, tmp_path: Path) -> None:
    with open_book(test) as book:
        configs, _ = session(book, "webmushra", tmp_path)
    told = yaml.safe_load(configs[0].read_text())
    assert [page["type"] for page in told["pages"]] == ["paired_comparison"] * TRIALS + ["finish"]
    assert all(page["unforced"] == "No preference" for page in told["pages"][:-1])
    assert told["pages"][-1]["writeResults"] is True


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("program", "old", "new", "message"),
    [
        ("waet", "waetresult", "waetresults", "no file of results"),
        ("waet", "</value>", "", "is not XML"),
        ("waet", "<value>1</value>", "<value>0.5</value>", "must have the values 0 and 1"),
        ("waet", "<value>0</value>", "<value>1</value>", "must have the values 0 and 1"),
        ("waet", "-2-1", "-2-9", "listener 2 has the trials 1 to 5, and none 9"),
        ("waet", "-2-1", "-3-1", "no listener 3"),
        ("waet", "<waetresult", "<!DOCTYPE a [<!ENTITY b 'c'>]><waetresult", "has a document type"),
        ("webmushra", "correct", "right", "row 2: choice_answer must be one of"),
        ("webmushra", "trial-1", "trial-9", "none 9"),
        ("webmushra", "trial-1", "page", "row 2 is of another test"),
        ("webmushra", "session_test_id", "session", "row 2 is of another test"),
    ],
)
def test_damaged_results_are_refused_whole(
    test: ListeningTest, program: str, old: str, new: str, message: str, tmp_path: Path
) -> None:
    with open_book(test) as book:
        _, path = session(book, program, tmp_path)
        replaced(path, old, new)
        with pytest.raises(DataError, match=message) as caught:
            bring_in(book, program, [path])
        assert str(path) in str(caught.value) and not book.answers


def test_results_of_another_test_are_refused(test: ListeningTest, program: str, tmp_path: Path) -> None:
    with open_book(test) as book:
        _, path = session(book, program, tmp_path)
        replaced(path, test.key, "0" * 8)
        with pytest.raises(DataError, match="of another test; nothing was imported"):
            bring_in(book, program, [path])
        path.write_bytes(b"\xff\x00\xff")
        with pytest.raises(DataError, match=r"is not (XML|CSV)"):
            bring_in(book, program, [path])
        path.unlink()
        with pytest.raises(DataError, match=r"No such file|no .* file is there"):
            bring_in(book, program, [path])
        with pytest.raises(DataError, match=r"no \.\w+ file is there"):
            bring_in(book, program, [path.parent])
        assert not book.answers


def test_the_second_of_two_sittings_in_one_file_is_not_counted(test: ListeningTest, tmp_path: Path) -> None:
    with open_book(test) as book:
        _, path = session(book, "webmushra", tmp_path)
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([*lines, *lines[1:]]))
        assert bring_in(book, "webmushra", [path]) == Imported(5, 5)
