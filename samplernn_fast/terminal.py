"""What a long piece of work shows while it runs, and what ctrl-C does to it.

On a terminal that is a bar, by tqdm, which is loaded by the first bar that is shown. Elsewhere, in a log or a pipe, it
is a line every few seconds, and none for work that is done before the first of them.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, Self

_AUDIO_FORMAT = "{percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s of audio{postfix}, {remaining} left"
_ENDLESS_FORMAT = "{n:.1f} s of audio{postfix}"
# Seconds before the first line, before the second, and at most between two; each wait is half as long again.
_FIRST_WAIT, _SECOND_WAIT, _LONGEST_WAIT = 2.0, 5.0, 30.0
_LONGEST_ENDLESS_WAIT = 600.0  # seconds between two lines of audio that has no end, of which a log may hold months


def is_watched() -> bool:
    """Whether standard error is a terminal, so that somebody can see a progress bar. It may be closed.

    A terminal that says it has no rows or no columns, as those of some services that run tests, shows no bar.
    """
    if sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty():
        return False
    try:
        return all(os.get_terminal_size(sys.stderr.fileno()))
    except (OSError, ValueError):  # it has no file behind it, as in a notebook
        return True


class _Display(Protocol):
    """What a Bar is on the screen: tqdm's bar, or lines."""

    def update(self, done: float, note: str | None) -> None:
        """`done` is done in all, and `note` stands behind it from now on."""

    def write(self, line: str) -> None:
        """Prints a line of its own."""

    def close(self) -> None:
        """Ends the display."""


class Bar:
    """How far a piece of work is, on standard error: a bar on a terminal, elsewhere a line every few seconds.

    One that is not shown has the same methods, and they do nothing. It is closed at the end of a `with` block, or by
    `close`.
    """

    def __init__(
        self,
        total: float | None,
        unit: str,
        *,
        shown: bool = True,
        start: float = 0,
        title: str | None = None,
        prefixes: bool = False,
        rate: str | None = None,
        form: str | None = None,
        longest_wait: float | None = None,
    ) -> None:
        """total: how much there is to do, in `unit` (one "file"), None where nobody knows; `start` of it is done.

        shown: False is silent. prefixes: write 12.3k for 12300. rate: what `unit` a second is called. form: tqdm's
        bar_format, in place of its own; {postfix} in it is the rate under that name. longest_wait: the most seconds
        between two lines where there is no terminal, in place of half a minute.
        """
        self._done = start
        self._note: str | None = None
        self._display: _Display | None = None
        if shown and is_watched():
            self._display = _TerminalBar(total, unit, start, title, prefixes, rate, form)
        elif shown and sys.stderr is not None:
            self._display = _Lines(total, unit, start, title, prefixes, rate, longest_wait or _LONGEST_WAIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def advance(self, amount: float = 1) -> None:
        """`amount` more is done."""
        self._done += amount
        if self._display is not None:
            self._display.update(self._done, self._note)

    def move_to(self, done: float, note: str) -> None:
        """`done` is done in all; `note` stands behind the bar from now on."""
        self._done, self._note = done, note
        if self._display is not None:
            self._display.update(done, note)

    def say(self, line: str) -> None:
        """Prints a line, above the bar where there is one. Nothing is printed where the bar is not shown."""
        if self._display is not None:
            self._display.write(line)

    def close(self) -> None:
        """Ends the bar, which stays on the terminal as it is. Calling it again changes nothing."""
        if self._display is not None:
            self._display.close()


class _TerminalBar:
    """A bar by tqdm."""

    def __init__(
        self,
        total: float | None,
        unit: str,
        start: float,
        title: str | None,
        prefixes: bool,
        rate: str | None,
        form: str | None,
    ) -> None:
        from tqdm import tqdm

        self._rate, self._start, self._began = rate, start, time.monotonic()
        self._bar: Any = tqdm(
            total=total,
            unit=f" {unit}",  # tqdm puts it directly behind the number
            initial=start,
            desc=title,
            unit_scale=prefixes,
            bar_format=form,
            dynamic_ncols=True,
            file=sys.stderr,
        )

    def update(self, done: float, note: str | None) -> None:
        if self._rate is not None:  # tqdm would write "/s" behind any name
            speed = (done - self._start) / max(time.monotonic() - self._began, 1e-9)
            note = ", ".join(part for part in (f"{_scaled(speed)} {self._rate}", note) if part)
        if note is not None:
            self._bar.set_postfix_str(note, refresh=False)
        if done == self._bar.n and note is not None:
            self._bar.refresh()  # a note about what takes its time is to be seen before that is done
        self._bar.update(done - self._bar.n)

    def write(self, line: str) -> None:
        self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


class _Lines:
    """A line every few seconds, printed by a thread of its own, so that a long step is not silent either."""

    def __init__(
        self,
        total: float | None,
        unit: str,
        start: float,
        title: str | None,
        prefixes: bool,
        rate: str | None,
        longest_wait: float,
    ) -> None:
        self._total, self._unit, self._title, self._prefixes, self._rate = total, unit, title, prefixes, rate
        self._longest_wait = longest_wait
        self._start = self._done = start
        self._note: str | None = None
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._print_in_turn, name="progress lines", daemon=True)
        self._thread.start()

    def update(self, done: float, note: str | None) -> None:
        self._done, self._note = done, note

    def write(self, line: str) -> None:
        say(line)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _print_in_turn(self) -> None:
        wait, following = _FIRST_WAIT, _SECOND_WAIT
        while not self._ended.wait(wait):
            self.write(self.text(time.monotonic() - self._began))
            wait, following = following, min(self._longest_wait, 1.5 * following)

    def text(self, elapsed: float) -> str:
        """The line after `elapsed` seconds: what is done, the rate, the time that is left, and the note."""
        done, rate = self._done, (self._done - self._start) / elapsed
        unit = self._unit if self._rate else f"{self._unit}s"
        whole = "" if self._total is None else f" of {self._number(self._total)}"
        parts = [f"{self._number(done)}{whole} {unit}"]
        if rate > 0:
            parts.append(f"{_scaled(rate)} {self._rate or unit + '/s'}")
            if self._total is not None:
                parts.append(f"{duration(max(0.0, self._total - done) / rate)} left")
        else:
            parts.append(f"{duration(elapsed)} so far")
        parts += [self._note] if self._note else []
        return (f"{self._title}: " if self._title else "") + ", ".join(parts)

    def _number(self, amount: float) -> str:
        if self._prefixes:
            return _scaled(amount)
        return f"{amount:.1f}" if isinstance(self._total, float) else f"{amount:.0f}"


