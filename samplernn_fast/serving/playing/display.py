"""What a player sees: one line that is drawn again and again on standard error, and lines above it."""

import os
import sys
import time
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

    def draw(self, text: str) -> None:
        """Shows a line in place of the one before, cut to the width of the terminal."""
        if not self._watched:
            return
        try:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
        except (OSError, ValueError):
            width = 80
        self._write(_CLEAR + text[: max(1, width - 1)])
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


def status(instrument: Instrument, underruns: int) -> str:
    """How the instrument stands, in one line; what a player moves comes first, in case the line is cut."""
    now = instrument.settings
    parts = [f"temperature {now['temperature']:.4g}"]
    if "top_k" in instrument.parameters:
        parts += [
            f"top-k {now['top_k'] or 'off'}",
            f"top-p {'off' if now['top_p'] is None else format(now['top_p'], '.3g')}",
        ]
    parts += [f"volume {now['volume']:.2g}"]
    marks = [word for word, is_on in (("PAUSED", now["paused"]), ("FROZEN", now["frozen"])) if is_on]
    parts += [*marks, f"seed {now['seed']}", terminal.audio_length(instrument.position / instrument.config.sample_rate)]
    parts.append(terminal.counted(underruns, "underrun"))
    return "  ".join(parts)
