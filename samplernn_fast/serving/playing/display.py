"""What a player sees: one line that is drawn again and again on standard error, and lines above it."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from samplernn_fast import terminal
from samplernn_fast.serving.playing.instrument import Instrument
from samplernn_fast.serving.playing.keyboard import in_front

_EVERY = 0.1  # seconds between two drawings
_CLEAR = "\r\x1b[K"


class StatusLine:
    """One line at the bottom. Nothing of it is drawn where standard error is no terminal; `say` prints there too."""

    def __init__(self) -> None:
        self._watched = terminal.is_watched()
        self._drawn, self._due = False, 0.0

    def due(self) -> bool:
        """Whether it is time to draw again. A job in the background leaves the terminal to the others."""
        return self._watched and time.monotonic() >= self._due and in_front(sys.stderr.fileno())

    def draw(self, texts: Sequence[str]) -> None:
        """Shows a line in place of the one before: the first that fits into the terminal, or the last, which is cut."""
        if not self._watched:
            return
        try:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
        except (OSError, ValueError):
            width = 80
        width = max(1, width - 1)  # A full line would let some terminals begin the next one.
        self._write(_CLEAR + next((text for text in texts if len(text) <= width), texts[-1])[:width])
        self._drawn, self._due = True, time.monotonic() + _EVERY

    def say(self, line: str) -> None:
        """Prints a line above the one that is drawn."""
        self.clear()
        terminal.say(line)

    def clear(self) -> None:
        """Takes the drawn line away."""
        if self._drawn:
            self._write(_CLEAR)
            self._drawn, self._due = False, 0.0

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


def status(instrument: Instrument, underruns: int) -> list[str]:
    """How the instrument stands, in one line: the whole of it, and shorter ones for terminals that are too narrow.

    What a player moves comes first. A seed has up to 20 digits, and was said at the beginning.
    """
    now = instrument.settings
    values = {"temperature": f"{now['temperature']:.4g}"}
    if "top_k" in instrument.parameters:
        values["top-k"] = str(now["top_k"] or "off")
        values["top-p"] = "off" if now["top_p"] is None else format(now["top_p"], ".3g")
    values["volume"] = f"{now['volume']:.2g}"
    marks = [word for word, is_on in (("PAUSED", now["paused"]), ("FROZEN", now["frozen"])) if is_on]
    seed, late = f"seed {now['seed']}", terminal.counted(underruns, "underrun")
    length = terminal.audio_length(instrument.position / instrument.config.sample_rate)
    long, short = ([f"{names.get(name, name)} {value}" for name, value in values.items()] for names in ({}, _SHORT))
    heard = [length, *([late] if underruns else [])]
    lines = [
        [*long, *marks, seed, length, late],
        [*long, *marks, seed, *heard],
        [*short, *marks, seed, *heard],
        [*short, *marks, *heard],
    ]
    return ["  ".join(line) for line in lines]


_SHORT = {"temperature": "temp", "top-k": "k", "top-p": "p", "volume": "vol"}
