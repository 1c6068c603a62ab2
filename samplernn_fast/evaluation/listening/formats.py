"""The files of two other programs for listening tests: their configs, and their results.

`Waet` is the Web Audio Evaluation Tool (Jillings et al., SMC 2015; github.com/BrechtDeMan/WebAudioEvaluationTool), with
which the paper's tests were made: its schema is `xml/test-schema.xsd` there. `WebMushra` is webMUSHRA (Schoeffler et
al., JORS 2018; github.com/audiolabs/webMUSHRA): its `doc/experimenter.md` has the configs. Each listener has a config
of one's own, whose name says whose it is.
"""

import csv
import html
import io
import re
from pathlib import Path
from typing import NamedTuple, Protocol
from xml.etree import ElementTree

from samplernn_fast.evaluation.listening.answers import Listener
from samplernn_fast.evaluation.listening.folder import ListeningTest
from samplernn_fast.untrusted import Unreadable, read_bytes

RESULT_BYTES = 1 << 24
"""The most bytes of a file of results; one listener's has some 100 KB."""
_ASK_FOR_NONE = "Choose neither if you have no preference."


class Result(NamedTuple):
    """An answer in a file of results."""

    listener: int
    trial: int
    choice: str
    seconds: float | None


class Format(Protocol):
    """What is known of a program's files."""

    suffix: str
    """What the name of a file of results ends in."""
    next: str
    """What is to be done with an exported folder."""

    def clip_folder(self, test: ListeningTest) -> str:
        """Where the clips lie in an exported folder."""

    def config(self, test: ListeningTest, listener: Listener) -> tuple[str, str]:
        """The config of a listener: its name in an exported folder, and its text."""

    def results(self, path: Path, test: ListeningTest) -> list[Result]:
        """The answers in a file of results. Raises Unreadable for one that is damaged, or of another test."""


class Waet:
    """The Web Audio Evaluation Tool: a page with two clips a trial; to choose neither is to have no preference."""

    suffix = ".xml"
    next = "copy its folders into the Web Audio Evaluation Tool and open test.html?url=tests/... for each listener"

    def clip_folder(self, test: ListeningTest) -> str:
        """As `Format`."""
        return f"media/abtest-{test.key}"

    def config(self, test: ListeningTest, listener: Listener) -> tuple[str, str]:
        """As `Format`."""
        root = ElementTree.Element("waet")
        setup = ElementTree.SubElement(root, "setup", interface="AB", projectReturn="save.php", randomiseOrder="false")
        ElementTree.SubElement(setup, "exitText").text = "Thank you. All your answers are kept."
        metric = ElementTree.SubElement(setup, "metric")
        ElementTree.SubElement(metric, "metricenable").text = "testTimer"
        options = ElementTree.SubElement(setup, "interface")
        for shown in ("page-count", "volume"):
            ElementTree.SubElement(options, "interfaceoption", type="show", name=shown)
        for trial, pair in enumerate(listener.pairs, 1):
            name = f"t{test.key}-{listener.number}-{trial}"  # an xs:ID, so it may not begin with a digit
            page = ElementTree.SubElement(root, "page", id=name, hostURL=f"{self.clip_folder(test)}/")
            page.set("randomiseOrder", "false")  # the sides are random already
            ElementTree.SubElement(page, "title").text = test.title
            interface = ElementTree.SubElement(page, "interface")
            ElementTree.SubElement(interface, "title").text = f"{test.question} {_ASK_FOR_NONE}"
            for side, clip in zip("ab", pair, strict=True):
                ElementTree.SubElement(page, "audioelement", id=f"{name}-{side}", url=f"{clip}.wav")
        ElementTree.indent(root)
        text = ElementTree.tostring(root, encoding="unicode", xml_declaration=False)
        return f"tests/abtest-{test.key}-{listener.number:03d}.xml", f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'

    def results(self, path: Path, test: ListeningTest) -> list[Result]:
        """As `Format`: of a saved session, the pages that are complete."""
        parser = ElementTree.XMLParser(target=_NoDoctype())
        try:
            root = ElementTree.fromstring(read_bytes(path, RESULT_BYTES), parser)
        except ElementTree.ParseError as error:
            raise Unreadable(f"is not XML: {error}") from None
        if root.tag != "waetresult":
            raise Unreadable("is no file of results of the Web Audio Evaluation Tool")
        pages = [page for page in root.findall("page") if page.get("state") == "complete"]
        return [self._result(page, test) for page in pages]

    def _result(self, page: ElementTree.Element, test: ListeningTest) -> Result:
        name = page.get("ref", "")
        found = re.fullmatch(r"t([0-9a-f]+)-([0-9]{1,6})-([0-9]{1,4})", name)
        if not found or found[1] != test.key:
            raise Unreadable(f"page {name[:60]!r} is of another test")
        values = {part.get("ref"): (part.findtext("value") or "").strip() for part in page.findall("audioelement")}
        chosen = tuple(values.get(f"{name}-{side}") for side in "ab")
        choices = {("1", "0"): "a", ("0", "1"): "b", ("0", "0"): "none"}
        if chosen not in choices:
            raise Unreadable(f"page {name} must have the values 0 and 1 or two 0, got {chosen[0]} and {chosen[1]}")
        timed = page.findtext("metric/metricresult[@id='testTime']")
        return Result(int(found[2]), int(found[3]), choices[chosen], _seconds(timed, 1))


