"""The documents: links and paths lead somewhere, commands have the flags that are shown, what is listed is complete."""

import re
from pathlib import Path

import pytest
from command_line import run

import samplernn_fast
from samplernn_fast.commands import COMMANDS, TRAINING
from samplernn_fast.training.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "bench/**/*.md", "csrc/**/*.md", "tests/**/*.md", "samplernn_fast/**/*.md")
    for path in ROOT.glob(pattern)
)
DECISIONS = ROOT / "docs" / "decisions"
MOST_COLUMNS, MOST_LINES = 120, 40  # of a line of a decision, and of an entry, which is to fit on one screen
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`]+)`")
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)+/?")  # a word with slashes inside; * stands for part of a name
TOP_FOLDERS = ("samplernn_fast", "kernels", "csrc", "bench", "examples", "tests", "docs")
READS_VARIABLE = re.compile(r"""(?:environ(?:\.get\(|\.setdefault\(|\[)|getenv\(|number_of\()["']([A-Z][A-Z_]*)["']""")


def prose(document: Path) -> str:
    """The text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def code(document: Path, language: str) -> list[str]:
    """The fenced blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def command_lines(document: Path) -> list[list[str]]:
    """The words of every samplernn-fast command in the blocks of code, without comments."""
    lines = "\n".join(code(document, "bash")).replace("\\\n", " ").splitlines()
    return [line.split(" #")[0].split() for line in lines if line.startswith("samplernn-fast ")]


def anchors(document: Path) -> set[str]:
    """What a link may name behind its #: headings in lower case, without punctuation, spaces as hyphens."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_relative_links_lead_somewhere(document):
    broken = []
    for link in LINK.findall(prose(ROOT / document)):
        name, _, anchor = link.partition("#")
        if "://" in name or name.startswith("mailto:"):
            continue
        target = ROOT / document.parent / name if name else ROOT / document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_paths_in_backticks_lead_somewhere(document):
    """A path begins in the repository, in the package or beside the document. Other words with slashes are no paths."""
    bases = [ROOT, ROOT / "samplernn_fast", ROOT / document.parent]
    rooms = {path.name for base in bases[1:] for path in base.iterdir() if path.is_dir()}
    words = [word for span in SPAN.findall(prose(ROOT / document)) for word in span.split()]
    paths = [word for word in words if PATH.fullmatch(word) and word.split("/")[0] in rooms.union(TOP_FOLDERS)]
    assert not [path for path in paths if not any(list(base.glob(path.rstrip("/"))) for base in bases)]


def test_the_links_are_found():
    assert LINK.findall("see [a](b.md) and\n[c d](../e.md#f)") == ["b.md", "../e.md#f"]
    assert len(DOCUMENTS) > 10


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if command_lines(ROOT / name)], ids=str)
def test_commands_have_the_flags_that_are_shown(document, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for _, command, *words in command_lines(ROOT / document):
        # The flags of train are those of a preset or a model, and those of a command of parts belong to one of them.
        first = command in TRAINING or COMMANDS[command].parts
        named = 0 if not first else 2 if words[0] == "--init-from" else 1
        if command in ("search", "jobs") and "--" in words:  # those of another command follow
            words = words[: words.index("--")]
        assert run(command, *words[:named], "--help") == 0, command
        known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", capsys.readouterr().out))
        assert {word for word in words if re.match("--?[a-z]", word)} <= known, command


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if code(ROOT / name, "python")], ids=str)
def test_python_is_python_and_names_exist(document):
    text = "\n".join(code(ROOT / document, "python"))
    compile(text, str(document), "exec")
    assert set(re.findall(r"\bsrnn\.(\w+)", text)) <= set(dir(samplernn_fast))


def test_every_preset_is_described():
    assert set(PRESETS) <= set(SPAN.findall(prose(ROOT / "docs" / "training.md")))


def test_every_page_of_decisions_is_listed():
    pages = {path.name for path in DECISIONS.glob("*.md")} - {"README.md"}
    assert pages == {link for link in LINK.findall(prose(DECISIONS / "README.md")) if "/" not in link}


def test_a_decision_fits_on_one_screen():
    for page in DECISIONS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert all(len(line) <= MOST_COLUMNS for line in text.splitlines()), page.name
        for entry in text.split("\n## ")[1:]:
            assert len(entry.strip().splitlines()) <= MOST_LINES, (page.name, entry.splitlines()[0])


@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md", "bench/README.md"])
def test_lines_of_the_first_pages_fit(document):
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > MOST_COLUMNS] == []


def test_every_decision_gives_its_reason_and_the_alternatives():
    for page in DECISIONS.glob("*.md"):
        if page.name == "README.md":
            continue
        for entry in page.read_text(encoding="utf-8").split("\n## ")[1:]:
            assert "**Why.**" in entry and "**Alternatives" in entry, (page.name, entry.splitlines()[0])


def test_every_environment_variable_is_described():
    folders = ("samplernn_fast", "kernels", "csrc", "bench", "tests")
    files = [ROOT / "setup.py", *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    sources = [path for path in files if path.suffix in (".py", ".h", ".cpp", ".cuh") and path != Path(__file__)]
    read = {name for path in sources for name in READS_VARIABLE.findall(path.read_text(encoding="utf-8"))}
    described = set(re.findall(r"`([A-Z][A-Z_]*)`", (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")))
    assert {"SAMPLERNN_FAST_CACHE", "MAX_JOBS", "RANK"} <= read
    assert read <= described
