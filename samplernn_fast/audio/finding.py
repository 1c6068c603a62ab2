"""Which files below some folders are audio, by their suffixes, and what was passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from samplernn_fast.errors import AudioError
from samplernn_fast.stores.reading import local

PathLike = str | os.PathLike[str]

READABLE = frozenset(
    ".wav .wave .flac .ogg .oga .opus .mp3 .aiff .aif .aifc .au .snd .caf .w64 .rf64 .voc .sph .nist .svx .8svx"
    " .iff .pvf .paf .avr .sds .ircam .sf".split()
)
"""Suffixes of files that libsndfile opens."""
NEEDS_FFMPEG = frozenset(".m4a .m4b .mp4 .aac .wma .ape .wv .amr .webm .mka .ac3".split())
"""Suffixes of audio that is read through the program ffmpeg, where that is installed."""
NO_AUDIO = frozenset(
    ".jpg .jpeg .png .gif .webp .bmp .tif .tiff .heic .svg .txt .md .pdf .nfo .log .htm .html .url .csv .json .xml"
    " .yaml .yml .ini .db .m3u .m3u8 .pls .cue .lrc .sfv .md5 .sha256 .mid .midi .zip .rar .7z .py .sh".split()
)
"""Suffixes of what lies beside audio. Such a file is passed over where it is named itself too, as by `album/*`."""


@dataclass
class Found:
    """What `search` found."""

    files: set[Path] = field(default_factory=set)
    """The audio files."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """How many files of each suffix, in small letters, are no audio; "" counts those without a suffix."""
    unlisted: list[tuple[Path, str]] = field(default_factory=list)
    """(folder, reason) of every folder inside another that cannot be listed."""

    def not_audio(self) -> str:
        """What was passed over, in words: "3 .jpg, 1 without suffix". Empty where there is nothing."""
        return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in self.passed_over.most_common())


def find_audio(inputs: PathLike | Iterable[PathLike]) -> list[Path]:
    """Lists the files named in `inputs` and the audio files under its folders, sorted by path, each once.

    Arguments and errors are those of `search`.
    """
    return sorted(search(inputs).files, key=Path.as_posix)


def search(inputs: PathLike | Iterable[PathLike]) -> Found:
    """Finds the files named in `inputs` and the audio files under its folders.

    A file that is named itself is taken whatever its suffix, unless that is one of `NO_AUDIO`. Below folders, hidden
    files and folders are skipped. Raises AudioError on a path that does not exist, and on a folder in `inputs` that
    cannot be listed.
    """
    found = Found()
    for name in [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs:
        path = local(name, maybe_audio)
        if os.path.isdir(path):
            _search_folder(Path(path), found)
        elif not os.path.lexists(path):
            raise AudioError(f"{os.fspath(path)}: no such file or folder")
        elif _suffix(path) in NO_AUDIO:
            found.passed_over[_suffix(path)] += 1
        else:
            found.files.add(Path(path))
    return found


def maybe_audio(names: list[str]) -> list[str]:
    """Of the names of files in a store those that are worth bringing: what `search` would take of such a folder."""
    return [name for name in names if _suffix(name) in READABLE | NEEDS_FFMPEG]


def _search_folder(root: Path, found: Found) -> None:
    """Adds the audio files below a folder."""

    def note(error: OSError) -> None:
        folder = Path(os.fsdecode(error.filename))
        if folder == root:
            raise AudioError(f"{root}: cannot be listed: {error.strerror}") from None
        found.unlisted.append((folder, f"cannot be listed: {error.strerror}"))

    seen: set[str] = set()  # links are followed, so a folder could otherwise come up inside itself
    for folder, subfolders, names in os.walk(root, onerror=note, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue
            if _suffix(name) in READABLE | NEEDS_FFMPEG:
                found.files.add(Path(folder, name))
            else:
                found.passed_over[_suffix(name)] += 1


def _suffix(path: PathLike) -> str:
    return os.path.splitext(path)[1].lower()