def _scaled(amount: float) -> str:
    """Three digits and a prefix: 12300 is 12.3k."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if amount >= size:
            return f"{amount / size:.3g}{prefix}"
    return f"{amount:.3g}"


def duration(seconds: float) -> str:
    """A time in words: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def audio_length(seconds: float) -> str:
    """How much audio that is, in words: 8.2 s, 3.4 min, 2.05 h. Unlike `duration`, it keeps tenths and hundredths."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.2f} h"


def counted(number: float, unit: str) -> str:
    """A number and what is counted, in the singular or the plural: 1 step, 2 steps, 0.5 minutes."""
    return f"{number:.15g} {unit}{'' if number == 1 else 's'}"


def audio_bar(seconds: float | None, shown: bool = True, title: str | None = None, start: float = 0) -> Bar:
    """A bar in seconds of audio, so that its rate is the speed in x real time. seconds: None where it has no end."""
    unit, rate = "s of audio", "x real time"
    if seconds is not None:
        return Bar(float(seconds), unit, shown=shown, start=start, title=title, rate=rate, form=_AUDIO_FORMAT)
    longest = _LONGEST_ENDLESS_WAIT
    return Bar(None, unit, shown=shown, start=start, title=title, rate=rate, form=_ENDLESS_FORMAT, longest_wait=longest)


@contextmanager
def waiting(why: str, *, shown: bool = True) -> Iterator[None]:
    """Prints `why` as a line on standard error if the block takes longer than two seconds."""
    if not shown or sys.stderr is None:
        yield
        return
    timer = threading.Timer(_FIRST_WAIT, say, (f"{why} ...",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # It may be about to print, which must not come behind what the caller prints next.


def say(line: str) -> None:
    """A line on standard error. Whoever reads it may be gone, which must not end the work."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


@contextmanager
def interrupts(*others: signal.Signals, patience: int = 1, notice: str = "") -> Iterator[list[int]]:
    """Collects ctrl-C (SIGINT), and the signals `others`, so that the block can stop where nothing is lost.

    Yields the list of what was caught so far. The first `patience` times ctrl-C is only noted, and each time after
    that it raises KeyboardInterrupt at once. notice: a line for standard error when the first signal comes.
    The handlers from before come back at the end. Signals that are ignored, and in other threads than the main one all
    of them, do what they did before, as in `handled`.
    """
    caught: list[int] = []

    def note(number: int, frame: object) -> None:
        caught.append(number)
        if notice and len(caught) == 1:
            # A handler may come in the middle of a print, so it writes past Python's buffers.
            with suppress(OSError):
                os.write(2, f"\n{notice}\n".encode())
        if caught.count(signal.SIGINT) > patience:
            raise KeyboardInterrupt

    with handled(note, signal.SIGINT, *others):
        yield caught


@contextmanager
def handled(handler: Any, *numbers: signal.Signals) -> Iterator[None]:
    """Within the block `handler` takes these signals; those from before take them again behind it.

    A signal that is ignored stays so: who started the program in the background, or under nohup, asked for that. In
    another thread than the main one, which alone may set handlers, nothing changes.
    """
    before: dict[signal.Signals, Any] = {}
    try:
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    except ValueError:
        pass
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
