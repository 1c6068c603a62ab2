"""The `search` command: random search over settings, within a budget for each trial."""

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from samplernn_fast import terminal
from samplernn_fast.backends import names
from samplernn_fast.commands import COMMANDS
from samplernn_fast.commands.flags import Out, parse, with_example
from samplernn_fast.commands.standard_streams import USAGE_STATUS
from samplernn_fast.commands.training import read_flags
from samplernn_fast.errors import ConfigError, did_you_mean, quoted
from samplernn_fast.ranges import Range, check_fields
from samplernn_fast.training.config import TrainConfig
from samplernn_fast.training.presets import PRESETS
from samplernn_fast.training.search.spans import Span

_APART = "--"  # stands before the flags of train
_OF_THE_SEARCH = ("--data", "--out", "--max-steps", "--max-minutes", "--seed", "--resume", "--init-from")


@dataclass(frozen=True)
class Search:
    """Draws settings at random from ranges, trains each for the same budget, and prints the best ones.

    The same command goes on after a crash, with more trials too, and several processes may run it at once. Behind a --
    stand flags of train that all trials share.
    """

    data: Path
    """The data folder, which prepare made; it needs a validation split, by which trials are compared."""
    out: Out
    """The folder of the search."""
    range: tuple[str, ...]
    """Settings of train to search: lr=1e-4:1e-2:log, dim=64:256, rnn=gru,lstm, "frame-sizes=2 2 8,4 4 16"."""
    trials: Annotated[int, Range(1, 100_000)] = 20
    """How many trials there are in all."""
    minutes: Annotated[float | None, Range(0, 10**7, above=True, unit="minutes")] = None
    """The budget of a trial in minutes of training."""
    steps: Annotated[int | None, Range(1, 10**9)] = None
    """The budget of a trial in updates, in place of minutes."""
    stop_hopeless: bool = False
    """End a trial early that is worse than half of the others were at the same tenth of the budget."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Draws the settings, and is the seed of every run."""

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.minutes is None) == (self.steps is None):
            raise ConfigError("the budget of a trial must be given once, by minutes or by steps")


def search(args: Sequence[str], prog: str) -> None:
    """Random search over settings of train: PRESET, ranges, and a budget for each trial. The same command goes on."""
    if not args or args[0] in ("-h", "--help"):
        usage = f"usage: {prog} PRESET --data FOLDER --out FOLDER --range NAME=VALUES ... [--help] [-- FLAGS OF TRAIN]"
        usage += f"\n       {prog} PRESET --help lists every flag"
        shown = f"{usage}\n\nExample: {COMMANDS['search'].example}\n\npresets: {', '.join(PRESETS)}"
        print(shown, file=sys.stdout if args else sys.stderr)
        sys.exit(0 if args else USAGE_STATUS)
    if args[0] not in PRESETS:
        got = f"{quoted(args[0])}{did_you_mean(args[0], PRESETS)}"
        raise ConfigError(f"search: the first word is a preset, one of {', '.join(PRESETS)}, got {got}")
    place = list(args).index(_APART) if _APART in args else len(args)
    shared = list(args[place + 1 :])
    for word in shared:
        if word.partition("=")[0].replace("_", "-") in _OF_THE_SEARCH:
            raise ConfigError(f"{word.partition('=')[0]} belongs to the search, before the --, or to no search at all")
    text = with_example(f"{Search.__doc__}", "search")
    _run(args[0], parse(Search, f"{prog} {args[0]}", args[1:place], description=text), shared)


def _run(preset: str, given: Search, shared: list[str]) -> None:
    """Searches, prints the best settings, and writes the page."""
    spans = tuple(map(Span.parse, given.range))
    if len({span.name for span in spans}) < len(spans):
        raise ConfigError("range must name each setting once")
    named = {word.partition("=")[0].removeprefix("--no-").lstrip("-").replace("-", "_") for word in shared}
    twice = next((span.name for span in spans if span.name in named), None)
    if twice is not None:
        raise ConfigError(f"range: {twice} is set for all trials behind the --, so it cannot be searched")
    model = PRESETS[preset][1].model
    known = [one.name for kind in (TrainConfig, model) for one in dataclasses.fields(kind)]
    unknown = next((span.name for span in spans if span.name not in known), None)
    if unknown is not None:
        raise ConfigError(f"range: {preset} has no setting {quoted(unknown)}{did_you_mean(unknown, known)}")
    budget = f"--max-steps={given.steps}" if given.minutes is None else f"--max-minutes={given.minutes:g}"

    def configure(flags: Sequence[str], run: Path) -> TrainConfig:
        words = [*shared, *flags, f"--data={given.data}", f"--out={run}", budget, f"--seed={given.seed}"]
        return dataclasses.replace(read_flags(preset, words, "samplernn-fast train"), sample_every=0, keep=0)

    names.check_device(configure([], given.out / "check").device)
    with terminal.waiting("loading torch and Optuna"):
        from samplernn_fast.data.folder import AudioData
        from samplernn_fast.training.search import page, study

    if not AudioData.open(given.data).recordings("valid"):
        raise ConfigError(f"data must have a validation split, by which trials are compared; {given.data} has none")
    about = shlex.join(["samplernn-fast", "train", preset, *shared, budget, f"--seed={given.seed}"])
    space = study.Space(spans, configure, about, given.stop_hopeless)
    found = study.search(given.out, space, given.trials, given.seed)
    train = ["samplernn-fast", "train", preset, *shared, "--data", str(given.data)]
    lines = page.commands(found, train)
    written = page.write(given.out, found, spans, f"Every trial: `{about}`, and its settings.", lines)
    print(page.table(found))
    print("\nto train for real:\n" + "\n".join(lines))
    print("\n".join(map(str, written)))
