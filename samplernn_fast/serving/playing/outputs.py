"""Where the sound of the instrument goes: a pipe or a file, which stand in for a sound card. `speakers` is the card."""

import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from samplernn_fast.audio.writing import Writer, pcm_16, wav_header

Format = Literal["wav", "s16", "f32"]
_ENDLESS = 1 << 32  # samples: more than the header of a WAV can say
_AT_ONCE = select.PIPE_BUF  # bytes that a pipe takes without waiting where it says that it takes some
_PATIENCE = 0.005  # seconds until a pipe that is full is asked again
_MOST_WAITING = 1 << 16  # bytes that wait for a pipe; beyond them no more sound is made


class Output(Protocol):
    """Takes sound, block by block. `BrokenPipeError` where nobody takes it any more."""

    words: str
    """What it is, for the player."""
    keeps: bool
    """Whether what was made before a signal is to be finished too."""

    @property
    def underruns(self) -> int:
        """How often sound came too late."""

    def wait(self) -> float:
        """The seconds until it takes the next block, or until it is to be asked again; 0 is now."""

    def write(self, samples: np.ndarray) -> None:
        """Takes a block, (n,) float32, when `wait` was 0."""

    def finish(self) -> None:
        """There is no more sound."""

    def drained(self) -> bool:
        """Whether all sound is where it should be; asked again and again after `finish`."""

    def close(self) -> None:
        """Gives up what is not finished."""


class Clock:
    """Lets sound be made no faster than it is played, some milliseconds ahead."""

    def __init__(self, rate: int, ahead: float, now: Callable[[], float] = time.monotonic) -> None:
        """rate: samples a second. ahead: in seconds."""
        self._rate, self._ahead, self._now = rate, ahead, now
        self._began: float | None = None
        self._made = 0
        self.late = 0
        """How often the sound was so late that a player would have run dry."""

    def wait(self) -> float:
        """The seconds until more is wanted."""
        if self._began is None:
            return 0.0
        return max(0.0, self._made / self._rate - self._ahead - (self._now() - self._began))

    def made(self, n: int) -> None:
        """So many samples were made."""
        now = self._now()
        if self._began is None:
            self._began = now
        elif now - self._began > self._made / self._rate:
            # What was missed is over: catching up would be heard nowhere, and would make the next note late.
            self.late += 1
            self._began = now - self._made / self._rate
        self._made += n


class StandardOutput:
    """Sends sound to a program behind a pipe, or to a file that a shell opened."""

    keeps = False

    def __init__(self, number: int, form: Format, rate: int, frames: int | None, clock: Clock | None) -> None:
        """number: of the open file. frames: the samples that will come, None where nobody knows. clock: None sends as
        fast as they are taken."""
        self._number, self._form, self._clock = number, form, clock
        self._waiting = bytearray(wav_header(rate, frames=frames or _ENDLESS) if form == "wav" else b"")
        kind = {"wav": "16-bit WAV", "s16": "raw 16-bit samples", "f32": "raw float32 samples"}[form]
        self.words = f"standard output in place of a sound card, {kind} at {rate} Hz"

    @property
    def underruns(self) -> int:
        return 0 if self._clock is None else self._clock.late

    def wait(self) -> float:
        self._send()
        if len(self._waiting) >= _MOST_WAITING:
            return _PATIENCE
        if self._waiting and self._clock is None:
            return _PATIENCE
        return 0.0 if self._clock is None else self._clock.wait()

    def write(self, samples: np.ndarray) -> None:
        self._waiting += pcm_16(samples) if self._form != "f32" else samples.astype("<f4").tobytes()
        if self._clock is not None:
            self._clock.made(len(samples))
        self._send()

    def finish(self) -> None:
        pass

    def drained(self) -> bool:
        self._send()
        return not self._waiting

    def close(self) -> None:
        self._waiting.clear()

    def _send(self) -> None:
        """Sends what can be sent without waiting for the reader, so that keys are heard while it is slow."""
        while self._waiting and select.select([], [self._number], [], 0)[1]:
            sent = os.write(self._number, self._waiting[:_AT_ONCE])
            del self._waiting[:sent]


class Recording:
    """Writes a file, whole or not at all."""

    keeps = True

    def __init__(self, path: Path, rate: int, frames: int, comment: str, clock: Clock | None = None) -> None:
        """frames: the most samples that will come. clock: None takes them as fast as they are made.

        Raises AudioError as `audio.writing.write`.
        """
        self._path, self._clock, self._any = path, clock, False
        self._writer = Writer(path, rate, frames=frames, comment=comment)
        self.words = f"{path} in place of a sound card{', as fast as it can be made' if clock is None else ''}"

    @property
    def underruns(self) -> int:
        return 0 if self._clock is None else self._clock.late

    def wait(self) -> float:
        return 0.0 if self._clock is None else self._clock.wait()

    def write(self, samples: np.ndarray) -> None:
        self._writer.write(samples)
        self._any = True
        if self._clock is not None:
            self._clock.made(len(samples))

    def finish(self) -> None:
        """Names the file, where anything was written."""
        if self._any:
            self._writer.end()
            self._writer.finish(self._path)

    def drained(self) -> bool:
        return True

    def close(self) -> None:
        self._writer.close()
