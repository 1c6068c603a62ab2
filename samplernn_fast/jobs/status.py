"""How far a job is: which units are right, missing or broken, how fast they come, and how long the rest will take."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from samplernn_fast.errors import DataError
from samplernn_fast.jobs.ledger import MISSING, Ledger

_RECENT = 200  # The rate is that of the last so many units.
_SHOWN = 20  # faults that a text lists
_WITHIN = 0.1  # Units of one batch come closer to each other than this part of the longest time between two.
_LEAST_BETWEEN = 0.5  # seconds; what came within less is one batch


@dataclass(frozen=True)
class Status:
    """The state of a job's units when it was looked at."""

    ledger: Ledger
    done: int
    missing: list[str]
    broken: dict[str, str]
    """Units whose file is there and wrong, with what is wrong."""
    unknown: list[str]
    """Files with names like those of units that are none."""
    made_at: list[float] = field(repr=False)
    """When the units that are right were recorded, in seconds since 1970, in rising order."""
    now: float

    @property
    def total(self) -> int:
        """How many units the job has."""
        return len(self.ledger.plan.units)

    @property
    def complete(self) -> bool:
        """Whether every unit is there and right."""
        return self.done == self.total

    @property
    def units_per_hour(self) -> float | None:
        """How fast the last units came, of all processes together; None where fewer than three are there, or one batch.

        The units of a batch are recorded within moments of each other, so those that came with the first of them, whose
        making began nobody knows when, do not count.
        """
        recent = self.made_at[-_RECENT:]
        if len(recent) < 3 or recent[-1] <= recent[0]:
            return None
        gaps = [later - earlier for earlier, later in itertools.pairwise(recent)]
        between_batches = _WITHIN * max(gaps)
        first = 1 + next(at for at, gap in enumerate(gaps) if gap > between_batches)
        counted = len(recent) - first
        between = recent[-1] - recent[first - 1]
        return 3600 * counted / between if between >= _LEAST_BETWEEN else None

    @property
    def hours_left(self) -> float | None:
        """How long the rest takes at that rate; None where the rate is not known."""
        rate = self.units_per_hour
        return 0.0 if self.complete else None if rate is None else (self.total - self.done) / rate

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        last = self.made_at[-1] if self.made_at else None
        return {
            "job": str(self.ledger.folder),
            "command": self.ledger.plan.command,
            "units": self.total,
            "done": self.done,
            "missing": self.missing,
            "broken": self.broken,
            "unknown": self.unknown,
            "units_per_hour": self.units_per_hour,
            "hours_left": self.hours_left,
            "seconds_since_last": None if last is None else max(0.0, self.now - last),
        }

    def text(self) -> str:
        """For people: a line, and below it one for each file that is wrong."""
        parts = [f"{self.done} of {self.total} units are there and right"]
        if self.missing:
            parts.append(f"{len(self.missing)} missing")
        if self.broken:
            parts.append(f"{len(self.broken)} broken")
        rate, left = self.units_per_hour, self.hours_left
        if not self.complete and rate is not None and left is not None:
            shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
            parts.append(f"{shown} an hour, {_hours(left)} left at that rate")
            parts.append(f"the last one {_hours((self.now - self.made_at[-1]) / 3600)} ago")
        lines = [f"{self.ledger.folder}: {', '.join(parts)}"]
        wrong = [f"  {self.ledger.path(name)} {fault}" for name, fault in self.broken.items()]
        wrong += [f"  {self.ledger.path(name)} is no unit of this job" for name in self.unknown]
        lines += wrong[:_SHOWN]
        if len(wrong) > _SHOWN:
            lines.append(f"  and {len(wrong) - _SHOWN} more; --json lists all")
        return "\n".join(lines)


def status_of(ledger: Ledger, *, deep: bool = True, each: Callable[[], object] = lambda: None) -> Status:
    """Looks at every unit of a job. deep: as `Ledger.fault`. each: is called after each unit.

    The units of a job that was closed count as there and right: they are in what was put together.
    """
    missing, broken, made = [], {}, []
    if ledger.is_closed():
        times = sorted(ledger.made_at(name) or 0.0 for name in ledger.plan.units)
        return Status(ledger, len(times), [], {}, [], times, time.time())
    for name in ledger.plan.units:
        fault, at = ledger.fault(name, deep=deep), ledger.made_at(name)
        if fault is None:
            made.append(at or 0.0)
        elif fault == MISSING:
            missing.append(name)
        else:
            broken[name] = fault
        each()
    done = len(made)
    return Status(ledger, done, missing, broken, ledger.unknown_files(), sorted(made), time.time())


def check_complete(status: Status) -> None:
    """Raises DataError, which says what to do, where a unit is missing or wrong."""
    if status.complete:
        return
    name, fault = next(((name, fault) for name, fault in status.broken.items()), (None, ""))
    first = f": {status.ledger.path(name)} {fault}" if name is not None else ""
    raise DataError(
        f"{status.ledger.folder}: {status.total - status.done} of {status.total} units are still to be made{first}; run"
        f" the same {status.ledger.plan.command} command again, which makes them"
    )


def _hours(hours: float) -> str:
    """A time as a person would say it."""
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 1.5 else f"{hours:.3g} h"
