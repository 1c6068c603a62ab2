"""The folder of a listening test: `test.json`, which knows which clip is of which system, and the clips themselves.

The names of the clips are random, so that a listener cannot learn a system from one. Only the experimenter sees
test.json.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplernn_fast import files
from samplernn_fast.errors import DataError
from samplernn_fast.ranges import Range
from samplernn_fast.untrusted import INDEX_BYTES, Fields, Unreadable, read_json

FORMAT = "samplernn_fast listening test"
FORMAT_VERSION = 1
TEST_FILE = "test.json"
CLIP_FOLDER = "clips"
SHORTEST_SECONDS = 0.4
"""ITU-R BS.1770 measures blocks of 400 ms, so a shorter clip has no loudness."""
MOST_SYSTEMS = 20
MOST_CLIPS = 1000
"""The most clips of one system."""
MOST_TRIALS = 200
"""The most pairs that one listener hears."""
MOST_LISTENERS = 100_000
"""The most listeners of a test."""
MOST_CHARACTERS = 200
"""The most characters of a title or a question."""
COUNT = Range(1, MOST_CLIPS, unit="clips")
SECONDS = Range(SHORTEST_SECONDS, 60, unit="seconds")
TRIALS = Range(1, MOST_TRIALS, unit="pairs")
SEED = Range(0, 2**64 - 1)
LUFS = Range(-60, -5, unit="LUFS")
_NAME = re.compile(r"[^\s\x00-\x1f](?:[^\x00-\x1f]{0,38}[^\s\x00-\x1f])?")
_MANY = 10**9  # clips that were left out
_CLIP = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class System:
    """One of the systems that are compared."""

    name: str
    """What the tally calls it."""
    source: str
    """The folder or model that its clips come from."""
    noise: int
    """How many of its clips were left out of the test as noise."""
    no_loudness: int
    """How many were left out because they are silent or too short to have a loudness."""


@dataclass(frozen=True)
class Clip:
    """One clip of a test."""

    system: str
    """The name of its system."""
    source: str
    """Which part of which file it is, or which stream of which model."""


@dataclass(frozen=True)
class ListeningTest:
    """What test.json says."""

    folder: Path
    """The folder of the test."""
    key: str
    """A random name, by which results of other tests are told apart."""
    title: str
    """The heading of the page."""
    question: str
    """What a listener is asked at every pair."""
    seed: int
    """With a listener's number, it decides which pairs that listener hears."""
    trials: int
    """How many pairs a listener hears."""
    lufs: float
    """The loudness of every clip, in LUFS."""
    systems: tuple[System, ...]
    """The systems, in the order in which they were named."""
    clips: Mapping[str, Clip]
    """The clips by their random names."""

    def clip_path(self, clip: str) -> Path:
        """The file of a clip."""
        return clip_file(self.folder, clip)

    def clips_of(self, system: str) -> list[str]:
        """The names of a system's clips."""
        return [name for name, clip in self.clips.items() if clip.system == system]

    def names(self) -> list[str]:
        """The names of the systems."""
        return [system.name for system in self.systems]

    def write(self, folder: Path) -> None:
        """Writes test.json into a folder."""
        told = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "key": self.key,
            "title": self.title,
            "question": self.question,
            "seed": self.seed,
            "trials": self.trials,
            "loudness": {"standard": "ITU-R BS.1770", "lufs": self.lufs},
            "systems": [vars(system) for system in self.systems],
            "clips": {name: vars(clip) for name, clip in self.clips.items()},
        }
        files.write_text(folder / TEST_FILE, json.dumps(told, indent=1) + "\n")

    @classmethod
    def open(cls, folder: Path) -> "ListeningTest":
        """Opens the folder of a test. Raises DataError where it is none, is damaged, or lacks a clip."""
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; make it with abtest make")
        try:
            test = _read(folder, Fields(read_json(folder / TEST_FILE, INDEX_BYTES), TEST_FILE))
        except Unreadable as error:
            raise DataError(f"{folder / TEST_FILE}: {error}; is it a folder that abtest make made?") from None
        missing = [name for name in test.clips if not test.clip_path(name).is_file()]
        if missing:
            raise DataError(f"{test.clip_path(missing[0])}: the clip is missing; make the test again")
        return test


def clip_file(folder: Path, clip: str) -> Path:
    """Where a clip lies in the folder of a test."""
    return folder / CLIP_FOLDER / f"{clip}.wav"


def is_system_name(name: str) -> bool:
    """Whether a system may be called so: 1 to 40 characters, without spaces at the ends."""
    return _NAME.fullmatch(name) is not None


def _read(folder: Path, told: Fields) -> ListeningTest:
    if told.value("format") != FORMAT:
        raise Unreadable(f"its format is {told.shown('format')}, not {FORMAT!r}")
    if told.value("version") != FORMAT_VERSION:
        raise Unreadable(f"has version {told.shown('version')}, and version {FORMAT_VERSION} is read")
    systems = _systems(told.value("systems"))
    clips = {}
    for name, value in told.mapping("clips").items():
        if not _CLIP.fullmatch(name):
            raise Unreadable(f"{name[:40]!r} is no name of a clip")
        clip = Fields(value, f"clip {name}")
        clips[name] = Clip(clip.text("system"), clip.text("source"))
    names = {system.name for system in systems}
    if {clip.system for clip in clips.values()} != names:
        raise Unreadable("every system must have clips, and every clip a system")
    return ListeningTest(
        folder,
        told.text("key"),
        told.text("title")[:MOST_CHARACTERS],
        told.text("question")[:MOST_CHARACTERS],
        told.integer("seed", 0, int(SEED.high)),
        told.integer("trials", 1, MOST_TRIALS),
        told.fields("loudness").number("lufs", -100, 0),
        systems,
        clips,
    )


def _systems(value: Any) -> tuple[System, ...]:
    if not isinstance(value, list) or not 2 <= len(value) <= MOST_SYSTEMS:
        raise Unreadable(f"systems must be a list of 2 to {MOST_SYSTEMS}")
    told = [Fields(one, "a system") for one in value]
    systems = tuple(
        System(one.text("name"), one.text("source"), one.integer("noise", 0, _MANY), _no_loudness(one)) for one in told
    )
    names = [system.name for system in systems]
    if len(set(names)) < len(names) or not all(map(is_system_name, names)):
        raise Unreadable("the names of the systems must differ, and have 1 to 40 characters")
    return systems


def _no_loudness(system: Fields) -> int:
    """The first tests refused such clips and did not count them."""
    return system.integer("no_loudness", 0, _MANY) if system.has("no_loudness") else 0
