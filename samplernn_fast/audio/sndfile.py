"""Files that libsndfile decodes, by way of soundfile, which is loaded on first use.

libsndfile plays a file that is cut short without an error; here that is an error too. What is refused is an
`Unreadable` with the reason; `reading` names the file.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from samplernn_fast.audio import limits
from samplernn_fast.audio.finding import READABLE
from samplernn_fast.untrusted import Unreadable

_COMPRESSED = {"FLAC", "OGG", "MP3", "MPEG", "CAF"}  # containers, by soundfile's names; CAF may hold ALAC


class SndFile:
    """An open file that libsndfile decodes."""

    def __init__(self, path: Path, size: int, file: Any, raw: BinaryIO) -> None:
        """size: the file's bytes. file: the soundfile.SoundFile. raw: the file that an MP3 is read through."""
        self._path, self._size, self._file, self._raw = path, size, file, raw
        self.rate, self.channels = int(file.samplerate), int(file.channels)
        self.frames = int(file.frames) if file.frames < 2**62 else None
        """How many samples per channel the header promises; None where it does not say."""
        self.seconds = None if self.frames is None else self.frames / self.rate
        self.most = limits.most_samples(size, compressed=file.format in _COMPRESSED)
        """The most samples of all channels that its bytes can hold."""
        self._read = 0

    def read(self, size: int) -> NDArray[np.float32]:
        """The next (size, channels) samples, fewer at the end. Raises Unreadable where the file is damaged."""
        import soundfile

        try:
            block: NDArray[np.float32] = self._file.read(size, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise Unreadable(f"damaged after {self._read / self.rate:.1f} s ({_reason(error)})") from None
        self._read += len(block)
        return block

    def finish(self, done: int) -> None:
        """Raises Unreadable where the number of samples that were decoded is not what the file holds."""
        # Without a Xing header the length of an MP3 is an estimate, and decoding ends where the estimate does.
        is_mp3 = self._file.format == "MP3"
        if self.frames is not None and done + (self.rate if is_mp3 else 0) < self.frames:
            raise _cut_short(done / self.rate)
        if is_mp3 and 0 < self._raw.tell() < self._size - self._size // 20 - (1 << 16):
            raise Unreadable(f"longer than its header says; convert it: {_ffmpeg(self._path)}")


@contextmanager
def opened(path: Path, size: int, raw: BinaryIO) -> Iterator[SndFile]:
    """Opens a file of `size` bytes, which is open as `raw`, and checks its header. Raises Unreadable."""
    import soundfile

    try:
        # A path in bytes need not be text.
        file = soundfile.SoundFile(raw if path.suffix.lower() == ".mp3" else os.fsencode(path))
    except soundfile.SoundFileError as error:
        if path.suffix.lower() in READABLE:
            raise Unreadable(f"damaged, or not audio ({_reason(error)})") from None
        raise Unreadable(f"not a format that can be read; convert it: {_ffmpeg(path)}") from None
    except TypeError:  # soundfile wants the rate of samples without a header, which it takes .raw to be
        raise Unreadable("samples without a header cannot be read; make a .wav of them") from None
    with file:
        # SoundFile.read seeks to where it already is, which garbles MP3; it does not where a file cannot seek.
        file.seekable = lambda: False
        if not file.frames:
            raise Unreadable("holds no audio")
        found = SndFile(path, size, file, raw)
        limits.check_header(found.rate, found.channels, found.seconds, found.most)
        if _is_cut_short(path, file):
            raise _cut_short(file.frames / file.samplerate)
        yield found


def _ffmpeg(path: Path) -> str:
    """The command line that converts a file to WAV, for messages."""
    return shlex.join(["ffmpeg", "-i", str(path), str(path.with_suffix(".wav"))])


def _cut_short(seconds: float) -> Unreadable:
    return Unreadable(f"cut short, the audio ends after {seconds:.1f} s but should go on; copy it again")


def _is_cut_short(path: Path, file: Any) -> bool:
    """Whether the header promises more than the file has. libsndfile only writes it into its log and plays on."""
    if file.format == "OGG":
        return _last_ogg_page_is_cut(path)
    for promised, found in re.findall(
        r"^\s*(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE
    ):
        # Programs that write into a pipe put the largest number there, and up to 16 bytes of padding may be missing.
        if int(found) + 16 < int(promised) < 0x7FFF_0000:
            return True
    return False


def _last_ogg_page_is_cut(path: Path) -> bool:
    """Whether the last page of an Ogg file ends before its last segment does.

    A page is 27 bytes, of which the last is the number n of segments, then n sizes, then the segments (RFC 3533).
    """
    with open(path, "rb") as raw:
        raw.seek(-min(1 << 17, os.path.getsize(path)), os.SEEK_END)  # a page has at most 65307 bytes
        tail = raw.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if len(page) < 27:
        return True
    sizes = page[27 : 27 + page[26]]
    return len(page) < 27 + page[26] + sum(sizes)


def _reason(error: Exception) -> str:
    """libsndfile's own words, without its prefixes and on one line."""
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(text.split()).removeprefix("Error : ").rstrip(".")
