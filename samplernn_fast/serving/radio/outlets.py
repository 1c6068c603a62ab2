"""Where the sound of a radio goes: a pipe, or a folder of files of one length."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from samplernn_fast.audio.writing import WavPipe, Writer
from samplernn_fast.errors import AudioError
from samplernn_fast.serving.radio.log import STATES

PIPES = ("wav", "s16", "f32")
FILES = ("flac", "ogg")
_ENDLESS = 1 << 62  # samples
_MARK = "heard"
_AT_ONCE = 1 << 20  # bytes of sound that are read back at a time
_FULL_SCALE = 32768


def pcm_16(samples: np.ndarray) -> np.ndarray:
    """16-bit samples, rounded as `audio.writing` does."""
    return np.clip(np.floor(samples * _FULL_SCALE + 0.5), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2")


class Outlet(Protocol):
    """Takes the sound of a radio. The methods raise AudioError where it cannot be written."""

    def reaches(self, position: int) -> bool:
        """Whether it has all that is needed to go on from a sample."""
        ...

    def go_on(self, position: int) -> None:
        """The next sample that comes is this one."""
        ...

    def write(self, samples: np.ndarray) -> list[dict[str, Any]]:
        """Takes the next samples (n,) float32. Returns what a log should say of it."""
        ...

    def sync(self) -> None:
        """Returns when what came is safe."""
        ...

    def forget(self, position: int) -> None:
        """The radio will never go on from before this sample."""
        ...

    def end(self) -> list[dict[str, Any]]:
        """The sound ends here, at least for now. Returns what a log should say."""
        ...


class PipeOutlet:
    """Samples on a pipe, each block at once. OSError passes through: whoever read the pipe may be gone."""

    def __init__(self, pipe: BinaryIO, kind: str, rate: int, folder: Path | None) -> None:
        """kind: one of `PIPES`. folder: of the log, where a number is kept that says how much was heard."""
        self._pipe, self._kind = pipe, kind
        self._wav = WavPipe(pipe, rate, frames=_ENDLESS) if kind == "wav" else None
        self._mark = None if folder is None else folder / STATES / _MARK
        self._position, self._heard = 0, 0
        if self._mark is not None and self._mark.is_file():
            content = self._mark.read_bytes()
            self._heard = int.from_bytes(content[:8], "little") if len(content) >= 8 else 0

    def reaches(self, position: int) -> bool:
        return True

    def go_on(self, position: int) -> None:
        self._position = position

    def write(self, samples: np.ndarray) -> list[dict[str, Any]]:
        """Samples that were heard before the radio was killed are not sent again."""
        new = samples[max(0, self._heard - self._position) :]
        self._position += len(samples)
        if len(new):
            self._send(new)
            self._heard = self._position
            if self._mark is not None:
                _put(self._mark, 0, self._heard.to_bytes(8, "little"))
        return []

    def _send(self, samples: np.ndarray) -> None:
        if self._wav is not None:
            self._wav.write(samples)
            return
        content = pcm_16(samples) if self._kind == "s16" else samples.astype("<f4")
        self._pipe.write(content.tobytes())
        self._pipe.flush()

    def sync(self) -> None:
        pass

    def forget(self, position: int) -> None:
        pass

    def end(self) -> list[dict[str, Any]]:
        return []


class FolderOutlet:
    """Files of one length, each of which appears when it is whole.

    What came since the last one lies beside the states as 16-bit samples, so a radio that is killed loses nothing.
    """

    def __init__(self, folder: Path, kind: str, rate: int, length: int, told: dict[str, Any]) -> None:
        """kind: one of `FILES`. length: of a file, in samples. told: what the files' comments say."""
        self._folder, self._kind, self._rate, self._length, self._told = folder, kind, rate, length, told
        self._position = 0

    def path(self, number: int) -> Path:
        """The name of the number-th file."""
        return self._folder / f"radio-{number:05d}.{self._kind}"

    def _growing(self, number: int) -> Path:
        return self._folder / STATES / f"growing-{number:05d}.s16"

    def reaches(self, position: int) -> bool:
        number, inside = divmod(position, self._length)
        try:
            return inside == 0 or self._growing(number).stat().st_size >= 2 * inside
        except OSError:
            return False

    def go_on(self, position: int) -> None:
        number, inside = divmod(position, self._length)
        try:
            if inside:
                os.truncate(self._growing(number), 2 * inside)
        except OSError as error:
            raise _unwritable(self._growing(number), error) from None
        self._position = position

    def write(self, samples: np.ndarray) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        while len(samples):
            number, inside = divmod(self._position, self._length)
            part = samples[: self._length - inside]
            if not inside:
                _put(self._growing(number), 0, b"", new=True)
            _put(self._growing(number), 2 * inside, pcm_16(part).tobytes())
            self._position += len(part)
            samples = samples[len(part) :]
            if self._position % self._length == 0:
                told.append(self._finish(number))
        return told

    def _finish(self, number: int) -> dict[str, Any]:
        """Makes a file of what has grown; it stays until no state needs it any more."""
        path, growing, start = self.path(number), self._growing(number), number * self._length
        try:
            size = growing.stat().st_size
            comment = json.dumps(self._told | {"from": start})
            with Writer(path, self._rate, frames=size // 2, comment=comment) as writer, open(growing, "rb") as file:
                while content := file.read(_AT_ONCE):
                    writer.write(np.frombuffer(content, "<i2").astype(np.float32) / _FULL_SCALE)
                writer.end()
                writer.finish(path)
        except OSError as error:
            raise _unwritable(growing, error) from None
        return {"is": "file", "file": path.name, "from": start, "to": start + size // 2}

    def sync(self) -> None:
        number, inside = divmod(self._position, self._length)
        try:
            if inside:
                with open(self._growing(number), "rb+") as file:
                    os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self._growing(number), error) from None

    def forget(self, position: int) -> None:
        for growing in (self._folder / STATES).glob("growing-*.s16"):
            if growing < self._growing(position // self._length):
                growing.unlink(missing_ok=True)

    def end(self) -> list[dict[str, Any]]:
        """Makes a shorter file of the rest, which a longer one replaces when the radio goes on."""
        number, inside = divmod(self._position, self._length)
        return [self._finish(number)] if inside else []


def _put(path: Path, offset: int, content: bytes, new: bool = False) -> None:
    """Writes into a file, which is opened anew each time, so that a folder that is gone is noticed."""
    try:
        with open(path, "wb" if new or not (offset or path.exists()) else "r+b", buffering=0) as file:
            file.seek(offset)
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> AudioError:
    return AudioError(f"{path}: cannot be written: {error.strerror or error}")
