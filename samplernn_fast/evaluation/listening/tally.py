"""Counts the answers of a listening test, pair of systems by pair, and ranks the systems.

Answers are taken as independent. Those of one listener are not quite, so with few listeners the intervals and the p
values look surer than they are.
"""

import itertools
import json
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samplernn_fast import files
from samplernn_fast.errors import DataError
from samplernn_fast.evaluation.intervals import Interval, wilson
from samplernn_fast.evaluation.listening.answers import AnswerBook
from samplernn_fast.evaluation.listening.statistics import bradley_terry, holm, sign_test


@dataclass(frozen=True)
class PairCount:
    """How two systems did against each other."""

    one: str
    other: str
    wins: int
    """How often `one` was preferred."""
    none: int
    """How often neither was."""
    losses: int
    """How often `other` was preferred."""
    p: float
    """The p value of the sign test, without the answers of no preference."""
    p_holm: float
    """The same p, corrected by Holm for the number of pairs of systems."""

    @property
    def total(self) -> int:
        """All answers."""
        return self.wins + self.none + self.losses

    def shares(self) -> tuple[Interval, Interval, Interval]:
        """The shares of `one`, of no preference and of `other`."""
        return wilson(self.wins, self.total), wilson(self.none, self.total), wilson(self.losses, self.total)


@dataclass(frozen=True)
class Ranked:
    """A system's place among the others."""

    system: str
    strength: Interval
    """The log strength of the Bradley-Terry model; the mean of all systems is 0."""

    def chance(self) -> float:
        """How often the system is preferred to one of average strength, where there is a preference."""
        return 1 / (1 + math.exp(-self.strength.value))


@dataclass(frozen=True)
class Tally:
    """What a test has shown."""

    title: str
    lufs: float
    listeners: int
    """How many listeners gave at least one of the answers that are counted."""
    finished: int
    """How many of them answered all of their trials."""
    answers: int
    pairs: tuple[PairCount, ...]
    ranking: tuple[Ranked, ...]
    """The systems, the strongest first."""
    first: Interval
    """How often the clip called A was preferred, where there was a preference: about a half, unless sides matter."""
    noise_clips: int | None
    """How many clips were left out as noise; None where that was not asked for."""
    noise_answers: int
    """How many answers were not counted because of them."""
    left_out_before: dict[str, int]
    """How many clips of each system were left out as noise when the test was made, where there were any."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        told = asdict(self)
        for pair, shown in zip(self.pairs, told["pairs"], strict=True):
            shown["shares"] = [files.for_json(asdict(share)) for share in pair.shares()]
        for one, shown in zip(self.ranking, told["ranking"], strict=True):
            shown["strength"] = files.for_json(shown["strength"]) | {"chance": one.chance()}
        return told | {"first": files.for_json(told["first"])}

    def markdown(self) -> str:
        """The tally as a page of Markdown."""
        return "\n\n".join([f"# {self.title}", self._head(), self._pair_table(), self._ranking_table()]) + "\n"

    def _head(self) -> str:
        lines = [
            f"{self.answers} answers of {self.listeners} listeners, {self.finished} of whom answered every pair. All"
            f" clips have {self.lufs:.1f} LUFS (ITU-R BS.1770)."
        ]
        if self.noise_clips is not None:
            lines.append(f"Noise clips: {self.noise_clips}; answers with them, not counted: {self.noise_answers}.")
        if self.left_out_before:
            counts = ", ".join(f"{count} of {name}" for name, count in self.left_out_before.items())
            lines.append(f"Left out as noise when the test was made: {counts}.")
        if not math.isnan(self.first.value):
            lines.append(f"Of those who preferred a clip, {_percent(self.first)} preferred the one called A.")
        return "\n".join(lines)

    def _pair_table(self) -> str:
        rows = ["| one | other | answers | prefer one | no preference | prefer other | p | p (Holm) |"]
        rows.append("|---|---|---|---|---|---|---|---|")
        for pair in self.pairs:
            shares = " | ".join(
                f"{count}: {_percent(share)}" if pair.total else "0"
                for count, share in zip((pair.wins, pair.none, pair.losses), pair.shares(), strict=True)
            )
            names = f"{_cell(pair.one)} | {_cell(pair.other)}"
            rows.append(f"| {names} | {pair.total} | {shares} | {pair.p:.3g} | {pair.p_holm:.3g} |")
        note = "Shares with 95 % intervals (Wilson); p of the exact binomial test without the answers of no preference."
        return "\n".join(rows) + f"\n\n{note}"

    def _ranking_table(self) -> str:
        if any(math.isinf(one.strength.high) for one in self.ranking):
            return "No ranking: no chain of preferences links all systems."
        rows = ["| rank | system | strength | preferred to an average system |", "|---|---|---|---|"]
        for place, one in enumerate(self.ranking, 1):
            strength = one.strength
            rows.append(
                f"| {place} | {_cell(one.system)} | {strength.value:+.2f} ({strength.low:+.2f} to"
                f" {strength.high:+.2f}) | {100 * one.chance():.0f} % |"
            )
        note = "Strengths are log odds of the Bradley-Terry model with 95 % intervals; their mean is 0."
        return "\n".join(rows) + f"\n\n{note}"


def count(book: AnswerBook, noise: Collection[str] | None = None) -> Tally:
    """Counts the answers of a test. noise: clips whose answers are left out; None leaves none out."""
    test = book.test
    kept = [one for one in book.answers if noise is None or not {one.a, one.b} & set(noise)]
    names = test.names()
    wins = np.zeros((len(names), len(names)))
    ties = np.zeros((len(names), len(names)), int)
    for answer in kept:
        a, b = (names.index(test.clips[clip].system) for clip in (answer.a, answer.b))
        if answer.choice == "none":
            ties[min(a, b), max(a, b)] += 1
        else:
            wins[(a, b) if answer.choice == "a" else (b, a)] += 1
    places = list(itertools.combinations(range(len(names)), 2))
    p_values = [sign_test(int(wins[i, j]), int(wins[j, i])) for i, j in places]
    pairs = tuple(
        PairCount(names[i], names[j], int(wins[i, j]), int(ties[i, j]), int(wins[j, i]), p, corrected)
        for (i, j), p, corrected in zip(places, p_values, holm(p_values), strict=True)
    )
    ranking = [Ranked(name, strength) for name, strength in zip(names, bradley_terry(wins), strict=True)]
    heard = {one.listener for one in kept}
    first = [sum(one.choice == choice for one in kept) for choice in ("a", "b")]
    return Tally(
        test.title,
        test.lufs,
        len(heard),
        sum(book.next_trial(listener) is None for listener in book.listeners if listener.number in heard),
        len(kept),
        pairs,
        tuple(sorted(ranking, key=lambda one: -one.strength.value)),
        wilson(first[0], sum(first)),
        None if noise is None else len(noise),
        len(book.answers) - len(kept),
        {system.name: system.noise for system in test.systems if system.noise},
    )


def _cell(name: str) -> str:
    """A name in a cell of a table."""
    return name.replace("|", "\\|")


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def write(tally: Tally, folder: Path) -> None:
    """Writes tally.md and tally.json into a folder, which is made. Raises DataError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / "tally.md", tally.markdown())
        files.write_text(folder / "tally.json", json.dumps(tally.to_dict(), indent=1) + "\n")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from None