class WebMushra:
    """webMUSHRA: an unforced paired comparison for each trial, in which clip `a` is called the reference."""

    suffix = ".csv"
    next = "copy its folders into webMUSHRA and open ?config=abtest-... for each listener"

    def clip_folder(self, test: ListeningTest) -> str:
        """As `Format`."""
        return f"configs/resources/abtest-{test.key}"

    def config(self, test: ListeningTest, listener: Listener) -> tuple[str, str]:
        """As `Format`. Texts of a test are escaped, because webMUSHRA shows them as HTML."""
        import yaml

        title, question = html.escape(test.title), html.escape(test.question)
        pages = [
            {
                "type": "paired_comparison",
                "id": f"trial-{trial}",
                "name": f"{title}: {trial} of {len(listener.pairs)}",
                "unforced": "No preference",
                "content": f"{question} The reference is the same clip as A or B; take no notice of it.",
                "showWaveform": False,
                "enableLooping": False,
                "reference": f"{self.clip_folder(test)}/{pair.a}.wav",
                "stimuli": {"other": f"{self.clip_folder(test)}/{pair.b}.wav"},
            }
            for trial, pair in enumerate(listener.pairs, 1)
        ]
        end = {"type": "finish", "name": "Thank you", "content": "All your answers are kept."}
        told = {
            "testname": title,
            "testId": f"abtest-{test.key}-{listener.number}",
            "bufferSize": 2048,
            "stopOnErrors": False,  # clips may differ in length
            "showButtonPreviousPage": False,
            "remoteService": "service/write.php",
            "pages": [*pages, end | {"showResults": False, "writeResults": True}],
        }
        text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=1000)
        return f"configs/abtest-{test.key}-{listener.number:03d}.yaml", text

    def results(self, path: Path, test: ListeningTest) -> list[Result]:
        """As `Format`: the rows of a `paired_comparison.csv` that have an answer."""
        try:
            text = read_bytes(path, RESULT_BYTES).decode("utf-8-sig")
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        except (UnicodeDecodeError, csv.Error) as error:
            raise Unreadable(f"is not CSV: {error}") from None
        found = [self._result(row, number, test) for number, row in enumerate(rows, 2)]
        return [result for result in found if result is not None]

    def _result(self, row: dict[str, str | None], number: int, test: ListeningTest) -> Result | None:
        session = re.fullmatch(r"abtest-([0-9a-f]+)-([0-9]{1,6})", row.get("session_test_id") or "")
        trial = re.fullmatch(r"trial-([0-9]{1,4})", row.get("trial_id") or "")
        if not session or not trial or session[1] != test.key:
            raise Unreadable(f"row {number} is of another test")
        choices = {"correct": "a", "incorrect": "b", "undecided": "none", "unknown": None}
        answer = row.get("choice_answer") or ""
        if answer not in choices:
            raise Unreadable(f"row {number}: choice_answer must be one of {', '.join(choices)}, got {answer[:40]!r}")
        choice = choices[answer]
        seconds = _seconds(row.get("choice_time"), 1000)
        return None if choice is None else Result(int(session[2]), int(trial[1]), choice, seconds)


FORMATS: dict[str, Format] = {"waet": Waet(), "webmushra": WebMushra()}
"""The programs by the names that they have on the command line."""


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a document type, with which a small file could define a huge one."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Called by the parser where the declaration begins."""
        raise Unreadable("has a document type, which no file of results has")


def _seconds(text: str | None, a_second: float) -> float | None:
    """A time in seconds, of which `a_second` make one; None for what is no time."""
    try:
        seconds = float(text or "") / a_second
    except ValueError:
        return None
    return round(seconds, 3) if 0 <= seconds < 1e6 else None
