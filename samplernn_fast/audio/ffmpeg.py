"""Audio that libsndfile does not read (m4a, aac, wma and more), decoded by the program ffmpeg where it is installed.

ffmpeg runs as a process of its own, which may open this one file, in containers of audio only, and is killed where it
gives nothing for a minute. Its samples come through a pipe, so nothing lies on the disk in between.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from samplernn_fast.audio import limits
from samplernn_fast.errors import one_line
from samplernn_fast.untrusted import Unreadable, parse_json

_PROBE_SECONDS = 30  # most that reading a header may take
_STALL_SECONDS = 60  # most that ffmpeg may take for the next piece of audio
_LARGEST_ALLOCATION = 1 << 28  # bytes that ffmpeg may allocate at once
# ffmpeg may take the file for one of these. Playlists are left out, because they would make it open other files.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,aac,asf,ape,wv,amr,matroska,webm,ac3,eac3,loas,mp3,ogg,wav,flac,caf"
_BYTES = 4  # A float32 sample has so many.


class FfmpegFile:
    """A file that ffmpeg decodes. `reading` reads it as it reads one that libsndfile decodes."""

    def __init__(
        self,
        path: Path,
        header: tuple[int, int, float | None],
        most: int,
        process: subprocess.Popen[bytes],
        log: IO[bytes],
    ) -> None:
        """header: rate, channels, seconds. process: ffmpeg, which writes samples to its standard output, and complaints
        into the file `log`."""
        self._path = path
        self.rate, self.channels, self.seconds = header
        self.most = most
        """The most samples of all channels that its bytes can hold."""
        self.frames: int | None = None
        """ffmpeg does not say how many samples will come."""
        self._process, self._log = process, log

    def read(self, size: int) -> NDArray[np.float32]:
        """The next (size, channels) samples, fewer at the end. Raises Unreadable where ffmpeg stands still."""
        assert self._process.stdout is not None
        wanted = size * self.channels * _BYTES
        pieces, got = list[bytes](), 0
        while got < wanted:
            ready, _, _ = select.select([self._process.stdout], [], [], _STALL_SECONDS)
            if not ready:
                raise Unreadable(f"ffmpeg gave nothing for {_STALL_SECONDS} s")
            piece = os.read(self._process.stdout.fileno(), wanted - got)
            if not piece:
                break
            pieces.append(piece)
            got += len(piece)
        whole = b"".join(pieces)
        frame = self.channels * _BYTES
        return np.frombuffer(whole[: len(whole) // frame * frame], "<f4").reshape(-1, self.channels)

    def finish(self, done: int) -> None:
        """Raises Unreadable where ffmpeg complained, as it does about a file that is damaged or cut short."""
        try:
            status = self._process.wait(_PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            raise Unreadable("ffmpeg does not end") from None
        complaint = _first_line(self._log, self._path)
        if status or complaint:
            raise Unreadable(f"damaged or cut short after {done / self.rate:.1f} s ({complaint or 'ffmpeg failed'})")


@contextmanager
def opened(path: Path, size: int) -> Iterator[FfmpegFile]:
    """Opens a file of `size` bytes. Raises Unreadable where ffmpeg is missing or does not read it."""
    program, prober = shutil.which("ffmpeg"), shutil.which("ffprobe")
    if not program or not prober:
        raise Unreadable(
            f"{path.suffix} is read through ffmpeg, which is not installed; install it (apt install ffmpeg, brew"
            " install ffmpeg), or convert the file to .wav or .flac"
        )
    rate, channels, seconds = _probe(prober, path)
    most = limits.most_samples(size, compressed=True)
    limits.check_header(rate, channels, seconds, most)
    form = ["-map", "0:a:0", "-vn", "-sn", "-dn", "-f", "f32le", "-c:a", "pcm_f32le"]
    command = [program, "-nostdin", "-xerror", "-threads", "1", *_input(path), *form, "-ar", str(rate)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "-ac", str(channels), "pipe:1"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )
        try:
            yield FfmpegFile(path, (rate, channels, seconds), most, process, log)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _input(path: Path) -> list[str]:
    """The options of both programs that name the file and bound what they may do with it."""
    bounds = ["-max_alloc", str(_LARGEST_ALLOCATION), "-protocol_whitelist", "file,pipe"]
    return ["-v", "error", *bounds, "-format_whitelist", _CONTAINERS, "-i", f"file:{path}"]


def _probe(prober: str, path: Path) -> tuple[int, int, float | None]:
    """Sample rate, channels and seconds of a file's first stream of audio. Raises Unreadable."""
    shown = ["-select_streams", "a:0", "-show_entries", "stream=sample_rate,channels:format=duration", "-of", "json"]
    with tempfile.TemporaryFile() as log:
        try:
            made = subprocess.run(
                [prober, *shown, *_input(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                timeout=_PROBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unreadable(f"ffprobe does not end within {_PROBE_SECONDS} s") from None
        if made.returncode:
            raise Unreadable(f"damaged, or not audio ({_first_line(log, path) or 'ffprobe failed'})")
    return _parsed(made.stdout)


def _parsed(output: bytes) -> tuple[int, int, float | None]:
    found = parse_json(output.decode(errors="replace"))
    streams = found.get("streams") if isinstance(found, dict) else None
    if not streams:
        raise Unreadable("holds no audio")
    try:
        rate, channels = int(streams[0]["sample_rate"]), int(streams[0]["channels"])
        seconds = float(found["format"]["duration"]) if "duration" in found.get("format", {}) else None
    except (KeyError, TypeError, ValueError):
        raise Unreadable("its header does not say rate and channels") from None
    return rate, channels, seconds if seconds is not None and 0 <= seconds < 1e9 else None


def _first_line(log: IO[bytes], path: Path) -> str:
    """The first line that ffmpeg printed, at most 150 characters of it, without the names of itself and the file."""
    log.seek(0)
    line = log.readline(1000).decode(errors="surrogateescape").strip()
    text = line.rpartition("] ")[2] if line.startswith("[") else line
    return one_line(text.removeprefix(f"file:{path}: "))[:150]
