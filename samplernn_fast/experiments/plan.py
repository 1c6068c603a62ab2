"""How many updates every system makes, so that all have the same budget.

A budget of minutes becomes a number of updates, at the time that one update of the system takes on this machine. It is
measured once for each system, until two measures agree, and kept in plan.json in the experiments' folder. So another
process that holds the machine for a while afterwards costs no system a part of its training, and a run can go on
exactly where it was stopped.
"""

import dataclasses
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from samplernn_fast import files, terminal
from samplernn_fast.errors import ConfigError, DataError
from samplernn_fast.experiments.places import PLAN_FILE
from samplernn_fast.experiments.probe import Cost, measure
from samplernn_fast.experiments.systems import Scale, Variant, settings
from samplernn_fast.untrusted import Fields, Unreadable, read_json

_MOST_ROUNDS = 6  # A system is measured in at most so many turns, every second one in the opposite order.
_AGREEMENT = 1.1  # The two shortest times of a system may differ by this factor.
_LONGEST_UPDATE, _MOST_MEMORY = 1e6, 2**50  # A plan may speak of no more seconds and bytes.


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a system may spend: `minutes` of updates, or a number of updates (`steps`). One of them is None.

    Validation, scoring and saving come on top of minutes.
    """

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ConfigError("the budget of each system must be given once, by minutes or by steps")

    def __str__(self) -> str:
        return f"{self.steps} updates" if self.minutes is None else f"{self.minutes:g} minutes of updates"

    def count(self, cost: Cost | None) -> int:
        """How many updates a system of that cost may make."""
        if self.minutes is None or cost is None:
            return self.steps or 1
        return max(1, round(60 * self.minutes / cost.seconds))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the experiments' folder knows of all its systems."""

    folder: Path
    scale: Scale
    device: str
    """cpu or cuda, where updates are timed."""
    costs: dict[str, Cost] = dataclasses.field(default_factory=dict)
    """Name of a variant -> the cost of its update."""

    @classmethod
    def read(cls, folder: Path, scale: Scale, device: str) -> "Plan":
        """The plan in a folder; an empty one where there is none. Raises DataError for a damaged one, and ConfigError
        where the folder has experiments of another scale, or of another kind of device."""
        file = folder / PLAN_FILE
        if not file.exists():
            return cls(folder, scale, device)
        try:
            values = Fields(read_json(file), "the plan")
            kept, costs = {"scale": values.text("scale"), "device": values.text("device")}, values.mapping("costs")
            read = {name: _cost(Fields(one, f"the cost of {name}")) for name, one in costs.items()}
        except Unreadable as error:
            raise DataError(f"{file}: {error}; put a whole copy in its place, or choose another folder") from None
        for name, value in (("scale", scale), ("device", device)):
            if kept[name] != value:
                raise ConfigError(f"{name} must be {kept[name]} in {folder}, which has runs of that kind, got {value}")
        return cls(folder, scale, device, read)

    def write(self) -> None:
        """Writes plan.json, whole or not at all."""
        costs = {name: dataclasses.asdict(cost) for name, cost in self.costs.items()}
        plan = {"scale": self.scale, "device": self.device, "costs": costs}
        files.write_text(self.folder / PLAN_FILE, json.dumps(plan, indent=1) + "\n")


def _cost(values: Fields) -> Cost:
    memory = values.number_or_none("memory_bytes", 0, _MOST_MEMORY)
    return Cost(values.number("seconds", 1e-9, _LONGEST_UPDATE), None if memory is None else int(memory))


def with_costs(plan: Plan, variants: Sequence[Variant], data: Path, device: str, why: str) -> Plan:
    """The plan with the cost of every variant; what is missing is measured, by turns, and kept.

    why: what the costs are for, in words. Another process that wants the same plan waits meanwhile, so that all shards
    of an experiment have one plan.
    """
    if all(one.name in plan.costs for one in variants):
        return plan
    with ExitStack() as stack:
        with terminal.waiting(f"another process measures in {plan.folder}"):
            stack.enter_context(files.held(plan.folder, wait=True))
        plan = Plan.read(plan.folder, plan.scale, plan.device)
        missing = [one for one in variants if one.name not in plan.costs]
        found: dict[str, list[Cost]] = {one.name: [] for one in missing}
        if missing:
            number = terminal.counted(len(missing), "system")
            terminal.say(f"timing updates of {number}, {why}: two turns, up to {_MOST_ROUNDS} where times disagree")
        for turn in range(_MOST_ROUNDS):
            unsettled = [one for one in missing if not _settled(found[one.name])]
            if not unsettled:
                break
            with terminal.Bar(len(unsettled), "system", title=f"turn {turn + 1}") as bar:
                for one in unsettled if turn % 2 == 0 else reversed(unsettled):
                    found[one.name].append(_cost_of(one, plan, data, device))
                    bar.advance()
        for name, costs in found.items():
            plan.costs[name] = Cost(min(cost.seconds for cost in costs), _most(costs))  # other work only adds time
            if not _settled(costs):
                times = ", ".join(f"{1000 * cost.seconds:.0f}" for cost in costs)
                terminal.say(f"warning: an update of {name} took {times} ms: the machine is busy, the budget uncertain")
        plan.write()
    return plan


def _cost_of(one: Variant, plan: Plan, data: Path, device: str) -> Cost:
    """The cost of an update of a system."""
    return measure(settings(one, plan.scale, data, plan.folder / one.name, updates=1, device=device))


def _settled(costs: Sequence[Cost]) -> bool:
    """Whether the two shortest times agree, so that the shortest one can be believed."""
    shortest = sorted(cost.seconds for cost in costs)[:2]
    return len(shortest) == 2 and shortest[1] <= _AGREEMENT * shortest[0]


def _most(costs: Sequence[Cost]) -> int | None:
    known = [cost.memory_bytes for cost in costs if cost.memory_bytes is not None]
    return max(known) if known else None
