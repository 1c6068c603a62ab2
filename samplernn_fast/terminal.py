"""What a long piece of work shows on a terminal, and what ctrl-C does to it.

tqdm is loaded by the first bar that is shown, so work that nobody watches does without it.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

_AUDIO_FORMAT = "{percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s of audio, {rate_noinv_fmt}, {remaining} left"


def is_watched() -> bool:
    """Whether standard error is a terminal, so that somebody can see a progress bar."""
    return sys.stderr.isatty()


class Bar:
    """A progress bar on standard error. One that is not shown has the same methods, and they do nothing.

    It is closed at the end of a `with` block, or by `close`.
    """

    def __init__(
        self,
        total: float | None,
        unit: str,
        *,
        shown: bool | None = None,
        start: float = 0,
        title: str | None = None,
        prefixes: bool = False,
        form: str | None = None,
    ) -> None:
        """total: how much there is to do, in `unit`, None where nobody knows; `start` of it is done already.

        shown: None shows the bar where standard error is a terminal. prefixes: write 12.3k for 12300. form: tqdm's
        bar_format, in place of its own.
        """
        self._bar: Any = None
        if is_watched() if shown is None else shown:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                unit=unit,
                initial=start,
                desc=title,
                unit_scale=prefixes,
                bar_format=form,
                dynamic_ncols=True,
                file=sys.stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def advance(self, amount: float = 1) -> None:
        """`amount` more is done."""
        if self._bar is not None:
            self._bar.update(amount)

    def move_to(self, done: float, note: str) -> None:
        """`done` is done in all; `note` stands behind the bar from now on."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)

    def say(self, line: str) -> None:
        """Prints a line above the bar, on standard error. Nothing is printed where the bar is not shown."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar, which stays on the terminal as it is."""
        if self._bar is not None:
            self._bar.close()


def audio_bar(seconds: float, shown: bool | None = None) -> Bar:
    """A bar in seconds of audio, so that its rate is the speed in x real time."""
    return Bar(seconds, "x real time", shown=shown, form=_AUDIO_FORMAT)


@contextmanager
def interrupts(*others: signal.Signals) -> Iterator[list[int]]:
    """Collects ctrl-C (SIGINT), and the signals `others`, so that the block can stop where nothing is lost.

    Yields the list of what was caught so far. A ctrl-C that is not the first of them raises KeyboardInterrupt at once.
    The handlers from before come back at the end. Only the main thread may set handlers: in another one the list stays
    empty, and signals do what they did before.
    """
    caught: list[int] = []

    def note(number: int, frame: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, *others)}
    except ValueError:
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
