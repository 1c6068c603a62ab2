"""The loop of a performance: controls are asked, a block is made, the output takes it; all in one thread, so that a
change never meets a block that is half made."""

import select
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from samplernn_fast.errors import ConfigError, one_line
from samplernn_fast.serving.playing import keyboard as keys
from samplernn_fast.serving.playing.display import StatusLine, status
from samplernn_fast.serving.playing.instrument import Instrument
from samplernn_fast.serving.playing.outputs import Output
from samplernn_fast.serving.playing.session import Kept
from samplernn_fast.serving.priority import RealTime

_LONGEST_WAIT = 0.01  # seconds until controls are asked again


class Control(Protocol):
    """What plays the instrument beside the keys."""

    name: str
    """What its messages are called."""
    words: str
    """Where they come from."""

    @property
    def waits_for(self) -> list[int]:
        """The open files that become readable when there is something to do."""

    def poll(self, instrument: Instrument) -> Iterable[str]:
        """Does what came since the last call. Yields what is wrong with a message."""


@dataclass
class Performance:
    """One instrument, its output, and who plays it."""

    instrument: Instrument
    output: Output
    block: int
    """Samples that are made at a time, a multiple of the grain."""
    frames: int | None
    """The samples of all, None until somebody ends it."""
    keyboard: keys.Keyboard | None
    controls: Sequence[Control]
    line: StatusLine
    save: Callable[[], Kept]
    """Writes the score so far."""
    realtime: RealTime
    """The priority of the thread that plays."""
    refused: dict[str, int] = field(default_factory=dict)
    """How many messages of each control could not be obeyed."""
    quit: bool = False

    def run(self, stopped: Callable[[], bool]) -> bool:
        """Plays until the end, until a player quits, nobody takes the sound any more, or `stopped` says so.

        Returns whether it came to an end of its own. What was made until `stopped` is handed on whole.
        """
        try:
            made = self._play(stopped)
            if self.output.keeps or not stopped():
                self.output.finish()
                while not self.output.drained() and not stopped():
                    time.sleep(_LONGEST_WAIT / 2)
            return made
        except BrokenPipeError:  # whoever took the sound has heard enough
            return True
        finally:
            self.line.clear()

    def _play(self, stopped: Callable[[], bool]) -> bool:
        while not stopped():
            wait, began = self.output.wait(), time.monotonic()
            self._ask(min(wait, _LONGEST_WAIT))
            self.realtime.watch(time.monotonic() - began if wait > 0 else 0.0)
            if self.quit or (self.frames is not None and self.instrument.position >= self.frames):
                return True
            if self.line.due():
                self.line.draw(status(self.instrument, self.output.underruns))
            if wait > 0:
                continue
            left = self.block if self.frames is None else min(self.block, self.frames - self.instrument.position)
            whole = -(-left // self.instrument.grain) * self.instrument.grain
            self.output.write(self.instrument.make(whole)[:left])
        return False

    def _ask(self, wait: float) -> None:
        """Lets everybody who plays change the instrument; waits for them so many seconds at most."""
        if wait > 0:
            files = [number for control in self.controls for number in control.waits_for]
            files += self.keyboard.waits_for if self.keyboard is not None else []
            if files:
                select.select(files, [], [], wait)
            else:
                time.sleep(wait)
        for name in self.keyboard.read() if self.keyboard is not None else ():
            self._press(name)
        for control in self.controls:
            for problem in control.poll(self.instrument):
                self.refused[control.name] = self.refused.get(control.name, 0) + 1
                if self.refused[control.name] == 1:
                    self.line.say(one_line(f"{control.name}: {problem}; others are only counted"))

    def _press(self, name: str) -> None:
        if name == keys.QUIT:
            self.quit = True
        elif name == keys.HELP:
            for row in keys.PAGE:
                self.line.say(row)
        elif name == keys.SAVE:
            self._save()
        elif key := keys.KEYS.get(name):
            try:
                if key.steps or self.instrument.parameters[key.parameter].kind == "switch":
                    self.instrument.move(key.parameter, key.steps)
                else:
                    self.instrument.set(key.parameter)
            except ConfigError as error:
                self.line.say(str(error))
            self.line.draw(status(self.instrument, self.output.underruns))

    def _save(self) -> None:
        try:
            kept = self.save()
        except OSError as error:
            self.line.say(one_line(f"the score cannot be written: {error.strerror or error}; the sound goes on"))
            return
        self.line.say(one_line(f"saved {kept.path}, which --score plays again; the settings now:"))
        self.line.say(one_line(kept.settings))
        if not kept.whole:
            self.line.say(
                f"a score has at most {len(self.instrument.changes)} changes, so it ends before the last ones"
            )
